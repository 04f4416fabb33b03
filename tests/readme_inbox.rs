//! Runs the handler of the inbox's README exactly as it is printed.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

use std::time::Duration;

use axum::{Router, routing::post_service};
use http::Request;
use inqud_inbox::{Context, Inbox, InboxError, Sqlite, Stored, rusqlite::Connection};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tower_inqud::{PaymentRequest, Secret, WebhookLayer, contract, sign};

include!("fixtures/readme_inbox.rs");

const TABLES: &str = "
    CREATE TABLE orders (id TEXT UNIQUE, amount TEXT, currency TEXT, shipped INT, payment TEXT);
    CREATE TABLE paid_again (order_id TEXT, payment TEXT);
    INSERT INTO orders VALUES ('order-1', '100', 'USD', 0, NULL)";

async fn shop() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let inbox = Inbox::sqlite(folder.path().join("inbox.db")).unwrap();
    inbox.write(|db| db.execute_batch(TABLES)).await.unwrap();
    (inbox, folder)
}

/// Delivers each body twice, through the layer and the receiver.
async fn deliver(inbox: &Inbox<Sqlite>, bodies: &[&str]) {
    let secret = Secret::new("whsec-kiln-and-clay").unwrap();
    let app = receive(inbox, WebhookLayer::new(secret.clone()));
    for body in bodies.iter().flat_map(|body| [body, body]) {
        let request = Request::post("/inqud/request")
            .header(contract::DIGEST_HEADER, sign(&secret, body.as_bytes()).to_string())
            .body(axum::body::Body::from((*body).to_owned()))
            .unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200);
    }
}

/// Processes until the backlog is empty.
async fn process_all(inbox: &Inbox<Sqlite>) {
    let tried = async {
        while inbox.stats().await.unwrap().backlog() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), process(inbox, tried)).await.unwrap().unwrap();
}

/// How many orders were shipped, and how many repeats were recorded.
async fn known(inbox: &Inbox<Sqlite>) -> (i64, i64) {
    let known = "SELECT (SELECT shipped FROM orders), (SELECT count(*) FROM paid_again)";
    let known =
        move |db: &Connection| db.query_row(known, [], |row| Ok((row.get(0)?, row.get(1)?)));
    inbox.write(known).await.unwrap()
}

fn paid(id: u32, order: &str, amount: u32) -> String {
    format!(
        r#"{{"id":"CAPD-{id}","clientOrderId":{order},"paymentId":"PMT-{id}","status":"SUCCESS","requestAmount":{amount},"requestAmountIn":"USD","paidAmount":{amount},"payAmount":{amount},"currency":"USDT","lastUpdatedAt":"2026-11-22T10:05:00Z"}}"#
    )
}

#[test]
fn fixture_is_the_code_of_the_readme() {
    let code = include_str!("fixtures/readme_inbox.rs");
    assert!(include_str!("../crates/inqud-inbox/README.md").contains(code));
}

#[tokio::test]
async fn ships_an_order_once_and_keeps_it_paid() {
    let (inbox, _folder) = shop().await;
    let waiting = r#"{"id":"CAPD-1","clientOrderId":"order-1","status":"WAITING_PAYMENT","lastUpdatedAt":null}"#;
    deliver(&inbox, &[&paid(1, "\"order-1\"", 100), waiting]).await;
    process_all(&inbox).await;
    assert_eq!(known(&inbox).await, (1, 0));
    // The same payment with a larger amount, one that is not known, and a second Request with another payment.
    let more = paid(1, "\"order-1\"", 100).replace(r#""paidAmount":100"#, r#""paidAmount":150"#);
    let unknown = paid(3, "\"order-1\"", 100).replace(r#""PMT-3""#, "null");
    deliver(&inbox, &[&more, &unknown, &paid(2, "\"order-1\"", 100), waiting]).await;
    process_all(&inbox).await;
    assert_eq!(known(&inbox).await, (1, 2));
}

/// A payment that cannot be shipped is an error, so it becomes a dead letter that somebody sees.
#[tokio::test]
async fn payment_that_ships_nothing_becomes_a_dead_letter() {
    for (order, amount) in [("null", 100), ("\"order-2\"", 100), ("\"order-1\"", 99)] {
        let (inbox, _folder) = shop().await;
        deliver(&inbox, &[&paid(1, order, amount)]).await;
        let runner = inbox.process(on_request).max_attempts(1);
        let dead = async {
            while inbox.stats().await.unwrap().dead() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), runner.run_until(dead)).await.unwrap().unwrap();
        assert_eq!(known(&inbox).await, (0, 0), "{order} {amount}");
        let letter = inbox.dead(9).await.unwrap().remove(0);
        assert!(!letter.error.is_empty(), "{order} {amount}");
    }
}
