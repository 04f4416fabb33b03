//! Tests of the receiver, its queue and the runner, over a store in memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../support/claims.rs"]
mod claims;
#[path = "../../../../tests/support/mod.rs"]
mod support;

mod attempts;
mod moody;
mod receiver;

use self::claims::*;
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
    Admin, Claim, Claimed, Context, ErasedObject, Filter, Inbox, InboxError, InboxErrorKind,
    Inserted, Key, LoggedRejection, Memory, Outcome, Page, Record, Replayed, Retention, Settled,
    Settlement, Stats, Storable, Store, Stored, Sweep, SweptBatch,
};
use tokio::sync::{Barrier, Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_inqud::{
    Checkout, Notification, PaymentRequest, Secret, Subscription, Verdict, Verifier, WebhookLayer,
    WebhookService, contract, sign,
};

type Log = Arc<Mutex<Vec<(String, u32, Verdict, u32)>>>;

fn note<S: Store>(log: &Log, request: &Stored<PaymentRequest>, cx: &Context<S>) {
    let line = (request.id.clone(), minute(request.raw_body()), cx.verdict(), cx.attempt());
    log.lock().unwrap().push(line);
}

fn noted(log: &Log, id: u32) -> Vec<u32> {
    let id = format!("CAPD-{id}");
    log.lock().unwrap().iter().filter(|line| line.0 == id).map(|line| line.1).collect()
}
