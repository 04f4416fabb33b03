//! Tests of logs and metrics: they match the documentation, and never contain a body.
//!
//! They are in a binary of their own because tracing caches the interest in an event for the whole process,
//! and other tests have no subscriber.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../../../tests/support/log.rs"]
mod log;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post_service};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_inbox::__private::{
    Arrived, Expected, Extent, Known, Look, Next, Reach, Scheduled, Sealed,
};
use inqud_inbox::{
    Admin, Claim, Claimed, Context, ErasedObject, Fetch, Fetched, Filter, Inbox, InboxError,
    InboxErrorKind, Inserted, Key, LoggedRejection, Memory, Outcome, Page, Record, Replayed,
    Settled, Settlement, State, Stats, Store, Stored, Sweep, SweptBatch, WatchList,
};
use jiff::Timestamp;
use log::Log;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service};
use tower_inqud::{Payment, PaymentRequest};

/// A word that is in each body and nowhere else.
const HIDDEN: &str = "gherkin";

fn body(id: u32, minute: u32) -> String {
    format!(
        r#"{{"id":"CAPD-{HIDDEN}-{id}","status":"M{minute}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    )
}

fn record(id: u32, minute: u32) -> Record {
    let body = body(id, minute);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

/// Returns the log and the metrics of the work, which must run on this thread.
async fn observe<W: Future>(work: impl FnOnce() -> W) -> (String, String) {
    let log = Log::default();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    {
        let _subscriber = tracing::subscriber::set_default(log.subscriber_of_a_thread());
        let _recorder = metrics::set_default_local_recorder(&recorder);
        work().await;
    }
    let log = log.text();
    let metrics = metrics.render();
    assert!(!log.contains(HIDDEN) && !metrics.contains(HIDDEN), "{log}{metrics}");
    (log, metrics)
}

#[track_caller]
fn line<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"))
}

#[track_caller]
fn has(metrics: &str, expected: &[&str]) {
    for expected in expected {
        assert!(metrics.lines().any(|line| line == *expected), "no {expected} in {metrics}");
    }
}

async fn receive<S: Store>(inbox: &Inbox<S>, body: impl Into<Bytes>) {
    let layer = support::layer::<PaymentRequest>().forward_undecodable();
    support::call(layer.layer(inbox.receiver::<PaymentRequest>()), support::signed(body)).await;
}

async fn drained<S: Store>(inbox: Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A store in memory that can be made to fail, to hang, to settle after the lease has expired, and to settle as if a
/// transaction of the handler had done so before.
#[derive(Default)]
struct Moody {
    memory: Memory,
    fails: AtomicBool,
    hangs: AtomicBool,
    settles_late: AtomicBool,
    completes: AtomicBool,
}

impl Moody {
    async fn mood(&self) -> Result<(), InboxError> {
        if self.hangs.load(Ordering::SeqCst) {
            return pending().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(InboxError::caused_by(InboxErrorKind::Store, "the disk is full"));
        }
        Ok(())
    }
}

impl Sealed for Moody {}

impl Admin for Moody {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.memory.stats().await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.memory.unclaimed(since).await
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        self.memory.list(filter, limit).await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        self.memory.replay(numbers, dry_run).await
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.memory.import(records).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.redrive(keys).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.discard(keys).await
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.memory.prune(age, count).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        self.memory.objects_of_order(order_id).await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        self.memory.erase_object(object, is_forced).await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.memory.rejections(limit).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        self.memory.sweep_batch(sweep, limit).await
    }
}

impl Store for Moody {
    type Effect = <Memory as Store>::Effect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.mood().await?;
        self.memory.insert(records).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        self.memory.claim(claim).await
    }

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        self.memory.has_suspect(kind).await
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<Self::Effect>,
    ) -> Result<Settled, InboxError> {
        self.mood().await?;
        if self.settles_late.swap(false, Ordering::SeqCst) {
            tokio::time::advance(Duration::from_secs(3600)).await;
            let other = Claim::new("request", 1, Duration::ZERO).with_suspect(true);
            self.memory.claim(other).await?;
        }
        if self.completes.load(Ordering::SeqCst) {
            let (ticket, outcome) = (settlement.ticket.clone(), Outcome::Done(vec![]));
            self.memory.settle(&mut Settlement { ticket, outcome }).await?;
            return Ok(Settled::Completed { next_is_due: true });
        }
        self.memory.settle(settlement).await
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        self.memory.log_rejections(calls, keep).await
    }

    async fn commit(&self, key: Key, effects: Vec<Self::Effect>) -> Result<(), InboxError> {
        self.memory.commit(key, effects).await
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

impl WatchList for Moody {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        self.memory.expect(expected).await
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        self.memory.arrived(kind, limit, horizon).await
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        self.memory.schedule(kind, arrived, looks).await
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        self.mood().await?;
        self.memory.claim_looks(kind, count, lease).await
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        self.memory.end_looks(ended).await
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        self.memory.hasten(kind, objects, pause).await
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        self.memory.known(kind, object).await
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        self.mood().await?;
        self.memory.insert_after(record, extent).await
    }
}

