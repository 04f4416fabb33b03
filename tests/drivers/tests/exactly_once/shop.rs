//! A merchant's database: notifications to handle, and the orders that were paid by them.

use inqud_inbox::tokio_postgres::{Client, Config, NoTls};
use inqud_inbox::{Inbox, Postgres, Record, Store};
use tower_inqud::PaymentRequest;

use crate::postgres::{self, Server};

/// How many objects the notifications are about.
const OBJECTS: usize = 50;

pub struct Shop {
    pub server: &'static Server,
    pub config: Config,
    pub name: String,
    pub notifications: usize,
    client: Client,
}

impl Shop {
    /// Creates a database with open notifications, each for an order of its own. Returns `None` without Postgres.
    pub async fn new(name: String) -> Option<Self> {
        let server = postgres::shared()?;
        let config = server.database(&name).await;
        Inbox::migrate(&config, NoTls).await.unwrap();
        let client = postgres::connect(&config).await;
        client.batch_execute("CREATE TABLE paid (order_id text NOT NULL)").await.unwrap();
        let notifications = match std::env::var("NOTIFICATIONS") {
            Ok(count) => count.parse().unwrap(),
            Err(_) => 200,
        };
        let shop = Self { server, config, name, notifications, client };
        let records: Vec<_> = (0..notifications).map(record).collect();
        let inbox = shop.inbox().await;
        for records in records.chunks(200) {
            inbox.store().insert(records.to_vec()).await.unwrap();
        }
        inbox.close().await;
        Some(shop)
    }

    pub async fn inbox(&self) -> Inbox<Postgres> {
        Inbox::postgres(self.config.clone(), NoTls).await.unwrap()
    }

    /// Returns the address for a driver, through a proxy.
    pub fn url(&self, port: u16) -> String {
        let direct = self.server.url(&self.name);
        let (start, _) = direct.rsplit_once(':').unwrap();
        format!("{start}:{port}/{}?sslmode=disable", self.name)
    }

    pub fn port(&self) -> u16 {
        self.config.get_ports()[0]
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn open(&self) -> i64 {
        self.count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 0").await
    }

    /// Checks that each notification is done, and that each had its effect once.
    pub async fn check(&self) {
        let all = i64::try_from(self.notifications).unwrap();
        let done = "SELECT count(*) FROM inqud_inbox.notification WHERE state = 1";
        assert_eq!(self.count(done).await, all, "done");
        assert_eq!(self.count("SELECT count(DISTINCT order_id) FROM paid").await, all, "orders");
        assert_eq!(self.count("SELECT count(*) FROM paid").await, all, "effects");
        let left = "SELECT count(*) FROM inqud_inbox.object WHERE due_at IS NOT NULL OR leased_until IS NOT NULL";
        assert_eq!(self.count(left).await, 0, "objects that are due or leased");
    }
}

fn record(nth: usize) -> Record {
    let body = format!(
        r#"{{"id":"CAPD-{}","status":"WAITING_PAYMENT","clientOrderId":"order-{nth}","lastUpdatedAt":"2026-11-22T{:02}:{:02}:{:02}Z"}}"#,
        nth % OBJECTS,
        nth / 3600,
        nth / 60 % 60,
        nth % 60,
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}
