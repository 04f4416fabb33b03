//! The durable inbox in Postgres: received by one process, processed by two, with the merchant's writes
//! and "done" in one transaction.
//!
//! ```text
//! cargo run --all-features --example inbox_postgres -- postgres://me:secret@localhost/shop
//! ```
//!
//! Without an address it starts a server of its own, and ends it again, if the programs of Postgres are
//! installed. By hand, from Debian's package (`apt-get install postgresql`), one to throw away is:
//!
//! ```text
//! export PATH="$PATH:$(ls -d /usr/lib/postgresql/*/bin)" PGDATA="$(mktemp -d)"   # not as root
//! initdb --auth=trust --username=me
//! pg_ctl start --wait --options="-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port=5433"
//! cargo run --all-features --example inbox_postgres -- postgres://me@127.0.0.1:5433/postgres
//! pg_ctl stop && rm -r "$PGDATA"
//! ```
//!
//! It makes the schema `inqud_inbox`, and tables `inqud_example_orders` and `inqud_example_objects`, which it
//! drops before. Exits with 0 if they are right in the end.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post_service;
use inqud_inbox::tokio_postgres::{Client, Config, NoTls};
use inqud_inbox::{Context, Inbox, InboxError, Once, Postgres, Stored};
use tokio::time::sleep;
use tower::ServiceExt;
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer, contract, sign};

#[path = "../crates/inqud-inbox/tests/support/postgres.rs"]
mod postgres;

type BoxError = Box<dyn Error + Send + Sync>;

/// A row for each Request, and not one for each order: an order can have several.
const TABLES: &str = "
    DROP TABLE IF EXISTS inqud_example_orders, inqud_example_objects;
    CREATE TABLE inqud_example_orders (
        id text PRIMARY KEY, amount text NOT NULL, currency text NOT NULL, shipped int NOT NULL);
    CREATE TABLE inqud_example_objects (
        id text PRIMARY KEY, order_id text NOT NULL, status text NOT NULL, updates int NOT NULL);
    INSERT INTO inqud_example_orders
        SELECT 'order-' || n, '100.00', 'USD', 0 FROM generate_series(0, 2) AS n";
const UPDATE: &str = "INSERT INTO inqud_example_objects AS mine VALUES ($1, $2, $3, 1)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, updates = mine.updates + 1";
const PRICE: &str = "SELECT amount, currency FROM inqud_example_orders WHERE id = $1";
const SHIP: &str = "UPDATE inqud_example_orders SET shipped = shipped + 1 WHERE id = $1";

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if let Some(url) = env::args().nth(1) {
        return play(url.parse()?).await;
    }
    match postgres::Server::start() {
        Some(server) => play(server.config("postgres")).await,
        None => Ok(ExitCode::FAILURE),
    }
}

async fn play(config: Config) -> Result<ExitCode, BoxError> {
    let secret = Secret::new("secret_value")?;
    Inbox::migrate(&config, NoTls).await?;
    let client = postgres::connect(&config).await;
    client.batch_execute(TABLES).await?;
    // Each process has its own; these are of one, so that the example ends by itself.
    let receiving = Inbox::postgres(config.clone(), NoTls).await?;
    let processing =
        [Inbox::postgres(config.clone(), NoTls).await?, Inbox::postgres(config, NoTls).await?];

    println!("Received, out of order and with duplicates:\n");
    let mut well = true;
    for minute in [3, 0, 3, 1] {
        for order in 0..3 {
            well &= deliver(&receiving, &secret, order, minute).await?;
        }
    }

    println!("\nProcessed by two, the oldest of each first:\n");
    let [first, second] = &processing;
    tokio::try_join!(process(first, "first"), process(second, "second"))?;

    println!("\nThe merchant's table:\n");
    let orders = orders(&client).await?;
    for (id, status, updates, shipped) in &orders {
        println!("  {id:<10} {status:<10} {updates} updates, shipped {shipped} times");
        well &= status == "SUCCESS" && *updates == 3 && *shipped == 1;
    }
    well &= orders.len() == 3;
    println!("\n{}", if well { "all as it should be" } else { "NOT all as it should be" });
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// ---------------------------------------------------------------- the merchant

fn app(inbox: &Inbox<Postgres>, secret: &Secret) -> Router {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let receiver = inbox.receiver::<PaymentRequest>();
    Router::new().route("/inqud/request", post_service(receiver).layer(webhooks))
}

/// Until nothing is open.
async fn process(inbox: &Inbox<Postgres>, name: &'static str) -> Result<(), InboxError> {
    let handler = async move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        on_request(name, &request, &cx).await
    };
    let is_empty = async {
        while inbox.stats().await.is_ok_and(|stats| stats.backlog() > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let runner = inbox.process(handler).concurrency(2);
    let runner = runner.backoff(Duration::from_millis(50), Duration::from_secs(1));
    runner.run_until(is_empty).await
}

async fn on_request(
    runner: &str,
    request: &PaymentRequest,
    cx: &Context<Postgres>,
) -> Result<(), BoxError> {
    let order = request.client_order_id.as_deref().ok_or("a Request without the order's id")?;
    let status = request.status_text();
    println!("  {order:<10} {status:<18} {} attempt {} ({runner})", cx.verdict(), cx.attempt());
    // Kept with "done", or not at all. What is older never comes here, so no state goes back.
    let transaction = cx.transaction().await?;
    transaction.execute(UPDATE, &[&request.id, &order, &status]).await?;
    if request.status.is_successful() {
        let price =
            transaction.query_opt(PRICE, &[&order]).await?.ok_or("nobody knows the order")?;
        let (amount, currency) = (price.get::<_, String>(0).parse()?, price.get::<_, String>(1));
        if !request.is_paid_for(&amount, &currency) {
            return Err("paid, but not what the order costs".into());
        }
        match cx.once(format!("ship:{order}")).await? {
            Once::First => _ = transaction.execute(SHIP, &[&order]).await?,
            Once::After(first) => println!("  {order:<10} is paid again, after {first}"),
        }
    }
    if status == "PENDING_PAYMENT" && cx.attempt() == 1 {
        return Err("the handler fails after it wrote".into());
    }
    Ok(())
}

async fn orders(client: &Client) -> Result<Vec<(String, String, i32, i32)>, BoxError> {
    let orders = "SELECT orders.id, status, updates, shipped FROM inqud_example_orders AS orders
        JOIN inqud_example_objects ON order_id = orders.id ORDER BY orders.id";
    let rows = client.query(orders, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect())
}

// ------------------------------------------------------------------------ Inqud

/// Whether it was answered 200.
async fn deliver(
    inbox: &Inbox<Postgres>,
    secret: &Secret,
    order: u32,
    minute: u32,
) -> Result<bool, BoxError> {
    let status = match minute {
        0 => "WAITING_PAYMENT",
        1 => "PENDING_PAYMENT",
        _ => "SUCCESS",
    };
    // Another run is about other Requests.
    let run = std::process::id();
    let body = format!(
        r#"{{"id":"CAPD-{run}-{order}","clientOrderId":"order-{order}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}}"#
    );
    let request = Request::post("/inqud/request")
        .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
        .body(Body::from(body))?;
    let answer = app(inbox, secret).oneshot(request).await?.status();
    println!("  order-{order}    {status:<18} {}", answer.as_u16());
    Ok(answer == StatusCode::OK)
}
