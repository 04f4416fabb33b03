//! Effects run in the transaction of the writer, and can neither end it nor change the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inqud_inbox::rusqlite::{Connection, Error};
use inqud_inbox::{Context, Inbox, Sqlite, Store, Stored};
use tower_inqud::PaymentRequest;

use crate::{Place, batch, chain, number, record, records};

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
    let place = Place::new();
    let inbox = inbox(&place).await;
    let (calls, error) = handle(&inbox, effect).await;
    assert_eq!(number(&inbox, "SELECT amount FROM balance").await, 0, "{error}");
    assert!(error.contains(what), "{error}");
    assert_eq!(calls, 1, "a dead letter at once: {error}");
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 9);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 1));

    // The next one has a connection that works.
    inbox.store().insert(vec![record(11, 0)]).await.unwrap();
    assert_eq!(number(&inbox, "PRAGMA synchronous").await, 2);
    assert_eq!(number(&inbox, "PRAGMA query_only").await, 0);
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
        batch(db, ADD).or(Ok(()))
    };
    assert_refused(effect, "the effect ended the transaction").await;
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
    assert_refused(effect, "the effect ended the transaction").await;
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
    assert_refused(effect, "the effect ended the transaction").await;
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
    let effects: [Effect; 5] = [
        |db| batch(db, "PRAGMA query_only = ON"),
        |db| batch(db, "PRAGMA locking_mode = EXCLUSIVE").or(Ok(())).and(batch(db, ADD)),
        |db| batch(db, "PRAGMA synchronous = OFF"),
        |db| batch(db, "PRAGMA main.journal_mode = DELETE"),
        |db| batch(db, "PRAGMA writable_schema = ON"),
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
            PRAGMA user_version = 7; SELECT * FROM pragma_table_info('paid')";
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

#[tokio::test]
async fn refuses_the_same_in_write() {
    let place = Place::new();
    let inbox = inbox(&place).await;
    let writes: [(Effect, &str); 5] = [
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
