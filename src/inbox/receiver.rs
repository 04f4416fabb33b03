use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::queue::Queue;
use super::{InboxError, InboxErrorKind, Put, Record, Storable, Store};
use crate::{Ack, Webhook};

/// Less than the 10 s after which Inqud gives up, so that the answer is still heard.
const PATIENCE: Duration = Duration::from_secs(8);

/// The service behind a [`WebhookLayer<T>`](crate::WebhookLayer) that stores each notification and
/// answers then. See [`inbox`](super#receiving); made by [`Inbox::receiver`](super::Inbox::receiver).
pub struct Receiver<S, T> {
    queue: Arc<Queue<S>>,
    patience: Duration,
    /// Waits for room, and tells how long it took.
    room: Option<Pin<Box<dyn Future<Output = Duration> + Send + Sync>>>,
    waited: Duration,
    event: PhantomData<fn() -> T>,
}

impl<S: Store, T: Storable> Receiver<S, T> {
    pub(super) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, patience: PATIENCE, room: None, waited: Duration::ZERO, event: PhantomData }
    }

    /// How long to wait for room and for the store together; then the answer is 503. 8 s unless set,
    /// for Inqud [gives up after 10](crate::contract::PATIENCE).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// `None` if no web hook came with the request.
    fn push<B>(&self, request: &Request<B>) -> Option<Result<Waiting, InboxError>> {
        let webhook = request.extensions().get::<Webhook<T>>()?;
        let record = || Record::new::<T>(webhook, webhook.raw_body().clone());
        let waiting = self.queue.push(record);
        Some(waiting.ok_or_else(|| InboxError::new(InboxErrorKind::Full)))
    }
}

type Waiting = oneshot::Receiver<Result<Put, InboxError>>;

impl<S: Store, T: Storable, B> Service<Request<B>> for Receiver<S, T> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    /// Ready while the queue has room, or when patience is at its end: then the call answers 503.
    /// Reserves nothing, for a sender who is not yet known to be Inqud must not take a place.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.room.is_none() && self.queue.room.available_permits() > 0 {
            return Poll::Ready(Ok(()));
        }
        let room = self.room.get_or_insert_with(|| {
            let (room, patience) = (Arc::clone(&self.queue.room), self.patience);
            Box::pin(async move {
                let began = Instant::now();
                drop(timeout(patience, room.acquire()).await);
                began.elapsed()
            })
        });
        self.waited = ready!(room.as_mut().poll(cx));
        self.room = None;
        Poll::Ready(Ok(()))
    }

    /// Hands the notification over here and now: to drop the future changes nothing of it.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let patience = self.patience.saturating_sub(std::mem::take(&mut self.waited));
        let waiting = self.push(&request);
        Box::pin(async move {
            let waiting = match waiting {
                None => return Ok(missing_layer::<T>()),
                Some(Err(error)) => return Ok(refuse(error)),
                Some(Ok(waiting)) => waiting,
            };
            Ok(match timeout(patience, waiting).await {
                Ok(Ok(Ok(Put::New | Put::Duplicate))) => Ack::Done.into(),
                Ok(Ok(Err(error))) => refuse(error),
                Ok(Err(_)) => refuse(InboxError::new(InboxErrorKind::Closed)),
                Err(_) => refuse(InboxError::new(InboxErrorKind::Slow)),
            })
        })
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
        "no web hook of type `{event}` came with the request. Perhaps you forgot the layer, or it \
         decodes another type? Add `.layer(WebhookLayer::new(secret))` to this route"
    ));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Without the wait of the original.
impl<S: Store, T: Storable> Clone for Receiver<S, T> {
    fn clone(&self) -> Self {
        Self { patience: self.patience, ..Self::new(Arc::clone(&self.queue)) }
    }
}

impl<S, T> fmt::Debug for Receiver<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("patience", &self.patience).finish_non_exhaustive()
    }
}