#[tokio::test(start_paused = true)]
async fn counts_each_receiver_outcome() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::new(Moody::default());
        for body in [body(1, 0), body(1, 0), body(1, 1), HIDDEN.to_owned()] {
            receive(&inbox, body).await;
        }
        inbox.store().fails.store(true, Ordering::SeqCst);
        receive(&inbox, body(2, 0)).await;
        inbox.store().hangs.store(true, Ordering::SeqCst);
        let mut leaving =
            support::layer::<PaymentRequest>().layer(inbox.receiver::<PaymentRequest>());
        let left = leaving.call(support::signed(body(4, 0)));
        timeout(Duration::from_secs(1), left).await.unwrap_err();
        receive(&inbox, body(3, 0)).await;
        // Without a layer it carries no notification, so it does not count.
        support::call(inbox.receiver::<PaymentRequest>(), Request::new(())).await;
    })
    .await;
    let of = |result: &str, count: u32| {
        format!("inqud_inbox_received_total{{kind=\"request\",outcome=\"{result}\"}} {count}")
    };
    let expected = [
        of("new", 2),
        of("duplicate", 1),
        of("undecodable", 1),
        of("store", 1),
        of("disconnected", 1),
        of("timeout", 1),
    ];
    has(&metrics, &expected.each_ref().map(String::as_str));
    has(&metrics, &["inqud_inbox_commit_duration_seconds_count{kind=\"request\"} 4"]);
    let handed_on = line(&log, "forwarded a webhook that could not be decoded");
    assert!(handed_on.contains("WARN") && handed_on.contains("not_json"), "{handed_on}");
    let refused = line(&log, "not stored; Inqud will send it again");
    for part in
        ["WARN", "reason=\"store\"", "kind=\"request\"", "the disk is full", "inqud_webhook"]
    {
        assert!(refused.contains(part), "no {part} in {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_span_and_outcome_of_each_notification() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::memory();
        inbox.store().insert(vec![record(1, 1), record(2, 0)]).await.unwrap();
        let late = inbox.clone();
        let handler = move |request: Stored<PaymentRequest>, _: Context<Memory>| {
            let late = late.clone();
            async move {
                tracing::info!("in the handler");
                sleep(Duration::from_secs(2)).await;
                tracing::info!("still in the handler");
                if request.id.ends_with('2') {
                    return Err("the shop is closed");
                }
                // A stale one, which is claimed after this one is done.
                late.store().insert(vec![record(1, 0)]).await.unwrap();
                Ok(())
            }
        };
        inbox.process(handler).max_attempts(2).run_until(drained(inbox.clone())).await.unwrap();
    })
    .await;
    for part in ["kind=\"request\"", "key=", "attempt=1", "verdict=\"newer\"", " inqud_inbox: "] {
        for said in ["in the handler", "still in the handler"] {
            assert!(line(&log, said).contains("inqud_inbox{"), "{log}");
        }
        assert!(line(&log, "inqud_inbox{").contains(part), "no {part} in {log}");
    }
    let retry = line(&log, "attempt failed; will retry");
    assert!(retry.contains("WARN") && retry.contains("the shop is closed"), "{retry}");
    let dead = line(&log, "gave up; the notification is a dead letter");
    assert!(dead.contains("ERROR") && dead.contains("the shop is closed"), "{dead}");
    assert!(dead.contains("attempt=2"), "{dead}");
    let closes = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        log.lines().filter(|line| line.contains("close") && line.contains(&outcome)).count()
    };
    assert_eq!((closes("done"), closes("retry"), closes("dead")), (1, 1, 1), "{log}");
    has(
        &metrics,
        &[
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"done\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"retry\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"dead\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"skipped\",verdict=\"stale\"} 1",
            "inqud_inbox_handler_duration_seconds_count{kind=\"request\"} 3",
            "inqud_inbox_handler_duration_seconds_sum{kind=\"request\"} 6",
            "inqud_inbox_latency_seconds_count{kind=\"request\"} 1",
        ],
    );
    assert!(
        line(&log, "skipped: stale, a newer notification was processed").contains("INFO"),
        "{log}"
    );
}

