//! Tests a handler with `inqud-mock`: every order of delivery, with repeats, must end in the same state.
//!
//! ```text
//! cargo run --all-features --example testing
//! ```
//!
//! It tests a wrong handler and a correct one. It exits with 0 if the mock detects the wrong one and accepts the other.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::post;
use http::Uri;
use inqud_mock::{Disagreement, Lifecycle, MockInqud, Scenario};
use rust_decimal::Decimal;
use tower_inqud::{Ack, Amount, History, PaymentRequest, Secret, Verdict, Webhook, WebhookLayer};

const WEBHOOK: &str = "/webhooks/inqud/request";

/// The price of each order in USD, and a row for each object at Inqud. An order can have several objects.
#[derive(Clone, Default)]
struct Shop {
    orders: BTreeMap<String, Amount>,
    objects: Arc<Mutex<BTreeMap<String, Object>>>,
}

#[derive(Default)]
struct Object {
    history: History,
    order: String,
    status: String,
    is_paid: bool,
}

/// The status of each order, and whether it is paid. Here, each order has one object.
type State = BTreeMap<String, (String, bool)>;

type Handler = fn(&Shop, &Webhook<PaymentRequest>) -> Ack;

/// Wrong: the last arrival wins, so a late notification makes a paid order unpaid again.
fn last_arrival_wins(shop: &Shop, request: &Webhook<PaymentRequest>) -> Ack {
    let Some((order, price)) = shop.order_of(request) else {
        return Ack::Discard("unknown order".into());
    };
    let mut objects = shop.objects.lock().unwrap_or_else(PoisonError::into_inner);
    objects.entry(request.id.clone()).or_default().update(request, order, price);
    Ack::Done
}

/// Correct: duplicates and late notifications change nothing. The lock keeps others from reading the history
/// meanwhile. In a database, use one transaction that locks the row.
fn verdict_decides(shop: &Shop, request: &Webhook<PaymentRequest>) -> Ack {
    let Some((order, price)) = shop.order_of(request) else {
        return Ack::Discard("unknown order".into());
    };
    let mut objects = shop.objects.lock().unwrap_or_else(PoisonError::into_inner);
    let object = objects.entry(request.id.clone()).or_default();
    let verdict = object.history.receive(request);
    if verdict.should_handle() {
        object.update(request, order, price);
    } else if verdict == Verdict::Review {
        // In production, notify someone.
        println!("{} needs a review: {}", request.id, request.status);
    }
    Ack::Done
}

impl Object {
    fn update(&mut self, request: &PaymentRequest, order: &str, price: &Amount) {
        self.order = order.to_owned();
        self.status = request.status.to_string();
        // The status is not enough: a resolved conflict is a SUCCESS with half of the amount paid.
        self.is_paid = request.is_paid_for(price, "USD");
    }
}

impl Shop {
    fn new() -> Self {
        let price = |(order, price): (&str, u32)| (order.to_owned(), Decimal::from(price).into());
        let orders = [("order-1", 100), ("order-2", 100), ("order-3", 500)].map(price);
        Self { orders: orders.into(), ..Self::default() }
    }

    fn order_of(&self, request: &PaymentRequest) -> Option<(&str, &Amount)> {
        let (order, price) = self.orders.get_key_value(request.client_order_id.as_ref()?)?;
        Some((order, price))
    }

    /// The router, the same as in production.
    fn app(&self, secret: &Secret, handler: Handler) -> Router {
        let shop = self.clone();
        let on_request =
            async move |request: Webhook<PaymentRequest>| -> Ack { handler(&shop, &request) };
        let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
        Router::new().route(WEBHOOK, post(on_request).layer(webhooks))
    }

    /// The state that must not depend on the order of delivery.
    fn state(&self) -> State {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |it: &Object| (it.order.clone(), (it.status.clone(), it.is_paid));
        objects.values().map(of).collect()
    }
}

async fn in_any_order(secret: &Secret, handler: Handler) -> Result<State, Disagreement> {
    let inqud = MockInqud::new(secret.clone(), Uri::from_static(WEBHOOK));
    let lifecycles = [
        Lifecycle::new(Scenario::Success).client_order_id("order-1"),
        Lifecycle::new(Scenario::ResolvedConflict).client_order_id("order-2"),
        // Pays less than this order costs.
        Lifecycle::new(Scenario::Success).client_order_id("order-3"),
        // An unknown order.
        Lifecycle::new(Scenario::Success).client_order_id("order-4"),
    ];
    inqud
        .any_order(lifecycles.into_iter().flatten(), async |round| {
            let shop = Shop::new();
            round.deliver(shop.app(secret, handler)).await;
            shop.state()
        })
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = Secret::new("a secret of the test")?;

    match in_any_order(&secret, last_arrival_wins).await {
        Ok(_) => return Err("the wrong handler was not detected".into()),
        Err(found) => println!("last arrival wins: wrong, {found}\n"),
    }

    let state = in_any_order(&secret, verdict_decides).await?;
    println!("verdict decides: correct, every order ends in {state:?}");
    let expected = [("order-1", true), ("order-2", false), ("order-3", false)]
        .map(|(order, is_paid)| (order.to_owned(), ("SUCCESS".to_owned(), is_paid)));
    if state != State::from(expected) {
        return Err("the correct handler ended in an unexpected state".into());
    }
    Ok(())
}
