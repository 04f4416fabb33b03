//! Tests of the Postgres store that need a server of their own.
//!
//! They are in a binary of their own because they count and end the connections of their server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use inqud_inbox::tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use inqud_inbox::tokio_postgres::{Client, Config, NoTls};
use inqud_inbox::{
    Admin, Claim, Claimed, Context, Inbox, InboxError, InboxErrorKind, Inserted, Outcome, Postgres,
    PostgresOptions, PostgresTransaction, Record, Settled, Settlement, State, Storable, Store,
    Stored,
};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;
use tower_inqud::PaymentRequest;

#[path = "support/postgres.rs"]
mod postgres;
#[path = "../../../tests/support/mod.rs"]
mod support;

#[path = "postgres/lost_answers.rs"]
mod lost_answers;
#[path = "postgres/pinned_stats.rs"]
mod pinned_stats;
#[path = "postgres/processes.rs"]
mod processes;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const NO_WAIT: Duration = Duration::ZERO;
const LEASE: Duration = Duration::from_secs(3600);
/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(60);

fn body(id: &str, minute: u32) -> String {
    format!(r#"{{"id":"{id}","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#)
}

fn record(id: &str, minute: u32) -> Record {
    let body = body(id, minute);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

async fn inbox(config: &Config) -> Inbox<Postgres> {
    Inbox::migrate(config, NoTls).await.unwrap();
    Inbox::postgres(config.clone(), NoTls).await.unwrap()
}

async fn drained(inbox: Inbox<Postgres>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn paid(client: &Client) -> Vec<String> {
    let rows = client.query("SELECT id FROM paid ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Creates an inbox and a client of the same database, with a table `paid`.
async fn shop(name: &str) -> Option<(Inbox<Postgres>, Client, Config)> {
    let config = postgres::shared()?.database(name).await;
    let client = postgres::connect(&config).await;
    client.batch_execute("CREATE TABLE paid (id text PRIMARY KEY)").await.unwrap();
    Some((inbox(&config).await, client, config))
}

const DONE: Settled = Settled::Done { next_is_due: false };

async fn expire_leases(client: &Client) {
    let expired = "UPDATE inqud_inbox.object SET leased_until = now() - interval '1 second'
        WHERE leased_until IS NOT NULL";
    client.execute(expired, &[]).await.unwrap();
}

async fn claim(inbox: &Inbox<Postgres>, count: usize) -> Vec<Claimed> {
    inbox.store().claim(Claim::new(PaymentRequest::KIND, count, LEASE)).await.unwrap()
}

async fn pay(transaction: &PostgresTransaction, id: &str) -> Result<(), BoxError> {
    transaction.execute("INSERT INTO paid VALUES ($1)", &[&id]).await?;
    Ok(())
}

#[tokio::test]
async fn concurrent_migrations_run_once() {
    let Some(server) = postgres::shared() else { return };
    let config = server.database("migrated").await;
    let error = Inbox::postgres(config.clone(), NoTls).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::NotMigrated);
    let all = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { Inbox::migrate(&config, NoTls).await })
    });
    for migrated in all.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    Inbox::postgres(config.clone(), NoTls).await.unwrap();

    let client = postgres::connect(&config).await;
    client.execute("INSERT INTO inqud_inbox.version VALUES (99, 2)", &[]).await.unwrap();
    for error in [
        Inbox::migrate(&config, NoTls).await.unwrap_err(),
        Inbox::postgres(config, NoTls).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
    }
}

/// During a deploy, a program of the version before restarts after the migration.
#[tokio::test]
async fn opens_later_tables_that_it_can_use() {
    let Some((_, client, config)) = shop("later").await else { return };
    let later = "ALTER TABLE inqud_inbox.notification ADD COLUMN later text;
        INSERT INTO inqud_inbox.version VALUES (2, 1)";
    client.batch_execute(later).await.unwrap();
    let inbox = inbox(&config).await;
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Postgres>| Ok::<_, Infallible>(());
    assert_eq!(inbox.process(handler).run_until_idle().await.unwrap().done, 1);
    let migrated = client.query_one("SELECT max(version) FROM inqud_inbox.version", &[]).await;
    assert_eq!(migrated.unwrap().get::<_, i32>(0), 2);
}

#[tokio::test]
async fn migrating_again_keeps_rows() {
    let Some(server) = postgres::shared() else { return };
    let config = server.database("again").await;
    let client = postgres::connect(&config).await;
    Inbox::migrate(&config, NoTls).await.unwrap();
    let insert = "INSERT INTO inqud_inbox.object (kind, object) VALUES ('request', 'CAPD-1')";
    client.batch_execute(insert).await.unwrap();
    Inbox::migrate(&config, NoTls).await.unwrap();
    let rows = client.query("SELECT object FROM inqud_inbox.object", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["CAPD-1"]);
}

#[tokio::test]
async fn migrations_can_be_applied_by_hand() {
    let Some(server) = postgres::shared() else { return };
    let config = server.database("by hand").await;
    let client = postgres::connect(&config).await;
    for sql in Postgres::MIGRATIONS {
        client.batch_execute(sql).await.unwrap();
    }
    Inbox::postgres(config, NoTls).await.unwrap();
}

#[tokio::test]
async fn rejects_server_with_fsync_off() {
    let Some(server) = postgres::Server::start() else { return };
    let config = server.database("fsync").await;
    inbox(&config).await;
    let client = postgres::connect(&config).await;
    client.batch_execute("ALTER SYSTEM SET fsync = off").await.unwrap();
    server.kill();
    server.run();
    let error = Inbox::postgres(config, NoTls).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::NotDurable);
}

/// Compares the position that the server has flushed with the current one.
#[tokio::test]
async fn insert_syncs_even_if_the_role_does_not() {
    const SET: &str = "
        ALTER SYSTEM SET synchronous_commit = off;
        ALTER SYSTEM SET wal_writer_delay = '10s';
        ALTER SYSTEM SET wal_writer_flush_after = '1GB';
        ALTER SYSTEM SET autovacuum = off;";
    const FLUSHED: &str = "SELECT (pg_current_wal_flush_lsn() - $1::text::pg_lsn)::bigint";
    let Some(server) = postgres::Server::start() else { return };
    let config = server.database("synchronous").await;
    let inbox = inbox(&config).await;
    let client = postgres::connect(&config).await;
    for set in SET.trim().trim_end_matches(';').split(';') {
        client.batch_execute(set).await.unwrap();
    }
    server.kill();
    server.run();
    let client = postgres::connect(&config).await;
    let now = "SELECT pg_current_wal_insert_lsn()::text";
    client.batch_execute("CREATE TABLE other (c int)").await.unwrap();

    client.execute("INSERT INTO other VALUES (1)", &[]).await.unwrap();
    let written: String = client.query_one(now, &[]).await.unwrap().get(0);
    let ahead: i64 = client.query_one(FLUSHED, &[&written]).await.unwrap().get(0);
    assert!(ahead < 0, "others do not wait: {ahead}");

    assert_eq!(inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap(), [Inserted::New]);
    let ahead: i64 = client.query_one(FLUSHED, &[&written]).await.unwrap().get(0);
    assert!(ahead > 0, "the insert is flushed: {ahead}");
}

