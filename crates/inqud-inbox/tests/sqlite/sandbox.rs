//! Effects run in the transaction of the writer, and can neither end it nor change the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inqud_inbox::rusqlite::config::DbConfig;
use inqud_inbox::rusqlite::hooks::{AuthContext, Authorization};
use inqud_inbox::rusqlite::limits::Limit;
use inqud_inbox::rusqlite::{Connection, Error};
use inqud_inbox::{Context, Inbox, Sqlite, Store, Stored};
use tower_inqud::PaymentRequest;

use crate::{LONG, Place, batch, chain, number, record, records};

const ADD: &str = "UPDATE balance SET amount = amount + 10";

type Effect = fn(&Connection) -> Result<(), Error>;

async fn inbox(place: &Place) -> Inbox<Sqlite> {
    let inbox = place.open().unwrap();
    let tables = "CREATE TABLE balance (amount INTEGER); INSERT INTO balance VALUES (0);
        CREATE TABLE paid (id TEXT UNIQUE)";
    inbox.write(move |db| db.execute_batch(tables)).await.unwrap();
    inbox
}

/// Handles CAPD-000000 with `effect` and nine others with an insert, in one group. Returns how often the handler of
/// the first was called, and the error of its dead letter.
async fn handle(inbox: &Inbox<Sqlite>, effect: Effect) -> (usize, String) {
    inbox.store().insert(records(0..10)).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let id = request.id.clone();
        if id == "CAPD-000000" {
            counted.fetch_add(1, Ordering::SeqCst);
            cx.effect(effect);
        } else {
            cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1)", [&id]));
        }
        async { Ok::<_, std::convert::Infallible>(()) }
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO).max_attempts(5);
    runner.run_until_idle().await.unwrap();
    let dead = inbox.dead(9).await.unwrap();
    let error = dead.first().map(|it| it.error.clone()).unwrap_or_default();
    (calls.load(Ordering::SeqCst), error)
}

/// The effect is refused with this text, nothing of it is committed, and the others are committed once.
async fn assert_refused(effect: Effect, what: &str) {
    assert_dead(effect, what, 1).await;
}

/// The same, but it is tried as often as others that fail, because it can be the fault of the disk.
async fn assert_failed(effect: Effect, what: &str) {
    assert_dead(effect, what, 5).await;
}

async fn assert_dead(effect: Effect, what: &str, after: usize) {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let (calls, error) = handle(&inbox, effect).await;
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 0, "{error}");
    assert!(error.contains(what), "{error}");
    assert_eq!(calls, after, "{error}");
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 9);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 1));

    // The next one has a connection that works.
    inbox.store().insert(vec![record(11, 0)]).await.unwrap();
    assert_eq!(number(&inbox, "PRAGMA synchronous").await, 2);
    assert_eq!(number(&inbox, "PRAGMA query_only").await, 0);
    inbox.write(|db| db.execute("UPDATE balance SET amount = ?1", [0])).await.unwrap();
    inbox.close().await;
    let inbox = place.open().unwrap();
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 0);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn refuses_commit() {
    let effect: Effect = |db| batch(db, ADD).and_then(|()| batch(db, "COMMIT"));
    assert_refused(effect, "the effect tried to end the transaction (COMMIT): ").await;
}

#[tokio::test]
async fn refuses_commit_whose_error_is_ignored() {
    let effect: Effect = |db| {
        let _ = batch(db, "UPDATE balance SET amount = amount + 10; END; BEGIN");
        let _ = batch(db, "COMMIT; BEGIN IMMEDIATE");
        batch(db, ADD)
    };
    assert_refused(effect, "the effect tried to end the transaction (COMMIT): ").await;
}

#[tokio::test]
async fn refuses_rollback() {
    let effect: Effect = |db| {
        let _ = batch(db, "ROLLBACK");
        batch(db, ADD)
    };
    assert_refused(effect, "the effect tried to end the transaction (ROLLBACK): ").await;
}

#[tokio::test]
async fn refuses_or_rollback_whose_error_is_ignored() {
    let effect: Effect = |db| {
        batch(db, ADD)?;
        batch(db, "INSERT INTO paid VALUES ('twice')")?;
        let _ = batch(db, "INSERT OR ROLLBACK INTO paid VALUES ('twice')");
        // Without a transaction, each of these would be committed at once.
        let _ = batch(db, ADD);
        let _ = batch(db, "CREATE TABLE IF NOT EXISTS more (c); INSERT INTO balance VALUES (10)");
        // The next transaction has another connection.
        db.set_limit(Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 0)?;
        batch(db, ADD).or(Ok(()))
    };
    assert_failed(effect, "the effect ended the transaction").await;
}

