//! A server with hyper: HTTP/1.1 and HTTP/2 on one port, a timeout for request heads, and a graceful shutdown.
//!
//! ```text
//! cargo run --example hyper            # serves until Ctrl-C
//! cargo run --example hyper -- once    # sends itself a webhook and shuts down
//! ```
//!
//! `INQUD_WEBHOOK_SECRET` sets the secret, and `LISTEN` the address.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_inqud::{
    Ack, Amount, PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, sign,
};

const WEBHOOK: &str = "/webhooks/inqud/request";

async fn on_request(
    request: Request<WebhookBody<Incoming>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // Requests to other paths arrive here too, unchanged.
    let Some(webhook) = request.extensions().get::<Webhook<PaymentRequest>>() else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    println!("  received {}: {}", webhook.id, webhook.status);
    let Some((price, currency)) = webhook.client_order_id.as_deref().and_then(price_of) else {
        return Ok(Ack::Discard("unknown order".into()).into());
    };
    if webhook.is_paid_for(&price, currency) {
        println!("  the order is paid");
    }
    Ok(Ack::Done.into())
}

/// Looks up the price of an order. In production, a database query.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

async fn serve(
    listener: TcpListener,
    secret: Secret,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let service = ServiceBuilder::new()
        .layer(WebhookLayer::<PaymentRequest>::new(secret).path(WEBHOOK)?)
        .service_fn(on_request);
    let service = TowerToHyperService::new(service);

    let mut server = auto::Builder::new(TokioExecutor::new());
    // The layer has a timeout for the body. The server needs one for the head.
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));

    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let Ok((stream, _)) = accepted else {
            // For example, too many open files. Others may close.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(graceful.watch(connection.into_owned()));
    }
    // Requests in flight get their responses. Idle connections are closed after a second.
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => println!("all connections are closed"),
        () = tokio::time::sleep(Duration::from_secs(1)) => println!("closed the remaining connections"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let secret = match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Secret::new(secret)?,
        Err(_) => Secret::new("secret_value")?, // for demonstrations only, because it is public
    };
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");

    if env::args().nth(1).as_deref() == Some("once") {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shutdown = async { _ = stopped.await };
        let server = tokio::spawn(serve(listener, secret.clone(), shutdown));
        play(address, &secret).await?;
        _ = stop.send(());
        return server.await?;
    }
    let ctrl_c = async { _ = tokio::signal::ctrl_c().await };
    serve(listener, secret, ctrl_c).await
}

async fn play(address: SocketAddr, secret: &Secret) -> Result<(), Box<dyn Error + Send + Sync>> {
    let body = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}"#;
    for (version, http2) in [("HTTP/1.1", false), ("HTTP/2", true)] {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .pool_max_idle_per_host(0)
            .build_http();
        let request = Request::post(format!("http://{address}{WEBHOOK}"))
            .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
            .body(Full::<Bytes>::from(body))?;
        let status = client.request(request).await?.status();
        println!("a signed webhook over {version}: {status}");
        if status != contract::ACKNOWLEDGED {
            return Err("the webhook was not acknowledged".into());
        }
    }
    Ok(())
}