/// The store fails until the runner is told to end.
#[tokio::test(start_paused = true)]
async fn records_failed_settlements() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::new(Moody::default());
        inbox.store().insert(vec![record(1, 0)]).await.unwrap();
        let store = inbox.clone();
        let handler = move |_: Stored<PaymentRequest>, _: Context<Moody>| {
            store.store().fails.store(true, Ordering::SeqCst);
            ready(Ok::<_, Infallible>(()))
        };
        let a_minute = tokio::time::sleep(Duration::from_secs(60));
        inbox.process(handler).run_until(a_minute).await.unwrap();
    })
    .await;
    let told = line(&log, "store failed; the runner continues");
    assert!(told.contains("WARN") && told.contains("the disk is full"), "{told}");
    has(
        &metrics,
        &[
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"unsettled\",verdict=\"newer\"} 1",
        ],
    );
}

/// One claim is dropped with its runner, and one expires and is claimed by another runner.
#[tokio::test(start_paused = true)]
async fn records_dropped_and_expired_claims() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::new(Moody::default());
        inbox.store().insert(vec![record(1, 0)]).await.unwrap();
        let handler =
            async |_: Stored<PaymentRequest>, _| pending::<Result<(), Infallible>>().await;
        let lost =
            inbox.process(handler).handler_timeout(Duration::from_secs(5)).run_until(pending());
        timeout(Duration::from_secs(1), lost).await.unwrap_err();

        inbox.store().settles_late.store(true, Ordering::SeqCst);
        let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    })
    .await;
    has(
        &metrics,
        &[
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"dropped\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"lease_expired\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"done\",verdict=\"newer\"} 1",
        ],
    );
    let lapsed = line(&log, "lease expired and another runner claimed the notification");
    assert!(lapsed.contains("WARN") && lapsed.contains("attempt=2"), "{lapsed}");
}

#[tokio::test(start_paused = true)]
async fn records_failure_after_a_transaction_of_the_handler() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::new(Moody::default());
        inbox.store().completes.store(true, Ordering::SeqCst);
        inbox.store().insert(vec![record(1, 0), record(2, 0)]).await.unwrap();
        let handler = async |request: Stored<PaymentRequest>, _| {
            if request.id.ends_with('2') { Err("the shop is closed") } else { Ok(()) }
        };
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    })
    .await;
    let message = "attempt failed after its transaction had completed the notification; it is done";
    assert_eq!(log.matches(message).count(), 1, "{log}");
    let failed = line(&log, message);
    assert!(failed.contains("WARN") && failed.contains("the shop is closed"), "{failed}");
    has(
        &metrics,
        &["inqud_inbox_processed_total{kind=\"request\",outcome=\"done\",verdict=\"newer\"} 2"],
    );
}

#[tokio::test(start_paused = true)]
async fn records_requeued_undecodable_bodies() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::memory();
        let text = body(1, 0);
        let undecodable = {
            let key = Key::of_undecodable("request", text.as_bytes());
            let object = format!("undecodable:{key}");
            Record { key, object, dead: Some("once".to_owned()), ..record(1, 0) }
        };
        inbox.store().insert(vec![undecodable.clone()]).await.unwrap();
        assert_eq!(inbox.redrive([undecodable.key]).await.unwrap(), 1);
        let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    })
    .await;
    assert!(line(&log, "undecodable body can be decoded now; requeued").contains("INFO"), "{log}");
    has(
        &metrics,
        &[
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"requeued\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"done\",verdict=\"newer\"} 1",
        ],
    );
}