/// Outside of a transaction, a savepoint begins one, and its release commits.
#[tokio::test]
async fn refuses_a_transaction_of_its_own_after_or_rollback() {
    let effect: Effect = |db| {
        batch(db, "INSERT INTO paid VALUES ('twice')")?;
        let _ = batch(db, "INSERT OR ROLLBACK INTO paid VALUES ('twice')");
        let _ = batch(db, "SAVEPOINT mine; UPDATE balance SET amount = 10; RELEASE mine");
        batch(db, "SAVEPOINT mine; UPDATE balance SET amount = 20")
    };
    assert_failed(effect, "the effect ended the transaction").await;
}

#[tokio::test]
async fn refuses_raise_rollback() {
    let effect: Effect = |db| {
        batch(db, ADD)?;
        let trigger = "CREATE TRIGGER no BEFORE INSERT ON paid WHEN new.id = 'no'
            BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
        batch(db, trigger)?;
        batch(db, "INSERT INTO paid VALUES ('no')").or(Ok(()))
    };
    assert_failed(effect, "the effect ended the transaction").await;
}

#[tokio::test]
async fn refuses_or_rollback() {
    let effect: Effect = |db| {
        batch(db, ADD)?;
        batch(
            db,
            "INSERT INTO paid VALUES ('twice'); INSERT OR ROLLBACK INTO paid VALUES ('twice')",
        )
    };
    assert_refused(effect, "the effect ended the transaction").await;
}

#[tokio::test]
async fn refuses_attach() {
    let effect: Effect = |db| batch(db, "ATTACH 'other.db' AS other").and(batch(db, ADD));
    assert_refused(effect, "the effect tried to attach or detach a database").await;
    let effect: Effect = |db| {
        let attached = db.execute("ATTACH ?1 AS other", [":memory:"]);
        batch(db, ADD).and(attached.map(drop).or(Ok(())))
    };
    assert_refused(effect, "the effect tried to attach or detach a database").await;
}

#[tokio::test]
async fn refuses_the_savepoint_of_the_writer() {
    let effect: Effect = |db| {
        batch(db, ADD)?;
        let _ = batch(db, "RELEASE inqud_inbox_effect");
        batch(db, "SAVEPOINT Inqud_Inbox_Effect").or(Ok(()))
    };
    assert_refused(effect, "the effect tried to use a savepoint of the inbox").await;
}

#[tokio::test]
async fn refuses_pragmas_that_change_the_connection() {
    let effects: [Effect; 7] = [
        |db| batch(db, "PRAGMA query_only = ON"),
        |db| batch(db, "PRAGMA locking_mode = EXCLUSIVE").or(Ok(())).and(batch(db, ADD)),
        |db| batch(db, "PRAGMA synchronous = OFF"),
        |db| batch(db, "PRAGMA main.journal_mode = DELETE"),
        |db| batch(db, "PRAGMA writable_schema = ON"),
        |db| batch(db, "PRAGMA cache_size(7)"),
        |db| batch(db, "PRAGMA wal_checkpoint"),
    ];
    for effect in effects {
        assert_refused(effect, "the effect tried to change the connection (PRAGMA ").await;
    }
}

#[tokio::test]
async fn allows_reading_pragmas_and_own_savepoints() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let read = |db: &Connection| {
        let read = "PRAGMA table_info(paid); PRAGMA index_list(paid); PRAGMA foreign_key_list(paid);
            PRAGMA foreign_key_check; PRAGMA foreign_keys; PRAGMA page_count; PRAGMA defer_foreign_keys = ON;
            PRAGMA user_version = 7; SELECT * FROM pragma_table_info('paid'); PRAGMA auto_vacuum;
            PRAGMA busy_timeout; PRAGMA cache_size; PRAGMA journal_mode; PRAGMA locking_mode; PRAGMA mmap_size;
            PRAGMA recursive_triggers; PRAGMA secure_delete; PRAGMA temp_store; PRAGMA wal_autocheckpoint;
            SELECT * FROM pragma_cache_size; PRAGMA optimize";
        batch(db, read)?;
        batch(
            db,
            "SAVEPOINT mine; INSERT INTO paid VALUES ('no'); ROLLBACK TO mine; RELEASE mine",
        )?;
        batch(db, ADD)
    };
    assert_eq!(handle(&inbox, read).await, (1, String::new()));
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 10);
    assert_eq!(number(&inbox, "PRAGMA user_version").await, 7);
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 9);
}

