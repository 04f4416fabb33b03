//! AWS Lambda behind API Gateway, a function URL or a load balancer, with `lambda_http`.
//!
//! ```text
//! cargo lambda build --example lambda     # to deploy it
//! cargo run --example lambda -- once      # one event in process, without AWS
//! ```
//!
//! API Gateway may hand the body over in base64; `lambda_http` decodes it, and the digest is over the
//! decoded bytes. Configure nothing that changes the body on its way.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;

use lambda_http::{Body, Error, IntoResponse, Request, Response, Service};
use tower::{Layer, service_fn};
use tower_inqud::{Ack, Amount, PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, sign};

async fn on_request(request: http::Request<WebhookBody<Body>>) -> Result<Response<String>, Error> {
    let webhook = request.extensions().get::<Webhook<PaymentRequest>>();
    let webhook = webhook.ok_or("the layer is missing")?;
    println!("a webhook: {} is {}", webhook.id, webhook.status);
    let Some((price, currency)) = webhook.client_order_id.as_deref().and_then(price_of) else {
        return Ok(Ack::Discard("unknown order".into()).into());
    };
    if webhook.is_paid_for(&price, currency) {
        println!("the order is paid");
    }
    Ok(Ack::Done.into())
}

/// What an order costs, if there is one of this id. A database, in real life.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // In AWS, from a secret store.
    let secret = match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Secret::new(secret)?,
        Err(_) => Secret::new("secret_value")?, // a demonstration secret, which everybody knows
    };
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let mut service = webhooks.layer(service_fn(on_request));

    if env::args().nth(1).as_deref() == Some("once") {
        let response = service.call(event(&secret)?).await?.into_response().await;
        println!("answered {}", response.status());
        return if response.status() == 200 { Ok(()) } else { Err("not as it should be".into()) };
    }
    lambda_http::run(service).await
}

/// What API Gateway sends, payload format 2.0.
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
