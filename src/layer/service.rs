use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::admit::admit;
use super::body::WebhookBody;
use super::config::{Config, Trust};
use super::future::{Call, Refusal, ResponseFuture};
use super::receive::Receive;
use crate::rejection::BoxError;
use crate::telemetry;

/// The service that [`WebhookLayer`](crate::WebhookLayer) creates. The layer's docs describe it.
pub struct WebhookService<S, T> {
    inner: S,
    config: Arc<Config>,
    event: PhantomData<fn() -> T>,
}

impl<S, T> WebhookService<S, T> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config, event: PhantomData }
    }
}

impl<S, T, B, R> Service<Request<B>> for WebhookService<S, T>
where
    S: Service<Request<WebhookBody<B>>, Response = Response<R>> + Clone,
    T: DeserializeOwned + Send + Sync + 'static,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Response = Response<WebhookBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, S::Future, B, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.config.matches(request.uri()) {
            return ResponseFuture::passthrough(
                self.inner.call(request.map(WebhookBody::passthrough)),
            );
        }
        let mut telemetry = telemetry::Call::begin();
        let (mut parts, body) = request.into_parts();
        let config = Arc::clone(&self.config);
        // Callbacks run in the future, not here: behind a `Buffer`, a panic in `call` ends the
        // worker.
        if let Trust::PerTenant(_) = &config.trust {
            telemetry.rest();
            let service = self.take_ready();
            let call = Call { parts, service, config, verifier: None, telemetry };
            return ResponseFuture::choosing(body, call);
        }
        let admitted = admit(&config, None, &mut parts);
        telemetry.rest();
        match admitted {
            Ok(admitted) => {
                let receive = Receive::new(admitted, body, config.body_limit, config.body_timeout);
                let service = self.take_ready();
                let call = Call { parts, service, config, verifier: None, telemetry };
                ResponseFuture::receiving(receive, call)
            }
            Err(kind) => {
                let refusal = Refusal { parts, config, verifier: None, telemetry };
                ResponseFuture::refusing(kind, refusal)
            }
        }
    }
}

impl<S: Clone, T> WebhookService<S, T> {
    /// Takes the service that was polled ready, and keeps a clone, which may not be ready.
    fn take_ready(&mut self) -> S {
        let clone = self.inner.clone();
        std::mem::replace(&mut self.inner, clone)
    }
}

impl<S: Clone, T> Clone for WebhookService<S, T> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.config))
    }
}

impl<S: fmt::Debug, T> fmt::Debug for WebhookService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookService")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish()
    }
}
