use std::collections::BTreeMap;
use std::error::Error;
use std::future::poll_fn;
use std::iter;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower_service::Service;

use super::{Answer, Delivery, Message, MockInqud, Report, SentBody};
use tower_inqud::Rejection;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// How much of a response's body is read, so that its connection can be used again.
const READ: usize = 64 * 1024;
/// How much of it is kept.
const KEPT: usize = 1024;

impl MockInqud {
    /// Delivers the messages, a [`Lifecycle`](super::Lifecycle) for example, to your service or to a client.
    ///
    /// 1. The messages are repeated and put in order.
    /// 2. Each is sent at its time, one after another, never two at once.
    /// 3. It is acknowledged if status 200 comes in time. Else it is sent again, if
    ///    [retries](Self::retries) are set, and among what else is due then.
    ///
    /// It ends when nothing is left to be sent. That a service fails ends nothing; it is in the
    /// report.
    ///
    /// # Panics
    ///
    /// Without a Tokio runtime that has its timers enabled.
    pub async fn deliver<M, S, B>(&self, messages: M, service: S) -> Report
    where
        M: IntoIterator<Item = Message>,
        S: Service<Request<SentBody>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
    {
        let mut deliveries = Vec::new();
        self.deliver_each(messages, service, |delivery| deliveries.push(delivery)).await;
        Report { seed: self.seed, deliveries }
    }

    /// [Delivers](Self::deliver) them, and gives each delivery to `each` when it is over, before the
    /// next one begins. It keeps none: for so many that a [`Report`] of them would fill the memory.
    ///
    /// # Panics
    ///
    /// Without a Tokio runtime that has its timers enabled.
    pub async fn deliver_each<M, S, B, F>(&self, messages: M, service: S, each: F)
    where
        M: IntoIterator<Item = Message>,
        S: Service<Request<SentBody>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
        F: FnMut(Delivery),
    {
        let times = usize::try_from(self.times).unwrap_or(usize::MAX);
        let repeat = |message| iter::repeat_n(message, times);
        let mut plan = messages.into_iter().flat_map(repeat).collect::<Vec<_>>();
        if self.shuffled {
            fastrand::Rng::with_seed(self.seed).shuffle(&mut plan);
        }
        self.deliver_plan(plan, service, each).await;
    }

    pub(super) async fn deliver_plan<S, B, F>(
        &self,
        plan: Vec<Message>,
        mut service: S,
        mut each: F,
    ) where
        S: Service<Request<SentBody>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
        F: FnMut(Delivery),
    {
        let began = Instant::now();
        let mut due = began;
        // By the time that they are due; what is due at once, in the order of the plan.
        let mut queue = BTreeMap::new();
        for (turn, message) in plan.into_iter().enumerate() {
            queue.insert((due, turn), (message, 0_u32));
            due = later(due, self.interval);
        }
        let mut not_before = began;
        while let Some(((due, turn), (message, retry))) = queue.pop_first() {
            sleep_until(due.max(not_before)).await;
            // What is late does not come all at once.
            not_before = later(Instant::now(), self.interval);
            let at = began.elapsed();
            let tried = self.try_once(&message, &mut service).await;
            let wait = usize::try_from(retry).ok().and_then(|retry| self.retries.get(retry));
            let again = wait.filter(|_| !tried.answer.is_acknowledged());
            if let Some(wait) = again {
                let again = later(Instant::now(), *wait);
                queue.insert((again, turn), (message.clone(), retry.saturating_add(1)));
            }
            each(Delivery {
                message,
                fault: self.fault,
                retry,
                retry_follows: again.is_some(),
                at,
                elapsed: began.elapsed().saturating_sub(at),
                answer: tried.answer,
                rejection: tried.rejection,
                text: tried.text,
            });
        }
    }

    async fn try_once<S, B>(&self, message: &Message, service: &mut S) -> Tried
    where
        S: Service<Request<SentBody>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
    {
        let request = self.request(message);
        let until = later(later(Instant::now(), self.timeout), request.body().duration());
        let response = async {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        };
        match timeout_at(until, response).await {
            Err(_) => Tried::without(Answer::TimedOut),
            Ok(Err(error)) => Tried::without(Answer::Failed(chain(&*error.into()))),
            Ok(Ok(response)) => Tried {
                answer: Answer::Status(response.status()),
                rejection: response.extensions().get::<Rejection>().cloned(),
                // The status has come in time, whatever becomes of the body.
                text: timeout_at(until, beginning(response.into_body())).await.unwrap_or_default(),
            },
        }
    }
}

struct Tried {
    answer: Answer,
    rejection: Option<Rejection>,
    text: String,
}

impl Tried {
    fn without(answer: Answer) -> Self {
        Self { answer, rejection: None, text: String::new() }
    }
}

async fn beginning<B: Body>(body: B) -> String {
    let mut body = pin!(body);
    let mut kept = Vec::new();
    let mut read = 0_usize;
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(mut data) = frame.into_data() else { break };
        // An empty frame counts too, or endless ones that are always ready would never end.
        read = read.saturating_add(data.remaining().max(1));
        while data.has_remaining() && kept.len() < KEPT {
            let chunk = data.chunk();
            let room = KEPT.saturating_sub(kept.len()).min(chunk.len());
            kept.extend(chunk.iter().take(room));
            data.advance(room);
        }
        if read > READ {
            break;
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// An error and its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Thirty years are for ever, and what no clock can hold is no less.
fn later(instant: Instant, by: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    instant.checked_add(by.min(FOR_EVER)).unwrap_or(instant)
}
