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

/// Less than the 10 s after which Inqud gives up, so that the answer is still heard.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The service behind a [`WebhookLayer<T>`](tower_inqud::WebhookLayer) that stores each notification and
/// answers then. See [the crate](crate#receiving); made by [`Inbox::receiver`](crate::Inbox::receiver).
pub struct Receiver<S, T> {
    queue: Arc<Queue<S>>,
    timeout: Duration,
    wait: Option<Wait>,
    /// What the wait for room took of the timeout.
    waited: Duration,
    event: PhantomData<fn() -> T>,
}

impl<S: Store, T: Storable> Receiver<S, T> {
    pub(super) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, timeout: TIMEOUT, wait: None, waited: Duration::ZERO, event: PhantomData }
    }

    /// How long to wait for room and for the store together; then the answer is 503. 8 s unless set,
    /// for Inqud [gives up after 10](tower_inqud::contract::RESPONSE_TIMEOUT).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `None` if no webhook came with the request.
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

    /// Ready while the queue has room, or when the timeout has passed: then the call answers 503. One
    /// that was left while it waited goes on with that wait if it is asked again before there was room.
    /// Reserves nothing, for a sender who is not yet known to be Inqud must not take a place.
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

    /// Hands the notification over here and now: to drop the future changes nothing of it.
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

/// For room, from the first poll that found none until there is some, or until the timeout has passed.
/// It holds no place.
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

    /// Gives how long it took.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        *self.wake_timer.inner() = (None, Some(cx.waker().clone()));
        let wake_timer = Waker::from(Arc::clone(&self.wake_timer));
        ready!(self.room.as_mut().poll(&mut Context::from_waker(&wake_timer)));
        Poll::Ready(self.began.elapsed())
    }

    /// Whether nobody came when it rang: under a layer that sheds load, for example. Who comes now has
    /// not waited.
    fn is_given_up(&self) -> bool {
        const AT_ONCE: Duration = Duration::from_millis(100);
        self.wake_timer.inner().0.is_some_and(|rung| rung.elapsed() > AT_ONCE)
    }
}

/// Wakes the task, and knows when it did.
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

/// With the error in the extensions, for a layer outside to log.
fn refuse(error: InboxError) -> Response<String> {
    let mut response = Response::new("not stored: send it again".to_owned());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response.extensions_mut().insert(error);
    response
}

fn missing_layer<T>() -> Response<String> {
    let event = type_name::<T>();
    let mut response = Response::new(format!(
        "no webhook of type `{event}` came with the request. Perhaps you forgot the layer, or it \
         decodes another type? Add `.layer(WebhookLayer::new(secret))` to this route"
    ));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Without the wait of the original.
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
