//! A durable inbox in Postgres: one instance receives and two process. The merchant's writes and "done" are one
//! transaction.
//!
//! ```text
//! cargo run --all-features --example inbox_postgres -- postgres://me:secret@localhost/shop
//! ```
//!
//! Without a URL, it starts a temporary server if Postgres is installed. To start one by hand with Debian's package
//! (`apt-get install postgresql`):
//!
//! ```text
//! export PATH="$PATH:$(ls -d /usr/lib/postgresql/*/bin)" PGDATA="$(mktemp -d)"   # not as root
//! initdb --auth=trust --username=me
//! pg_ctl start --wait --options="-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port=5433"
//! cargo run --all-features --example inbox_postgres -- postgres://me@127.0.0.1:5433/postgres
//! pg_ctl stop && rm -r "$PGDATA"
//! ```
//!
//! It creates the schema `inqud_inbox`. It drops and creates the tables `inqud_example_orders` and
//! `inqud_example_objects`, and exits with 0 if they are right at the end.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

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

/// `inqud_example_objects` has a row for each Request, not for each order, because an order can have several.
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
    // In production, each process has its own. Here, one process has all three, so that the example can end.
    let receiving = Inbox::postgres(config.clone(), NoTls).await?;
    let processing =
        [Inbox::postgres(config.clone(), NoTls).await?, Inbox::postgres(config, NoTls).await?];

    println!("Receiving, out of order and with duplicates:\n");
    let mut well = true;
    for minute in [3, 0, 3, 1] {
        for order in 0..3 {
            well &= deliver(&receiving, &secret, order, minute).await?;
        }
    }

    println!("\nProcessing with two runners, oldest first for each object:\n");
    let [first, second] = &processing;
    tokio::try_join!(process(first, "first"), process(second, "second"))?;

    println!("\nThe merchant's tables:\n");
    let orders = orders(&client).await?;
    for (id, status, updates, shipped) in &orders {
        println!("  {id:<10} {status:<10} {updates} updates, shipped {shipped} times");
        well &= status == "SUCCESS" && *updates == 3 && *shipped == 1;
    }
    well &= orders.len() == 3;
    println!("\n{}", if well { "everything as expected" } else { "NOT as expected, see above" });
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// ---------------------------------------------------------------- the merchant

fn app(inbox: &Inbox<Postgres>, secret: &Secret) -> Router {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let receiver = inbox.receiver::<PaymentRequest>();
    Router::new().route("/inqud/request", post_service(receiver).layer(webhooks))
}

/// Processes until the backlog is empty.
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
    let order = request.client_order_id.as_deref().ok_or("a Request without clientOrderId")?;
    let status = request.status_text();
    println!("  {order:<10} {status:<18} {} attempt {} ({runner})", cx.verdict(), cx.attempt());
    // Committed together with "done", or not at all. Stale notifications do not get here, so no state goes back.
    let transaction = cx.transaction().await?;
    transaction.execute(UPDATE, &[&request.id, &order, &status]).await?;
    if request.status.is_successful() {
        let price = transaction.query_opt(PRICE, &[&order]).await?.ok_or("unknown order")?;
        let (amount, currency) = (price.get::<_, String>(0).parse()?, price.get::<_, String>(1));
        if !request.is_paid_for(&amount, &currency) {
            return Err("paid another amount than the order costs".into());
        }
        match cx.once(format!("ship:{order}")).await? {
            Once::First => _ = transaction.execute(SHIP, &[&order]).await?,
            Once::After(first) => println!("  {order:<10} is paid again, first by {first}"),
        }
    }
    if status == "PENDING_PAYMENT" && cx.attempt() == 1 {
        return Err("a failure after the write, which is rolled back".into());
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

/// Delivers a webhook. Returns whether the response was 200.
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
    // Each run uses new ids, because the inbox remembers those of earlier runs.
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
