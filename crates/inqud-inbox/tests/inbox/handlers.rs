//! What the tests of a merchant use: contexts without a runner, a runner that ends when it is idle, `close`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::postgres;
use inqud_inbox::testing::{self, TestContext};
use inqud_inbox::tokio_postgres::Client;
use inqud_inbox::{
    Admin, Claim, Context, Inbox, InboxError, InboxErrorKind, Key, Memory, Once, Postgres, Record,
    RunReport, Sqlite, State, Storable, Store, Stored, rusqlite,
};
use tempfile::TempDir;
use tokio::time::timeout;
use tower_inqud::{PaymentRequest, RejectionKind, Verdict};

type BoxError = Box<dyn Error + Send + Sync>;

/// Longer than anything takes that ends.
const LONG: Duration = Duration::from_secs(60);
const PAID: &str = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00Z"}"#;

fn record(id: u32, minute: u32) -> Record {
    let status = ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"][minute as usize];
    let body = format!(
        r#"{{"id":"CAPD-{id}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

fn counts(report: RunReport) -> [(&'static str, u64); 7] {
    [
        ("done", report.done),
        ("skipped", report.skipped),
        ("review", report.review),
        ("requeued", report.requeued),
        ("retried", report.retried),
        ("dead", report.dead),
        ("lease_expired", report.lease_expired),
    ]
}

/// Those that are not zero.
#[track_caller]
fn assert_report(report: RunReport, expected: &[(&'static str, u64)]) {
    let counts: Vec<_> = counts(report).into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, expected);
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::timeout(super::LONG, super::$name(&super::Inbox::memory())).await.unwrap();
            })*
        }
        mod in_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = super::postgres::shared() {
                    let inbox = server.inbox(stringify!($name)).await;
                    super::timeout(super::LONG, super::$name(&inbox)).await.unwrap();
                }
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (inbox, _folder) = super::file();
                super::timeout(super::LONG, super::$name(&inbox)).await.unwrap();
            })*
        }
    };
}

of_each_store! {
    processes_until_nothing_is_due
    does_not_wait_for_a_retry
    retries_at_once_without_backoff
    reports_what_was_skipped_or_kept
    closes_for_every_clone
    tells_a_handler_what_the_test_says
}

/// The second notification of an object is due only after the first is settled.
async fn processes_until_nothing_is_due<S: Store>(inbox: &Inbox<S>) {
    let handler = async |_: Stored<PaymentRequest>, _: Context<S>| Ok::<_, Infallible>(());
    let report = inbox.process(handler).run_until_idle().await.unwrap();
    assert_report(report, &[]);

    let records = (0..3).flat_map(|minute| (0..20).map(move |id| record(id, minute)));
    inbox.store().insert(records.collect()).await.unwrap();
    let report = inbox.process(handler).concurrency(3).run_until_idle().await.unwrap();
    assert_report(report, &[("done", 60)]);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
}

async fn does_not_wait_for_a_retry<S: Store>(inbox: &Inbox<S>) {
    inbox.store().insert(vec![record(1, 0), record(1, 1), record(2, 0)]).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, _: Context<S>| match &*request.id {
        "CAPD-1" => Err("not yet"),
        _ => Ok(()),
    };
    let runner = inbox.process(handler).backoff(LONG, LONG);
    assert_report(runner.run_until_idle().await.unwrap(), &[("done", 1), ("retried", 1)]);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2);
}

async fn retries_at_once_without_backoff<S: Store>(inbox: &Inbox<S>) {
    inbox.store().insert(vec![record(1, 0), record(1, 1)]).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<S>| {
        if request.status.as_str() == "WAITING_PAYMENT" || cx.attempt() < 3 {
            return Err("not yet");
        }
        Ok(())
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO).max_attempts(3);
    let report = runner.run_until_idle().await.unwrap();
    assert_report(report, &[("done", 1), ("retried", 4), ("dead", 1)]);
}

