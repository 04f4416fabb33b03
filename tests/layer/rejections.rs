//! Each rejection: its status, its fixed text, and that it has no side effects.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{
    Inner, REQUEST, SMALL, Script, Step, call, digest, layer, secret, signed_as, text,
};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::Layer;
use tower_inqud::RejectionKind::{self, *};
use tower_inqud::{PaymentRequest, Rejection, Secret, WebhookLayer, contract, danger, sign};

/// A call with a Request in two frames, and one thing wrong with it.
struct Case {
    kind: RejectionKind,
    status: u16,
    text: &'static str,
    /// Whether the layer may poll the body.
    body_is_read: bool,
    request: Request<Script>,
}

fn good() -> Request<Script> {
    let (first, second) = REQUEST.split_at(500);
    signed_as(REQUEST, Script::new([Step::data(first), Step::data(second)]))
}

fn with_header(name: impl http::header::IntoHeaderName, value: &str) -> Request<Script> {
    let mut request = good();
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn with_body(body: &str) -> Request<Script> {
    signed_as(body, Script::new([Step::data(body)]))
}

fn case(
    kind: RejectionKind,
    status: u16,
    text: &'static str,
    body_is_read: bool,
    request: Request<Script>,
) -> Case {
    Case { kind, status, text, body_is_read, request }
}

/// Every kind except [`SourceNotAllowed`], which needs another layer.
fn cases() -> Vec<Case> {
    let mut get = good();
    *get.method_mut() = http::Method::GET;
    let mut unsigned = good();
    unsigned.headers_mut().remove(contract::DIGEST_HEADER);
    let mut twice = good();
    twice.headers_mut().append(contract::DIGEST_HEADER, digest(REQUEST).parse().unwrap());
    let mut forged = good();
    let other = sign(&Secret::new("another secret").unwrap(), REQUEST.as_bytes());
    forged.headers_mut().insert(contract::DIGEST_HEADER, other.into());
    let broken = [Step::data(&REQUEST[..500]), Step::Error(io::ErrorKind::ConnectionReset.into())];
    let broken = signed_as(REQUEST, Script::new(broken));
    let slow = signed_as(REQUEST, Script::new([Step::data(&REQUEST[..500]), Step::Stall]));
    let large = REQUEST.repeat(2);
    let mut encoded_twice = with_header(CONTENT_ENCODING, "identity");
    encoded_twice.headers_mut().append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));

    let missing = "the digest header is missing";
    let malformed = "the digest is not a hexadecimal HMAC";
    let encoded = "the body must not be encoded";
    let too_large = "the body is too large";
    vec![
        case(MethodNotAllowed, 405, "webhooks must be sent with POST", false, get),
        case(DigestMissing, 401, missing, false, unsigned),
        case(DigestDuplicated, 401, "there is more than one digest header", false, twice),
        case(DigestMalformed, 401, malformed, false, with_header(contract::DIGEST_HEADER, "")),
        case(BodyTooLarge, 413, too_large, false, with_header(CONTENT_LENGTH, "2048")),
        // Too large for a `u64`.
        case(BodyTooLarge, 413, too_large, false, with_header(CONTENT_LENGTH, &"9".repeat(40))),
        // Without a `Content-Length`.
        case(BodyTooLarge, 413, too_large, true, with_body(&large)),
        case(EncodingNotSupported, 415, encoded, false, with_header(CONTENT_ENCODING, "gzip")),
        case(
            EncodingNotSupported,
            415,
            encoded,
            false,
            with_header(CONTENT_ENCODING, "identity, br"),
        ),
        case(EncodingNotSupported, 415, encoded, false, encoded_twice),
        case(BodyTimeout, 408, "the body took too long to arrive", true, slow),
        case(BodyUnreadable, 400, "the body could not be read", true, broken),
        case(DigestMismatch, 401, "the digest does not match the body", true, forged),
        case(NotJson, 400, "the body is not JSON", true, with_body("{")),
        case(UnexpectedShape, 422, "the JSON is not the expected object", true, with_body("[]")),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_rejection_has_its_status_and_text() {
    for Case { kind, status, text: expected, body_is_read, request } in cases() {
        let polls = request.body().polls();
        let inner = Inner::<PaymentRequest>::new();
        let observed = Arc::new(Mutex::new(Vec::new()));
        let observer = Arc::clone(&observed);
        let layer = layer::<PaymentRequest>()
            .body_limit(2047)
            .on_rejection(move |rejection, _| observer.lock().unwrap().push(rejection.kind()));

        let response = call(layer.layer(inner.clone()), request).await;

        assert_eq!(response.status(), status, "{kind:?}");
        assert_eq!(kind.status(), status, "{kind:?}");
        let rejection = response.extensions().get::<Rejection>().expect("a rejection");
        assert_eq!(rejection.kind(), kind);
        assert_eq!(rejection.to_string(), expected, "{kind:?}");
        assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), status == 401, "{kind:?}");
        let allow = response.headers().get(ALLOW).map(HeaderValue::as_bytes);
        assert_eq!(allow, (status == 405).then_some(&b"POST"[..]), "{kind:?}");
        let content_type = response.headers().get(CONTENT_TYPE).unwrap();
        assert_eq!(content_type, "text/plain; charset=utf-8", "{kind:?}");
        assert_eq!(text(response).await, expected, "{kind:?}");
        assert_eq!(inner.calls(), 0, "{kind:?}");
        assert_eq!(polls.load(Ordering::SeqCst) > 0, body_is_read, "{kind:?}");
        assert_eq!(*observed.lock().unwrap(), [kind]);
    }
}

