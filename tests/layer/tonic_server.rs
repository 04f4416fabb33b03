//! gRPC on the same port: its calls pass the layer unchanged while webhooks arrive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{SMALL, digest, layer};
use axum::body::Body;
use axum::routing::post;
use http::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{FILE_DESCRIPTOR_SET, ServerReflectionRequest};
use tower_inqud::{Ack, PaymentRequest, Webhook};

const WEBHOOK: &str = "/webhooks/inqud/request";

/// Serves health checks (unary and server streaming), reflection (bidirectional streaming) and the webhook.
async fn serve(
    routes: impl FnOnce(axum::Router) -> axum::Router,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let webhooks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&webhooks);
    let on_request = async move |_: Webhook<PaymentRequest>| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ack::Done
    };
    let (_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    let router = Routes::new(health).add_service(reflection).into_axum_router();
    let router = routes(router.route(WEBHOOK, post(on_request)));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .accept_http1(true)
        .layer(layer::<PaymentRequest>().path(WEBHOOK).unwrap())
        .add_routes(Routes::from(router))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    (address, webhooks)
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn send(address: SocketAddr, path: &str, digest: String) -> (StatusCode, HeaderMap) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{address}{path}"))
        .header("x-payload-digest", digest)
        .body(Body::from(SMALL))
        .unwrap();
    let response = client.request(request).await.unwrap();
    (response.status(), response.headers().clone())
}

#[tokio::test]
async fn unary_and_streaming_calls_pass() {
    let (address, _) = serve(|router| router).await;
    let mut client = HealthClient::new(channel(address).await);
    assert!(client.check(HealthCheckRequest::default()).await.is_ok());
    let unknown = HealthCheckRequest { service: "nobody".to_owned() };
    let status = client.check(unknown).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "the trailers arrive");
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
}

/// Each message is answered before the next is sent, so none can be buffered until the end.
#[tokio::test(flavor = "multi_thread")]
async fn streams_a_thousand_messages_while_webhooks_arrive() {
    const MESSAGES: usize = 1000;
    const SIZE: usize = 60_000;

    let (address, webhooks) = serve(|router| router).await;
    let stop = Arc::new(AtomicUsize::new(0));
    let stopped = Arc::clone(&stop);
    let hooks = tokio::spawn(async move {
        let mut sent = 0;
        while stopped.load(Ordering::SeqCst) == 0 {
            assert_eq!(send(address, WEBHOOK, digest(SMALL)).await.0, StatusCode::OK);
            assert_eq!(send(address, WEBHOOK, digest("{}")).await.0, StatusCode::UNAUTHORIZED);
            sent += 1;
        }
        sent
    });

    let (sender, receiver) = mpsc::channel(1);
    let mut client = ServerReflectionClient::new(channel(address).await);
    let requests = ReceiverStream::new(receiver);
    let mut responses = client.server_reflection_info(requests).await.unwrap().into_inner();
    let mut settled = 0;
    for number in 0..MESSAGES {
        let request = ServerReflectionRequest {
            host: format!("{number:0>SIZE$}"),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        sender.send(request.clone()).await.unwrap();
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!(response.original_request, Some(request), "message {number}");
        if number == MESSAGES / 10 {
            settled = resident_bytes();
        }
    }
    drop(sender);
    assert!(responses.message().await.unwrap().is_none());

    // 60 MB were sent in each direction.
    let grown = resident_bytes().saturating_sub(settled);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    stop.store(1, Ordering::SeqCst);
    let sent = hooks.await.unwrap();
    assert!(sent > 0);
    assert_eq!(
        webhooks.load(Ordering::SeqCst),
        sent,
        "every signed webhook was handled, and no forged one"
    );
    println!("{sent} signed webhooks beside; {} KiB more in memory", grown / 1024);
}

/// The resident memory of this process on Linux. Constant on other systems.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).map_or(0, |pages| pages.parse::<usize>().unwrap() * 4096)
}

/// The documentation says to replace tonic's fallback. Inqud would mistake its 200 for an acknowledgement, so
/// a wrong URL would lose every payment.
#[tokio::test]
async fn tonic_answers_unknown_paths_with_200_without_a_fallback() {
    let (address, webhooks) = serve(|router| router).await;
    let (status, headers) = send(address, "/webhooks/inqud/request/", digest(SMALL)).await;
    assert_eq!((status, &headers["grpc-status"]), (StatusCode::OK, &"12".parse().unwrap()));

    let not_found = async || StatusCode::NOT_FOUND;
    let (safe, _) = serve(|router| router.fallback(not_found)).await;
    let (status, _) = send(safe, "/webhooks/inqud/request/", digest(SMALL)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(webhooks.load(Ordering::SeqCst), 0);

    // A gRPC client still understands the response.
    let mut client = tonic_health::pb::health_client::HealthClient::with_origin(
        channel(safe).await,
        format!("http://{safe}/elsewhere").parse().unwrap(),
    );
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}
