//! gRPC and a webhook on one port, with tonic.
//!
//! ```text
//! cargo run --all-features --example tonic             # the layer around the whole server
//! cargo run --all-features --example tonic -- beside   # the layer on a route beside tonic's
//! ```
//!
//! Either way, it makes one gRPC call, sends itself three webhooks, prints the responses and exits. Add `serve` as the
//! last argument to keep serving. `INQUD_WEBHOOK_SECRET` sets the secret, and `LISTEN` the address.
//!
//! Only the webhook's route is verified. gRPC calls pass through unchanged.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_inqud::{Ack, Amount, PaymentRequest, Secret, Webhook, WebhookLayer, contract, sign};

const WEBHOOK: &str = "/webhooks/inqud/request";

async fn on_request(request: Webhook<PaymentRequest>) -> Ack {
    println!("  received {}: {}", request.id, request.status);
    let Some((price, currency)) = request.client_order_id.as_deref().and_then(price_of) else {
        return Ack::Discard("unknown order".into());
    };
    if request.is_paid_for(&price, currency) {
        println!("  the order is paid");
    }
    Ack::Done
}

/// Looks up the price of an order. In production, a database query.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

/// Any gRPC service. Here, tonic's health service.
fn grpc() -> Routes {
    let (_reporter, health) = tonic_health::server::health_reporter();
    Routes::new(health)
}

/// Responds with 404 to an unknown path.
///
/// tonic responds with HTTP status 200 and a gRPC status. Inqud takes that for an acknowledgement, so a wrong
/// URL would lose every payment. gRPC clients treat a plain 404 as "unimplemented" too.
async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Puts the layer around the whole server, limited to the webhook's path.
///
/// tonic serves only HTTP/2 by default. Accept HTTP/1.1 too, because Inqud may use it.
async fn around(listener: TcpListener, secret: Secret) -> Result<(), Box<dyn Error + Send + Sync>> {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret).path(WEBHOOK)?;
    let router = grpc().into_axum_router().route(WEBHOOK, post(on_request)).fallback(not_found);
    Server::builder()
        .accept_http1(true)
        .layer(webhooks)
        .add_routes(Routes::from(router))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}

/// Puts the layer on an axum route beside tonic's. This is simpler, if axum can be the server.
async fn beside(listener: TcpListener, secret: Secret) -> Result<(), Box<dyn Error + Send + Sync>> {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret);
    let router = grpc()
        .into_axum_router()
        .route(WEBHOOK, post(on_request).layer(webhooks))
        .fallback(not_found);
    axum::serve(listener, router).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let secret = match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Secret::new(secret)?,
        Err(_) => Secret::new("secret_value")?, // for demonstrations only, because it is public
    };
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");

    let server = if arguments.iter().any(|argument| argument == "beside") {
        tokio::spawn(beside(listener, secret.clone()))
    } else {
        tokio::spawn(around(listener, secret.clone()))
    };
    play(address, &secret).await?;
    if arguments.iter().any(|argument| argument == "serve") {
        server.await??;
    }
    Ok(())
}

async fn play(address: SocketAddr, secret: &Secret) -> Result<(), Box<dyn Error + Send + Sync>> {
    let channel = Endpoint::try_from(format!("http://{address}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    let health = client.check(HealthCheckRequest::default()).await?.into_inner();
    println!("grpc.health.v1.Health/Check: {:?}", health.status());

    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let body = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}"#;
    let right = sign(secret, body.as_bytes());
    let forged = sign(secret, b"another body");
    for (what, path, digest, expected) in [
        ("a signed webhook", WEBHOOK, right, StatusCode::OK),
        ("a forged webhook", WEBHOOK, forged, StatusCode::UNAUTHORIZED),
        ("a webhook to a wrong path", "/webhook", right, StatusCode::NOT_FOUND),
    ] {
        let request = Request::post(format!("http://{address}{path}"));
        let request = request.header(contract::DIGEST_HEADER, digest).body(Body::from(body))?;
        let status = client.request(request).await?.status();
        println!("{what}: {status}");
        if status != expected {
            return Err(format!("expected {expected}").into());
        }
    }
    Ok(())
}
