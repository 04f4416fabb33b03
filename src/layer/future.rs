use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::admit::admit;
use super::body::WebhookBody;
use super::config::Config;
use super::receive::{Accepted, Receive, Received};
use crate::ack;
use crate::rejection::{BoxError, Rejection, RejectionKind};
use crate::signature::Verifier;
use crate::telemetry;
use crate::webhook::{Undecodable, Unverified};

pin_project! {
    /// The response future of [`WebhookService`](crate::WebhookService).
    ///
    /// Dropping it cancels the call: the inner service is not called, or its future is dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, F, B, T> {
        #[pin]
        state: State<S, F, B>,
        event: PhantomData<fn() -> T>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, B> {
        Choosing { choice: Option<(B, Call<S>)> },
        Receiving { #[pin] receive: Receive<B>, call: Option<Call<S>>, begun: bool },
        Calling { #[pin] future: F, telemetry: telemetry::Call },
        Passthrough { #[pin] future: F },
        Refusing { kind: RejectionKind, refusal: Option<Refusal> },
    }
}

/// A call whose head is admitted: what is needed to call the inner service once the body is
/// verified.
pub(super) struct Call<S> {
    pub(super) parts: Parts,
    pub(super) service: S,
    pub(super) config: Arc<Config>,
    /// The one that was chosen for the tenant of this call.
    pub(super) verifier: Option<Box<Verifier>>,
    pub(super) telemetry: telemetry::Call,
}

/// A call whose head was rejected: what is needed to build its response.
pub(super) struct Refusal {
    pub(super) parts: Parts,
    pub(super) config: Arc<Config>,
    pub(super) verifier: Option<Box<Verifier>>,
    pub(super) telemetry: telemetry::Call,
}

impl<S, F, B, T> ResponseFuture<S, F, B, T> {
    /// For a request whose verifier is not known yet.
    pub(super) fn choosing(body: B, call: Call<S>) -> Self {
        Self { state: State::Choosing { choice: Some((body, call)) }, event: PhantomData }
    }

    pub(super) fn receiving(receive: Receive<B>, call: Call<S>) -> Self {
        let state = State::Receiving { receive, call: Some(call), begun: false };
        Self { state, event: PhantomData }
    }

    /// For a request that is not a webhook.
    pub(super) fn passthrough(future: F) -> Self {
        Self { state: State::Passthrough { future }, event: PhantomData }
    }

    pub(super) fn refusing(kind: RejectionKind, refusal: Refusal) -> Self {
        let state = State::Refusing { kind, refusal: Some(refusal) };
        Self { state, event: PhantomData }
    }
}

impl<S, F, B, R, E, T> Future for ResponseFuture<S, F, B, T>
where
    S: Service<Request<WebhookBody<B>>, Response = Response<R>, Error = E, Future = F>,
    F: Future<Output = Result<Response<R>, E>>,
    B: Body,
    B::Error: Into<BoxError>,
    T: DeserializeOwned + Send + Sync + 'static,
{
    type Output = Result<Response<WebhookBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Choosing { choice } => {
                    let (body, mut call) = choice.take().expect(POLLED_AFTER_COMPLETION);
                    let Call { parts, config, telemetry, .. } = &mut call;
                    telemetry.resume();
                    let chosen = telemetry.within(|| config.choose_verifier(parts));
                    match admit(config, chosen.as_ref(), parts) {
                        Ok(admitted) => {
                            telemetry.rest();
                            call.verifier = chosen.map(Box::new);
                            let Config { body_limit, body_timeout, .. } = *call.config;
                            let receive = Receive::new(admitted, body, body_limit, body_timeout);
                            state.set(State::Receiving { receive, call: Some(call), begun: false });
                        }
                        Err(kind) => {
                            let Call { parts, config, telemetry, .. } = call;
                            let verifier = chosen.map(Box::new);
                            let refusal = Refusal { parts, config, verifier, telemetry };
                            state.set(State::Refusing { kind, refusal: Some(refusal) });
                        }
                    }
                }
                StateProj::Receiving { receive, call, begun } => {
                    let Call { parts, config, telemetry, .. } =
                        call.as_mut().expect(POLLED_AFTER_COMPLETION);
                    let received = ready!(telemetry.poll(|| {
                        if !std::mem::replace(begun, true) {
                            config.check_source(parts)?;
                            config.require_timers();
                        }
                        receive.poll(cx)
                    }));
                    let Call { mut parts, mut service, config, verifier, mut telemetry } =
                        call.take().expect(POLLED_AFTER_COMPLETION);
                    match authentic::<T>(received, &config, &mut parts.extensions, &mut telemetry) {
                        Ok(body) => {
                            let request = Request::from_parts(parts, WebhookBody::buffered(body));
                            telemetry.forwarded();
                            let future = telemetry.within(|| service.call(request));
                            state.set(State::Calling { future, telemetry });
                        }
                        Err(rejection) => {
                            let verifier = verifier.as_deref();
                            let response =
                                config.refuse(rejection, &parts, verifier, &mut telemetry);
                            return Poll::Ready(Ok(response.map(WebhookBody::buffered)));
                        }
                    }
                }
                StateProj::Calling { future, telemetry } => {
                    let response = match ready!(telemetry.poll(|| future.poll(cx))) {
                        Ok(response) => response,
                        Err(error) => {
                            telemetry.inner_error();
                            return Poll::Ready(Err(error));
                        }
                    };
                    let status = response.status();
                    let response = ack::acknowledge(response);
                    telemetry.answered(status, &response);
                    return Poll::Ready(Ok(response.map(WebhookBody::passthrough)));
                }
                StateProj::Passthrough { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(WebhookBody::passthrough)));
                }
                StateProj::Refusing { kind, refusal } => {
                    let Refusal { parts, config, verifier, mut telemetry } =
                        refusal.take().expect(POLLED_AFTER_COMPLETION);
                    telemetry.resume();
                    let rejection = match *kind {
                        RejectionKind::MethodNotAllowed | RejectionKind::UnknownTenant => {
                            Rejection::new(*kind)
                        }
                        // A wrong source takes precedence over a wrong digest, length or encoding.
                        kind => config
                            .check_source(&parts)
                            .err()
                            .unwrap_or_else(|| Rejection::new(kind)),
                    };
                    let verifier = verifier.as_deref();
                    let response = config.refuse(rejection, &parts, verifier, &mut telemetry);
                    return Poll::Ready(Ok(response.map(WebhookBody::buffered)));
                }
            }
        }
    }
}

const POLLED_AFTER_COMPLETION: &str = "`ResponseFuture` polled after completion";

/// Verifies and decodes a body, puts the result into the extensions, and returns the body.
fn authentic<T>(
    received: Result<Received, Rejection>,
    config: &Config,
    extensions: &mut Extensions,
    telemetry: &mut telemetry::Call,
) -> Result<Bytes, Rejection>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let received = received?;
    telemetry.received(received.len());
    match received.verify()? {
        Accepted::Verified(verified) => {
            telemetry.verified(verified.label());
            let body = verified.raw_body().clone();
            let tenant = verified.shared_tenant().cloned();
            match verified.decode_kind::<T>(config.kind) {
                Ok(webhook) => drop(extensions.insert(webhook)),
                Err(rejection) if config.forwards_undecodable => {
                    telemetry.undecodable(&rejection);
                    extensions.insert(Undecodable::<T>::new(body.clone(), tenant, rejection));
                }
                Err(rejection) => return Err(rejection),
            }
            Ok(body)
        }
        Accepted::Unsigned(body) => {
            extensions.insert(Unverified::<T>::decode(body.clone(), config.kind)?);
            Ok(body)
        }
    }
}

impl<S, F, B, T> fmt::Debug for ResponseFuture<S, F, B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
