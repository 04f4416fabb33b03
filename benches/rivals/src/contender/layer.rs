use axum::Router;
use axum::routing::post;
use tower_inqud::{Ack, PaymentRequest, Secret, Webhook, WebhookLayer};

use crate::sample::{PATH, SECRET};

pub fn router(limit: usize) -> Router {
    let secret = Secret::new(SECRET).expect("a good secret");
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret).body_limit(limit);
    Router::new().route(PATH, post(on_request).layer(webhooks))
}

async fn on_request(request: Webhook<PaymentRequest>) -> Ack {
    assert!(request.id.starts_with("CAPD-"));
    Ack::Done
}