/// The cases above differ from this call in one thing, so it has to be accepted.
#[tokio::test]
async fn base_call_of_the_cases_is_good() {
    let inner = Inner::<PaymentRequest>::new();
    let service = layer::<PaymentRequest>().body_limit(2047).layer(inner.clone());
    assert_eq!(call(service, good()).await.status(), 200);
    assert_eq!(inner.seen()[0].raw_body(), REQUEST);
}

#[tokio::test]
async fn rejects_second_digest_header() {
    let right = digest(SMALL);
    let wrong = digest("{}");
    for (first, second) in [(&right, &right), (&right, &wrong), (&wrong, &right)] {
        let inner = Inner::<PaymentRequest>::new();
        let mut request = with_body(SMALL);
        request.headers_mut().insert(contract::DIGEST_HEADER, first.parse().unwrap());
        request.headers_mut().append(contract::DIGEST_HEADER, second.parse().unwrap());
        let response = call(layer::<PaymentRequest>().layer(inner.clone()), request).await;
        assert_eq!(response.status(), 401);
        assert_eq!(inner.calls(), 0);
    }
}

#[tokio::test]
async fn identity_encoding_counts_as_none() {
    for encoding in ["identity", "Identity", "identity, identity", ""] {
        let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
        let response = call(service, with_header(CONTENT_ENCODING, encoding)).await;
        assert_eq!(response.status(), 200, "{encoding:?}");
    }
}

#[tokio::test]
async fn rejects_disallowed_source_without_reading_the_body() {
    let service = layer::<PaymentRequest>()
        .allow_source(|request| request.extensions.get::<&str>() == Some(&"inqud"))
        .layer(Inner::<PaymentRequest>::new());

    let request = good();
    let polls = request.body().polls();
    let response = call(service.clone(), request).await;
    assert_eq!(response.status(), 403);
    let kind = response.extensions().get::<Rejection>().unwrap().kind();
    assert_eq!(kind, SourceNotAllowed);
    assert_eq!(polls.load(Ordering::SeqCst), 0);

    let mut request = good();
    request.extensions_mut().insert("inqud");
    assert_eq!(call(service, request).await.status(), 200);
}

#[tokio::test]
async fn never_reads_an_address_from_a_header() {
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let service = layer::<PaymentRequest>()
            .allow_source(|request| request.extensions.get::<&str>().is_some())
            .layer(Inner::<PaymentRequest>::new());
        let mut request = good();
        let address = contract::SOURCE_ADDRESS.to_string().parse().unwrap();
        request.headers_mut().insert(name, address);
        assert_eq!(call(service, request).await.status(), 403, "{name}");
    }
}

#[tokio::test]
async fn json_rejection_hides_the_path_from_the_sender() {
    #[derive(serde::Deserialize)]
    struct Own {
        #[expect(dead_code, reason = "only its shape matters")]
        lines: Vec<Line>,
    }
    #[derive(serde::Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only its shape matters")]
        price: u32,
    }

    let service = layer::<Own>().layer(Inner::<Own>::new());
    let body = r#"{"lines":[{"price":1},{"price":"Mrs. Smith"}]}"#;
    let response = call(service, with_body(body)).await;
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    assert_eq!(rejection.kind(), UnexpectedShape);
    assert_eq!(rejection.field_path(), Some("lines[1].price"));
    let source = std::error::Error::source(&rejection).expect("the parser's error").to_string();
    assert!(source.contains("Mrs. Smith"), "{source}");
    let sent = text(response).await;
    assert!(!sent.contains("lines") && !sent.contains("Smith"), "{sent}");
}