/// The newer versions of rusqlite do not let it.
#[tokio::test]
async fn refuses_to_remove_the_authorizer() {
    let effects: [Effect; 2] = [
        |db| {
            batch(db, ADD)?;
            db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
        },
        |db| {
            batch(db, ADD)?;
            db.authorizer(Some(|_: AuthContext<'_>| Authorization::Allow))?;
            batch(db, "ROLLBACK; BEGIN; SAVEPOINT inqud_inbox_effect; PRAGMA query_only = ON")
        },
    ];
    for effect in effects {
        assert_refused(effect, "the effect removed a hook of the inbox").await;
    }
}

#[tokio::test]
async fn commit_hook_is_there_again_after_an_effect_removed_it() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    inbox.write(|db| db.commit_hook(None::<fn() -> bool>)).await.unwrap();
    let after_rollback = |db: &Connection| {
        batch(db, "INSERT INTO paid VALUES (1)")?;
        let _ = batch(db, "INSERT OR ROLLBACK INTO paid VALUES (1)");
        batch(db, ADD)
    };
    inbox.write(after_rollback).await.unwrap_err();
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 0);
}

#[tokio::test]
async fn settings_of_the_connection_do_not_outlive_an_effect() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let change = |db: &Connection| {
        db.busy_timeout(Duration::ZERO)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 9)?;
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, 1).map(drop)
    };
    assert_eq!(handle(&inbox, change).await, (1, String::new()));
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 0), "the triggers have counted");
    let read = |db: &Connection| {
        let busy_timeout: i64 = db.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
        let attached = db.limit(Limit::SQLITE_LIMIT_ATTACHED)?;
        Ok::<_, Error>((busy_timeout, attached))
    };
    assert_eq!(inbox.write(read).await.unwrap(), (5000, 0));
    inbox.store().insert(vec![record(11, 0)]).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn refuses_the_same_in_write() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let writes: [(Effect, &str); 6] = [
        (|db| batch(db, "BEGIN"), "tried to begin a transaction (BEGIN)"),
        (|db| batch(db, ADD).and(batch(db, "COMMIT")), "tried to end the transaction (COMMIT): "),
        (
            |db| batch(db, ADD).and(batch(db, "COMMIT").or(Ok(()))),
            "tried to end the transaction (COMMIT): ",
        ),
        (|db| batch(db, "ATTACH ':memory:' AS other"), "tried to attach or detach a database"),
        (|db| batch(db, "PRAGMA synchronous = OFF").or(Ok(())), "(PRAGMA synchronous)"),
        (
            |db| {
                batch(db, "INSERT INTO paid VALUES (1); INSERT OR ROLLBACK INTO paid VALUES (1)")
                    .or_else(|_| batch(db, ADD))
                    .or(Ok(()))
            },
            "ended the transaction",
        ),
    ];
    for (write, what) in writes {
        let error = inbox.write(write).await.unwrap_err();
        assert!(chain(&error).contains(what), "{}", chain(&error));
        assert_eq!(
            number(&inbox, "SELECT amount + (SELECT count(*) FROM paid) FROM balance").await,
            0
        );
    }
    inbox.write(|db| batch(db, ADD)).await.unwrap();
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 10);
}

#[tokio::test]
async fn panic_after_a_refused_statement_is_contained() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let effect: Effect = |db| {
        let _ = batch(db, "COMMIT");
        panic!("of the merchant")
    };
    handle(&inbox, effect).await;
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 9);
    assert_eq!(inbox.stats().await.unwrap().dead(), 1);
}

/// An error of SQLite in an error of the merchant.
#[derive(Debug)]
struct Wrapped(Error);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the shop failed")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// SQLite itself ends a transaction when it is interrupted, or when the disk fails.
#[tokio::test]
async fn failure_of_the_engine_is_no_breach() {
    const ENDLESS: &str =
        "INSERT INTO paid WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT i FROM n";
    let place = Place::new();
    let inbox = inbox(&place).await;
    inbox.store().insert(records(0..1)).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let counted = Arc::clone(&counted);
        cx.effect(move |db| {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                let interrupt = db.get_interrupt_handle();
                let (done, is_done) = std::sync::mpsc::channel::<()>();
                let interrupting = std::thread::spawn(move || {
                    let running = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
                    while is_done.recv_timeout(Duration::from_millis(20)) == running {
                        interrupt.interrupt();
                    }
                });
                let endless = batch(db, ENDLESS);
                drop(done);
                interrupting.join().unwrap();
                endless.map_err(Wrapped)?;
            }
            batch(db, ADD).map_err(Wrapped)
        });
        async { Ok::<_, std::convert::Infallible>(()) }
    };
    let runner = inbox.process(handler).max_attempts(1);
    let is_over = async {
        while inbox.stats().await.unwrap().backlog() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, runner.run_until(is_over)).await.unwrap().unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0, "settled again, and no attempt is counted");
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 10);
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 0);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
