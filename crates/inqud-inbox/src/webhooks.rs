use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_inqud::{WebhookBody, WebhookLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::handler::{Context, Stored};
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::record::Storable;
use crate::runner::Runner;
use crate::store::Store;

/// Receives and processes several kinds of webhooks, each at a path of its own.
///
/// Created by [`Inbox::webhooks`](crate::Inbox::webhooks). [`service`](Self::service) is the tower service that receives, and
/// [`run_until`](Self::run_until) processes.
#[must_use = "it receives and processes nothing until its service is served and `run_until` is awaited"]
pub struct Webhooks<S, B> {
    queue: Arc<Queue<S>>,
    routes: HashMap<String, Route<B>>,
    kinds: Vec<&'static str>,
    runners: Vec<Box<dyn FnOnce(watch::Receiver<bool>) -> Running + Send>>,
}

type Route<B> = Arc<dyn Fn(Request<B>) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Response<WebhookBody<String>>> + Send>>;
type Running = Pin<Box<dyn Future<Output = Result<(), InboxError>> + Send>>;

impl<S, B> Webhooks<S, B>
where
    S: Store,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(queue: Arc<Queue<S>>) -> Self {
        Self { queue, routes: HashMap::new(), kinds: Vec::new(), runners: Vec::new() }
    }

    /// Adds a kind: where its webhooks arrive, how they are verified, and what handles them.
    ///
    /// An authentic body that cannot be decoded is stored as a dead letter, as if
    /// [`forward_undecodable`](WebhookLayer::forward_undecodable) was set.
    ///
    /// # Panics
    ///
    /// If the path or the [kind](Storable::KIND) was added before. A runner handles all notifications of its kind,
    /// wherever they arrived. For several merchants, use a layer
    /// [per tenant](WebhookLayer::per_tenant).
    pub fn kind<T, H>(mut self, path: &str, layer: WebhookLayer<T>, runner: Runner<S, T, H>) -> Self
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Clone + Send + Sync + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        let receiver =
            layer.forward_undecodable().layer(Receiver::<S, T>::new(Arc::clone(&self.queue)));
        let route = move |request| -> Answering {
            // A receiver is always ready, and so is the layer around it.
            let answer = receiver.clone().call(request);
            Box::pin(async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) })
        };
        assert!(!self.kinds.contains(&T::KIND), "the kind `{}` was added before", T::KIND);
        self.kinds.push(T::KIND);
        let earlier = self.routes.insert(path.to_owned(), Arc::new(route));
        assert!(earlier.is_none(), "the path `{path}` was added before");
        self.runners.push(Box::new(move |stopped| Box::pin(runner.run_until(is_true(stopped)))));
        self
    }

    /// Returns the service that receives all kinds. It answers 404 at other paths.
    #[must_use]
    pub fn service(&self) -> WebhooksService<B> {
        WebhooksService { routes: Arc::new(self.routes.clone()) }
    }

    /// Processes all kinds until `shutdown` completes, then shuts down gracefully, as [`Runner::run_until`] does.
    ///
    /// # Errors
    ///
    /// If one of the runners fails. The others are shut down then.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), InboxError> {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for run in self.runners {
            running.spawn(run(stopped.clone()));
        }
        let mut ended = Ok(());
        tokio::select! {
            () = shutdown => {}
            Some(first) = running.join_next() => ended = flat(first),
        }
        stop.send_replace(true);
        while let Some(next) = running.join_next().await {
            ended = ended.and(flat(next));
        }
        ended
    }
}

fn flat(joined: Result<Result<(), InboxError>, tokio::task::JoinError>) -> Result<(), InboxError> {
    joined.unwrap_or_else(|error| Err(InboxError::caused_by(InboxErrorKind::Store, error)))
}

async fn is_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl<S, B> fmt::Debug for Webhooks<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("paths", &self.routes.keys()).finish_non_exhaustive()
    }
}

/// The tower service of [`Webhooks`].
pub struct WebhooksService<B> {
    routes: Arc<HashMap<String, Route<B>>>,
}

impl<B> Service<Request<B>> for WebhooksService<B> {
    type Response = Response<WebhookBody<String>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = self.routes.get(request.uri().path());
        let answer = route.map(|route| route(request));
        Box::pin(async move {
            Ok(match answer {
                Some(answer) => answer.await,
                None => {
                    let mut response = Response::new(WebhookBody::default());
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    response
                }
            })
        })
    }
}

impl<B> Clone for WebhooksService<B> {
    fn clone(&self) -> Self {
        Self { routes: Arc::clone(&self.routes) }
    }
}

impl<B> fmt::Debug for WebhooksService<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhooksService").field("paths", &self.routes.keys()).finish()
    }
}