#[tokio::test]
async fn handler_writes_commit_with_done() {
    let Some((inbox, client, _)) = shop("effects").await else { return };
    let ids = ["fails", "forgets", "twice", "writes", "wrong"];
    inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    let kept: Arc<Mutex<Vec<PostgresTransaction>>> = Arc::default();
    let held = Arc::clone(&kept);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let held = Arc::clone(&held);
        async move {
            let first = cx.attempt() == 1;
            let transaction = cx.transaction().await?;
            pay(&transaction, &request.id).await?;
            match &*request.id {
                "fails" if first => return Err("after it wrote".into()),
                // The handler ignores an error. Postgres rolls the transaction back all the same.
                "wrong" if first => drop(pay(&transaction, "wrong").await),
                "twice" => pay(&cx.transaction().await?, "of the same").await?,
                "forgets" if first => held.lock().await.push(transaction),
                _ => {}
            }
            Ok::<_, BoxError>(())
        }
    };
    let runner = inbox.process(handler).max_attempts(2).backoff(NO_WAIT, NO_WAIT);
    let forgotten = async {
        let told = "SELECT count(*) FROM inqud_inbox.notification
            WHERE object = 'forgets' AND error LIKE '%still in use%'";
        while client.query_one(told, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        // The kept transaction holds a lock on its row, and the second attempt waits for that.
        kept.lock().await.clear();
        drained(inbox.clone()).await;
    };
    timeout(LONG, runner.run_until(forgotten)).await.unwrap().unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
    let expected = ["fails", "forgets", "of the same", "twice", "writes", "wrong"];
    assert_eq!(paid(&client).await, expected);
    let tries = "SELECT object FROM inqud_inbox.notification WHERE failures = 1 ORDER BY object";
    let tries = client.query(tries, &[]).await.unwrap();
    let tries: Vec<String> = tries.iter().map(|row| row.get(0)).collect();
    assert_eq!(tries, ["fails", "forgets", "wrong"], "each for its own reason");
}

#[tokio::test]
async fn handler_with_expired_lease_commits_nothing() {
    let Some((inbox, client, config)) = shop("lapsed").await else { return };
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let (begun, taken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&begun), Arc::clone(&taken));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let (says, waits) = (Arc::clone(&says), Arc::clone(&waits));
        async move {
            pay(&cx.transaction().await?, &request.id).await?;
            says.notify_one();
            waits.notified().await;
            Ok::<_, BoxError>(())
        }
    };
    let runner = inbox.process(handler).handler_timeout(Duration::from_secs(30));
    let takes_over = async {
        begun.notified().await;
        // Simulates that the lease has expired.
        expire_leases(&client).await;
        let claim = Claim::new(PaymentRequest::KIND, 1, LEASE).with_suspect(true);
        let claimed = other.store().claim(claim).await.unwrap();
        taken.notify_one();
        claimed
    };
    let takes_over = async {
        let claimed = takes_over.await;
        // That the handler's transaction has ended can be seen only in the database.
        let open = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        while client.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        let outcome = Outcome::Done(vec![]);
        let mut settlement = Settlement { ticket: claimed[0].ticket.clone(), outcome };
        assert_eq!(other.store().settle(&mut settlement).await.unwrap(), DONE);
    };
    timeout(LONG, runner.run_until(takes_over)).await.unwrap().unwrap();
    assert!(paid(&client).await.is_empty(), "two have settled it");
}

/// One of two runners dies in the middle of its work.
#[tokio::test]
async fn another_runner_takes_over_in_order() {
    const RUNS: &str = "CREATE TABLE run (
        seq bigserial, object text, minute int, runner int, began timestamptz, ended timestamptz)";
    let Some((inbox, client, config)) = shop("two runners").await else { return };
    client.batch_execute(RUNS).await.unwrap();
    let client = Arc::new(client);
    let count = 40;
    let of = |minute| (0..count).map(move |id| record(&format!("CAPD-{id}"), minute));
    let mut records: Vec<_> = of(2).chain(of(0)).chain(of(1)).collect();
    records.reverse();
    inbox.store().insert(records).await.unwrap();
    let hung = Arc::new(AtomicUsize::new(0));
    let runner = |inbox: &Inbox<Postgres>, runner: i32, hangs: bool| {
        let (client, hung) = (Arc::clone(&client), Arc::clone(&hung));
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            let (client, hung) = (Arc::clone(&client), Arc::clone(&hung));
            async move {
                let minute = request.last_updated_at.unwrap().to_string()[14..16].parse::<i32>()?;
                let begin = "INSERT INTO run (object, minute, runner, began)
                    VALUES ($1, $2, $3, clock_timestamp()) RETURNING seq";
                let row = client.query_one(begin, &[&request.id, &minute, &runner]).await?;
                let transaction = cx.transaction().await?;
                pay(&transaction, &format!("{} {minute}", request.id)).await?;
                if hangs {
                    hung.fetch_add(1, Ordering::SeqCst);
                    pending::<()>().await;
                }
                let end = "UPDATE run SET ended = clock_timestamp() WHERE seq = $1";
                client.execute(end, &[&row.get::<_, i64>(0)]).await?;
                Ok::<_, BoxError>(())
            }
        };
        inbox.process(handler).concurrency(4).handler_timeout(Duration::from_secs(2))
    };
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let lost = tokio::spawn(runner(&inbox, 1, true).run_until(pending()));
    while hung.load(Ordering::SeqCst) < 4 {
        sleep(Duration::from_millis(5)).await;
    }
    lost.abort();
    let leases = "CREATE TABLE lease AS
        SELECT object, leased_until AS ends FROM inqud_inbox.object WHERE claim > 0";
    client.batch_execute(leases).await.unwrap();
    let began = Instant::now();
    let second = runner(&other, 2, false);
    timeout(LONG, second.run_until(drained(other.clone()))).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "the lease is 4 s, the poll 1 s: {began:?}");

    assert_eq!(paid(&client).await.len(), 3 * count, "each once: its id is unique");
    let disorder = "SELECT count(*) FROM run AS a JOIN run AS b USING (object)
        WHERE a.runner = 2 AND b.runner = 2 AND a.seq < b.seq
            AND (a.minute >= b.minute OR a.ended > b.began)";
    let disorder: i64 = client.query_one(disorder, &[]).await.unwrap().get(0);
    assert_eq!(disorder, 0);
    let taken_over = "SELECT count(*) FROM run AS a JOIN run AS b USING (object, minute)
        JOIN lease USING (object) WHERE a.runner = 1 AND b.runner = 2 AND b.began >= ends";
    let taken_over: i64 = client.query_one(taken_over, &[]).await.unwrap().get(0);
    assert_eq!(taken_over, 4, "not before the lease expired");
}

