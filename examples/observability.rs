//! A merchant's server with logs through `tracing`, and metrics for Prometheus.
//!
//! ```text
//! export INQUD_WEBHOOK_SECRET=...
//! cargo run --all-features --example observability            # serves
//! cargo run --all-features --example observability -- --once  # sends two webhooks, scrapes the metrics, exits
//! ```
//!
//! `LISTEN` sets the address. Metrics are at `/metrics`. In production, serve them on a separate port that is not
//! reachable from outside.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tower_inqud::{Ack, Amount, PaymentRequest, Secret, Webhook, WebhookLayer, contract, sign};

type Failure = Box<dyn Error + Send + Sync>;

/// Installs the recorder. Call it before a `WebhookLayer` wraps a service, because that is when metrics are described.
fn record() -> Result<PrometheusHandle, Failure> {
    // From the latency of a healthy handler to the 10 s after which Inqud gives up.
    let seconds = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];
    let duration = Matcher::Full("inqud_webhook_duration_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(duration, &seconds)?;
    let metrics = recorder.install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}

async fn on_request(request: Webhook<PaymentRequest>) -> Ack {
    // Logged in the layer's span of the call.
    tracing::info!(id = request.id, status = request.status.as_str(), "a Request has changed");
    let Some((price, currency)) = request.client_order_id.as_deref().and_then(price_of) else {
        // The layer logs the reason.
        return Ack::Discard("unknown order".into());
    };
    if request.is_paid_for(&price, currency) {
        tracing::info!(order = request.client_order_id, "an order is paid");
    } else if request.is_final() {
        tracing::warn!(id = request.id, status = request.status.as_str(), "an order is not paid");
    }
    Ack::Done
}

/// Looks up the price of an order. In production, a database query.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

fn app(secret: Secret, metrics: PrometheusHandle) -> Router {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret);
    Router::new()
        .route("/webhooks/inqud/request", post(on_request).layer(webhooks))
        .route("/metrics", get(async move || metrics.render()))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().init();
    let metrics = record()?;
    let is_play = env::args().nth(1).as_deref() == Some("--once");
    let text = match env::var("INQUD_WEBHOOK_SECRET") {
        Err(_) if is_play => "secret_value".to_owned(),
        text => text.map_err(|error| {
            format!("INQUD_WEBHOOK_SECRET: {error}: set it to your webhook secret")
        })?,
    };
    let secret = Secret::new(text)?.label("2026-11");
    let listener =
        TcpListener::bind(env::var("LISTEN").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let address = listener.local_addr()?;
    println!("metrics at http://{address}/metrics");
    let server = axum::serve(listener, app(secret.clone(), metrics)).into_future();
    if !is_play {
        return Ok(server.await?);
    }
    tokio::spawn(server);
    play(address, &secret).await
}

/// Sends a genuine webhook and a forged one, and prints what Prometheus scrapes.
async fn play(address: SocketAddr, secret: &Secret) -> Result<(), Failure> {
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let body = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}"#;
    for (signed, expected) in [(body, StatusCode::OK), ("{}", StatusCode::UNAUTHORIZED)] {
        let request = Request::post(format!("http://{address}/webhooks/inqud/request"))
            .header(contract::DIGEST_HEADER, sign(secret, signed.as_bytes()))
            .body(Full::from(body))?;
        let status = client.request(request).await?.status();
        if status != expected {
            return Err(format!("expected {expected}, got {status}").into());
        }
    }
    let scraped = client.get(format!("http://{address}/metrics").parse()?).await?;
    let text = String::from_utf8(scraped.into_body().collect().await?.to_bytes().to_vec())?;
    println!("\n{text}");
    for line in [
        r#"inqud_webhook_requests_total{outcome="accepted",reason="",secret_label="2026-11"} 1"#,
        r#"inqud_webhook_requests_total{outcome="rejected",reason="digest_mismatch",secret_label=""} 1"#,
        r#"inqud_webhook_duration_seconds_bucket{outcome="accepted",le="10"} 1"#,
        r#"inqud_webhook_body_bytes_count 2"#,
    ] {
        if !text.lines().any(|it| it == line) {
            return Err(format!("missing in the metrics: {line}").into());
        }
    }
    Ok(())
}