/// Duplicates with different bytes, reviews, unordered notifications and unclaimed kinds.
#[tokio::test(start_paused = true)]
async fn records_what_a_person_must_look_at() {
    let payment = |status: &str, more: &str| {
        format!(r#"{{"id":"PMT-{HIDDEN}","status":"{status}","amount":1{more}}}"#)
    };
    let (log, metrics) = observe(async || {
        let inbox = Inbox::memory();
        let receive = async |body: String| {
            let service = support::layer::<Payment>().layer(inbox.receiver::<Payment>());
            support::call(service, support::signed(body)).await;
        };
        receive(payment("SUCCESS", "")).await;
        // Spelled differently, so the bytes differ.
        receive(payment("SUCCESS", " ")).await;
        receive(payment("FAILED", "")).await;
        receive(payment("SUCCESS", "")).await;
        inbox.stats().await.unwrap();
        let handler = async |_: Stored<Payment>, _| Ok::<_, Infallible>(());
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
        receive(payment("PENDING", "")).await;
        let handler = async |_: Stored<Payment>, _| Ok::<_, Infallible>(());
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
        inbox.stats().await.unwrap();

        // A Request without a time, after one with a time.
        let body = format!(r#"{{"id":"CAPD-{HIDDEN}-1","status":"SUCCESS"}}"#);
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        let records = [record(1, 1), Record::new(&request, body.into())];
        for record in records {
            inbox.store().insert(vec![record]).await.unwrap();
            let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
            inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
        }
        inbox.stats().await.unwrap();
        // No gauge keeps a value from before.
        let keys = inbox.list(State::Review, 9).await.unwrap().entries;
        inbox.discard(keys.iter().map(|it| it.key)).await.unwrap();
        inbox.stats().await.unwrap();
    })
    .await;
    has(
        &metrics,
        &[
            "inqud_inbox_received_total{kind=\"payment\",outcome=\"new\"} 3",
            "inqud_inbox_received_total{kind=\"payment\",outcome=\"duplicate_differs\"} 1",
            "inqud_inbox_received_total{kind=\"payment\",outcome=\"review\"} 1",
            "inqud_inbox_processed_total{kind=\"payment\",outcome=\"done\",verdict=\"newer\"} 1",
            "inqud_inbox_processed_total{kind=\"payment\",outcome=\"done\",verdict=\"unordered\"} 1",
            "inqud_inbox_processed_total{kind=\"payment\",outcome=\"skipped\",verdict=\"stale\"} 1",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"review\",verdict=\"review\"} 1",
            "inqud_inbox_backlog{kind=\"payment\"} 0",
            "inqud_inbox_review{kind=\"payment\"} 0",
            "inqud_inbox_skipped{kind=\"payment\"} 2",
            "inqud_inbox_skipped{kind=\"request\"} 1",
        ],
    );
    let returned = line(&log, "kept for review: says what was said before");
    assert!(returned.contains("WARN") && returned.contains("kind=\"payment\""), "{returned}");
    let without_time = line(&log, "kept for review: is further along");
    assert!(without_time.contains("WARN") && without_time.contains("verdict=\"review\""), "{log}");
    let unordered = line(&log, "processed; the verdict is amended or unordered");
    assert!(unordered.contains("INFO") && unordered.contains("verdict=\"unordered\""), "{log}");
    let unclaimed = line(&log, "no runner processes this kind, and notifications are waiting");
    assert!(unclaimed.contains("WARN") && unclaimed.contains("kind=\"payment\""), "{unclaimed}");
}

#[tokio::test(start_paused = true)]
async fn runner_warns_of_a_kind_without_a_runner() {
    let (log, _) = observe(async || {
        let inbox = Inbox::memory();
        inbox.store().insert(vec![record(1, 0)]).await.unwrap();
        let handler = async |_: Stored<Payment>, _| Ok::<_, Infallible>(());
        inbox.process(handler).run_until(sleep(Duration::from_secs(10))).await.unwrap();
    })
    .await;
    let unclaimed = line(&log, "no runner processes this kind, and notifications are waiting");
    assert!(unclaimed.contains("WARN") && unclaimed.contains("kind=\"request\""), "{unclaimed}");
}

/// Has one object of each outcome.
struct Api;

impl Fetch<PaymentRequest> for Api {
    async fn fetch(&self, id: &str) -> Fetched {
        let found = |status: &str, minute: u32| Fetched::Found(state(id, status, minute));
        match id {
            "CAPD-agreed" => found("PENDING_PAYMENT", 1),
            "CAPD-lost" => found("SUCCESS", 2),
            "CAPD-ahead" => found("WAITING_PAYMENT", 0),
            "CAPD-busy" => Fetched::Later { after: None, reason: "status 500".to_owned() },
            _ => Fetched::Missing,
        }
    }
}

fn state(id: &str, status: &str, minute: u32) -> Bytes {
    let time = format!("2026-11-22T10:{minute:02}:00Z");
    format!(r#"{{"id":"{id}","status":"{status}","lastUpdatedAt":"{time}","note":"{HIDDEN}"}}"#)
        .into()
}

#[tokio::test]
async fn records_each_outcome_of_a_look() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::memory();
        for id in ["CAPD-agreed", "CAPD-lost", "CAPD-ahead", "CAPD-busy", "CAPD-none"] {
            let record = Record::decode::<PaymentRequest>(state(id, "PENDING_PAYMENT", 1)).unwrap();
            inbox.store().insert(vec![record]).await.unwrap();
            let reconciler = || inbox.reconcile::<PaymentRequest>(Api);
            reconciler().dry_run().look_at(None, id).await.unwrap();
            reconciler().look_at(None, id).await.unwrap();
        }
    })
    .await;
    for (outcome, level, object, said) in [
        ("agreed", "DEBUG", "CAPD-agreed", "status=\"PENDING_PAYMENT\""),
        ("recovered", "WARN", "CAPD-lost", "no webhook brought this state of the object"),
        ("ahead", "DEBUG", "CAPD-ahead", "status=\"WAITING_PAYMENT\""),
        ("missing", "WARN", "CAPD-none", "the API does not know the object"),
        ("later", "INFO", "CAPD-busy", "reason=\"status 500\""),
    ] {
        // A dry run records nothing.
        let count =
            format!("inqud_inbox_reconciled_total{{kind=\"request\",outcome=\"{outcome}\"}} 1");
        has(&metrics, &[&count]);
        let outcome = format!("outcome=\"{outcome}\"");
        assert_eq!(log.matches(&outcome).count(), 1, "{log}");
        let line = line(&log, &outcome);
        for part in [level, "inqud_inbox:", "kind=\"request\"", object, said] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}

/// The store fails when the reconciler starts, and again during its first look.
#[tokio::test(start_paused = true)]
async fn reconciler_reports_errors_of_the_store_and_continues() {
    let (log, metrics) = observe(async || {
        let inbox = Inbox::new(Moody::default());
        inbox.expect::<PaymentRequest>("CAPD-lost", Timestamp::UNIX_EPOCH).await.unwrap();
        inbox.store().fails.store(true, Ordering::SeqCst);
        let error = inbox.reconcile::<PaymentRequest>(Api).run_until_idle().await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::Store);
        let api = Failing { inbox: inbox.clone(), is_first: AtomicBool::new(true) };
        let repairs = async {
            for _ in 0..20 {
                sleep(Duration::from_secs(30)).await;
                inbox.store().fails.store(false, Ordering::SeqCst);
            }
        };
        inbox.reconcile::<PaymentRequest>(api).run_until(repairs).await.unwrap();
    })
    .await;
    let message = "store failed; the runner continues";
    assert!(log.matches(message).count() > 1, "{log}");
    let told = line(&log, message);
    assert!(told.contains("WARN") && told.contains("the disk is full"), "{told}");
    has(&metrics, &["inqud_inbox_reconciled_total{kind=\"request\",outcome=\"recovered\"} 1"]);
}

