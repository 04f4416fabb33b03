//! AWS Lambda behind API Gateway, a function URL or a load balancer, with `lambda_http`.
//!
//! ```text
//! cargo lambda build --example lambda     # builds it for AWS
//! cargo run --example lambda -- once      # handles one event in process, without AWS
//! ```
//!
//! API Gateway may encode the body in base64. `lambda_http` decodes it, and the digest covers the decoded bytes. Do
//! not configure anything that rewrites the body.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::env;

use lambda_http::{Body, Error, IntoResponse, Request, Response, Service};
use tower::{Layer, service_fn};
use tower_inqud::{Ack, Amount, PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, sign};

async fn on_request(request: http::Request<WebhookBody<Body>>) -> Result<Response<String>, Error> {
    let webhook = request.extensions().get::<Webhook<PaymentRequest>>();
    let webhook = webhook.ok_or("the layer is missing")?;
    println!("received {}: {}", webhook.id, webhook.status);
    let Some((price, currency)) = webhook.client_order_id.as_deref().and_then(price_of) else {
        return Ok(Ack::Discard("unknown order".into()).into());
    };
    if webhook.is_paid_for(&price, currency) {
        println!("the order is paid");
    }
    Ok(Ack::Done.into())
}

/// Looks up the price of an order. In production, a database query.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // In AWS, read it from a secret store.
    let secret = match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Secret::new(secret)?,
        Err(_) => Secret::new("secret_value")?, // for demonstrations only, because it is public
    };
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let mut service = webhooks.layer(service_fn(on_request));

    if env::args().nth(1).as_deref() == Some("once") {
        let response = service.call(event(&secret)?).await?.into_response().await;
        println!("responded with {}", response.status());
        return if response.status() == 200 { Ok(()) } else { Err("expected 200".into()) };
    }
    lambda_http::run(service).await
}

/// An event of API Gateway, payload format 2.0.
fn event(secret: &Secret) -> Result<Request, Error> {
    let body = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}"#;
    let digest = sign(secret, body.as_bytes()).to_string();
    let event = serde_json::json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/webhooks/inqud/request",
        "rawQueryString": "",
        "headers": {"x-payload-digest": digest},
        "requestContext": {
            "http": {
                "method": "POST",
                "path": "/webhooks/inqud/request",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": ""
            },
            "timeEpoch": 0
        },
        "body": body,
        "isBase64Encoded": false
    });
    Ok(lambda_http::request::from_str(&event.to_string())?)
}
