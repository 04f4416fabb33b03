//! A real axum server on a loopback socket, with everything that a network can do to it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{REQUEST, SMALL, digest, layer, secret};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_inqud::danger::{self, Unverified};
use tower_inqud::{
    Ack, PaymentRequest, Rejection, RejectionKind, Webhook, WebhookLayer, WebhookRejection,
};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Serves one handler at `/`.
async fn serve_handler<H, T>(handler: H) -> SocketAddr
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    serve(Router::new().route("/", post(handler).layer(layer::<PaymentRequest>()))).await
}

/// The head of a request as text, so that a test can send what no client would.
fn head(method: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} / HTTP/1.1\r\nhost: test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

fn good(body: &str) -> String {
    let length = body.len().to_string();
    let headers = [("x-payload-digest", &*digest(body)), ("content-length", &length)];
    head("POST", &headers) + body
}

struct Connection(TcpStream);

impl Connection {
    async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one response to the end of its `Content-Length`.
    async fn response(&mut self) -> (u16, String) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8(bytes.clone()).unwrap();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
                    })
                    .unwrap_or(0);
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, body.to_owned());
                }
            }
            let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_buf(&mut bytes));
            assert_ne!(
                read.await.expect("a response in time").unwrap(),
                0,
                "closed after {text:?}"
            );
        }
    }
}

async fn exchange(address: SocketAddr, text: &str) -> (u16, String) {
    let mut connection = Connection::to(address).await;
    connection.send(text).await;
    connection.response().await
}

/// The example of the documentation. Rivals' bug 1: theirs did not compile with axum.
#[tokio::test]
async fn the_documented_use_works() {
    async fn on_request(request: Webhook<PaymentRequest>) -> Ack {
        assert!(request.is_paid());
        assert_eq!(request.raw_body(), SMALL);
        assert_eq!(request.digest().to_string(), digest(SMALL));
        assert_eq!(request.secret_label(), Some("2026-11"));
        Ack::Done
    }
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret().label("2026-11"));
    let app = Router::new().route("/", post(on_request).layer(webhooks));
    let address = serve(app).await;
    assert_eq!(exchange(address, &good(SMALL)).await, (200, String::new()));
    assert_eq!(exchange(address, &head("GET", &[])).await.0, 405);
}

#[tokio::test]
async fn layer_works_in_every_documented_place() {
    async fn handler(request: Webhook<PaymentRequest>, body: Bytes) -> String {
        assert_eq!(body, request.raw_body());
        request.id.clone()
    }
    let handler = || post(handler);
    let on_router = Router::new().route("/", handler()).layer(layer::<PaymentRequest>());
    let on_routes = Router::new().route("/", handler()).route_layer(layer::<PaymentRequest>());
    let on_service = Router::new().route_service(
        "/",
        tower::ServiceBuilder::new().layer(layer::<PaymentRequest>()).service(handler()),
    );
    let with_state = Router::new()
        .route("/", post(async |_: axum::extract::State<u8>, _: Webhook<PaymentRequest>| "CAPD-1"))
        .layer(layer::<PaymentRequest>())
        .with_state(7);
    for app in [on_router, on_routes, on_service, with_state] {
        let address = serve(app).await;
        assert_eq!(exchange(address, &good(SMALL)).await, (200, "CAPD-1".to_owned()));
    }
}

/// Why the documentation says `post(handler).layer(..)`.
#[tokio::test]
async fn layer_on_the_router_answers_unknown_paths_with_401() {
    let route = || post(async |_: Webhook<PaymentRequest>| ());
    let routed = Router::new().route("/hook", route().layer(layer::<PaymentRequest>()));
    let router = Router::new().route("/hook", route()).layer(layer::<PaymentRequest>());
    assert_eq!(exchange(serve(routed).await, &head("POST", &[])).await.0, 404);
    assert_eq!(exchange(serve(router).await, &head("POST", &[])).await.0, 401);
}

