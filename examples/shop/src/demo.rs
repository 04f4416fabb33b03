//! Plays the customers who order, and Inqud, which reports their payments.
//!
//! It delivers the way Inqud may: twice, late and in any order. It also forges webhooks, as a stranger may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_mock::{Answer, Delivery, Fault, Lifecycle, Message, MockInqud, Scenario, SentBody};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tower_inqud::Secret;

use crate::error::BoxError;
use crate::gateway;
use crate::order::Order;
use crate::phase::Phase;
use crate::played::Played;
use crate::product;
use crate::shop::Shop;

pub const WEBHOOK: &str = "/webhooks/inqud/request";

/// The most orders that are played at once.
const AT_ONCE: usize = 16;

#[derive(Clone)]
pub struct Demo {
    shop: Arc<Shop>,
    inqud: MockInqud,
    client: Client<HttpConnector, SentBody>,
    address: SocketAddr,
}

impl Demo {
    pub fn new(shop: Arc<Shop>, secret: Secret, address: SocketAddr) -> Result<Self, BoxError> {
        let inqud = MockInqud::new(secret, format!("http://{address}{WEBHOOK}").parse()?);
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { shop, inqud, client, address })
    }

    /// Plays the orders of the demonstration, and then those of customers.
    pub async fn run(self, mut orders: mpsc::Receiver<Played>) -> Result<(), BoxError> {
        let open = self.shop.database.read(|db| Order::open(db, AT_ONCE)).await?;
        if self.shop.database.read(Order::last_version).await? == 0 {
            self.play_examples().await?;
            println!("\nOrder something: the mock pays it while you watch.\n");
        }
        // An earlier process was killed before it had played these.
        let open = open.into_iter().map(|order| Played::chosen(order.id, None));
        let places = Arc::new(Semaphore::new(AT_ONCE));
        for played in open {
            self.spawn(&places, played).await?;
        }
        while let Some(played) = orders.recv().await {
            self.spawn(&places, played).await?;
        }
        Ok(())
    }

    async fn spawn(&self, places: &Arc<Semaphore>, played: Played) -> Result<(), BoxError> {
        let (place, demo) = (Arc::clone(places).acquire_owned().await?, self.clone());
        tokio::spawn(async move {
            if let Err(error) = demo.play(&played).await {
                println!("the mock failed: {error}");
            }
            drop(place);
        });
        Ok(())
    }

    /// Each status twice, with a pause before it, and a forged one in between.
    async fn play(&self, played: &Played) -> Result<(), BoxError> {
        let messages = self.messages(&played.order, played.scenario).await?;
        for message in &messages {
            self.forge(&messages).await;
            self.deliver(&self.inqud.clone().times(2), [message.clone()]).await;
            sleep(played.pause).await;
        }
        // Late, after everything else.
        self.deliver(&self.inqud, messages.into_iter().take(1)).await;
        Ok(())
    }

    async fn messages(&self, order: &str, scenario: Scenario) -> Result<Vec<Message>, BoxError> {
        let order = self.shop.find(order).await?.ok_or("unknown order")?;
        // Nobody pays within ten minutes.
        let pace = if scenario == Scenario::Expired { 600 } else { 20 };
        let lifecycle = gateway::lifecycle(&order, scenario)?.pace(Duration::from_secs(pace));
        Ok(lifecycle.into_iter().collect())
    }

    async fn deliver(&self, inqud: &MockInqud, messages: impl IntoIterator<Item = Message>) {
        let report = inqud.deliver(messages, &self.client).await;
        let lines =
            report.deliveries().iter().map(|it| format!("{} {}", it.message().label(), code(it)));
        println!("  {}", lines.collect::<Vec<_>>().join(", "));
    }

    /// Sends the last status with a wrong digest. The shop must not believe it.
    async fn forge(&self, messages: &[Message]) {
        let forged = self.inqud.clone().fault(Fault::Forged);
        self.deliver(&forged, messages.last().cloned()).await;
    }

    async fn play_examples(&self) -> Result<(), BoxError> {
        println!("The mock orders, and delivers twice, in any order, and forged:\n");
        let shuffled = self.inqud.clone().times(3).shuffled();
        for (slug, recipient, scenario, what) in [
            ("notebook", "Ada Lovelace", Scenario::Success, "paid"),
            ("lamp", "Grace Hopper", Scenario::Overpaid, "overpaid"),
            ("mug", "Alan Turing", Scenario::Conflict, "underpaid"),
            ("pen", "Katherine Johnson", Scenario::Expired, "expired"),
            ("lamp", "Edsger Dijkstra", Scenario::Reversed, "reversed"),
        ] {
            let id = self.order(slug, recipient, what).await?;
            let messages = self.messages(&id, scenario).await?;
            self.forge(&messages).await;
            // Only in order does the shop see it paid first.
            let inqud = if scenario == Scenario::Reversed { &self.inqud } else { &shuffled };
            self.deliver(inqud, messages).await;
        }

        let id = self.order("pen", "Barbara Liskov", "seen, and kept there").await?;
        let messages = self.messages(&id, Scenario::Success).await?;
        self.deliver(&self.inqud, messages.into_iter().take(2)).await;

        let id = self.order("mug", "Tony Hoare", "paid by a webhook for review").await?;
        let mut messages = self.messages(&id, Scenario::Success).await?;
        let last = messages.pop();
        self.deliver(&self.inqud, messages).await;
        self.is_seen(&id).await?;
        self.deliver(&self.inqud, last.as_ref().map(without_time)).await;

        println!("\nTwo webhooks that the shop cannot handle, which become dead letters\n");
        let other = Lifecycle::new(Scenario::Success).client_order_id("an-order-of-another-shop");
        let undecodable = r#"{"id":"CAPD-1","status":"SUCCESS","payAmount":"a lot"}"#;
        let messages = other.into_iter().take(1).chain([Message::new("SUCCESS", undecodable)]);
        self.deliver(&self.inqud, messages).await;
        Ok(())
    }

    /// Waits until the shop has handled what makes an order seen.
    async fn is_seen(&self, id: &str) -> Result<(), BoxError> {
        for _ in 0..200 {
            if self.shop.find(id).await?.is_some_and(|order| order.phase() == Phase::Seen) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn order(&self, slug: &str, recipient: &str, what: &str) -> Result<String, BoxError> {
        let product = product::find(slug).ok_or("unknown product")?;
        let id = self.shop.order(product, recipient).await?;
        println!("http://{}/orders/{id} {what}", self.address);
        Ok(id)
    }
}

fn code(delivery: &Delivery) -> String {
    match delivery.answer() {
        Answer::Status(status) => status.as_u16().to_string(),
        other => other.to_string(),
    }
}

/// The same notification without the time of its change, which does not say whether it is newer than others.
fn without_time(message: &Message) -> Message {
    let text = String::from_utf8_lossy(message.body()).into_owned();
    let name = r#""lastUpdatedAt":"#;
    let Some((before, after)) = text.split_once(name) else { return message.clone() };
    let Some((_, after)) = after.split_once(',') else { return message.clone() };
    Message::new(message.label(), format!("{before}{name}null,{after}"))
}
