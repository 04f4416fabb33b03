use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::error::{InboxError, InboxErrorKind};
use crate::queue::{Answer, Queue, closed};
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
    event: PhantomData<fn() -> T>,
}

impl<S: Store, T: Storable> Receiver<S, T> {
    pub(super) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, timeout: TIMEOUT, event: PhantomData }
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

    /// Returns `None` if the request carries no webhook.
    fn record<B>(request: &Request<B>, telemetry: &mut Receipt) -> Option<Record> {
        let extensions = request.extensions();
        let (record, tenant) = if let Some(webhook) = extensions.get::<Webhook<T>>() {
            (Record::new::<T>(webhook, webhook.raw_body().clone()), webhook.tenant())
        } else {
            let undecodable = extensions.get::<Undecodable<T>>()?;
            telemetry.undecodable();
            (Record::undecodable(undecodable), undecodable.tenant())
        };
        Some(match tenant {
            Some(tenant) => record.of_tenant(tenant),
            None => record,
        })
    }
}

impl<S: Store, T: Storable, B> Service<Request<B>> for Receiver<S, T> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    /// Always ready. If the queue is full, the call waits.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// If the queue has room, enqueues the notification before it returns. From then on it is stored, even if
    /// the future is dropped.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut telemetry = Receipt::begin(T::KIND);
        let Some(record) = Self::record(&request, &mut telemetry) else {
            telemetry.without_notification();
            return Box::pin(ready(Ok(missing_layer::<T>())));
        };
        let queue = Arc::clone(&self.queue);
        let enqueued = match queue.try_room() {
            Some(room) => Ok(queue.push(record, room)),
            None => Err(record),
        };
        let limit = self.timeout;
        Box::pin(async move {
            Ok(match stored(&queue, enqueued, limit).await {
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

/// Waits for room if the record is not enqueued yet, and then for the commit.
async fn stored<S: Store>(
    queue: &Queue<S>,
    enqueued: Result<oneshot::Receiver<Answer>, Record>,
    limit: Duration,
) -> Answer {
    let elapsed = |kind| move |_| InboxError::new(kind);
    let began = Instant::now();
    let answered = match enqueued {
        Ok(answered) => answered,
        Err(record) => {
            let room = timeout(limit, queue.room()).await;
            queue.push(record, room.map_err(elapsed(InboxErrorKind::Full))??)
        }
    };
    let answer = timeout(limit.saturating_sub(began.elapsed()), answered).await;
    answer.map_err(elapsed(InboxErrorKind::Timeout))?.map_err(|_| closed())?
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
