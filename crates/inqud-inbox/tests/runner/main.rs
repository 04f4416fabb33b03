//! Tests of the receiver, its queue and the runner, over a store in memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod attempts;
mod moody;
mod receiver;

use self::moody::{Moody, received, why};

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn, ready};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use inqud_inbox::__private::Sealed;
use inqud_inbox::{
    Admin, Claim, Claimed, Context, Entry, Inbox, InboxError, InboxErrorKind, Inserted, Key, List,
    Memory, Outcome, Record, Settled, Settlement, Stats, Storable, Store, Stored,
};
use tokio::sync::{Barrier, Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_inqud::{
    Checkout, Notification, PaymentRequest, Secret, Subscription, Verdict, Verifier, WebhookLayer,
    WebhookService, contract, sign,
};

const LEASE: Duration = Duration::from_secs(3600);
const NO_WAIT: Duration = Duration::ZERO;
/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(30);

fn body(id: u32, minute: u32) -> String {
    let status = match minute {
        0 => "WAITING_PAYMENT",
        1 => "PENDING_PAYMENT",
        _ => "SUCCESS",
    };
    format!(
        r#"{{"id":"CAPD-{id}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    )
}

/// The notification about Request `id` at `minute`.
fn record(id: u32, minute: u32) -> Record {
    let body = body(id, minute);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

fn minute(body: &[u8]) -> u32 {
    let request: PaymentRequest = serde_json::from_slice(body).unwrap();
    let minute = request.last_updated_at.unwrap().to_string();
    minute[14..16].parse().unwrap()
}

async fn claim(store: &impl Store) -> Vec<Claimed> {
    store.claim(Claim::new(PaymentRequest::KIND, 100, LEASE)).await.unwrap()
}

/// Claims as a process that ends at once: its lease is over, and nothing is settled.
async fn lapse(store: &impl Store, kind: &'static str) -> Vec<Claimed> {
    store.claim(Claim::new(kind, 1, NO_WAIT).with_suspect(true)).await.unwrap()
}

async fn insert<S: Store>(inbox: &Inbox<S>, records: &[(u32, u32)]) {
    let records = records.iter().map(|(id, minute)| record(*id, *minute)).collect();
    inbox.store().insert(records).await.unwrap();
}

/// Waits until nothing is open.
async fn drained<S: Store>(inbox: Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

type Log = Arc<Mutex<Vec<(String, u32, Verdict, u32)>>>;

fn note<S: Store>(log: &Log, request: &Stored<PaymentRequest>, cx: &Context<S>) {
    let line = (request.id.clone(), minute(request.raw_body()), cx.verdict(), cx.attempt());
    log.lock().unwrap().push(line);
}

fn noted(log: &Log, id: u32) -> Vec<u32> {
    let id = format!("CAPD-{id}");
    log.lock().unwrap().iter().filter(|line| line.0 == id).map(|line| line.1).collect()
}