#[tokio::test]
async fn two_runners_share_work_and_keep_order() {
    let Some((inbox, client, config)) = shop("sharing").await else { return };
    client.batch_execute("CREATE TABLE seen (seq bigserial, id text, minute int)").await.unwrap();
    let of = |minute| (0..60).map(move |id| record(&format!("CAPD-{id}"), minute));
    let mut records: Vec<_> = of(0).chain(of(1)).chain(of(2)).chain(of(3)).collect();
    records.reverse();
    inbox.store().insert(records).await.unwrap();
    let calls = [0, 1].map(|_| Arc::new(AtomicUsize::new(0)));
    let runner = |inbox: &Inbox<Postgres>, calls: &Arc<AtomicUsize>| {
        let calls = Arc::clone(calls);
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move {
                let minute = request.last_updated_at.unwrap().to_string()[14..16].parse::<i32>()?;
                let insert = "INSERT INTO seen (id, minute) VALUES ($1, $2)";
                let transaction = cx.transaction().await?;
                transaction.execute(insert, &[&request.id, &minute]).await?;
                Ok::<_, BoxError>(())
            }
        };
        inbox.process(handler).concurrency(8)
    };
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let (a, b) = timeout(LONG, async {
        tokio::join!(
            runner(&inbox, &calls[0]).run_until(drained(inbox.clone())),
            runner(&other, &calls[1]).run_until(drained(inbox.clone())),
        )
    })
    .await
    .unwrap();
    a.unwrap();
    b.unwrap();
    let failed = "SELECT error FROM inqud_inbox.notification WHERE failures > 0";
    let failed = client.query(failed, &[]).await.unwrap();
    let failed: Vec<Option<String>> = failed.iter().map(|row| row.get(0)).collect();
    assert_eq!(failed, [], "none was started twice");
    let calls = calls.map(|calls| calls.load(Ordering::SeqCst));
    assert_eq!(calls.iter().sum::<usize>(), 240);
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    let disorder = "SELECT count(*) FROM seen AS a JOIN seen AS b USING (id)
        WHERE a.seq < b.seq AND a.minute >= b.minute";
    assert_eq!(client.query_one(disorder, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn lost_server_is_503_until_it_is_back() {
    let Some(server) = postgres::Server::start() else { return };
    let config = server.database("gone").await;
    let inbox = inbox(&config).await;
    let errors = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&errors);
    let handler = |_: Stored<PaymentRequest>, _: Context<Postgres>| ready(Ok::<_, Infallible>(()));
    let runner = inbox.process(handler).on_error(move |error: &InboxError| {
        assert_eq!(error.kind(), InboxErrorKind::Store);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let runner = tokio::spawn(runner.run_until(pending()));
    let layer = support::layer::<PaymentRequest>();
    let call = async |id: &str| {
        let service = layer.layer(inbox.receiver::<PaymentRequest>());
        support::call(service, support::signed(body(id, 0))).await
    };

    assert_eq!(call("before").await.status(), StatusCode::OK);
    server.kill();
    for _ in 0..8 {
        let response = call("meanwhile").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let error = response.extensions().get::<InboxError>().unwrap();
        assert_eq!(error.kind(), InboxErrorKind::Store);
        assert!(response.headers().contains_key("retry-after"));
    }
    server.run();
    assert_eq!(call("after").await.status(), StatusCode::OK);
    let client = postgres::connect(&config).await;
    let all = "SELECT object FROM inqud_inbox.notification ORDER BY seq";
    let all = client.query(all, &[]).await.unwrap();
    let all: Vec<String> = all.iter().map(|row| row.get(0)).collect();
    assert_eq!(all, ["before", "after"]);
    timeout(LONG, drained(inbox.clone())).await.unwrap();
    assert!(!runner.is_finished());
    assert!(errors.load(Ordering::SeqCst) > 0, "`on_error` was called");
    runner.abort();
}

/// With `serializable` as the default of the database, lock-then-look would read an old snapshot.
#[tokio::test]
async fn default_isolation_does_not_matter() {
    let Some(server) = postgres::shared() else { return };
    let config = server.database("isolation").await;
    let set = "ALTER DATABASE isolation SET default_transaction_isolation = 'serializable'";
    postgres::connect(&config).await.batch_execute(set).await.unwrap();
    let all = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { Inbox::migrate(&config, NoTls).await })
    });
    for migrated in all.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }

    let inbox = Inbox::postgres(config.clone(), NoTls).await.unwrap();
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let inserts = [inbox.clone(), other].map(|inbox| {
        tokio::spawn(async move {
            for nth in 0..60 {
                let records = (0..8).map(|id| record(&format!("{id} of {}", nth % 20), nth / 20));
                inbox.store().insert(records.collect()).await.unwrap();
            }
        })
    });
    let is_inserted = async {
        for inserted in inserts {
            inserted.await.unwrap();
        }
        drained(inbox.clone()).await;
    };
    let handler = |_: Stored<PaymentRequest>, _: Context<Postgres>| ready(Ok::<_, Infallible>(()));
    let failed = |error: &InboxError| assert_eq!(error.kind(), InboxErrorKind::Full, "{error:?}");
    let runner = inbox.process(handler).handle_stale().on_error(failed);
    timeout(LONG, runner.run_until(is_inserted)).await.unwrap().unwrap();
}

/// A pooled connection with an open transaction would swallow the next put.
#[test]
fn runtime_shutdown_leaves_no_open_transaction() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (stays, ends) = (runtime(), runtime());
    let Some((inbox, client, config)) = stays.block_on(shop("runtimes")) else { return };
    stays.block_on(async {
        inbox.store().insert(vec![record("first", 0)]).await.unwrap();
        let hold = "BEGIN; LOCK inqud_inbox.notification IN ACCESS EXCLUSIVE MODE";
        client.batch_execute(hold).await.unwrap();
    });
    let claiming = inbox.clone();
    ends.spawn(async move { claim(&claiming, 1).await });
    let watch = stays.block_on(postgres::connect(&config));
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    stays.block_on(async {
        while watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    ends.shutdown_timeout(Duration::from_secs(5));
    stays.block_on(async {
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(inbox.store().insert(vec![record("paid", 0)]).await.unwrap(), [Inserted::New]);
        let seen = "SELECT count(*) FROM inqud_inbox.notification WHERE object = 'paid'";
        let seen: i64 = client.query_one(seen, &[]).await.unwrap().get(0);
        assert_eq!(seen, 1, "acknowledged but not visible");
    });
}

#[tokio::test]
async fn rejects_database_that_is_not_utf8() {
    let Some(server) = postgres::shared() else { return };
    let latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let config = server.database_with("latin", latin).await;
    Inbox::migrate(&config, NoTls).await.unwrap();
    let error = Inbox::postgres(config, NoTls).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("LATIN1"), "{source}");
}

#[tokio::test]
async fn locked_object_does_not_block_others() {
    let Some((inbox, client, _)) = shop("locked").await else { return };
    let ids: Vec<_> = (0..10).map(|id| format!("CAPD-{id}")).collect();
    inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    let claimed = claim(&inbox, 10).await;
    let hold = "BEGIN; SELECT * FROM inqud_inbox.object WHERE object = 'CAPD-3' FOR UPDATE";
    client.batch_execute(hold).await.unwrap();
    let mut settlements = JoinSet::new();
    for Claimed { ticket, .. } in claimed {
        let inbox = inbox.clone();
        settlements.spawn(async move {
            let began = Instant::now();
            let mut settlement = Settlement { ticket, outcome: Outcome::Done(vec![]) };
            let settled = inbox.store().settle(&mut settlement).await;
            (settlement, settled, began.elapsed())
        });
    }
    for (mut settlement, settled, took) in settlements.join_all().await {
        if &*settlement.ticket.object != "CAPD-3" {
            assert_eq!(settled.unwrap(), DONE);
            assert!(took < Duration::from_millis(900), "{took:?}");
            continue;
        }
        assert_eq!(settled.unwrap_err().kind(), InboxErrorKind::Store);
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(inbox.store().settle(&mut settlement).await.unwrap(), DONE);
    }
}

/// A statement that continued on the server would lock the row against all later attempts.
#[tokio::test]
async fn dropped_statement_ends_soon() {
    let Some((inbox, client, _)) = shop("amid").await else { return };
    client
        .batch_execute("CREATE TABLE balance (n int); INSERT INTO balance VALUES (0)")
        .await
        .unwrap();
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let transaction = cx.transaction().await?;
        transaction.execute("UPDATE balance SET n = n + 1", &[]).await?;
        if cx.attempt() == 1 {
            transaction.execute("SELECT pg_sleep(600)", &[]).await?;
        }
        Ok::<_, BoxError>(())
    };
    let runner =
        inbox.process(handler).handler_timeout(Duration::from_secs(2)).backoff(NO_WAIT, NO_WAIT);
    timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
    let balance = client.query_one("SELECT n FROM balance", &[]).await.unwrap();
    assert_eq!(balance.get::<_, i32>(0), 1);
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test]
async fn session_settings_do_not_leak_between_handlers() {
    let Some((inbox, client, _)) = shop("session").await else { return };
    client.batch_execute("CREATE TABLE seen (word text)").await.unwrap();
    for id in ["sets", "reads"] {
        inbox.store().insert(vec![record(id, 0)]).await.unwrap();
        let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            let transaction = cx.transaction().await?;
            let work = match &*request.id {
                "sets" => "SET application_name = 'of another'",
                _ => "INSERT INTO seen VALUES (current_setting('application_name'))",
            };
            transaction.batch_execute(work).await?;
            Ok::<_, BoxError>(())
        };
        let runner = inbox.process(handler);
        timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
    }
    let seen = client.query_one("SELECT word FROM seen", &[]).await.unwrap();
    assert_eq!(seen.get::<_, &str>(0), "");
}

