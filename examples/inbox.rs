//! A durable inbox: a life of two Requests, with duplicates, disorder, a restart and a crash of the
//! handler.
//!
//! ```text
//! cargo run --features axum,inbox-sqlite --example inbox
//! ```
//!
//! Exit code 0 if the merchant's table is right in the end. All of it is in a temporary folder.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post_service;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_inqud::inbox::{Cx, Inbox, InboxError, Notified, Sqlite, rusqlite};
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer, contract, sign};

type BoxError = Box<dyn Error + Send + Sync>;

const ORDERS: &str = "CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, updates INTEGER NOT NULL)";
const UPDATE: &str = "INSERT INTO orders VALUES (?1, ?2, 1)
    ON CONFLICT DO UPDATE SET status = excluded.status, updates = updates + 1";

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let secret = Secret::new("secret_value")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("inqud-inbox.db");

    println!("Received, while nothing processes:\n");
    let inbox = Inbox::sqlite(&file)?;
    let early = [
        ("order-17", "SUCCESS", 3, "the last comes first"),
        ("order-18", "WAITING_PAYMENT", 0, ""),
        ("order-17", "WAITING_PAYMENT", 0, ""),
        ("order-17", "SUCCESS", 3, "a duplicate"),
        ("order-17", "PENDING_PAYMENT", 1, ""),
        ("order-18", "EXPIRED", 5, ""),
        ("order-18", "WAITING_PAYMENT", 0, "a duplicate"),
    ];
    let mut well = deliver(&inbox, &secret, &early).await?;
    well &= show_open(&inbox, 5).await?;

    println!("\nThe process ends, and starts again:\n");
    inbox.close().await;
    drop(inbox);
    let inbox = Inbox::sqlite(&file)?;
    inbox.write(|db| db.execute_batch(ORDERS)).await?;
    well &= show_open(&inbox, 5).await?;

    println!("\nProcessed, the oldest of each first:\n");
    let calls = process(&inbox).await?;
    well &= calls == 6;
    well &= show_open(&inbox, 0).await?;

    println!("\nA straggler, which is stored, and skipped:\n");
    let late = [("order-17", "CONFLICT", 2, "older than SUCCESS")];
    well &= deliver(&inbox, &secret, &late).await?;
    well &= process(&inbox).await? == 0;
    well &= show_open(&inbox, 0).await?;

    println!("\nThe merchant's table:\n");
    let orders = inbox.write(orders).await?;
    for (id, status, updates) in &orders {
        println!("  {id:<10} {status:<10} {updates} updates");
    }
    let expected = [("order-17", "SUCCESS", 3), ("order-18", "EXPIRED", 2)];
    well &= orders.iter().map(|it| (&*it.0, &*it.1, it.2)).eq(expected);
    println!("\n{}", if well { "all as it should be" } else { "NOT all as it should be" });
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// ---------------------------------------------------------------- the merchant

fn app(inbox: &Inbox<Sqlite>, secret: &Secret) -> Router {
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let receiver = inbox.receiver::<PaymentRequest>();
    Router::new().route("/inqud/request", post_service(receiver).layer(webhooks))
}

/// Until nothing is open. Returns how often the handler was called.
async fn process(inbox: &Inbox<Sqlite>) -> Result<u32, InboxError> {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let handler = move |request: Notified<PaymentRequest>, cx: Cx<Sqlite>| {
        counter.fetch_add(1, Ordering::Relaxed);
        on_request(request, cx)
    };
    let is_empty = async {
        while inbox.stats().await.is_ok_and(|stats| stats.open > 0) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let runner = inbox.process(handler).backoff(Duration::from_millis(50), Duration::from_secs(1));
    runner.run_until(is_empty).await?;
    Ok(calls.load(Ordering::Relaxed))
}

async fn on_request(request: Notified<PaymentRequest>, cx: Cx<Sqlite>) -> Result<(), BoxError> {
    let order = request.client_order_id.clone().ok_or("no order")?;
    let status = request.status_text().to_owned();
    let attempt = cx.attempt();
    println!("  {order:<10} {status:<18} attempt {attempt}");
    // Kept with "done", or not at all: no order is updated twice.
    cx.effect(move |db| db.execute(UPDATE, [&order, &status]));
    if request.status_text() == "PENDING_PAYMENT" && attempt == 1 {
        return Err("the handler fails after it asked for its effect".into());
    }
    Ok(())
}

fn orders(db: &rusqlite::Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
    let mut orders = db.prepare("SELECT id, status, updates FROM orders ORDER BY id")?;
    orders.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

async fn show_open(inbox: &Inbox<Sqlite>, expected: u64) -> Result<bool, InboxError> {
    let open = inbox.stats().await?.open;
    println!("  {open} stored and not yet processed");
    Ok(open == expected)
}

// ------------------------------------------------------------------------ Inqud

/// Whether each was answered 200.
async fn deliver(
    inbox: &Inbox<Sqlite>,
    secret: &Secret,
    deliveries: &[(&str, &str, u8, &str)],
) -> Result<bool, BoxError> {
    let mut well = true;
    for (order, status, minute, remark) in deliveries {
        let body = format!(
            r#"{{"id":"CAPD-{order}","clientOrderId":"{order}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
        );
        let request = Request::post("/inqud/request")
            .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
            .body(Body::from(body))?;
        let answer = app(inbox, secret).oneshot(request).await?.status();
        println!("  {order:<10} {status:<18} {} {remark}", answer.as_u16());
        well &= answer == StatusCode::OK;
    }
    Ok(well)
}
