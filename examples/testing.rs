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
use rust_decimal::Decimal;
use tower_inqud::sender::{Disagreement, Life, Sender, Story};
use tower_inqud::{Ack, Amount, Notification, PaymentRequest, Secret, Webhook, WebhookLayer};

const WEBHOOK: &str = "/webhooks/inqud/request";

/// The orders of a shop, each with the notification that its state came from.
#[derive(Clone, Default)]
struct Shop {
    orders: Arc<Mutex<BTreeMap<String, Webhook<PaymentRequest>>>>,
}

type State = BTreeMap<String, (String, bool)>;

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

    /// The state that has to be the same in the end: of each Request its status, and whether it pays
    /// for an order of 100 USD.
    fn state(&self) -> State {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let hundred = Amount::from(Decimal::ONE_HUNDRED);
        let of = |it: &Webhook<PaymentRequest>| {
            let order = it.client_order_id.clone().unwrap_or_default();
            (order, (it.status.to_string(), it.is_paid_for(&hundred, "USD")))
        };
        orders.values().map(of).collect()
    }
}

async fn in_any_order(secret: &Secret, handler: Handler) -> Result<State, Disagreement> {
    let inqud = Sender::new(secret.clone(), Uri::from_static(WEBHOOK));
    let paid = Life::new(Story::Success).client_order_id("order-1");
    let settled = Life::new(Story::Settled).client_order_id("order-2");
    inqud
        .any_order(paid.into_iter().chain(settled), async |round| {
            let shop = Shop::default();
            round.deliver(shop.app(secret, handler)).await;
            shop.state()
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

    let state = in_any_order(&secret, newest_counts).await?;
    println!("the newest counts: right. In any order: {state:?}");
    // Settled by Inqud's support: a success too, and half of it paid.
    let expected = [("order-1", true), ("order-2", false)]
        .map(|(order, is_paid)| (order.to_owned(), ("SUCCESS".to_owned(), is_paid)));
    if state != State::from(expected) {
        return Err("the right handler ends in another state than expected".into());
    }
    Ok(())
}
