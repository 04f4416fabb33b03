use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use crate::error::{InboxError, InboxErrorKind};
use crate::queue::{Answer, Queue};
use crate::record::{Record, Storable};
use crate::store::Store;
use crate::telemetry::Receipt;
use tower_inqud::{Ack, Undecodable, Webhook};

/// Less than the 10 s after which Inqud gives up, so that the response still reaches it.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A service that stores each notification, then responds with 200.
///
/// Put it behind a [`WebhookLayer<T>`](tower_inqud::WebhookLayer). Created by
/// [`Inbox::receiver`](crate::Inbox::receiver). See [the crate](crate#receiving) for its behaviour.
pub struct Receiver<S, T> {
    queue: Arc<Queue<S>>,
    timeout: Duration,
    wait: Option<Wait>,
    /// How much of the timeout was spent waiting for room.
    waited: Duration,
    event: PhantomData<fn() -> T>,
}

impl<S: Store, T: Storable> Receiver<S, T> {
    pub(super) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, timeout: TIMEOUT, wait: None, waited: Duration::ZERO, event: PhantomData }
    }

    /// Sets how long to wait for room in the queue and for the commit, in total. After that, the response
    /// is 503.
    ///
    /// Defaults to 8 s, because Inqud [gives up after 10 s](tower_inqud::contract::RESPONSE_TIMEOUT). Lower
    /// it if layers in front of the receiver need more than 2 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Enqueues the webhook. Returns `None` if the request carries none.
    fn push<B>(
        &self,
        request: &Request<B>,
        telemetry: &mut Receipt,
    ) -> Option<Result<Answered, InboxError>> {
        let extensions = request.extensions();
        let answered = match extensions.get::<Webhook<T>>() {
            Some(webhook) => {
                self.queue.push(|| Record::new::<T>(webhook, webhook.raw_body().clone()))
            }
            None => {
                let undecodable = extensions.get::<Undecodable<T>>()?;
                telemetry.undecodable();
                self.queue.push(|| Record::undecodable(undecodable))
            }
        };
        Some(answered.ok_or_else(|| InboxError::new(InboxErrorKind::Full)))
    }
}

type Answered = oneshot::Receiver<Answer>;

impl<S: Store, T: Storable, B> Service<Request<B>> for Receiver<S, T> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    /// Ready while the queue has room, and after the timeout. In the second case the call responds with
    /// 503.
    ///
    /// It does not reserve a place: at this point the request is not authenticated yet, and a sender other
    /// than Inqud must not be able to fill the queue. If the caller stops polling and polls again later,
    /// the same wait continues unless there was room in the meantime.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.wait.take_if(|wait| wait.is_given_up());
        self.waited = Duration::ZERO;
        if self.wait.is_none() && self.queue.has_room() {
            return Poll::Ready(Ok(()));
        }
        let wait = self.wait.get_or_insert_with(|| Wait::new(&self.queue, self.timeout));
        self.waited = ready!(wait.poll(cx));
        self.wait = None;
        Poll::Ready(Ok(()))
    }

    /// Enqueues the notification before it returns. Dropping the future does not cancel the commit.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let remaining = self.timeout.saturating_sub(std::mem::take(&mut self.waited));
        let mut telemetry = Receipt::begin(T::KIND);
        let answered = self.push(&request, &mut telemetry);
        let queue = Arc::clone(&self.queue);
        Box::pin(async move {
            let stored = match answered {
                None => {
                    telemetry.without_notification();
                    return Ok(missing_layer::<T>());
                }
                Some(Err(error)) => Err(error),
                Some(Ok(answered)) => match timeout(remaining, queue.answer(answered)).await {
                    Ok(stored) => stored,
                    Err(_) => Err(InboxError::new(InboxErrorKind::Timeout)),
                },
            };
            Ok(match stored {
                Ok(inserted) => {
                    telemetry.stored(inserted);
                    Ack::Done.into()
                }
                Err(error) => {
                    telemetry.refused(&error);
                    refuse(error)
                }
            })
        })
    }
}

/// A wait for room in the queue, from the first poll that found none. It ends when there is room or when
/// the timeout has passed, and does not hold a place.
struct Wait {
    began: Instant,
    room: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    wake_timer: Arc<WakeTimer>,
}

impl Wait {
    fn new<S: Store>(queue: &Arc<Queue<S>>, timeout: Duration) -> Self {
        let began = Instant::now();
        let room = Arc::clone(queue).room();
        let room = async move {
            match began.checked_add(timeout) {
                Some(deadline) => drop(timeout_at(deadline, room).await),
                None => room.await,
            }
        };
        Self { began, room: Box::pin(room), wake_timer: Arc::default() }
    }

    /// Returns how long the wait took.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        *self.wake_timer.inner() = (None, Some(cx.waker().clone()));
        let wake_timer = Waker::from(Arc::clone(&self.wake_timer));
        ready!(self.room.as_mut().poll(&mut Context::from_waker(&wake_timer)));
        Poll::Ready(self.began.elapsed())
    }

    /// Whether the caller stopped polling: it was woken more than 100 ms ago and did not poll again.
    ///
    /// A load-shedding layer polls once and gives up, for example. The next poll then belongs to another
    /// request. If it continued the old wait, that request would be charged for time it did not wait, and
    /// could get a 503 immediately.
    fn is_given_up(&self) -> bool {
        const AT_ONCE: Duration = Duration::from_millis(100);
        self.wake_timer.inner().0.is_some_and(|rung| rung.elapsed() > AT_ONCE)
    }
}

/// A waker that wakes the task and records when it first did.
#[derive(Default)]
struct WakeTimer(Mutex<(Option<Instant>, Option<Waker>)>);

impl WakeTimer {
    fn inner(&self) -> MutexGuard<'_, (Option<Instant>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakeTimer {
    fn wake(self: Arc<Self>) {
        let mut inner = self.inner();
        inner.0.get_or_insert_with(Instant::now);
        let waker = inner.1.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The 503 response. It carries the error in its extensions, so that an outer layer can log it.
fn refuse(error: InboxError) -> Response<String> {
    let mut response = Response::new("not stored: retry later".to_owned());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response.extensions_mut().insert(error);
    response
}

fn missing_layer<T>() -> Response<String> {
    let event = type_name::<T>();
    let mut response = Response::new(format!(
        "the request has no webhook of type `{event}`. Perhaps you forgot the layer, or it decodes \
         another type? Add `.layer(WebhookLayer::new(secret))` to this route"
    ));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A clone does not share the wait of the original.
impl<S: Store, T: Storable> Clone for Receiver<S, T> {
    fn clone(&self) -> Self {
        Self { timeout: self.timeout, ..Self::new(Arc::clone(&self.queue)) }
    }
}

impl<S, T> fmt::Debug for Receiver<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
