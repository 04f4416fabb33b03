//! The order of layers in a `ServiceBuilder` matters. Each test shows why.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support;
use crate::support::{Inner, SMALL, Script, Step, call, digest, layer, signed, signed_as};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tower_inqud::{PaymentRequest, Rejection, RejectionKind, WebhookBody, contract};

type Event = PaymentRequest;

fn stalled() -> Request<Script> {
    signed_as(SMALL, Script::new([Step::Stall]))
}

fn whole() -> Request<Script> {
    signed_as(SMALL, Script::new([Step::data(SMALL)]))
}

fn kind<B>(response: &Response<B>) -> Option<RejectionKind> {
    response.extensions().get::<Rejection>().map(Rejection::kind)
}

/// A tracing layer that logs all headers, as `DefaultMakeSpan::include_headers(true)` does.
macro_rules! logging {
    ($log:ident) => {{
        let log = Arc::clone(&$log);
        TraceLayer::new_for_http().make_span_with(move |request: &Request<_>| {
            log.lock().unwrap().push_str(&format!("{:?}", request.headers()));
            tower_http::trace::DefaultMakeSpan::new().make_span(request)
        })
    }};
}
use tower_http::trace::MakeSpan as _;

#[tokio::test]
async fn outer_trace_layer_needs_the_digest_hidden() {
    let log = Arc::new(Mutex::new(String::new()));
    let inner = Inner::<Event>::new();
    let logged = || std::mem::take(&mut *log.lock().unwrap());

    // An inner trace layer gets a hidden digest, but does not see rejections.
    let inside =
        ServiceBuilder::new().layer(layer::<Event>()).layer(logging!(log)).service(inner.clone());
    call(inside.clone(), signed(SMALL)).await;
    let text = logged();
    assert!(text.contains("Sensitive") && !text.contains(&digest(SMALL)), "{text}");
    call(inside, Request::post("/").body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(logged(), "");

    // An outer one sees every call, so the digest has to be hidden first.
    let hide = SetSensitiveRequestHeadersLayer::new([contract::DIGEST_HEADER]);
    let outside = ServiceBuilder::new()
        .layer(hide)
        .layer(logging!(log))
        .layer(layer::<Event>())
        .service(inner.clone());
    call(outside, signed(SMALL)).await;
    let text = logged();
    assert!(text.contains("Sensitive") && !text.contains(&digest(SMALL)), "{text}");

    let careless =
        ServiceBuilder::new().layer(logging!(log)).layer(layer::<Event>()).service(inner);
    call(careless, signed(SMALL)).await;
    assert!(logged().contains(&digest(SMALL)), "without hiding it, the digest is logged");
}

#[tokio::test(start_paused = true)]
async fn outer_concurrency_limit_bounds_bodies_in_flight() {
    let service = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(layer::<Event>())
        .service(Inner::<Event>::new());
    let first = tokio::spawn(service.clone().oneshot(stalled()));
    tokio::task::yield_now().await;
    let error = service.clone().oneshot(whole()).await.unwrap_err();
    assert!(error.is::<Overloaded>());
    assert_eq!(first.await.unwrap().unwrap().status(), 408);
    assert_eq!(service.oneshot(whole()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn stalled_body_holds_an_inner_concurrency_limit() {
    let service = ServiceBuilder::new()
        .layer(layer::<Event>())
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Inner::<Event>::new());
    let first = tokio::spawn(service.clone().oneshot(stalled()));
    tokio::task::yield_now().await;
    let error = service.clone().oneshot(whole()).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "the error of the inner service, unchanged");
    // A forged head is rejected before that, so it needs no permit.
    let mut forged = whole();
    forged.headers_mut().clear();
    assert_eq!(kind(&service.oneshot(forged).await.unwrap()), Some(RejectionKind::DigestMissing));
    assert_eq!(first.await.unwrap().unwrap().status(), 408);
}

#[tokio::test]
async fn buffer_works_outside_and_inside() {
    let inner = Inner::<Event>::new();
    let outside = ServiceBuilder::new().buffer(4).layer(layer::<Event>()).service(inner.clone());
    let inside = ServiceBuilder::new().layer(layer::<Event>()).buffer(4).service(inner.clone());
    for _ in 0..8 {
        assert_eq!(call(outside.clone(), whole()).await.status(), 200);
        assert_eq!(call(inside.clone(), whole()).await.status(), 200);
    }
    assert_eq!(inner.calls(), 16);
}

/// An inner timeout covers only the handler. An outer one covers the body too.
#[tokio::test(start_paused = true)]
async fn outer_timeout_includes_the_body() {
    let slow = || {
        service_fn(async |_: Request<WebhookBody<Script>>| {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        })
    };
    let inside = ServiceBuilder::new()
        .layer(layer::<Event>())
        .timeout(Duration::from_secs(3))
        .service(slow());
    assert!(inside.clone().oneshot(whole()).await.unwrap_err().is::<Elapsed>());
    // The inner timeout does not apply to the body.
    assert_eq!(inside.oneshot(stalled()).await.unwrap().status(), 408);

    let outside = ServiceBuilder::new()
        .timeout(Duration::from_secs(8))
        .layer(layer::<Event>())
        .service(slow());
    assert_eq!(outside.clone().oneshot(whole()).await.unwrap().status(), 200);
    assert!(outside.oneshot(stalled()).await.unwrap_err().is::<Elapsed>());
}

#[derive(Debug)]
struct Touchy;

impl<'de> serde::Deserialize<'de> for Touchy {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("the merchant's own type panics")
    }
}

/// Inqud retries after a panic, whether it becomes a 500 or ends the connection.
#[tokio::test]
async fn outer_catch_panic_covers_deserialize() {
    let outside = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(layer::<Touchy>())
        .service(Inner::<Touchy>::new());
    assert_eq!(call(outside, signed(SMALL)).await.status(), 500);

    let panics = service_fn(async |request: Request<WebhookBody<Full<Bytes>>>| {
        assert!(request.headers().is_empty(), "a handler that panics");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let inside =
        ServiceBuilder::new().layer(layer::<Event>()).layer(CatchPanicLayer::new()).service(panics);
    assert_eq!(call(inside, signed(SMALL)).await.status(), 500);

    let inside = ServiceBuilder::new()
        .layer(layer::<Touchy>())
        .layer(CatchPanicLayer::new())
        .service(Inner::<Touchy>::new());
    let task = tokio::spawn(async move { call(inside, signed(SMALL)).await });
    assert!(task.await.unwrap_err().is_panic(), "an inner layer cannot catch it");
}

/// The digest covers the bytes as they were sent.
#[tokio::test]
async fn outer_decompression_breaks_the_digest() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(SMALL.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    let compressed = |signed: &[u8]| {
        let mut request = support::signed(gzip.clone());
        let headers = request.headers_mut();
        headers.insert(contract::DIGEST_HEADER, digest(signed).parse().unwrap());
        headers.insert("content-encoding", "gzip".parse().unwrap());
        request
    };

    let outside = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .layer(layer::<Event>())
        .service(Inner::<Event>::new());
    let response = outside.clone().oneshot(compressed(&gzip)).await.unwrap();
    assert_eq!(response.status(), 401, "the signed bytes are gone");
    let response = outside.oneshot(signed(SMALL)).await.unwrap();
    assert_eq!(response.status(), 200, "harmless if nothing is compressed");

    let inside = ServiceBuilder::new()
        .layer(layer::<Event>())
        .layer(RequestDecompressionLayer::new())
        .service(service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
    let response = inside.oneshot(compressed(&gzip)).await.unwrap();
    assert_eq!(kind(&response), Some(RejectionKind::EncodingNotSupported));
}

/// All layers in the recommended order.
#[tokio::test]
async fn the_documented_order_works() {
    let headers: [HeaderName; 1] = [contract::DIGEST_HEADER];
    let service = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new(headers))
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(64))
        .layer(layer::<Event>())
        .timeout(Duration::from_secs(9))
        .service(Inner::<Event>::new());
    let response = service.clone().oneshot(whole()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(service.oneshot(signed_as("", Script::default())).await.unwrap().status(), 400);
}
