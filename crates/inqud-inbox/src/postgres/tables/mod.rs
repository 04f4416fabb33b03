//! The statements, and the transactions that they run in.
//!
//! # Lock, then look
//!
//! Every decision depends on all notifications of an object: whether a new one is a duplicate, which is next,
//! whether the object is still due. So each transaction first locks the rows of its objects, and only then
//! reads their notifications.
//!
//! The lock and the read must be two statements. In `READ COMMITTED` each statement sees what was committed
//! when it began. If one statement both waited for the lock and read the notifications, it would read them
//! as of before the wait. It would miss a notification that the previous holder of the lock has just
//! committed. Then it could take a repeat for a duplicate or the other way round, or leave an object with
//! open notifications not due, so that no runner would ever claim it. A second statement begins after the
//! lock was acquired, so it sees everything that earlier holders have committed. In `REPEATABLE READ` this
//! would not help, because the snapshot is that of the first statement; so each transaction sets its
//! isolation level itself.
//!
//! # Lock order
//!
//! All transactions of the inbox lock objects in the order of kind and id, before any notification. Two
//! that need the same objects therefore wait for each other in one direction only, and cannot deadlock. The
//! columns have the collation `"C"`, so that the order does not depend on the database's locale.
//!
//! # Pipelining
//!
//! `tokio::join!` sends the statements of a transaction without waiting for the answers in between, which
//! saves a round trip for each. After a failed statement the server refuses the others, and `COMMIT` rolls
//! back.

mod admin;
mod claim;
mod decoded;
mod erase;
mod insert;
mod lookup;
mod rejections;
mod reopen;
mod settle;
mod sweep;
mod transaction;
mod watch;

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use deadpool_postgres::ClientWrapper as Client;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::key::Key;
use tower_inqud::{OrderKey, Verdict};

pub(super) use self::admin::{compact, discard, prune, redrive, settings, stats, unclaimed};
pub(super) use self::claim::{Look, claim, has_suspect, record_runner};
pub(super) use self::decoded::replace_decoded;
pub(super) use self::erase::{erase, objects_of_order};
pub(super) use self::insert::insert;
pub(super) use self::lookup::list;
pub(super) use self::rejections::{log_rejections, rejections};
pub(super) use self::reopen::replay;
pub(super) use self::settle::{
    DONE_ALREADY, ENDED, Failed, Found, Freed, LEASE_LOST, Member, Wait, complete, is_io, look,
    peek, settle, settle_effects,
};
pub(super) use self::sweep::sweep;
pub(super) use self::transaction::{
    CLEAN, PLAN_ONCE, begin, clean, commit, insert_once, roll_back, run,
};
pub(super) use self::watch::{
    arrived, claim_looks, end_looks, expect, hasten, insert_after, known, schedule,
};

/// Sets the isolation level that lock-then-look relies on, whatever the default of the database is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Longer ids are shortened, because an index row can have at most 2,700 bytes.
const OBJECT_LEN: usize = 1000;

/// Runs one statement in a transaction.
async fn transact(
    client: &Client,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let statement = client.prepare_cached(statement).await?;
    let (begun, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&statement, parameters),
        client.batch_execute("COMMIT"),
    );
    // After a failed statement `COMMIT` reports no error; it rolls back. So all results are checked.
    begun?;
    let rows = rows?;
    committed?;
    Ok(rows)
}

/// The most statements of handlers that a connection keeps prepared.
const PREPARED: usize = 256;

/// Prepares a statement of a handler, or returns it if it is prepared already.
async fn prepare(client: &Client, sql: &str) -> Result<Statement, Error> {
    if client.statement_cache.size() > PREPARED {
        // A handler that writes values into its statements makes ever new ones.
        client.statement_cache.clear();
    }
    client.prepare_cached(sql).await
}

/// Polls all futures until each is done. They send their statements in order at the first poll.
async fn join_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = all.map(|it| (Box::pin(it), None)).collect();
    poll_fn(|task| {
        let mut is_ready = true;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(task) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

const OPEN: i16 = 0;
const DONE: i16 = 1;
const SKIPPED: i16 = 2;
const DEAD: i16 = 3;
const REVIEW: i16 = 4;

pub(super) fn code(verdict: Verdict) -> i16 {
    match verdict {
        Verdict::Amended => 1,
        Verdict::Unordered => 2,
        Verdict::Stale => 3,
        Verdict::Review => 4,
        _ => 0,
    }
}

fn verdict(code: i16) -> Verdict {
    match code {
        1 => Verdict::Amended,
        2 => Verdict::Unordered,
        3 => Verdict::Stale,
        4 => Verdict::Review,
        _ => Verdict::Newer,
    }
}

/// Replaces NUL, which Postgres cannot store in a text.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn object(id: &str) -> String {
    let id = text(id);
    if id.len() <= OBJECT_LEN {
        return id;
    }
    // Two long ids stay different, because the hash is of the whole id.
    let hash = Key::hash([id.as_bytes()]);
    let start: String = id.chars().take(OBJECT_LEN / 4).collect();
    format!("{start}...{hash}")
}

/// Decodes a stored order key. Bytes that this crate did not write become an order key that matches nothing.
fn order_key(bytes: &[u8]) -> OrderKey {
    OrderKey::from_bytes(bytes).unwrap_or_else(|| OrderKey::of_undecodable(bytes))
}

fn bytes_of(key: &Key) -> &[u8] {
    &key.as_bytes()[..]
}

fn bytes(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(|key| &key.as_bytes()[..]).collect()
}

/// Decodes a stored key. The table checks its length.
fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(bytes.try_into().unwrap_or_default())
}

fn body(bytes: Option<Vec<u8>>) -> Bytes {
    bytes.unwrap_or_default().into()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

fn time_of(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

fn count_of(count: i32) -> u32 {
    u32::try_from(count).unwrap_or_default()
}

/// Converts a duration to microseconds, at most 100 years, because the times of Postgres have a maximum.
fn micros(duration: Duration) -> i64 {
    const MOST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    i64::try_from(duration.min(MOST).as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_shortened_and_stay_different() {
        assert_eq!(object(&"a".repeat(OBJECT_LEN)).len(), OBJECT_LEN);
        for long in ["a", "é", "🦀"].map(|it| it.repeat(20_000)) {
            let stored = object(&long);
            // What an operator sees begins like the id.
            assert!((OBJECT_LEN / 4..=OBJECT_LEN * 3 / 2).contains(&stored.len()), "{stored}");
            assert!(stored.starts_with(&long[..100]), "{stored}");
            assert_ne!(stored, object(&format!("{long}!")));
        }
        assert_eq!(object("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn durations_end_at_a_hundred_years() {
        let century = Duration::from_secs(100 * 366 * 24 * 3600);
        for exact in [Duration::ZERO, Duration::from_micros(1), century] {
            assert_eq!(u128::try_from(micros(exact)).unwrap(), exact.as_micros());
        }
        assert_eq!(micros(Duration::MAX), micros(century));
    }
}