/// A sale begins after a quiet night: the statistics still show nothing open.
#[tokio::test]
async fn stale_statistics_do_not_cause_full_scans() {
    const FILL: &str = "
        ALTER TABLE inqud_inbox.notification SET (autovacuum_enabled = false);
        ALTER TABLE inqud_inbox.object SET (autovacuum_enabled = false);
        INSERT INTO inqud_inbox.notification (key, kind, object, position, order_key, received_at, state)
            SELECT decode(md5(n::text), 'hex'), 'request', n::text, 0, '', now(), 1
            FROM generate_series(1, 30000) AS n;
        ANALYZE inqud_inbox.notification;
        INSERT INTO inqud_inbox.notification (key, kind, object, position, order_key, received_at)
            SELECT decode(md5(n::text), 'hex'), 'request', n::text, 0, '', now()
            FROM generate_series(30001, 60000) AS n";
    let Some((_inbox, client, _)) = shop("statistics").await else { return };
    client.batch_execute(FILL).await.unwrap();
    let close = include_str!("../src/postgres/close.sql");
    let free = include_str!("../src/postgres/free.sql");
    for (name, sql, arguments, indexes) in [
        (
            "close",
            close,
            "'{40000, 40001}', '{request, request}', '{40000, 40001}', '{1, 1}', '{1, 1}', '{null, null}',
            '{null, null}', '{0, 0}'",
            ["notification_pkey", ""],
        ),
        (
            "free",
            free,
            "'{40000, 40001}', '{request, request}', '{40000, 40001}', '{1, 1}', '{1, 1}', '{null, null}',
            '{false, true}'",
            ["notification_pkey", "notification_open"],
        ),
    ] {
        client.batch_execute(&format!("PREPARE {name} AS {sql}")).await.unwrap();
        for mode in ["force_custom_plan", "force_generic_plan"] {
            client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
            let explain = format!("EXPLAIN EXECUTE {name} ({arguments})");
            let plan = client.simple_query(&explain).await.unwrap();
            let plan = format!("{plan:#?}");
            let used = indexes.iter().all(|index| plan.contains(index));
            assert!(used && !plan.contains("Seq Scan on notification"), "{name}, {mode}: {plan}");
        }
    }
}

#[tokio::test]
async fn handler_transactions_leave_connections_to_store() {
    let Some((inbox, _client, _)) = shop("room").await else { return };
    let count = 64;
    let records = (0..count).map(|id| record(&format!("CAPD-{id}"), 0));
    inbox.store().insert(records.collect()).await.unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let (begins, end) = (Arc::clone(&begun), Arc::new(Notify::new()));
    let ends = Arc::clone(&end);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let (begins, ends) = (Arc::clone(&begins), Arc::clone(&ends));
        async move {
            let _transaction = cx.transaction().await?;
            begins.fetch_add(1, Ordering::SeqCst);
            ends.notified().await;
            Ok::<_, BoxError>(())
        }
    };
    let full = async {
        while begun.load(Ordering::SeqCst) < count {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            inbox.store().insert(vec![record("one more", 0)]).await.unwrap(),
            [Inserted::New]
        );
        end.notify_waiters();
    };
    let runner = inbox.process(handler).concurrency(count);
    timeout(LONG, runner.run_until(full)).await.unwrap().unwrap();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn stores_ids_that_postgres_cannot_hold() {
    let Some((inbox, client, _)) = shop("ids").await else { return };
    let long = "é".repeat(20_000);
    let ids = ["before", "with \\u0000 in it", &long, &format!("{long}!"), "after"];
    let inserted =
        inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    assert_eq!(inserted, [Inserted::New; 5]);
    let again = inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    assert_eq!(again, [Inserted::Duplicate; 5]);
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Postgres>| match cx.attempt() {
        1 => Err("an error with \0 in it"),
        _ => Ok(()),
    };
    let runner = inbox.process(handler).backoff(NO_WAIT, NO_WAIT);
    timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
    let objects = "SELECT count(*) FROM inqud_inbox.object WHERE processed IS NOT NULL";
    assert_eq!(
        client.query_one(objects, &[]).await.unwrap().get::<_, i64>(0),
        5,
        "none is mixed up"
    );
}

#[tokio::test]
async fn close_waits_for_what_was_begun() {
    let Some((inbox, client, _)) = shop("closing").await else { return };
    let lock = "BEGIN; LOCK inqud_inbox.notification IN ACCESS EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    let store = inbox.clone();
    let insert = async move { store.store().insert(vec![record("CAPD-1", 0)]).await };
    let insert = tokio::spawn(insert);
    let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE NOT granted AND datname = current_database()";
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let closed = tokio::spawn(async move { inbox.close().await });
    sleep(Duration::from_millis(200)).await;
    assert!(!closed.is_finished());
    client.batch_execute("COMMIT").await.unwrap();
    // At the latest, it would end after 10 s.
    timeout(Duration::from_secs(5), closed).await.unwrap().unwrap();
    assert_eq!(insert.await.unwrap().unwrap(), [Inserted::New]);
}

#[tokio::test]
async fn opens_no_more_connections_than_the_options_say() {
    let Some((_, client, config)) = shop("pools").await else { return };
    let config = config.clone().application_name("pools").clone();
    let options = PostgresOptions::new(config).max_connections(2).max_handler_connections(3);
    assert!(!format!("{options:?}").contains("loopback-only"));
    let inbox = options.open(NoTls).await.unwrap();
    let records = (0..40).map(|id| record(&format!("CAPD-{id}"), 0)).collect();
    inbox.store().insert(records).await.unwrap();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pools'";
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, client) = (most.clone(), Arc::new(client));
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let (seen, client) = (seen.clone(), client.clone());
        async move {
            cx.transaction().await?;
            let open: i64 = client.query_one(count, &[]).await?.get(0);
            seen.fetch_max(usize::try_from(open)?, Ordering::SeqCst);
            Ok::<_, BoxError>(())
        }
    };
    let report = inbox.process(handler).concurrency(8).run_until_idle().await.unwrap();
    assert_eq!((report.done, report.retried), (40, 0));
    let most = most.load(Ordering::SeqCst);
    assert!((4..=6).contains(&most), "{most}, one of which listens");
    inbox.close().await;
}

/// Makes a commit that pays the order `slow` wait until there is a gate.
const SLOW_COMMIT: &str = "
CREATE TABLE gate ();
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    WHILE NEW.id = 'slow' AND NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON paid DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()";

