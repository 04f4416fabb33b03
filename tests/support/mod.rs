//! Shared by the tests: fixtures, a scripted body, and a service that records its calls.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use serde::de::DeserializeOwned;
use tower::Service;
use tower_inqud::{Secret, Webhook, WebhookBody, WebhookLayer, contract, sign};

pub const SECRET: &str = "whsec-kiln-and-clay";

/// A Request in its first state, minified.
pub const REQUEST: &str = include_str!("../fixtures/request-waiting_payment.json");
/// The same Request in the newer form: pretty-printed, without the key `reason`.
pub const REQUEST_NO_REASON: &str = include_str!("../fixtures/request-no_reason.json");
/// The smallest valid Request.
pub const SMALL: &str = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;

pub fn secret() -> Secret {
    Secret::new(SECRET).expect("a good secret")
}

pub fn layer<T>() -> WebhookLayer<T> {
    WebhookLayer::new(secret())
}

pub fn digest(body: impl AsRef<[u8]>) -> String {
    sign(&secret(), body.as_ref()).to_string()
}

/// A signed webhook.
pub fn signed(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let body = body.into();
    Request::post("/webhooks/inqud/request")
        .header(contract::DIGEST_HEADER, digest(&body))
        .body(Full::new(body))
        .expect("a request")
}

/// A webhook with the given body, signed for `bytes`.
pub fn signed_as<B>(bytes: impl AsRef<[u8]>, body: B) -> Request<B> {
    Request::post("/").header(contract::DIGEST_HEADER, digest(bytes)).body(body).expect("a request")
}

/// The result of one poll of a [`Script`].
#[derive(Debug)]
pub enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Error(io::Error),
    /// Pending for ever, without a wake-up.
    Stall,
    /// Pending, with an immediate wake-up.
    Wake,
}

impl Step {
    pub fn data(data: impl AsRef<[u8]>) -> Self {
        Self::Data(Bytes::copy_from_slice(data.as_ref()))
    }
}

/// A body that returns a list of steps and then ends. It counts its polls.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    polls: Arc<AtomicUsize>,
    pub hint: SizeHint,
    pub claims_end: bool,
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    pub fn polls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.polls)
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Error(error)) => Some(Err(error)),
            Some(Step::Stall) => {
                self.steps.push_front(Step::Stall);
                return Poll::Pending;
            }
            Some(Step::Wake) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.claims_end
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// An inner service that returns a fixed status and records the webhooks that it was called with.
#[derive(Debug)]
pub struct Inner<T> {
    seen: Arc<Mutex<Vec<Webhook<T>>>>,
    answer: StatusCode,
}

impl<T> Inner<T> {
    pub fn answering(answer: StatusCode) -> Self {
        Self { seen: Arc::default(), answer }
    }

    pub fn new() -> Self {
        Self::answering(StatusCode::OK)
    }

    pub fn seen(&self) -> Vec<Webhook<T>> {
        self.seen.lock().expect("no test panicked here").clone()
    }

    pub fn calls(&self) -> usize {
        self.seen().len()
    }
}

impl<T> Clone for Inner<T> {
    fn clone(&self) -> Self {
        Self { seen: Arc::clone(&self.seen), answer: self.answer }
    }
}

impl<T, B> Service<Request<WebhookBody<B>>> for Inner<T>
where
    T: Send + Sync + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<WebhookBody<B>>) -> Self::Future {
        let webhook = request.extensions().get::<Webhook<T>>().expect("a webhook").clone();
        self.seen.lock().expect("no test panicked here").push(webhook);
        let mut response = Response::new(Full::from("inner"));
        *response.status_mut() = self.answer;
        ready(Ok(response))
    }
}

/// Calls a layered service once.
pub async fn call<S, B, R>(mut service: S, request: Request<B>) -> Response<R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: std::fmt::Debug,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("ready");
    service.call(request).await.expect("a response")
}

pub async fn text<B>(response: Response<B>) -> String
where
    B: Body,
    B::Error: std::fmt::Debug,
{
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("a text")
}

/// Sends a signed webhook through a new layer, and returns what the handler saw.
pub async fn deliver<T>(body: impl Into<Bytes>) -> Result<Webhook<T>, tower_inqud::Rejection>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let inner = Inner::<T>::new();
    let service = tower::Layer::layer(&layer::<T>(), inner.clone());
    let response = call(service, signed(body)).await;
    match response.extensions().get() {
        Some(rejection) => Err(Clone::clone(rejection)),
        None => Ok(inner.seen().remove(0)),
    }
}
