//! How to test a handler: a sender plays Inqud against it, in any order and with any repeats.
//!
//! ```text
//! cargo run --all-features --example testing
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
use inqud_mock::{Disagreement, Lifecycle, MockInqud, Scenario};
use rust_decimal::Decimal;
use tower_inqud::{Ack, Amount, History, PaymentRequest, Secret, Verdict, Webhook, WebhookLayer};

const WEBHOOK: &str = "/webhooks/inqud/request";

/// What each order costs, in USD, and a row for each of Inqud's objects: an order can have several.
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

/// Of each order, of which each has one object here: its status, and whether it is paid.
type State = BTreeMap<String, (String, bool)>;

type Handler = fn(&Shop, &Webhook<PaymentRequest>) -> Ack;

/// Wrong: what comes last counts, and a straggler makes an order unpaid again.
fn last_comer_counts(shop: &Shop, request: &Webhook<PaymentRequest>) -> Ack {
    let Some((order, price)) = shop.order_of(request) else {
        return Ack::Discard("unknown order".into());
    };
    let mut objects = shop.objects.lock().unwrap_or_else(PoisonError::into_inner);
    objects.entry(request.id.clone()).or_default().update(request, order, price);
    Ack::Done
}

/// Right: what comes late, or again, changes nothing. While the lock is held nobody else reads the history:
/// in a database, that is one transaction with the row locked.
fn verdicts_count(shop: &Shop, request: &Webhook<PaymentRequest>) -> Ack {
    let Some((order, price)) = shop.order_of(request) else {
        return Ack::Discard("unknown order".into());
    };
    let mut objects = shop.objects.lock().unwrap_or_else(PoisonError::into_inner);
    let object = objects.entry(request.id.clone()).or_default();
    let verdict = object.history.receive(request);
    if verdict.should_handle() {
        object.update(request, order, price);
    } else if verdict == Verdict::Review {
        // In production, somewhere that somebody looks.
        println!("{} has to be looked at: {}", request.id, request.status);
    }
    Ack::Done
}

impl Object {
    fn update(&mut self, request: &PaymentRequest, order: &str, price: &Amount) {
        self.order = order.to_owned();
        self.status = request.status.to_string();
        // Not by the status alone: a conflict that support settles is a success, with half of it paid.
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

    /// The router that the shop serves in production too.
    fn app(&self, secret: &Secret, handler: Handler) -> Router {
        let shop = self.clone();
        let on_request =
            async move |request: Webhook<PaymentRequest>| -> Ack { handler(&shop, &request) };
        let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
        Router::new().route(WEBHOOK, post(on_request).layer(webhooks))
    }

    /// The state that has to be the same in the end.
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
        // Another order's price.
        Lifecycle::new(Scenario::Success).client_order_id("order-3"),
        // An order that nobody knows.
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

    match in_any_order(&secret, last_comer_counts).await {
        Ok(_) => return Err("the wrong handler was not found out".into()),
        Err(found) => println!("the last comer counts: wrong. {found}\n"),
    }

    let state = in_any_order(&secret, verdicts_count).await?;
    println!("the verdicts count: right. In any order: {state:?}");
    let expected = [("order-1", true), ("order-2", false), ("order-3", false)]
        .map(|(order, is_paid)| (order.to_owned(), ("SUCCESS".to_owned(), is_paid)));
    if state != State::from(expected) {
        return Err("the right handler ends in another state than expected".into());
    }
    Ok(())
}
