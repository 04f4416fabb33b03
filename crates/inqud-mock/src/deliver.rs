use std::collections::{BTreeMap, HashSet};
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

/// Maximum number of bytes to read from a response body. Reading it lets the client reuse the connection.
const READ: usize = 64 * 1024;
/// Maximum number of bytes of a response body to keep.
const KEPT: usize = 1024;

impl MockInqud {
    /// Delivers messages, such as a [`Lifecycle`](super::Lifecycle), to your service or through a client.
    ///
    /// 1. The mock repeats and shuffles the messages, if configured.
    /// 2. It sends them one after another, never two at a time.
    /// 3. A message that the mock [drops](Self::drop_share) is not sent.
    /// 4. A message is acknowledged if status 200 arrives before the timeout. Otherwise the mock sends it
    ///    again after the next configured [retry delay](Self::retries), and sends other messages meanwhile.
    ///
    /// Returns when every message is acknowledged or has no retry left. An error from the service does not end
    /// the run: the report contains it.
    ///
    /// # Panics
    ///
    /// Panics if it is polled outside a Tokio runtime, or in one without timers enabled.
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

    /// [Delivers](Self::deliver) messages, and calls `each` after each delivery, before the next one starts.
    ///
    /// It keeps no deliveries. Use it if a [`Report`] would take too much memory.
    ///
    /// # Panics
    ///
    /// Panics if it is polled outside a Tokio runtime, or in one without timers enabled.
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
        let mut plan = messages.into_iter().enumerate().flat_map(repeat).collect::<Vec<_>>();
        if self.shuffled {
            fastrand::Rng::with_seed(self.seed).shuffle(&mut plan);
        }
        self.deliver_plan(plan, service, each).await;
    }

    /// Delivers messages in this order. Each has its number in the order in which Inqud created them.
    pub(super) async fn deliver_plan<S, B, F>(
        &self,
        plan: Vec<(usize, Message)>,
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
        // Ordered by due time, then by position in the plan.
        let mut queue = BTreeMap::new();
        let last = plan.iter().map(|(number, _)| number.saturating_add(1)).max();
        let publish = self.api.as_ref().map(|api| {
            let base = api.reserve(last.unwrap_or(0));
            move |number: usize, message: &Message| {
                let number = u64::try_from(number).unwrap_or(u64::MAX);
                api.publish_numbered(base.saturating_add(number), message);
            }
        });
        for (turn, (number, message)) in plan.into_iter().enumerate() {
            queue.insert((due, turn), (number, message, 0_u32));
            due = later(due, self.interval);
        }
        let mut not_before = began;
        let mut dropped = HashSet::new();
        while let Some(((due, turn), (number, message, retry))) = queue.pop_first() {
            sleep_until(due.max(not_before)).await;
            if let Some(publish) = publish.as_ref().filter(|_| retry == 0) {
                publish(number, &message);
            }
            if self.drops(&message) {
                if dropped.insert(number) {
                    each(self.dropped(message, began.elapsed()));
                }
                continue;
            }
            // Late deliveries keep the interval too, instead of catching up in a burst.
            not_before = later(Instant::now(), self.interval);
            let at = began.elapsed();
            let tried = self.try_once(&message, &mut service).await;
            let wait = usize::try_from(retry).ok().and_then(|retry| self.retries.get(retry));
            let again = wait.filter(|_| !tried.answer.is_acknowledged());
            if let Some(wait) = again {
                let again = later(Instant::now(), *wait);
                queue.insert((again, turn), (number, message.clone(), retry.saturating_add(1)));
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

    fn dropped(&self, message: Message, at: Duration) -> Delivery {
        Delivery {
            message,
            fault: self.fault,
            retry: 0,
            retry_follows: false,
            at,
            elapsed: Duration::ZERO,
            answer: Answer::Dropped,
            rejection: None,
            text: String::new(),
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
                // The status arrived in time, so a slow body loses only its text.
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
        // An empty frame counts as a byte. Otherwise an endless stream of them would never end.
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

/// Formats an error and its causes on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Adds at most thirty years, because an `Instant` cannot represent every sum.
fn later(instant: Instant, by: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    instant.checked_add(by.min(FOR_EVER)).unwrap_or(instant)
}