async fn reports_what_was_skipped_or_kept<S: Store>(inbox: &Inbox<S>) {
    let handler = async |_: Stored<PaymentRequest>, _: Context<S>| Ok::<_, Infallible>(());
    inbox.store().insert(vec![record(1, 2)]).await.unwrap();
    inbox.process(handler).run_until_idle().await.unwrap();
    // A late one, and an object that is none of this runner's.
    let mut other = record(2, 0);
    other.kind = "checkout";
    inbox.store().insert(vec![record(1, 0), other]).await.unwrap();
    let report = inbox.process(handler).run_until_idle().await.unwrap();
    assert_report(report, &[("skipped", 1)]);
    assert_eq!(inbox.list(State::Skipped, 9).await.unwrap().entries.len(), 1);
}

async fn closes_for_every_clone<S: Store>(inbox: &Inbox<S>) {
    fn kind<R>(result: Result<R, InboxError>) -> Option<InboxErrorKind> {
        result.err().map(|error| error.kind())
    }
    inbox.store().insert(vec![record(1, 0)]).await.unwrap();
    inbox.clone().close().await;
    inbox.close().await;

    let handler = async |_: Stored<PaymentRequest>, _: Context<S>| Ok::<_, Infallible>(());
    let (store, key) = (inbox.store(), Key::from_bytes([0; 16]));
    let all = [
        ("insert", kind(store.insert(vec![record(2, 0)]).await)),
        ("claim", kind(store.claim(Claim::new(PaymentRequest::KIND, 1, LONG)).await)),
        ("stats", kind(inbox.stats().await)),
        ("unclaimed", kind(inbox.unclaimed(LONG).await)),
        ("list", kind(inbox.list(State::Skipped, 1).await)),
        ("dead", kind(inbox.dead(1).await)),
        ("review", kind(inbox.review(1).await)),
        ("redrive", kind(inbox.redrive([key]).await)),
        ("discard", kind(inbox.discard([key]).await)),
        ("prune", kind(inbox.prune(LONG, 1).await)),
        ("run_until", kind(inbox.process(handler).run_until(pending()).await)),
        ("run_until_idle", kind(inbox.process(handler).run_until_idle().await)),
    ];
    for (call, kind) in all {
        assert_eq!(kind, Some(InboxErrorKind::Closed), "{call}");
    }
}

async fn tells_a_handler_what_the_test_says<S: Store>(inbox: &Inbox<S>) {
    let first = TestContext::new(inbox).context();
    assert_eq!((first.verdict(), first.attempt()), (Verdict::Newer, 1));
    assert_eq!((first.tenant(), first.is_replay()), (None, false));
    assert_ne!(first.key(), TestContext::new(inbox).context().key());

    let time = "2026-11-22T10:00:00Z".parse().unwrap();
    let test = TestContext::new(inbox).key(first.key()).attempt(3).received_at(time);
    let cx = test.verdict(Verdict::Amended).tenant("acme").replay().context();
    assert_eq!((cx.key(), cx.attempt()), (first.key(), 3));
    assert_eq!((cx.verdict(), cx.received_at()), (Verdict::Amended, time));
    assert_eq!((cx.tenant(), cx.is_replay()), (Some("acme"), true));
}

#[test]
fn decodes_a_body_as_a_runner_does() {
    let request = testing::stored::<PaymentRequest>(PAID).unwrap();
    assert_eq!(request.id, "CAPD-1");
    assert_eq!(request.raw_body(), PAID);
    let payment = PAID.replace("CAPD", "PMT");
    let rejection = testing::stored::<PaymentRequest>(payment).unwrap_err();
    assert!(matches!(rejection.kind(), RejectionKind::WrongKind { .. }));
}

// -------------------------------------------------------- effects, committed by a test

