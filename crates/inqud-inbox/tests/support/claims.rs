//! Notifications about Requests, and a runner's steps one by one.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    dead_code,
    reason = "clippy.toml does not reach the helpers of tests, and no test binary uses all of them"
)]

use std::time::Duration;

use inqud_inbox::{Claim, Claimed, Inbox, Outcome, Record, Settled, Settlement, Storable, Store};
use tokio::time::sleep;
use tower_inqud::{PaymentRequest, Verdict};

pub(crate) const LEASE: Duration = Duration::from_secs(3600);
pub(crate) const NO_WAIT: Duration = Duration::ZERO;
/// Longer than anything that is expected to end.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn body(id: u32, minute: u32) -> String {
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
pub(crate) fn record(id: u32, minute: u32) -> Record {
    let body = body(id, minute);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

pub(crate) fn minute(body: &[u8]) -> u32 {
    let request: PaymentRequest = serde_json::from_slice(body).unwrap();
    let minute = request.last_updated_at.unwrap().to_string();
    minute[14..16].parse().unwrap()
}

pub(crate) fn settlement<E>(claimed: &Claimed, outcome: Outcome<E>) -> Settlement<E> {
    Settlement { ticket: claimed.ticket.clone(), outcome }
}

pub(crate) fn retry<E>(after: Duration) -> Outcome<E> {
    Outcome::Retry { after, error: "not now".to_owned() }
}

pub(crate) fn dead<E>() -> Outcome<E> {
    Outcome::Dead { error: "never".to_owned() }
}

pub(crate) async fn claim(store: &impl Store) -> Vec<Claimed> {
    store.claim(Claim::new(PaymentRequest::KIND, 100, LEASE)).await.unwrap()
}

/// Claims as a process that ends at once: its lease is over, and nothing is settled.
pub(crate) async fn lapse(store: &impl Store, kind: &'static str) -> Vec<Claimed> {
    store.claim(Claim::new(kind, 1, NO_WAIT).with_suspect(true)).await.unwrap()
}

pub(crate) async fn settle<S: Store>(
    store: &S,
    claimed: &Claimed,
    outcome: Outcome<S::Effect>,
) -> Settled {
    store.settle(&mut settlement(claimed, outcome)).await.unwrap()
}

pub(crate) fn shown(claimed: &[Claimed]) -> Vec<(&str, u32, Verdict, u32)> {
    let show = |it: &'_ Claimed| (minute(&it.body), it.ticket.verdict, it.attempt());
    claimed
        .iter()
        .map(|it| (&*it.ticket.object, show(it)))
        .map(|(object, (minute, verdict, attempt))| (object, minute, verdict, attempt))
        .collect()
}

pub(crate) async fn insert<S: Store>(inbox: &Inbox<S>, records: &[(u32, u32)]) {
    let records = records.iter().map(|(id, minute)| record(*id, *minute)).collect();
    inbox.store().insert(records).await.unwrap();
}

/// Waits until nothing is open.
pub(crate) async fn drained<S: Store>(inbox: Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}