#[tokio::test]
async fn custom_response_carries_the_rejection_and_is_never_2xx() {
    let by_kind = |rejection: &Rejection| {
        let mut response = Response::new(Bytes::from("no"));
        if rejection.kind() == DigestMissing {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response // a merchant's mistake: the status stays 200
    };
    let service =
        layer::<PaymentRequest>().rejection_response(by_kind).layer(Inner::<PaymentRequest>::new());

    let mut unsigned = with_body(SMALL);
    unsigned.headers_mut().remove(contract::DIGEST_HEADER);
    let response = call(service.clone(), unsigned).await;
    assert_eq!(response.status(), 404);
    assert!(response.extensions().get::<Rejection>().is_some());
    assert_eq!(text(response).await, "no");

    let response = call(service, with_body("[]")).await;
    assert_eq!(response.status(), 422, "a 200 would end Inqud's retries");
    assert!(response.extensions().get::<Rejection>().is_some());
}

/// A rejected call may still carry a valid digest, so its head must not show one.
#[tokio::test(start_paused = true)]
async fn rejected_head_never_shows_a_digest() {
    let right = digest(REQUEST);
    let mut prefixed = good();
    let value = format!("sha1={right}").parse().unwrap();
    prefixed.headers_mut().insert(contract::DIGEST_HEADER, value);
    let elsewhere = good();
    let mut requests: Vec<_> = cases().into_iter().map(|case| case.request).collect();
    requests.extend([prefixed, elsewhere]);
    for (number, request) in requests.into_iter().enumerate() {
        let mut layer = layer::<PaymentRequest>().body_limit(2047);
        if number > cases().len() {
            layer = layer.allow_source(|_| false);
        }
        let seen = Arc::new(Mutex::new(String::new()));
        let observer = Arc::clone(&seen);
        let layer = layer.on_rejection(move |_, head| {
            *observer.lock().unwrap() = format!("{head:?} {head:#?}");
        });
        let digests: Vec<_> = request.headers().get_all(contract::DIGEST_HEADER).iter().collect();
        let digests: Vec<_> = digests.iter().map(|it| it.to_str().unwrap().to_owned()).collect();
        call(layer.layer(Inner::<PaymentRequest>::new()), request).await;
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty(), "case {number} was refused");
        for digest in digests.iter().filter(|digest| !digest.is_empty()) {
            assert!(!seen.contains(digest), "case {number}: {seen}");
        }
    }
}

#[tokio::test]
async fn rejection_callback_sees_the_head() {
    let seen = Arc::new(Mutex::new(String::new()));
    let observer = Arc::clone(&seen);
    let service = layer::<PaymentRequest>()
        .on_rejection(move |_, request| *observer.lock().unwrap() = format!("{request:?}"))
        .layer(Inner::<PaymentRequest>::new());
    let mut request = with_body("[]");
    *request.uri_mut() = "/webhooks/inqud/request".parse().unwrap();
    call(service, request).await;
    let seen = seen.lock().unwrap();
    assert!(seen.contains("/webhooks/inqud/request"), "{seen}");
    assert!(!seen.contains(&digest("[]")), "{seen}");
}

/// Rivals' bug 3: they read 256 MiB into memory.
#[tokio::test]
async fn rejects_an_endless_body_at_the_limit() {
    let chunk = Bytes::from(vec![b' '; 1024 * 1024]);
    let script = Script::new((0..256).map(|_| Step::Data(chunk.clone())));
    let polls = script.polls();
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let response = call(service, signed_as("", script)).await;
    assert_eq!(response.status(), 413);
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn body_timeout_is_total_and_not_per_frame() {
    // Each poll returns a frame, and there is one poll each second.
    let body = Drip { every: Duration::from_secs(1), sleep: None, frames: Arc::default() };
    let frames = Arc::clone(&body.frames);
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let began = tokio::time::Instant::now();
    let response = call(service, signed_as(REQUEST, body)).await;
    assert_eq!(response.status(), 408);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(frames.load(Ordering::SeqCst) >= 9);
}

struct Drip {
    every: Duration,
    sleep: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    frames: Arc<AtomicUsize>,
}

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        let every = self.every;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        std::task::ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        let frames = self.frames.fetch_add(1, Ordering::SeqCst);
        assert!(frames < 100, "a timeout that restarts with each frame never ends");
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b" ")))))
    }
}

/// A layer without a secret verifies nothing, and its type says so.
#[tokio::test]
async fn unverified_layer_yields_only_unverified() {
    let service = danger::unsigned::<PaymentRequest>().layer(tower::service_fn(
        async |request: Request<_>| {
            let extensions = request.extensions();
            assert!(extensions.get::<tower_inqud::Webhook<PaymentRequest>>().is_none());
            let claimed = extensions.get::<danger::Unverified<PaymentRequest>>().unwrap();
            assert!(claimed.unverified().is_paid());
            assert_eq!(claimed.raw_body(), SMALL);
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        },
    ));
    let unsigned = |body: &str| Request::post("/").body(Script::new([Step::data(body)])).unwrap();
    assert_eq!(call(service.clone(), unsigned(SMALL)).await.status(), 200);
    assert_eq!(call(service.clone(), unsigned("[]")).await.status(), 422);
    // A layer with a secret still rejects unsigned calls.
    let signed =
        WebhookLayer::<PaymentRequest>::new(secret()).layer(Inner::<PaymentRequest>::new());
    assert_eq!(call(signed, unsigned(SMALL)).await.status(), 401);
}