#[tokio::test]
async fn commits_effects_in_memory() {
    let (inbox, count) = (Inbox::memory(), Arc::new(AtomicUsize::new(0)));
    let handler = async |cx: Context<Memory>, fails: bool| {
        let counts = |by| {
            let count = count.clone();
            move || Ok::<_, BoxError>(count.fetch_add(by, Ordering::SeqCst))
        };
        let again = counts(100);
        cx.effect(counts(1));
        cx.once("ship:17", counts(10), move |_| again());
        if fails {
            cx.effect(|| Err::<(), _>("a bug"));
        }
    };
    let test = TestContext::new(&inbox);
    handler(test.context(), false).await;
    assert_eq!((test.effects(), count.load(Ordering::SeqCst)), (2, 0));
    drop(test);
    assert_eq!(count.load(Ordering::SeqCst), 0, "it was not committed");

    for expected in [11, 112] {
        let test = TestContext::new(&inbox);
        handler(test.context(), false).await;
        test.commit().await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), expected);
    }
    let test = TestContext::new(&inbox);
    handler(test.context(), true).await;
    assert_eq!(cause(test.commit().await), "a bug");
}

#[track_caller]
fn cause(committed: Result<(), InboxError>) -> String {
    committed.unwrap_err().source().unwrap().to_string()
}

#[tokio::test]
async fn commits_effects_in_sqlite() {
    let (inbox, _folder) = file();
    inbox.write(|db| db.execute_batch("CREATE TABLE paid (what TEXT)")).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Sqlite>, fails: bool| {
        let id = request.id.clone();
        cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1)", [&id]));
        let insert = |db: &rusqlite::Connection| db.execute("INSERT INTO paid VALUES ('once')", []);
        cx.once("ship:17", insert, |_, _| Ok(0));
        if fails {
            cx.effect(|_| Err::<(), _>("a bug"));
        }
    };
    let paid = || async {
        let paid = |db: &rusqlite::Connection| {
            db.query_row("SELECT group_concat(what) FROM paid", [], |row| {
                row.get::<_, Option<String>>(0)
            })
        };
        inbox.write(paid).await.unwrap()
    };
    let request = || testing::stored(PAID).unwrap();

    let test = TestContext::new(&inbox);
    handler(request(), test.context(), true).await;
    assert_eq!(test.effects(), 3);
    assert_eq!(cause(test.commit().await), "a bug");
    let test = TestContext::new(&inbox);
    handler(request(), test.context(), false).await;
    drop(test);
    assert_eq!(paid().await, None::<String>);

    for _ in 0..2 {
        let test = TestContext::new(&inbox);
        handler(request(), test.context(), false).await;
        test.commit().await.unwrap();
    }
    assert_eq!(paid().await.as_deref(), Some("CAPD-1,once,CAPD-1"));
    assert_eq!(inbox.stats().await.unwrap(), Inbox::memory().stats().await.unwrap(), "no rows");
}

