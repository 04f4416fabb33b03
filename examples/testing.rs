//! How to test a handler: a sender plays Inqud against it, in any order and with any repeats.
//!
//! ```text
//! cargo run --features axum,sender --example testing
//! ```
//!
//! One shop gets it wrong, and is found out; the other gets it right. It fails unless both are so.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::post;
use http::Uri;
use tower_inqud::sender::{Disagreement, Life, Sender, Story};
use tower_inqud::{
    Ack, Notification, PaymentRequest, RequestStatus, Secret, Webhook, WebhookLayer,
};

const WEBHOOK: &str = "/webhooks/inqud/request";

/// The orders of a shop, each with the notification that its state came from.
#[derive(Clone, Default)]
struct Shop {
    orders: Arc<Mutex<BTreeMap<String, Webhook<PaymentRequest>>>>,
}

type Handler = fn(&Shop, Webhook<PaymentRequest>) -> Ack;

/// Wrong: what comes last counts, and a straggler makes an order unpaid again.
fn last_comer_counts(shop: &Shop, new: Webhook<PaymentRequest>) -> Ack {
    let mut orders = shop.orders.lock().unwrap_or_else(PoisonError::into_inner);
    orders.insert(new.id.clone(), new);
    Ack::Done
}

/// Right: only what is news changes anything.
fn newest_counts(shop: &Shop, new: Webhook<PaymentRequest>) -> Ack {
    let mut orders = shop.orders.lock().unwrap_or_else(PoisonError::into_inner);
    if orders.get(&new.id).is_none_or(|old| new.supersedes(old)) {
        orders.insert(new.id.clone(), new);
    }
    Ack::Done
}

impl Shop {
    /// The router that the shop serves in production too.
    fn app(&self, secret: &Secret, handler: Handler) -> Router {
        let shop = self.clone();
        let on_request =
            async move |request: Webhook<PaymentRequest>| -> Ack { handler(&shop, request) };
        let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
        Router::new().route(WEBHOOK, post(on_request).layer(webhooks))
    }

    /// The state that has to be the same in the end.
    fn statuses(&self) -> BTreeMap<String, RequestStatus> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.iter().map(|(id, order)| (id.clone(), order.status.clone())).collect()
    }
}

async fn in_any_order(
    secret: &Secret,
    handler: Handler,
) -> Result<BTreeMap<String, RequestStatus>, Disagreement> {
    let inqud = Sender::new(secret.clone(), Uri::from_static(WEBHOOK));
    let paid = Life::new(Story::Success).client_order_id("order-1");
    let settled = Life::new(Story::Settled).client_order_id("order-2");
    inqud
        .any_order(paid.into_iter().chain(settled), async |round| {
            let shop = Shop::default();
            round.deliver(shop.app(secret, handler)).await;
            shop.statuses()
        })
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = Secret::new("a secret of the test")?;

    match in_any_order(&secret, last_comer_counts).await {
        Ok(_) => return Err("the wrong handler was not found out".into()),
        Err(found) => println!("the last comer counts: wrong. {found}\n"),
    }

    let statuses = in_any_order(&secret, newest_counts).await?;
    println!("the newest counts: right. In any order: {statuses:?}");
    if !statuses.values().all(RequestStatus::is_paid) {
        return Err("the right handler ends in another state than expected".into());
    }
    Ok(())
}
