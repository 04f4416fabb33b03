//! The durable inbox in Postgres: received by one process, processed by two, with the merchant's writes
//! and "done" in one transaction.
//!
//! ```text
//! cargo run --features axum,inbox-postgres --example inbox_postgres -- postgres://me:secret@localhost/shop
//! ```
//!
//! Without an address it starts a server of its own, and ends it again, if the programs of Postgres are
//! installed. By hand, from Debian's package (`apt-get install postgresql`), one to throw away is:
//!
//! ```text
//! export PATH="$PATH:$(ls -d /usr/lib/postgresql/*/bin)" PGDATA="$(mktemp -d)"   # not as root
//! initdb --auth=trust --username=me
//! pg_ctl start --wait --options="-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port=5433"
//! cargo run --features axum,inbox-postgres --example inbox_postgres -- postgres://me@127.0.0.1:5433/postgres
//! pg_ctl stop && rm -r "$PGDATA"
//! ```
//!
//! It makes the schema `inqud_inbox`, and a table `inqud_example_orders`, which it drops before. Exit
//! code 0 if that is right in the end.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post_service;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_inqud::inbox::tokio_postgres::{Client, Config, NoTls};
use tower_inqud::inbox::{Cx, Inbox, InboxError, Notified, Postgres};
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer, contract, sign};

#[path = "../tests/support/postgres.rs"]
mod postgres;

type BoxError = Box<dyn Error + Send + Sync>;

const ORDERS: &str =
    "DROP TABLE IF EXISTS inqud_example_orders; CREATE TABLE inqud_example_orders (
    id text PRIMARY KEY, status text NOT NULL, updates int NOT NULL)";
const UPDATE: &str = "INSERT INTO inqud_example_orders AS mine VALUES ($1, $2, 1)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, updates = mine.updates + 1";

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
    client.batch_execute(ORDERS).await?;
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
    for (id, status, updates) in orders(&client).await? {
        println!("  {id:<10} {status:<10} {updates} updates");
        well &= status == "SUCCESS" && updates == 3;
    }
    well &= orders(&client).await?.len() == 3;
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
    let handler = async move |request: Notified<PaymentRequest>, cx: Cx<Postgres>| {
        on_request(name, &request, &cx).await
    };
    let is_empty = async {
        while inbox.stats().await.is_ok_and(|stats| stats.open > 0) {
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
    cx: &Cx<Postgres>,
) -> Result<(), BoxError> {
    let order = request.client_order_id.as_deref().ok_or("no order")?;
    let status = request.status_text();
    println!("  {order:<10} {status:<18} attempt {} ({runner})", cx.attempt());
    // Kept with "done", or not at all: no order is updated twice.
    let transaction = cx.transaction().await?;
    transaction.execute(UPDATE, &[&order, &status]).await?;
    if status == "PENDING_PAYMENT" && cx.attempt() == 1 {
        return Err("the handler fails after it wrote".into());
    }
    Ok(())
}

async fn orders(client: &Client) -> Result<Vec<(String, String, i32)>, BoxError> {
    let orders = "SELECT id, status, updates FROM inqud_example_orders ORDER BY id";
    let rows = client.query(orders, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
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
        r#"{{"id":"CAPD-{run}-{order}","clientOrderId":"order-{order}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    );
    let request = Request::post("/inqud/request")
        .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
        .body(Body::from(body))?;
    let answer = app(inbox, secret).oneshot(request).await?.status();
    println!("  order-{order}    {status:<18} {}", answer.as_u16());
    Ok(answer == StatusCode::OK)
}