#[tokio::test]
async fn commits_the_transaction_in_postgres() {
    const NAME: &str = "commits_the_transaction";
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox(NAME).await;
    let client = postgres::connect(&server.config(NAME)).await;
    client.batch_execute("CREATE TABLE paid (what text)").await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let what = match cx.once("ship:17").await? {
            Once::First => "first",
            Once::After(_) => "again",
        };
        let transaction = cx.transaction().await?;
        let what = format!("{} {what}", request.id);
        transaction.execute("INSERT INTO paid VALUES ($1)", &[&what]).await?;
        Ok::<_, BoxError>(())
    };
    let paid = async |client: &Client| {
        let rows = client.query("SELECT what FROM paid ORDER BY ctid", &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let request = || testing::stored(PAID).unwrap();

    let test = TestContext::new(&inbox);
    handler(request(), test.context()).await.unwrap();
    assert_eq!(test.effects(), 1);
    drop(test);
    let test = TestContext::new(&inbox);
    handler(request(), test.context()).await.unwrap();
    let transaction = test.context().transaction().await.unwrap();
    transaction.batch_execute("SELECT 1 / 0").await.unwrap_err();
    drop(transaction);
    test.commit().await.unwrap_err();
    assert!(paid(&client).await.is_empty(), "one was dropped, and one has failed");

    for _ in 0..2 {
        let test = TestContext::new(&inbox);
        handler(request(), test.context()).await.unwrap();
        test.commit().await.unwrap();
    }
    assert_eq!(paid(&client).await, ["CAPD-1 first", "CAPD-1 again"]);

    let test = TestContext::new(&inbox);
    handler(request(), test.context()).await.unwrap();
    let _held = test.context().transaction().await.unwrap();
    assert!(cause(test.commit().await).contains("still in use"));
}

/// The operator's methods are the same on a store and on a file that another process has open.
#[tokio::test]
async fn an_operator_needs_one_trait() {
    async fn tend(inbox: &impl Admin) -> (usize, usize, usize, usize) {
        let dead = inbox.dead(9).await.unwrap();
        let (first, rest) = dead.split_first().unwrap();
        let discarded = inbox.discard([first.key]).await.unwrap();
        let redriven = inbox.redrive(rest.iter().map(|entry| entry.key)).await.unwrap();
        let reviews = inbox.review(9).await.unwrap().len();
        let pruned = inbox.prune(Duration::ZERO, 9).await.unwrap();
        assert_eq!(inbox.unclaimed(Duration::ZERO).await.unwrap(), ["request"]);
        assert_eq!(inbox.stats().await.unwrap().backlog(), 2);
        (discarded, redriven, reviews, pruned)
    }
    async fn with_dead_letters<S: Store>(inbox: &Inbox<S>) {
        inbox.store().insert((1..4).map(|id| record(id, 0)).collect()).await.unwrap();
        let handler = async |_: Stored<PaymentRequest>, _: Context<S>| Err("never");
        let report = inbox.process(handler).max_attempts(1).run_until_idle().await.unwrap();
        assert_report(report, &[("dead", 3)]);
    }
    let memory = Inbox::memory();
    with_dead_letters(&memory).await;
    assert_eq!(tend(memory.store()).await, (1, 2, 0, 1));

    let (inbox, folder) = file();
    with_dead_letters(&inbox).await;
    let attached = Inbox::attach(folder.path().join("inbox.db")).unwrap();
    assert_eq!(tend(&attached).await, (1, 2, 0, 1));
}

/// Logs and metrics are searched by the names, and people read the texts.
#[test]
fn errors_keep_their_names_and_say_what_to_do() {
    use InboxErrorKind as Kind;
    for (kind, name, text) in [
        (Kind::Full, "full", "the inbox is full"),
        (Kind::Timeout, "timeout", "did not commit the notification in time"),
        (Kind::Store, "store", "failed"),
        (Kind::Closed, "closed", "the inbox is closed"),
        (Kind::InUse, "in_use", "only one inbox can open a file at a time"),
        (Kind::NetworkFilesystem, "network_filesystem", "move it to a local disk"),
        (Kind::MemoryFilesystem, "memory_filesystem", "move it"),
        (Kind::FileMoved, "file_moved", "put it back"),
        (Kind::TakenOver, "taken_over", "stop one of the two, and do not delete the lock file"),
        (Kind::NotDurable, "not_durable", "change the setting that the source names"),
        (Kind::UnsupportedSqlite, "unsupported_sqlite", "3.51.3"),
        (Kind::NotFound, "not_found", "check the path"),
        (Kind::SchemaTooNew, "schema_too_new", "update this program"),
        (Kind::NotMigrated, "not_migrated", "call `Inbox::migrate` first"),
        (Kind::NotSettled, "not_settled", "wait until they are handled, or force it"),
        (Kind::BackupExists, "backup_exists", "use another name"),
        (Kind::RetentionTooShort, "retention_too_short", "Inqud"),
    ] {
        assert_eq!(kind.as_str(), name);
        let said = InboxError::new(kind).to_string();
        assert!(said.contains(text), "{said}");
    }
}