/// All others are done before the slow one can be.
async fn only_slow_is_slow<F, Fut>(name: &str, handler: F)
where
    F: Fn(Stored<PaymentRequest>, Context<Postgres>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send,
{
    let Some((inbox, client, _)) = shop(name).await else { return };
    client.batch_execute(SLOW_COMMIT).await.unwrap();
    let ids = ["slow".to_owned()].into_iter().chain((0..200).map(|id| format!("CAPD-{id}")));
    inbox.store().insert(ids.map(|id| record(&id, 0)).collect()).await.unwrap();
    let runner = inbox.process(handler).concurrency(16);
    let others = async {
        while inbox.stats().await.unwrap().backlog() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(paid(&client).await.len(), 200);
        client.batch_execute("INSERT INTO gate DEFAULT VALUES").await.unwrap();
        drained(inbox.clone()).await;
    };
    timeout(LONG, runner.run_until(others)).await.unwrap().unwrap();
    assert_eq!(paid(&client).await.len(), 201);
    let failed = "SELECT sum(failures)::bigint FROM inqud_inbox.notification";
    assert_eq!(client.query_one(failed, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn slow_commit_delays_no_other() {
    only_slow_is_slow("slow transaction", async |request, cx| {
        pay(&cx.transaction().await?, &request.id).await
    })
    .await;
}

#[tokio::test]
async fn slow_statement_delays_no_other() {
    only_slow_is_slow("slow statement", async |request, cx| {
        cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn handler_that_ends_its_transaction_is_a_dead_letter() {
    let Some((inbox, client, _)) = shop("ends").await else { return };
    let ends = ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN; SELECT txid_current()"];
    inbox.store().insert(ends.iter().map(|end| record(end, 0)).collect()).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let transaction = cx.transaction().await?;
        pay(&transaction, &request.id).await?;
        transaction.batch_execute(&request.id).await?;
        Ok::<_, BoxError>(())
    };
    let report = inbox.process(handler).run_until_idle().await.unwrap();
    assert_eq!((report.dead, report.retried, report.done), (4, 0, 0));
    for dead in inbox.dead(10).await.unwrap() {
        assert!(dead.error.contains("do not send COMMIT or ROLLBACK"), "{}", dead.error);
    }
    assert_eq!(paid(&client).await, ["COMMIT", "COMMIT; BEGIN"], "once each");
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(client.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// The same, if it has no transaction of its own.
#[tokio::test]
async fn statement_with_expired_lease_commits_nothing() {
    let Some((inbox, client, _)) = shop("lapsed statement").await else { return };
    inbox.store().insert(vec![record("CAPD-1", 0), record("CAPD-2", 0)]).await.unwrap();
    let client = Arc::new(client);
    let (shop, both) = (Arc::clone(&client), Arc::new(tokio::sync::Barrier::new(2)));
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let (shop, both, calls) = (Arc::clone(&shop), Arc::clone(&both), Arc::clone(&calls));
        async move {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            cx.execute("INSERT INTO paid VALUES ($1)", vec![format!("{call}")]);
            if call < 2 {
                if request.id == "CAPD-1" {
                    // Simulates that another runner has claimed it, and has ended since.
                    let taken =
                        "UPDATE inqud_inbox.object SET claim = claim + 1, leased_until = NULL,
                        due_at = now() WHERE object = 'CAPD-1'";
                    shop.execute(taken, &[]).await.unwrap();
                }
                both.wait().await;
            }
            Ok::<_, Infallible>(())
        }
    };
    let report = timeout(LONG, inbox.process(handler).run_until_idle()).await.unwrap().unwrap();
    assert_eq!((report.done, report.lease_expired, report.retried), (2, 1, 0));
    assert_eq!(paid(&client).await.len(), 2, "two have settled it");
}

/// An operator reads there what to repair.
#[tokio::test]
async fn dead_letter_names_what_failed_the_commit() {
    let Some((inbox, client, _)) = shop("broken").await else { return };
    let deferred = "ALTER TABLE paid ADD shop text CONSTRAINT of_a_shop REFERENCES paid
        DEFERRABLE INITIALLY DEFERRED";
    client.batch_execute(deferred).await.unwrap();
    inbox.store().insert(vec![record("execute", 0), record("transaction", 0)]).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let pay = "INSERT INTO paid VALUES ($1, 'no shop')";
        match &*request.id {
            "execute" => cx.execute(pay, [request.id.clone()]),
            _ => _ = cx.transaction().await?.execute(pay, &[&request.id]).await?,
        }
        Ok::<_, BoxError>(())
    };
    let runner = inbox.process(handler).max_attempts(1).run_until_idle();
    assert_eq!(timeout(LONG, runner).await.unwrap().unwrap().dead, 2);
    for dead in inbox.dead(2).await.unwrap() {
        assert!(dead.error.contains("of_a_shop"), "{}", dead.error);
    }
    assert_eq!(paid(&client).await, [""; 0]);
}

#[tokio::test]
async fn statements_commit_with_done() {
    let Some((inbox, client, _)) = shop("statements").await else { return };
    let ids = ["fails", "invalid", "mixed", "taken", "writes", "wrong type"];
    inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    client.batch_execute("INSERT INTO paid VALUES ('taken')").await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let first = cx.attempt() == 1;
        let pay = "INSERT INTO paid VALUES ($1 || '-' || $2)";
        cx.execute(pay, (request.id.clone(), "1"));
        cx.execute(pay, [request.id.clone(), "2".to_owned()]);
        match &*request.id {
            "fails" if first => return Err::<(), BoxError>("after it wrote".into()),
            "invalid" if first => cx.execute("INSERT INTO nowhere VALUES (1)", ()),
            "wrong type" if first => cx.execute("INSERT INTO paid VALUES ($1)", [1_i64]),
            "taken" if first => cx.execute("INSERT INTO paid VALUES ('taken')", ()),
            "mixed" => {
                let transaction = cx.transaction().await?;
                let seen = "SELECT count(*) FROM paid WHERE id LIKE 'mixed-%'";
                assert_eq!(transaction.query_one(seen, &[]).await?.get::<_, i64>(0), 2);
                cx.execute("UPDATE paid SET id = id || '!' WHERE id LIKE 'mixed-%'", ());
            }
            _ => {}
        }
        Ok(())
    };
    let runner = inbox.process(handler).backoff(NO_WAIT, NO_WAIT);
    let report = timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!((report.done, report.retried), (6, 4));
    let mut expected: Vec<_> =
        ids.iter().flat_map(|id| [1, 2].map(|n| format!("{id}-{n}"))).collect();
    expected.push("taken".to_owned());
    expected.iter_mut().filter(|id| id.starts_with("mixed")).for_each(|id| id.push('!'));
    expected.sort();
    let mut paid = paid(&client).await;
    paid.sort();
    assert_eq!(paid, expected);
}

/// The connection is cut while its commit runs a deferred trigger.
#[tokio::test]
async fn lost_commit_is_looked_up() {
    let Some((inbox, client, _)) = shop("cut").await else { return };
    client.batch_execute(SLOW_COMMIT).await.unwrap();
    inbox.store().insert(vec![record("slow", 0)]).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let id = if cx.attempt() == 1 { "slow" } else { "again" };
        let transaction = cx.transaction().await?;
        pay(&transaction, id).await?;
        pay(&transaction, &format!("{} {id}", request.id)).await
    };
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query = 'COMMIT' AND wait_event = 'PgSleep'";
    let cut = async {
        while client.query(cut, &[]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        drained(inbox.clone()).await;
    };
    let runner = inbox.process(handler).backoff(NO_WAIT, NO_WAIT);
    timeout(LONG, runner.run_until(cut)).await.unwrap().unwrap();
    assert_eq!(paid(&client).await, ["again", "slow again"]);
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

/// If the store could not tell what became of a settlement, it may have been committed.
#[tokio::test]
async fn settlement_in_doubt_is_done_once() {
    let Some((inbox, client, _)) = shop("in doubt").await else { return };
    inbox.store().insert(vec![record("CAPD-1", 0), record("CAPD-1", 1)]).await.unwrap();
    let outcomes: [fn() -> Outcome<_>; 2] =
        [|| Outcome::Done(vec![]), || Outcome::Retry { after: LEASE, error: "not yet".to_owned() }];
    for (outcome, next_is_due) in outcomes.into_iter().zip([true, false]) {
        let Claimed { ticket, .. } = claim(&inbox, 1).await.remove(0);
        let mut settlement = Settlement { ticket, outcome: outcome() };
        let done = Settled::Done { next_is_due };
        assert_eq!(inbox.store().settle(&mut settlement).await.unwrap(), done);
        let again = inbox.store().settle(&mut settlement).await.unwrap();
        assert_eq!(again, Settled::LeaseExpired, "it is not in doubt");
        client.batch_execute("BEGIN; SELECT * FROM inqud_inbox.object FOR UPDATE").await.unwrap();
        inbox.store().settle(&mut settlement).await.unwrap_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(inbox.store().settle(&mut settlement).await.unwrap(), done);
    }
    let failures = "SELECT sum(failures)::bigint FROM inqud_inbox.notification";
    assert_eq!(client.query_one(failures, &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// Otherwise it would be found within a second, by polling.
#[tokio::test]
async fn other_process_is_woken() {
    let Some((inbox, _, config)) = shop("woken").await else { return };
    let (handled, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let handler = move |request: Stored<PaymentRequest>, _: Context<Postgres>| {
        handled.send((request.id.clone(), Instant::now())).unwrap();
        ready(Ok::<_, Infallible>(()))
    };
    let test = async {
        sleep(Duration::from_secs(1)).await; // until it listens
        let mut took = Vec::new();
        for nth in 0..20 {
            sleep(Duration::from_millis(137)).await;
            let id = format!("CAPD-{nth}");
            inbox.store().insert(vec![record(&id, 0)]).await.unwrap();
            let stored = Instant::now();
            let (its, at) = seen.recv().await.unwrap();
            assert_eq!(its, id);
            took.push(at.saturating_duration_since(stored));
        }
        took.sort();
        assert!(took[17] < Duration::from_millis(50), "{took:?}");
    };
    timeout(LONG, other.process(handler).run_until(test)).await.unwrap().unwrap();
}

/// The first one's process is busy with another, so that it cannot claim the next itself.
#[tokio::test]
async fn other_process_is_woken_for_the_next_of_an_object() {
    let Some((inbox, _, config)) = shop("next").await else { return };
    let other = Inbox::postgres(config, NoTls).await.unwrap();
    let (handled, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |request: Stored<PaymentRequest>, _: Context<Postgres>| {
        handled.send((request.id.clone(), Instant::now())).unwrap();
        ready(Ok::<_, Infallible>(()))
    };
    let test = async {
        sleep(Duration::from_secs(1)).await; // until it listens
        let mut took = Vec::new();
        for nth in 0..10 {
            let id = format!("CAPD-{nth}");
            // Claimed by this store before the other has seen it, or else tried with the next.
            let both = vec![record(&id, 0), record(&id, 1)];
            let (_, claimed) = (inbox.store().insert(both).await.unwrap(), claim(&inbox, 1).await);
            let Some(Claimed { ticket, .. }) = claimed.into_iter().next() else {
                seen.recv().await.unwrap();
                seen.recv().await.unwrap();
                continue;
            };
            sleep(Duration::from_millis(137)).await;
            let mut settlement = Settlement { ticket, outcome: Outcome::Done(vec![]) };
            inbox.store().settle(&mut settlement).await.unwrap();
            let settled = Instant::now();
            let (_, at) = seen.recv().await.unwrap();
            took.push(at.saturating_duration_since(settled));
        }
        took.sort();
        assert!(took.len() > 2 && took[took.len() - 2] < Duration::from_millis(50), "{took:?}");
    };
    timeout(LONG, other.process(handler).run_until(test)).await.unwrap().unwrap();
}

#[tokio::test]
async fn stats_equal_counts() {
    let Some((inbox, client, _)) = shop("counted").await else { return };
    let counted = "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 2),
        count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4) FROM inqud_inbox.notification";
    let mut random = 7_u64;
    let mut next = move |most: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    let (mut said, mut max) = (0, (0, 0, 0, 0));
    for _ in 0..150 {
        let store = inbox.store();
        match next(6) {
            0 | 1 => {
                let records = (0..next(8)).map(|_| {
                    said += 1;
                    let mut new = record(&format!("CAPD-{}", said % 30), said / 30);
                    new.dead = (next(5) == 0).then(|| "dead".to_owned());
                    new
                });
                store.insert(records.collect()).await.unwrap();
            }
            2 | 3 => {
                for Claimed { ticket, .. } in claim(&inbox, 5).await {
                    let error = "failed".to_owned();
                    let outcome = match next(6) {
                        0 => Outcome::Skipped,
                        1 => Outcome::Review,
                        2 => Outcome::Dead { error },
                        3 => Outcome::Retry { after: NO_WAIT, error },
                        _ => Outcome::Done(vec![]),
                    };
                    store.settle(&mut Settlement { ticket, outcome }).await.unwrap();
                }
            }
            4 => {
                let dead = inbox.dead(2).await.unwrap();
                inbox.redrive(dead.into_iter().map(|it| it.key)).await.unwrap();
            }
            _ => {
                let review = inbox.review(1).await.unwrap();
                inbox.discard(review.into_iter().map(|it| it.key)).await.unwrap();
            }
        }
        let stats = inbox.stats().await.unwrap();
        let stats = [stats.backlog(), stats.skipped(), stats.dead(), stats.review()];
        let row = client.query_one(counted, &[]).await.unwrap();
        let rows = [0, 1, 2, 3].map(|at| u64::try_from(row.get::<_, i64>(at)).unwrap());
        assert_eq!(stats, rows);
        max = (max.0.max(rows[0]), max.1.max(rows[1]), max.2.max(rows[2]), max.3.max(rows[3]));
    }
    assert!(max.0 > 5 && max.1 > 2 && max.2 > 2 && max.3 > 0, "{max:?}");
}

/// Index entries of settled objects stay at the front while the other transaction is open.
/// However many kinds it handles.
#[tokio::test]
async fn listens_on_one_connection() {
    let Some((inbox, client, _)) = shop("listens").await else { return };
    let listening = async || {
        let count = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        client.query_one(count, &[]).await.unwrap().get::<_, i64>(0)
    };
    for kind in ["request", "checkout", "payment"] {
        inbox.store().claim(Claim::new(kind, 1, LEASE)).await.unwrap();
        while listening().await == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(listening().await, 1);
}

/// Each count starts one. It must not go on when there is nothing left to do.
#[tokio::test]
async fn compaction_ends_with_one_row_of_each_kind() {
    let Some((inbox, client, _)) = shop("compaction").await else { return };
    for minute in 0..3 {
        inbox.store().insert(vec![record("CAPD-1", minute)]).await.unwrap();
    }
    let tally = async || {
        let rows = "SELECT count(*), max(xmin::text) FROM inqud_inbox.tally";
        let row = client.query_one(rows, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1))
    };
    assert_eq!(tally().await.0, 3);
    assert_eq!(inbox.store().stats().await.unwrap().backlog(), 3);
    let compacted = async {
        loop {
            match tally().await {
                (1, written_by) => break written_by,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let compacted = timeout(LONG, compacted).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(tally().await, (1, compacted));
}

#[tokio::test]
async fn old_transaction_does_not_slow_claims() {
    const SETTLED: &str = "
        INSERT INTO inqud_inbox.object (kind, object, due_at)
            SELECT 'request', n::text, now() - interval '1 hour' + n * interval '1 millisecond'
            FROM generate_series(1, 200000) AS n;
        UPDATE inqud_inbox.object SET due_at = NULL";
    let Some((inbox, client, config)) = shop("pinned").await else { return };
    client.batch_execute("INSERT INTO inqud_inbox.runner VALUES ('other', now())").await.unwrap();
    let old = postgres::connect(&config).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM inqud_inbox.runner";
    old.batch_execute(begin).await.unwrap();
    client.batch_execute(SETTLED).await.unwrap();
    let mut took = Vec::new();
    for nth in 0..40 {
        inbox.store().insert(vec![record(&format!("CAPD-{nth}"), 0)]).await.unwrap();
        let began = Instant::now();
        let claimed = claim(&inbox, 8).await;
        took.push(began.elapsed());
        assert_eq!(claimed.len(), 1, "{nth}");
    }
    let first = took[0];
    took.sort();
    assert!(took[20] * 4 < first, "first {first:?}, then {took:?}");
}

#[tokio::test]
async fn claim_adds_nothing_to_indexes() {
    let Some((inbox, client, _)) = shop("hot").await else { return };
    for nth in 0..20 {
        let records = (0..50).map(|id| record(&format!("CAPD-{nth}-{id}"), 0)).collect();
        inbox.store().insert(records).await.unwrap();
        assert_eq!(claim(&inbox, 50).await.len(), 50);
    }
    let updates =
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'object'";
    let (all, hot) = loop {
        let row = client.query_one(updates, &[]).await.unwrap();
        let counts: (i64, i64) = (row.get(0), row.get(1));
        if counts.0 >= 1000 {
            break counts;
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert!(hot * 10 >= all * 9, "{hot} of {all}");
}

/// Statements are not lost if the handler does not wait for its transaction.
#[tokio::test]
async fn dropped_transaction_commits_nothing() {
    let Some((inbox, client, config)) = shop("dropped_transaction").await else { return };
    let other = postgres::connect(&config).await;
    other.batch_execute("BEGIN; LOCK TABLE paid").await.unwrap();
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let unlock = Arc::new(Mutex::new(Some(other)));
    let runner = inbox.process(move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let unlock = Arc::clone(&unlock);
        async move {
            cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
            let Some(other) = unlock.lock().await.take() else { return Ok(()) };
            // Dropped when the statement waits for the lock.
            let waiting =
                "SELECT count(*) FROM pg_locks JOIN pg_database AS its ON its.oid = database
                WHERE datname = current_database() AND NOT granted";
            let waits = async {
                while other.query_one(waiting, &[]).await?.get::<_, i64>(0) == 0 {
                    sleep(Duration::from_millis(10)).await;
                }
                Ok::<_, BoxError>(())
            };
            tokio::select! {
                _ = cx.transaction() => return Err("the statement did not wait".into()),
                waits = waits => waits?,
            }
            other.batch_execute("COMMIT").await.map_err(BoxError::from)
        }
    });
    let report = runner.backoff(LEASE, LEASE).run_until_idle().await.unwrap();
    assert_eq!((report.done, report.retried), (0, 1));
    assert!(paid(&client).await.is_empty());
    let page = inbox.list(State::Open, 1).await.unwrap();
    assert!(page.entries[0].error.contains("was dropped before it returned"), "{page:?}");
}

/// Each is settled together with `CAPD-1`, which is not affected.
#[tokio::test]
async fn statement_affects_no_other_settlement() {
    let Some((inbox, client, _)) = shop("affects").await else { return };
    client.batch_execute("CREATE ROLE nobody; CREATE TABLE of (tenant text)").await.unwrap();
    let of = "INSERT INTO of VALUES (current_setting('app.tenant', true))";
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    for (sql, is_done) in [
        ("COMMIT", false),
        ("/* a */ ;rollback", false),
        ("-- a\nSET ROLE nobody", false),
        ("COPY paid FROM STDIN", false),
        ("SELECT set_config('role', 'nobody', false)", false),
        ("INSERT INTO paid SELECT set_config('role', 'nobody', false)", false),
        ("SELECT set_config('app.tenant', 'its', true)", true),
        ("SELECT set_config('app.tenant', 'its', false)", true),
        ("SELECT pg_advisory_lock(42)", true),
        ("INSERT INTO paid SELECT 'lock' FROM pg_advisory_lock(42)", true),
    ] {
        let tables = "TRUNCATE paid, of, inqud_inbox.notification, inqud_inbox.object";
        client.batch_execute(tables).await.unwrap();
        inbox.store().insert(vec![record("its", 0), record("other", 0)]).await.unwrap();
        let both = Arc::new(tokio::sync::Barrier::new(2));
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            let both = Arc::clone(&both);
            async move {
                cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
                cx.execute(if request.id == "its" { sql } else { of }, ());
                both.wait().await;
                Ok::<_, Infallible>(())
            }
        };
        let report = inbox.process(handler).max_attempts(1).run_until_idle().await.unwrap();
        let done = 1 + u64::from(is_done);
        assert_eq!((report.done, report.dead), (done, u64::from(!is_done)), "{sql}");
        let paid = paid(&client).await;
        assert_eq!(paid.contains(&"its".to_owned()), is_done, "{sql}");
        assert!(paid.contains(&"other".to_owned()), "{sql}");
        let tenant = client.query_one("SELECT coalesce(tenant, '') FROM of", &[]).await.unwrap();
        assert_eq!(tenant.get::<_, &str>(0), "", "{sql}");
        while client.query_one(locks, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        for id in ["1", "2", "3", "4"] {
            inbox.store().insert(vec![record(id, 0)]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn refused_statement_says_what_to_do() {
    let Some((inbox, _, _)) = shop("refused").await else { return };
    inbox.store().insert(vec![record("execute", 0), record("transaction", 0)]).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        cx.execute("set role nobody", ());
        if request.id == "transaction" {
            cx.transaction().await?;
        }
        Ok::<_, BoxError>(())
    };
    assert_eq!(inbox.process(handler).max_attempts(1).run_until_idle().await.unwrap().dead, 2);
    for dead in inbox.dead(2).await.unwrap() {
        assert!(
            dead.error.ends_with(
                "`execute` cannot run SET, which changes the session: use `Context::transaction`"
            ),
            "{dead:?}"
        );
    }
}

/// Otherwise a handler that writes values into its statements fills the memory of the server.
#[tokio::test]
async fn prepared_statements_are_bounded() {
    let Some((_, _, config)) = shop("prepared").await else { return };
    let options = PostgresOptions::new(config).max_handler_connections(1);
    let inbox = options.open(NoTls).await.unwrap();
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Postgres>| {
        for id in 0..300 {
            cx.execute(format!("INSERT INTO paid VALUES ('{id}')"), ());
        }
        let transaction = cx.transaction().await?;
        let prepared = "SELECT count(*) FROM pg_prepared_statements";
        let count: i64 = transaction.query_one(prepared, &[]).await?.get(0);
        if count > 260 {
            Err(format!("{count} are prepared").into())
        } else {
            Ok::<_, BoxError>(())
        }
    };
    let report = inbox.process(handler).max_attempts(1).run_until_idle().await.unwrap();
    assert_eq!(report.done, 1, "{:?}", inbox.dead(1).await.unwrap());
}

/// It is a failed attempt, and not a settlement that is tried again and again.
#[tokio::test]
async fn slow_statement_is_a_failure() {
    let Some((inbox, _, _)) = shop("slow statements").await else { return };
    let ids = ["SELECT pg_sleep(60)", "INSERT INTO paid SELECT pg_sleep(60)"];
    inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        cx.execute(request.id.clone(), ());
        Ok::<_, Infallible>(())
    };
    let runner = inbox.process(handler).handler_timeout(Duration::from_secs(1)).max_attempts(1);
    let report = timeout(Duration::from_secs(9), runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!(report.dead, 2);
    for dead in inbox.dead(2).await.unwrap() {
        assert!(dead.error.contains("statement timeout"), "{dead:?}");
    }
}

#[derive(Debug)]
struct Panics;

impl ToSql for Panics {
    fn to_sql(&self, _: &Type, to: &mut bytes::BytesMut) -> Result<IsNull, BoxError> {
        to.extend_from_slice(b"half");
        panic!("a value that panics")
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A statement that fails before it is sent fails nothing on the server.
#[tokio::test]
async fn value_that_fails_is_a_failure() {
    let Some((inbox, client, _)) = shop("values").await else { return };
    let ids =
        ["panics", "too many", "wrong type", "panics/tx", "too many/tx", "wrong type/tx", "fine"];
    inbox.store().insert(ids.iter().map(|id| record(id, 0)).collect()).await.unwrap();
    let all = Arc::new(tokio::sync::Barrier::new(ids.len()));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let all = Arc::clone(&all);
        async move {
            if request.id.ends_with("/tx") {
                pay(&cx.transaction().await?, &request.id).await?;
            }
            const PAY: &str = "INSERT INTO paid VALUES ($1)";
            match request.id.trim_end_matches("/tx") {
                "panics" => cx.execute(PAY, (Panics,)),
                "too many" => cx.execute(PAY, ("one", "two")),
                "wrong type" => cx.execute(PAY, [1_i64]),
                _ => cx.execute(PAY, [request.id.clone()]),
            }
            all.wait().await;
            Ok::<_, BoxError>(())
        }
    };
    let report = inbox.process(handler).max_attempts(1).run_until_idle().await.unwrap();
    assert_eq!((report.done, report.dead), (1, 6));
    assert_eq!(paid(&client).await, ["fine"]);
}

/// It waits behind an earlier one that waits for a retry, and is due nevertheless until it is looked at.
#[tokio::test]
async fn waiting_object_hides_no_other() {
    let Some((inbox, client, _)) = shop("waiting").await else { return };
    let wait = "UPDATE inqud_inbox.notification SET retry_at = now() + interval '1 hour' WHERE object < 'CAPD-4'";
    let ids = |of: std::ops::Range<u32>| of.map(|id| record(&format!("CAPD-{id}"), 0)).collect();
    inbox.store().insert(ids(1..4)).await.unwrap();
    client.batch_execute(wait).await.unwrap();
    inbox.store().insert(ids(4..7)).await.unwrap();
    assert_eq!(claim(&inbox, 1).await.len(), 1);
    assert_eq!(claim(&inbox, 3).await.len(), 2);

    // The same of a suspect.
    inbox.store().insert(ids(7..10)).await.unwrap();
    let suspect = "UPDATE inqud_inbox.object SET due_at = '-infinity', leased_until = now() WHERE object = 'CAPD-1'";
    client.batch_execute(suspect).await.unwrap();
    let all = Claim::new(PaymentRequest::KIND, 9, LEASE).with_suspect(true);
    assert_eq!(inbox.store().claim(all).await.unwrap().len(), 3);
}

/// Claims take so long that they do not look at all. The first three do.
#[tokio::test]
async fn slow_claims_skip_nothing() {
    const SLOW: &str = "
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.1); RETURN new;
        END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON inqud_inbox.object FOR EACH ROW
            WHEN (new.claim > old.claim) EXECUTE FUNCTION slow()";
    let Some((inbox, client, _)) = shop("slow claims").await else { return };
    client.batch_execute(SLOW).await.unwrap();
    let ids = (10..60).map(|id| record(&format!("CAPD-{id}"), 0));
    inbox.store().insert(ids.collect()).await.unwrap();
    let two = Claim::new(PaymentRequest::KIND, 2, LEASE).with_suspect(true);
    let suspect = "UPDATE inqud_inbox.object SET leased_until = now() - interval '1 second'
        WHERE object = (SELECT object FROM inqud_inbox.object WHERE leased_until IS NOT NULL
            ORDER BY due_at DESC LIMIT 1)";
    let waiting = "UPDATE inqud_inbox.notification SET retry_at = now() + interval '1 hour'
        WHERE object = (SELECT object FROM inqud_inbox.object WHERE leased_until IS NULL
            ORDER BY due_at LIMIT 1)";
    for (nth, count) in [2, 2, 2, 2, 1, 2, 2, 2, 2, 2].into_iter().enumerate() {
        match nth {
            4 => client.batch_execute(suspect).await.unwrap(),
            6 => client.batch_execute(waiting).await.unwrap(),
            _ => {}
        }
        assert_eq!(inbox.store().claim(two).await.unwrap().len(), count, "{nth}");
    }
}

/// Has exactly the rights that the docs of [`Postgres`] list.
#[tokio::test]
async fn documented_role_receives_and_processes() {
    const ROLE: &str = "
        CREATE ROLE shop LOGIN PASSWORD 'shop';
        GRANT USAGE ON SCHEMA inqud_inbox TO shop;
        GRANT SELECT ON inqud_inbox.version TO shop;
        GRANT SELECT, INSERT, UPDATE ON inqud_inbox.notification, inqud_inbox.object, inqud_inbox.once,
            inqud_inbox.runner, inqud_inbox.tally TO shop;
        GRANT DELETE ON inqud_inbox.tally TO shop";
    let Some((_, client, mut config)) = shop("role").await else { return };
    client.batch_execute(ROLE).await.unwrap();
    client.batch_execute("GRANT INSERT ON paid TO shop").await.unwrap();
    let inbox = Inbox::postgres(config.user("shop").password("shop").clone(), NoTls).await.unwrap();
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| match &*request.id
    {
        "statement" => {
            cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
            Ok(())
        }
        "once" => cx.once("once").await.map(drop).map_err(BoxError::from),
        _ => Err("fails".into()),
    };
    let all = || ["statement", "once", "fails"].map(|id| record(id, 0)).to_vec();
    inbox.store().insert(all()).await.unwrap();
    assert_eq!(inbox.store().insert(all()).await.unwrap(), [Inserted::Duplicate; 3]);
    let runner = inbox.process(handler).max_attempts(1);
    let report = runner.run_until_idle().await.unwrap();
    assert_eq!((report.done, report.dead), (2, 1));
    let keys = inbox.dead(1).await.unwrap().into_iter().map(|dead| dead.key);
    assert_eq!(inbox.redrive(keys.collect::<Vec<_>>()).await.unwrap(), 1);
    assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 2);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    let count = "SELECT count(*) FROM inqud_inbox.tally";
    let is_compacted = async {
        while client.query_one(count, &[]).await.unwrap().get::<_, i64>(0) > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, is_compacted).await.unwrap();
}

/// Has exactly the rights that the guide of the privacy lists.
#[tokio::test]
async fn documented_role_counts_and_reads_no_body() {
    const ROLE: &str = "
        CREATE ROLE watch LOGIN PASSWORD 'watch';
        GRANT USAGE ON SCHEMA inqud_inbox TO watch;
        GRANT SELECT ON inqud_inbox.version, inqud_inbox.tally, inqud_inbox.runner TO watch;
        GRANT SELECT (kind, state, seq, received_at) ON inqud_inbox.notification TO watch";
    let Some((inbox, client, mut config)) = shop("watching role").await else { return };
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    client.batch_execute(ROLE).await.unwrap();
    config.user("watch").password("watch");
    let watching = Inbox::postgres(config.clone(), NoTls).await.unwrap();
    let stats = watching.stats().await.unwrap();
    assert_eq!(stats.backlog(), 1);
    assert!(stats.oldest().is_some());
    let client = postgres::connect(&config).await;
    client.query("SELECT body FROM inqud_inbox.notification", &[]).await.unwrap_err();
}

#[tokio::test]
async fn default_settings_do_not_matter() {
    let Some((_, client, config)) = shop("defaults").await else { return };
    let set = "ALTER DATABASE defaults SET default_transaction_read_only = on;
        ALTER DATABASE defaults SET standard_conforming_strings = off;
        ALTER DATABASE defaults SET search_path = ''";
    client.batch_execute(set).await.unwrap();
    let inbox = Inbox::postgres(config, NoTls).await.unwrap();
    inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    let again = inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
    assert_eq!(again, [Inserted::Duplicate]);
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        cx.execute("INSERT INTO public.paid VALUES ($1)", [request.id.clone()]);
        Ok::<_, Infallible>(())
    };
    assert_eq!(inbox.process(handler).run_until_idle().await.unwrap().done, 1);
    assert_eq!(paid(&client).await, ["CAPD-1"]);
}

#[tokio::test]
async fn deadlock_with_a_merchant_is_survived() {
    let Some((inbox, client, _)) = shop("deadlock").await else { return };
    let both = |minute| ["CAPD-1", "CAPD-2"].map(|id| record(id, minute)).to_vec();
    inbox.store().insert(both(0)).await.unwrap();
    let lock = |id| format!("SELECT FROM inqud_inbox.object WHERE object = 'CAPD-{id}' FOR UPDATE");
    // The insert is the one that finds the deadlock.
    client.batch_execute("SET deadlock_timeout = '1min'").await.unwrap();
    client.batch_execute(&format!("BEGIN; {}", lock(2))).await.unwrap();
    let inserted = tokio::spawn(async move { inbox.store().insert(both(1)).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    client.batch_execute(&format!("{}; COMMIT", lock(1))).await.unwrap();
    assert_eq!(inserted.await.unwrap().unwrap(), [Inserted::New; 2]);
}

/// A commit that waits for a standby takes longer than a group may before it.
#[tokio::test]
async fn slow_commit_of_a_group_is_done_once() {
    let Some(server) = postgres::Server::start() else { return };
    let config = server.database("standby").await;
    let client = postgres::connect(&config).await;
    client.batch_execute("CREATE TABLE paid (id text PRIMARY KEY)").await.unwrap();
    let inbox = inbox(&config).await;
    let handled = Arc::new(tokio::sync::Barrier::new(3));
    let both = Arc::clone(&handled);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let both = Arc::clone(&both);
        async move {
            both.wait().await;
            both.wait().await;
            cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
            Ok::<_, Infallible>(())
        }
    };
    inbox.store().insert(vec![record("CAPD-1", 0), record("CAPD-2", 0)]).await.unwrap();
    let runner = tokio::spawn(inbox.process(handler).run_until_idle());
    handled.wait().await;
    for (standby, then) in [("nobody", 300), ("", 0)] {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'");
        client.batch_execute(&set).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        if then > 0 {
            sleep(Duration::from_millis(then)).await;
            handled.wait().await;
            sleep(Duration::from_secs(1)).await;
        }
    }
    let report = runner.await.unwrap().unwrap();
    assert_eq!((report.done, report.lease_expired), (2, 0));
    assert_eq!(paid(&client).await, ["CAPD-1", "CAPD-2"]);
}