#[tokio::test]
async fn missing_layer_is_a_500_that_says_what_to_add() {
    let app = Router::new().route("/", post(async |_: Webhook<PaymentRequest>| ()));
    let (status, text) = exchange(serve(app).await, &good(SMALL)).await;
    assert_eq!(status, 500);
    assert!(text.contains(".layer(WebhookLayer::new(secret))"), "{text}");
    assert!(text.contains("PaymentRequest"), "{text}");

    // A layer for another type, or one without a secret, counts as missing.
    let other = post(async |_: Webhook<serde_json::Value>| ()).layer(layer::<PaymentRequest>());
    let unsigned = post(async |_: Webhook<PaymentRequest>| ());
    let unsigned = unsigned.layer(danger::unsigned::<PaymentRequest>());
    for route in [other, unsigned] {
        let address = serve(Router::new().route("/", route)).await;
        assert_eq!(exchange(address, &good(SMALL)).await.0, 500);
    }
}

/// An error log prints the rejection and its source.
#[tokio::test]
async fn rejection_of_an_extractor_says_what_is_wrong() {
    async fn describe(webhook: Result<Webhook<PaymentRequest>, WebhookRejection>) -> String {
        let rejection = webhook.unwrap_err();
        let source = rejection.source().map(ToString::to_string);
        format!("{rejection}; {}", source.unwrap_or_default())
    }
    let app = Router::new().route("/", post(describe));
    let (_, text) = exchange(serve(app).await, &good(SMALL)).await;
    assert!(text.starts_with("the request has no webhook of type `"), "{text}");
    assert!(text.ends_with("to this route; "), "{text}");

    let forwarding = layer::<PaymentRequest>().forward_undecodable();
    let app = Router::new().route("/", post(describe).layer(forwarding));
    let (_, text) = exchange(serve(app).await, &good(r#"{"id":17}"#)).await;
    assert!(text.starts_with("the JSON is not the expected object; invalid type"), "{text}");
}

#[tokio::test]
async fn extractors_work_as_option_and_unverified() {
    let optional = post(async |hook: Option<Webhook<PaymentRequest>>| hook.is_some().to_string());
    let without = Router::new().route("/", optional.clone());
    assert_eq!(exchange(serve(without).await, &good(SMALL)).await.1, "false");
    let with = Router::new().route("/", optional.layer(layer::<PaymentRequest>()));
    assert_eq!(exchange(serve(with).await, &good(SMALL)).await.1, "true");

    let unverified = post(async |it: Unverified<PaymentRequest>| it.unverified().id.clone());
    let app = Router::new().route("/", unverified.layer(danger::unsigned::<PaymentRequest>()));
    assert_eq!(exchange(serve(app).await, &good(SMALL)).await.1, "CAPD-1");
}

#[tokio::test]
async fn handler_responses_become_the_right_status() {
    fn answer(client_order_id: &str) -> Response {
        match client_order_id {
            "done" => Ack::Done.into_response(),
            "retry" => Ack::Retry.into_response(),
            "discard" => Ack::Discard("unknown order".into()).into_response(),
            code => StatusCode::from_bytes(code.as_bytes()).unwrap().into_response(),
        }
    }
    let address = serve_handler(async |request: Webhook<PaymentRequest>| {
        answer(request.client_order_id.as_deref().unwrap())
    })
    .await;
    let table = [
        ("done", 200),
        ("retry", 503),
        ("discard", 200),
        ("200", 200),
        ("201", 200),
        ("202", 200),
        ("204", 200),
        ("302", 302),
        ("404", 404),
        ("500", 500),
    ];
    for (order, status) in table {
        let body = format!(r#"{{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"{order}"}}"#);
        let (answered, text) = exchange(address, &good(&body)).await;
        assert_eq!(answered, status, "{order}");
        assert!(!text.contains("unknown order"), "the reason is not sent");
    }
}

fn counting() -> (impl axum::handler::Handler<((),), ()>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let handler = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ack::Done }
    };
    (handler, calls)
}

/// Rivals' bug 11: they waited for the body, and even answered `100 Continue`.
#[tokio::test]
async fn rejects_content_length_over_the_limit_before_100_continue() {
    let (handler, calls) = counting();
    let address = serve_handler(handler).await;
    for expect in [false, true] {
        let digest = digest(SMALL);
        let mut headers = vec![("x-payload-digest", &*digest), ("content-length", "268435456")];
        if expect {
            headers.push(("expect", "100-continue"));
        }
        // The response comes first, before any byte of the body was sent.
        let (status, _) = exchange(address, &head("POST", &headers)).await;
        assert_eq!(status, 413, "expect: {expect}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn good_call_gets_100_continue() {
    let (handler, calls) = counting();
    let mut connection = Connection::to(serve_handler(handler).await).await;
    let length = SMALL.len().to_string();
    let headers = [
        ("x-payload-digest", &*digest(SMALL)),
        ("content-length", &length),
        ("expect", "100-continue"),
    ];
    connection.send(&head("POST", &headers)).await;
    assert_eq!(connection.response().await.0, 100);
    connection.send(SMALL).await;
    assert_eq!(connection.response().await.0, 200);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

fn chunked(body: &str, size: usize) -> String {
    let digest = digest(body);
    let headers = [("x-payload-digest", &*digest), ("transfer-encoding", "chunked")];
    let mut text = head("POST", &headers);
    for chunk in body.as_bytes().chunks(size) {
        let chunk = std::str::from_utf8(chunk).unwrap();
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text + "0\r\n\r\n"
}

/// Rivals' bug 5: a chunked request never got a response.
#[tokio::test]
async fn receives_a_chunked_body_whole() {
    let (handler, calls) = counting();
    let address = serve_handler(handler).await;
    for size in [1, 7, 1000, 2000] {
        assert_eq!(exchange(address, &chunked(REQUEST, size)).await.0, 200, "chunks of {size}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

/// Rivals' bugs 3 and 7: the whole body was read into memory, or caused a panic, unsigned or not.
#[tokio::test]
async fn rejects_body_over_the_limit_while_it_is_sent() {
    let (handler, calls) = counting();
    let address = serve_handler(handler).await;
    let large = " ".repeat(300 * 1024);
    assert_eq!(exchange(address, &chunked(&large, 8192)).await.0, 413);

    let unsigned = head("POST", &[("transfer-encoding", "chunked")]) + "1\r\n \r\n";
    assert_eq!(exchange(address, &unsigned).await.0, 401);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

/// Rivals' bug 6: such a body caused a panic.
#[tokio::test]
async fn unsigned_binary_body_is_a_401() {
    let (handler, _) = counting();
    let mut connection = Connection::to(serve_handler(handler).await).await;
    connection.send(&head("POST", &[("content-length", "2")])).await;
    connection.0.write_all(b"\xff\xfe").await.unwrap();
    assert_eq!(connection.response().await.0, 401);
}

/// Rivals' bug 5 again: the call never ended, and used CPU.
#[tokio::test]
async fn client_disconnect_mid_body_ends_the_call() {
    let rejections = Arc::new(Mutex::new(Vec::new()));
    let (seen, waker) = (Arc::clone(&rejections), Arc::new(tokio::sync::Notify::new()));
    let notify = Arc::clone(&waker);
    let layer = layer::<PaymentRequest>().on_rejection(move |rejection: &Rejection, _| {
        seen.lock().unwrap().push(rejection.kind());
        notify.notify_one();
    });
    let (handler, calls) = counting();
    let address = serve(Router::new().route("/", post(handler).layer(layer))).await;

    let whole = chunked(REQUEST, 300);
    for partial in [&whole[..700], &good(REQUEST)[..700]] {
        let mut connection = Connection::to(address).await;
        connection.send(partial).await;
        connection.0.shutdown().await.unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(20), waker.notified());
        noticed.await.expect("the call ended");
    }
    assert_eq!(*rejections.lock().unwrap(), [RejectionKind::BodyUnreadable; 2]);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    // The server still works.
    assert_eq!(exchange(address, &good(SMALL)).await.0, 200);
}

#[tokio::test]
async fn stalled_body_is_a_408_at_the_timeout() {
    let (handler, calls) = counting();
    let layer = layer::<PaymentRequest>().body_timeout(Duration::from_millis(100));
    let address = serve(Router::new().route("/", post(handler).layer(layer))).await;
    assert_eq!(exchange(address, &good(REQUEST)[..700]).await.0, 408);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connection_is_reused_after_success_and_rejection() {
    let (handler, calls) = counting();
    let mut connection = Connection::to(serve_handler(handler).await).await;
    let forged = good(SMALL).replace(&digest(SMALL), &digest("{}"));
    for (text, status) in [(&good(SMALL), 200), (&forged, 401), (&good(REQUEST), 200)] {
        connection.send(text).await;
        assert_eq!(connection.response().await.0, status);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// Two digest headers, as bytes on the wire.
#[tokio::test]
async fn second_digest_header_is_a_401() {
    let (handler, calls) = counting();
    let address = serve_handler(handler).await;
    let right = digest(SMALL);
    let doubled =
        good(SMALL).replacen("\r\n\r\n", &format!("\r\nX-Payload-Digest: {right}\r\n\r\n"), 1);
    assert_eq!(exchange(address, &doubled).await.0, 401);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn ignores_a_digest_outside_its_header() {
    let (handler, calls) = counting();
    let address = serve_handler(handler).await;
    let right = digest(SMALL);
    let header = format!("x-payload-digest: {right}\r\n");

    let underscores = good(SMALL).replace("x-payload-digest", "X_Payload_Digest");
    let in_query = good(SMALL)
        .replace(&header, "")
        .replace("POST / ", &format!("POST /?x-payload-digest={right} "));
    let body = format!(r#"{{"id":"CAPD-1","status":"SUCCESS","x-payload-digest":"{right}"}}"#);
    let in_body = good(&body).replace(&format!("x-payload-digest: {}\r\n", digest(&body)), "");
    let in_trailer = chunked(SMALL, 9)
        .replace(&header, "trailer: x-payload-digest\r\n")
        .replace("0\r\n\r\n", &format!("0\r\n{header}\r\n"));
    for text in [underscores, in_query, in_body, in_trailer] {
        let (status, answer) = exchange(address, &text).await;
        assert_eq!((status, &*answer), (401, "the digest header is missing"), "{text}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

/// The code of `docs/servers.md`, with a shorter timeout.
async fn serve_with_limits(app: Router, head: Duration) -> SocketAddr {
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(head);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (server, service) = (server.clone(), TowerToHyperService::new(app.clone()));
            tokio::spawn(async move {
                _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// The head arrives before any layer is called. `axum::serve` waits for it without a timeout, and the page
/// about servers has to say so.
#[tokio::test]
async fn slow_head_is_left_to_the_server() {
    let app = || {
        Router::new().route(
            "/",
            post(async |_: Webhook<PaymentRequest>| Ack::Done).layer(layer::<PaymentRequest>()),
        )
    };
    let closes = async |address, head: &[u8]| {
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        let end = slow.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(2), end).await.is_ok()
    };
    let head = b"POST / HTTP/1.1\r\nhost: te";
    assert!(!closes(serve(app()).await, head).await);
    let limited = serve_with_limits(app(), Duration::from_millis(200)).await;
    assert!(closes(limited, head).await);
    assert!(closes(limited, b"P").await);
    assert!(closes(limited, b"").await);
    let mut good_client = Connection::to(limited).await;
    good_client.send(&good(SMALL)).await;
    assert_eq!(good_client.response().await.0, 200);

    let page = include_str!("../../docs/servers.md");
    let row = page.lines().find(|line| line.starts_with("| axum 0.8 ")).unwrap();
    assert!(row.contains("slow heads"), "{row}");
    assert!(page.contains("auto::Builder::new(TokioExecutor::new()).http1_only();"));
    assert!(page.contains("server.http1().timer(TokioTimer::new()).header_read_timeout("));
}
