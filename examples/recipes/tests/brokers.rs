//! What is answered when the broker is not there, is silent, or has stored it.

use std::convert::Infallible;
use std::env;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use inqud_inbox::Record;
use recipes::{kafka, nats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_inqud::{PaymentRequest, Secret, WebhookBody, WebhookLayer, contract, sign};

const BODY: &str = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00Z"}"#;
const LONG: Duration = Duration::from_secs(60);

/// Delivers a webhook to a publisher behind the layer.
async fn deliver<S>(publisher: S) -> Response<String>
where
    S: Service<
            Request<WebhookBody<Full<&'static [u8]>>>,
            Response = Response<String>,
            Error = Infallible,
        > + Clone,
{
    let secret = Secret::new("secret_value").unwrap();
    let request = Request::post("/inqud/request")
        .header(contract::DIGEST_HEADER, sign(&secret, BODY.as_bytes()).to_string())
        .body(Full::new(BODY.as_bytes()))
        .unwrap();
    let layered = WebhookLayer::<PaymentRequest>::new(secret).layer(publisher);
    layered.oneshot(request).await.unwrap().map(|_| String::new())
}

fn assert_refused<B>(response: &Response<B>, began: Instant) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "60");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

/// A port of loopback that refuses.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn without_nats_it_is_a_503() {
    let jetstream = nats::connect(&nobody().await.to_string()).await.unwrap();
    let began = Instant::now();
    assert_refused(&deliver(nats::publisher(jetstream)).await, began);
}

#[tokio::test]
async fn without_kafka_it_is_a_503() {
    let producer = kafka::connect(&nobody().await.to_string()).unwrap();
    let began = Instant::now();
    assert_refused(&deliver(kafka::publisher(producer)).await, began);
}

#[tokio::test]
async fn without_the_layer_it_is_a_500_that_says_what_to_add() {
    let request = || Request::post("/").body(Full::new(BODY.as_bytes())).unwrap();
    let jetstream = nats::connect(&nobody().await.to_string()).await.unwrap();
    let producer = kafka::connect(&nobody().await.to_string()).unwrap();
    for response in [
        nats::publisher(jetstream).oneshot(request()).await.unwrap(),
        kafka::publisher(producer).oneshot(request()).await.unwrap(),
    ] {
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.body().contains("WebhookLayer::<PaymentRequest>"));
    }
}

/// Greets, and acknowledges nothing.
async fn silent_nats(mut stream: TcpStream) {
    let info = "INFO {\"server_id\":\"silent\",\"version\":\"2.10.0\",\"max_payload\":1048576,\
                \"proto\":1,\"headers\":true}\r\n";
    stream.write_all(info.as_bytes()).await.unwrap();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if bytes[..count].windows(4).any(|word| word == b"PING") {
            stream.write_all(b"PONG\r\n").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_nats_that_acknowledges_nothing_is_a_503_within_8_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(silent_nats(listener.accept().await.unwrap().0));
        }
    });
    let jetstream = nats::connect(&address.to_string()).await.unwrap();
    connected(&jetstream).await;
    let began = Instant::now();
    assert_refused(&deliver(nats::publisher(jetstream)).await, began);
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
}

async fn connected(jetstream: &Context) {
    let connected = async {
        while jetstream.client().connection_state() != async_nats::connection::State::Connected {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, connected).await.unwrap();
}

fn nats_server(address: SocketAddr, folder: &Path) -> Option<Child> {
    let port = address.port().to_string();
    let mut server = Command::new("nats-server");
    server.args(["-js", "-a", "127.0.0.1", "-p", &port, "-sd"]).arg(folder);
    server.stderr(Stdio::null()).kill_on_drop(true).spawn().ok()
}

#[tokio::test]
async fn jetstream_stores_a_notification_once_and_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let address = nobody().await;
    let Some(mut server) = nats_server(address, folder.path()) else {
        let _ = writeln!(std::io::stderr(), "\nNOT TESTED: there is no nats-server here\n");
        assert!(env::var_os("CI").is_none(), "no nats-server, in CI");
        return;
    };
    let jetstream = nats::connect(&address.to_string()).await.unwrap();
    connected(&jetstream).await;
    let publisher = nats::publisher(jetstream.clone());

    let began = Instant::now();
    assert_refused(&deliver(publisher.clone()).await, began);
    let stream = jetstream.create_stream(nats::stream()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(deliver(publisher.clone()).await.status(), StatusCode::OK);
    }
    assert_eq!(stream.get_info().await.unwrap().state.messages, 1);
    let message = stream.get_raw_message(1).await.unwrap();
    let request: PaymentRequest = serde_json::from_str(BODY).unwrap();
    let key = Record::new(&request, BODY.into()).key.to_string();
    assert_eq!(message.payload, BODY);
    assert_eq!(message.headers.get("Nats-Msg-Id").unwrap().as_str(), key);

    server.kill().await.unwrap();
    let began = Instant::now();
    assert_refused(&deliver(publisher.clone()).await, began);
    let _server = nats_server(address, folder.path()).unwrap();
    let again = async {
        while deliver(publisher.clone()).await.status() != StatusCode::OK {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, again).await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 1, "a duplicate still");
}