/// Makes the store fail when it is asked for the first time.
struct Failing {
    inbox: Inbox<Moody>,
    is_first: AtomicBool,
}

impl Fetch<PaymentRequest> for Failing {
    async fn fetch(&self, id: &str) -> Fetched {
        let is_first = self.is_first.swap(false, Ordering::SeqCst);
        self.inbox.store().fails.store(is_first, Ordering::SeqCst);
        Fetched::Found(state(id, "SUCCESS", 2))
    }
}

/// Provokes each way that a body can fail, at level TRACE. `observe` checks for the word in the bodies.
#[tokio::test(start_paused = true)]
async fn trace_log_contains_no_body() {
    let bodies = [
        HIDDEN.to_owned(),
        format!(r#"{{"id":"{HIDDEN}","status":7}}"#),
        format!(r#"{{"id":["{HIDDEN}"]}}"#),
        format!(r#"{{"id":"1","status":{{"{HIDDEN}":1}}}}"#),
        format!(r#"{{"id":"1","status":"NEW","payAmount":"{HIDDEN}"}}"#),
        format!(r#"["{HIDDEN}"]"#),
        body(7, 0),
    ];
    let (log, _) = observe(async || {
        let inbox = Inbox::memory();
        for body in bodies {
            receive(&inbox, body).await;
        }
        let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key).collect();
        assert!(keys.len() == 6, "{keys:?}");
        inbox.redrive(keys).await.unwrap();
        let handler = async |_: Stored<PaymentRequest>, _| Err::<(), _>("no");
        inbox.process(handler).max_attempts(1).run_until(drained(inbox.clone())).await.unwrap();
        for letter in inbox.dead(9).await.unwrap() {
            assert!(!letter.error.contains(HIDDEN), "{}", letter.error);
        }
    })
    .await;
    assert!(log.contains("gave up; the notification is a dead letter"), "{log}");
}

/// Scrapes over a connection, like Prometheus, from a server that has an inbox.
#[tokio::test]
async fn prometheus_scrape_matches_documentation() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let handle = recorder.handle();
    let inbox = Inbox::memory();
    let looked_at = inbox.clone();
    let receiver = post_service(inbox.receiver::<PaymentRequest>());
    let app = Router::new()
        .route("/", receiver.layer(support::layer::<PaymentRequest>().forward_undecodable()))
        .route(
            "/metrics",
            get(async move || {
                looked_at.stats().await.unwrap();
                handle.render()
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let send = async |body: String| {
        let mut request: Request<Full<Bytes>> = support::signed(body);
        *request.uri_mut() = format!("http://{address}/").parse().unwrap();
        client.request(request).await.unwrap();
    };
    for body in [body(1, 0), body(2, 0), body(2, 0), HIDDEN.to_owned()] {
        send(body).await;
    }
    let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    send(body(3, 0)).await;

    let scrape = client.get(format!("http://{address}/metrics").parse().unwrap()).await.unwrap();
    let scrape = scrape.into_body().collect().await.unwrap().to_bytes();
    let metrics = str::from_utf8(&scrape).unwrap();
    assert!(!metrics.contains(HIDDEN), "{metrics}");
    has(
        metrics,
        &[
            "# HELP inqud_inbox_received_total Receiver calls by kind and outcome.",
            "# TYPE inqud_inbox_received_total counter",
            "inqud_inbox_received_total{kind=\"request\",outcome=\"new\"} 3",
            "inqud_inbox_received_total{kind=\"request\",outcome=\"duplicate\"} 1",
            "inqud_inbox_received_total{kind=\"request\",outcome=\"undecodable\"} 1",
            "inqud_inbox_commit_duration_seconds_count{kind=\"request\"} 5",
            "# TYPE inqud_inbox_processed_total counter",
            "inqud_inbox_processed_total{kind=\"request\",outcome=\"done\",verdict=\"newer\"} 2",
            "inqud_inbox_handler_duration_seconds_count{kind=\"request\"} 2",
            "inqud_inbox_latency_seconds_count{kind=\"request\"} 2",
            "# HELP inqud_inbox_backlog Notifications waiting or in flight by kind, as of the last stats call.",
            "# TYPE inqud_inbox_backlog gauge",
            "inqud_inbox_backlog{kind=\"request\"} 1",
            "inqud_inbox_dead_letters{kind=\"request\"} 1",
            "inqud_inbox_review{kind=\"request\"} 0",
            "inqud_inbox_skipped{kind=\"request\"} 0",
            "# TYPE inqud_inbox_oldest_age_seconds gauge",
        ],
    );
    // Labels contain no key and no id, so that they have few values.
    for line in metrics.lines().filter(|line| line.starts_with("inqud_inbox_")) {
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let name = label.split_once('=').unwrap().0;
            assert!(["kind", "outcome", "verdict", "quantile"].contains(&name), "{line}");
        }
    }
}
