//! The statements that the writer runs inside its transactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, Statement, params};

use super::catch_drop::contain;
use super::effect::SqliteEffect;
use super::index::Index;
use crate::admin::{Entry, List, Stats};
use crate::error::BoxError;
use crate::key::Key;
use crate::record::Record;
use crate::store;
use crate::store::{Claimed, Inserted, Outcome, Settled, Settlement, Ticket};
use tower_inqud::{Dedup, OrderKey, Processed, Verdict};

pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    pub(super) clock: Clock,
    index: Index<'c>,
    /// When each kind's row in `inqud_inbox_runner` was last written.
    asked: HashMap<&'static str, i64>,
    same: Statement<'c>,
    all: Statement<'c>,
    insert: Statement<'c>,
    convert: Statement<'c>,
    arrive: Statement<'c>,
    record_runner: Statement<'c>,
    due: Statement<'c>,
    oldest: Statement<'c>,
    attempt: Statement<'c>,
    lease: Statement<'c>,
    claimed: Statement<'c>,
    close: Statement<'c>,
    process: Statement<'c>,
    go_on: Statement<'c>,
    wait: Statement<'c>,
    fail: Statement<'c>,
    stamp: Statement<'c>,
    open: Statement<'c>,
    keep: Statement<'c>,
}

const ARRIVE: &str =
    "UPDATE inqud_inbox_object SET due_at = ?2 WHERE number = ?1 AND due_at IS NULL";

impl<'c> Tables<'c> {
    /// Prepares the statements. Takes over the clock of the previous connection, if there was one, so that
    /// leases do not expire early.
    pub(super) fn new(connection: &'c Connection, clock: Option<Clock>) -> Result<Self> {
        let last = last(connection)?;
        Ok(Self {
            connection,
            clock: clock.unwrap_or_else(|| Clock::new(Timestamp::now(), last)),
            index: Index::new(connection)?,
            asked: HashMap::new(),
            same: connection.prepare(
                "SELECT order_key, body IS NULL OR body = ?4 FROM inqud_inbox_notification
                 WHERE object = ?1 AND key BETWEEN ?2 AND ?3",
            )?,
            all: connection.prepare(
                "SELECT key, order_key, NOT (state = 2 AND verdict = 4) FROM inqud_inbox_notification
                 WHERE object = ?1 ORDER BY seq",
            )?,
            insert: connection.prepare(
                "INSERT INTO inqud_inbox_notification
                     (object, key, position, order_key, body, received_at, state, settled_at, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?7 = 0, NULL, ?6), ?8)",
            )?,
            convert: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET object = ?2, key = ?3, position = ?4, order_key = ?5, state = ?6, error = ?7,
                     attempts = 0, verdict = 0, settled_at = iif(?6 = 0, NULL, ?8)
                 WHERE seq = ?1",
            )?,
            arrive: connection.prepare(ARRIVE)?,
            record_runner: connection.prepare(
                "INSERT INTO inqud_inbox_runner VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET claimed_at = excluded.claimed_at",
            )?,
            due: connection.prepare(
                "SELECT number, id, processed, claim FROM inqud_inbox_object
                 WHERE kind = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
            )?,
            oldest: connection.prepare(
                "SELECT seq, key, order_key, body, attempts, received_at, reviewed
                 FROM inqud_inbox_notification
                 WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1",
            )?,
            attempt: connection.prepare(
                "UPDATE inqud_inbox_notification SET attempts = attempts + 1 WHERE seq = ?1",
            )?,
            lease: connection.prepare(
                "UPDATE inqud_inbox_object SET due_at = ?2, leased = 1, claim = ?3
                 WHERE number = ?1",
            )?,
            claimed: connection.prepare(
                "SELECT number, key FROM inqud_inbox_notification
                 JOIN inqud_inbox_object ON number = object
                 WHERE seq = ?1 AND state = 0 AND claim = ?2",
            )?,
            close: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET state = ?2, settled_at = ?3, error = coalesce(?4, error), verdict = ?5
                 WHERE seq = ?1",
            )?,
            process: connection
                .prepare("UPDATE inqud_inbox_object SET processed = ?2 WHERE number = ?1")?,
            go_on: connection.prepare(
                "UPDATE inqud_inbox_object SET leased = 0, due_at =
                     (SELECT received_at FROM inqud_inbox_notification
                      WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1)
                 WHERE number = ?1",
            )?,
            wait: connection.prepare(
                "UPDATE inqud_inbox_object SET leased = 0, due_at = ?2 WHERE number = ?1",
            )?,
            fail: connection
                .prepare("UPDATE inqud_inbox_notification SET error = ?2 WHERE seq = ?1")?,
            stamp: connection.prepare("UPDATE inqud_inbox_clock SET at = ?1")?,
            open: connection.prepare("SAVEPOINT inqud_inbox_effect")?,
            keep: connection.prepare("RELEASE inqud_inbox_effect")?,
        })
    }

    pub(super) fn now(&mut self) -> i64 {
        self.clock.now()
    }

    /// Called before the commit of each transaction that changed anything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.index.sweep()?;
        self.stamp()
    }

    fn stamp(&mut self) -> Result<()> {
        self.stamp.execute([self.clock.last]).map(drop)
    }

    /// Called after each transaction.
    pub(super) fn end(&mut self, is_committed: bool) {
        self.index.end(is_committed);
    }

    /// Whether a transaction is still open after it was committed or rolled back.
    pub(super) fn is_broken(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Ends all leases. Their holder is gone, because it held the lock that this process holds now.
    pub(super) fn recover(&mut self) -> Result<()> {
        let now = self.now();
        self.stamp()?;
        self.connection.execute(
            "UPDATE inqud_inbox_object SET leased = 0, due_at = ?1
             WHERE due_at IS NOT NULL AND leased = 1",
            [now],
        )?;
        Ok(())
    }

    pub(super) fn insert(&mut self, record: &Record) -> Result<Inserted> {
        let now = self.now();
        let is_open = record.dead.is_none();
        let found = self.index.find(record.kind, &record.object)?;
        let (number, dedup, key) = match found {
            None => {
                let due = is_open.then_some(now);
                (
                    self.index.insert_object(record.kind, &record.object, due)?,
                    Dedup::New,
                    record.key,
                )
            }
            Some(number) => match self.dedup(number, record)? {
                Ok((dedup, key)) => (number, dedup, key),
                Err(duplicate) => return Ok(duplicate),
            },
        };
        let (inserted, state, why) = stored_as(dedup, record.dead.as_deref());
        let Record { order_key, body, .. } = record;
        let (position, order_key) = (order_key.position(), order_key.to_bytes());
        let row =
            params![number, key.as_bytes(), position, order_key, &body[..], now, state as i64, why];
        self.insert.execute(row)?;
        if found.is_some() && state == State::Open {
            self.arrive.execute([number, now])?;
        }
        Ok(inserted)
    }

    /// Decides how to store a record of a known object, and under which key. The inner `Err` says that it
    /// is a duplicate.
    ///
    /// It first looks only at rows with the same content, which are few and adjacent in the index: see
    /// `Key::range`. Only if one of them repeats this record, and a repeat can mean something else than a
    /// duplicate, it reads all rows of the object.
    fn dedup(
        &mut self,
        number: i64,
        record: &Record,
    ) -> Result<std::result::Result<(Dedup, Key), Inserted>> {
        let [first, last] = record.key.range();
        let range = params![number, first.as_bytes(), last.as_bytes(), &record.body[..]];
        let mut rows = self.same.query(range)?;
        let mut known = None;
        while let Some(row) = rows.next()? {
            if record.order_key.is_duplicate_of(&order_key(row.get_ref(0)?.as_blob()?)) {
                let is_same = row.get(1)? || known == Some(Inserted::Duplicate);
                known =
                    Some(if is_same { Inserted::Duplicate } else { Inserted::DuplicateDiffers });
            }
        }
        drop(rows);
        let Some(duplicate) = known else { return Ok(Ok((Dedup::New, record.key))) };
        if record.order_key.repeat_is_duplicate() {
            return Ok(Err(duplicate));
        }
        let rows = self.all.query_map([number], |row| {
            let key = Key::from_bytes(row.get(0)?);
            Ok((key, order_key(row.get_ref(1)?.as_blob()?), row.get(2)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let rows = rows.iter().map(|(key, order_key, counts)| (*key, order_key, *counts));
        Ok(record.dedup(&rows.collect::<Vec<_>>()).ok_or(duplicate))
    }

    /// Turns the row of an undecodable body into a row of the record that it was decoded to. Its `seq` stays,
    /// and so its place in the order of arrival.
    fn replace_decoded(&mut self, seq: i64, record: &Record, now: i64) -> Result<()> {
        let number = match self.index.find(record.kind, &record.object)? {
            Some(number) => number,
            None => self.index.insert_object(record.kind, &record.object, None)?,
        };
        let Ok((dedup, key)) = self.dedup(number, record)? else {
            let row = params![seq, State::Skipped as i64, now, store::SKIPPED_DUPLICATE, 0];
            return self.close.execute(row).map(drop);
        };
        let (_, state, why) = stored_as(dedup, None);
        let Record { order_key, .. } = record;
        let (position, order_key) = (order_key.position(), order_key.to_bytes());
        let row = params![seq, number, key.as_bytes(), position, order_key, state as i64, why, now];
        self.convert.execute(row)?;
        if state == State::Open {
            self.arrive.execute([number, now])?;
        }
        Ok(())
    }

    pub(super) fn claim(
        &mut self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>> {
        let now = self.now();
        let until = now.saturating_add(micros(lease));
        let asked = self.asked.get(kind);
        if asked.is_none_or(|asked| now.saturating_sub(*asked) >= micros(RECORD_RUNNER)) {
            self.record_runner.execute(params![kind, now])?;
            self.asked.insert(kind, now);
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let due = self.due.query_map(params![kind, now, count], |row| {
            let (object, processed) =
                (row.get::<_, Arc<str>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?);
            Ok((row.get(0)?, object, processed, row.get(3)?))
        })?;
        let due = due.collect::<Result<Vec<(i64, _, _, i64)>>>()?;
        let mut all = Vec::with_capacity(due.len());
        for (number, object, processed, claim) in due {
            let claim = claim.saturating_add(1);
            let processed = processed.and_then(|bytes| Processed::from_bytes(&bytes));
            let first = self.oldest.query_row([number], |row| {
                let attempts: i64 = row.get(4)?;
                let order_key = order_key(row.get_ref(2)?.as_blob()?);
                Ok(Claimed {
                    ticket: Ticket::new(
                        row.get(0)?,
                        (kind, Arc::clone(&object)),
                        claim,
                        (&order_key, row.get(6)?),
                        processed.as_ref(),
                    ),
                    key: Key::from_bytes(row.get(1)?),
                    body: body(row.get(3)?),
                    attempt: u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1),
                    received_at: time(row.get(5)?),
                })
            });
            let Some(claimed) = first.optional()? else {
                self.go_on.execute([number])?;
                continue;
            };
            self.attempt.execute([claimed.ticket.seq])?;
            self.lease.execute([number, until, claim])?;
            all.push(claimed);
        }
        Ok(all)
    }

    pub(super) fn settle(&mut self, settlement: &Settlement<SqliteEffect>) -> Result<Settled> {
        let Settlement { ticket: Ticket { seq, claim, verdict, processed, .. }, outcome } =
            settlement;
        let claimed = self
            .claimed
            .query_row([seq, claim], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?)));
        let Some((number, key)) = claimed.optional()? else { return Ok(Settled::LeaseExpired) };
        let now = self.now();
        let (state, error) = match outcome {
            Outcome::Done(effects) => {
                let key = Key::from_bytes(key);
                let all = |connection: &Connection| {
                    let mut effects = effects.iter();
                    effects.try_for_each(|effect| effect.run(connection, key)).map_err(plain)
                };
                // Without effects, the two statements of a savepoint are saved.
                let done = if effects.is_empty() { Ok(()) } else { self.in_savepoint(all)? };
                if let Err(error) = done {
                    return Ok(Settled::EffectFailed(error.to_string()));
                }
                if let Some(processed) = processed {
                    self.process.execute(params![number, processed.to_bytes()])?;
                }
                (State::Done, None)
            }
            Outcome::Skipped => (State::Skipped, None),
            Outcome::Review => (State::Review, Some(store::REVIEW_WITHOUT_TIME)),
            Outcome::Dead { error } => (State::Dead, Some(&**error)),
            Outcome::Decoded(record) => {
                self.replace_decoded(*seq, record, now)?;
                self.go_on.execute([number])?;
                return Ok(Settled::Done);
            }
            Outcome::Retry { after, error } => {
                let due = now.saturating_add(micros(*after));
                self.wait.execute([number, due])?;
                self.fail.execute(params![seq, error])?;
                return Ok(Settled::Done);
            }
        };
        self.close.execute(params![seq, state as i64, now, error, code(*verdict)])?;
        self.go_on.execute([number])?;
        Ok(Settled::Done)
    }

    /// Runs merchant code in a savepoint, and rolls that back if the code fails or panics.
    ///
    /// The inner error is that of the merchant code. The outer error means that the whole transaction is
    /// lost.
    pub(super) fn in_savepoint<R>(
        &mut self,
        work: impl FnOnce(&Connection) -> std::result::Result<R, BoxError>,
    ) -> Result<std::result::Result<R, BoxError>> {
        self.open.execute([])?;
        let done = contain(|| work(self.connection));
        let done = done.unwrap_or_else(|| Err("the effect panicked".into()));
        // The merchant code may have ended the transaction, or SQLite has, for example because the disk is
        // full. Then there is no savepoint any more, the statement below fails, and the group fails with it.
        if let Err(error) = done {
            return match self
                .connection
                .execute_batch("ROLLBACK TO inqud_inbox_effect; RELEASE inqud_inbox_effect")
            {
                Ok(()) => Ok(Err(error)),
                // "no such savepoint" would hide the cause, so the error of the effect is returned if it
                // is one of SQLite.
                Err(lost) => Err(error.downcast::<rusqlite::Error>().map_or(lost, |it| *it)),
            };
        }
        self.keep.execute([])?;
        Ok(done)
    }
}

/// How often to write that a runner claims a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Open = 0,
    Done = 1,
    Skipped = 2,
    Dead = 3,
    Review = 4,
}

/// Returns what to report for a new row, its state, and the reason for that state.
fn stored_as(dedup: Dedup, dead: Option<&str>) -> (Inserted, State, Option<&str>) {
    match (dedup, dead) {
        (Dedup::Review, _) => (Inserted::Review, State::Review, Some(store::REVIEW_REPEATED)),
        (_, Some(dead)) => (Inserted::New, State::Dead, Some(dead)),
        (_, None) => (Inserted::New, State::Open, None),
    }
}

fn code(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Amended => 1,
        Verdict::Unordered => 2,
        Verdict::Stale => 3,
        Verdict::Review => 4,
        _ => 0,
    }
}

/// Decodes a stored order key. Bytes that this crate did not write become an order key that matches nothing.
fn order_key(bytes: &[u8]) -> OrderKey {
    OrderKey::from_bytes(bytes).unwrap_or_else(|| OrderKey::of_undecodable(bytes))
}

/// A monotonic clock, in microseconds since 1970.
///
/// It starts at the system time when the file is opened, or at the latest time in the file if that is later.
/// From then on it follows a monotonic timer. No two readings are equal.
///
/// With the plain system time, a clock that is set back would extend every lease and every backoff by the
/// difference, possibly by years. With this clock nothing waits longer than it was told to. The price: a file
/// that was once used while the system time was in the future stays ahead, and shows wrong times.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    base: i64,
    opened: Instant,
    last: i64,
}

impl Clock {
    fn new(wall: Timestamp, last: i64) -> Self {
        Self { base: wall.as_microsecond().max(last), opened: Instant::now(), last }
    }

    fn now(&mut self) -> i64 {
        let now = self.base.saturating_add(micros(self.opened.elapsed()));
        self.last = now.max(self.last.saturating_add(1));
        self.last
    }
}

/// Returns the latest time in the file.
pub(super) fn last(connection: &Connection) -> Result<i64> {
    connection.query_row("SELECT at FROM inqud_inbox_clock", [], |row| row.get(0))
}

/// Stores an idempotency key. If it is stored already, returns the notification that first used it.
pub(super) fn insert_once(
    connection: &Connection,
    idempotency_key: &str,
    key: Key,
) -> Result<Option<Key>> {
    let mut keep = connection
        .prepare("INSERT INTO inqud_inbox_once VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    if keep.execute(params![idempotency_key, key.as_bytes()])? > 0 {
        return Ok(None);
    }
    let mut first = connection
        .prepare("SELECT notification FROM inqud_inbox_once WHERE idempotency_key = ?1")?;
    first.query_row([idempotency_key], |row| Ok(Some(Key::from_bytes(row.get(0)?))))
}

/// Reopens dead letters and reviews. `now` must not be later than the writer's clock.
pub(super) fn redrive(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut open = connection.prepare(
        "UPDATE inqud_inbox_notification
         SET reviewed = reviewed OR state = 4, state = 0, attempts = 0, settled_at = NULL
         WHERE key = ?1 AND state > 2 RETURNING object",
    )?;
    let mut arrive = connection.prepare(ARRIVE)?;
    keys.iter().try_fold(0_usize, |count, key| {
        let opened = open.query_map([key.as_bytes()], |row| row.get::<_, i64>(0))?;
        // Collected first, because the statement must be finished before the next one writes.
        let numbers = opened.collect::<Result<Vec<_>>>()?;
        for number in &numbers {
            arrive.execute([*number, now])?;
        }
        Ok(count.saturating_add(numbers.len()))
    })
}

pub(super) fn discard(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut skip = connection.prepare(
        "UPDATE inqud_inbox_notification
         SET verdict = iif(state = 4, 4, verdict), state = 2, settled_at = ?2
         WHERE key = ?1 AND state > 2",
    )?;
    keys.iter().try_fold(0_usize, |count, key| {
        Ok(count.saturating_add(skip.execute(params![key.as_bytes(), now])?))
    })
}

pub(super) fn prune(
    connection: &Connection,
    now: i64,
    age: Duration,
    count: usize,
) -> Result<usize> {
    connection.execute(
        "UPDATE inqud_inbox_notification SET body = NULL WHERE seq IN
             (SELECT seq FROM inqud_inbox_notification
              WHERE state IN (1, 2) AND body IS NOT NULL AND settled_at <= ?1
              ORDER BY settled_at LIMIT ?2)",
        params![now.saturating_sub(micros(age)), i64::try_from(count).unwrap_or(i64::MAX)],
    )
}

/// Counts by kind and state. Run it on a separate connection, because it can take long.
pub(super) fn stats(connection: &Connection) -> Result<Stats> {
    let mut stats = Stats::default();
    // `CROSS JOIN` fixes the order of the join: notifications first, by the partial index of their state.
    // Otherwise SQLite may scan all objects.
    let mut count = connection.prepare(
        "SELECT kind, 0, count(*), min(received_at)
         FROM inqud_inbox_notification CROSS JOIN inqud_inbox_object ON number = object
         WHERE state = 0 GROUP BY kind
         UNION ALL SELECT kind, state, count(*), NULL
         FROM inqud_inbox_notification CROSS JOIN inqud_inbox_object ON number = object
         WHERE state > 1 GROUP BY kind, state
         ORDER BY kind",
    )?;
    let mut rows = count.query([])?;
    while let Some(row) = rows.next()? {
        let kind = stats.kind(row.get_ref(0)?.as_str()?);
        let count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default();
        match row.get(1)? {
            0 => {
                kind.backlog = count;
                kind.oldest = row.get::<_, Option<i64>>(3)?.map(time);
            }
            2 => kind.skipped = count,
            3 => kind.dead = count,
            _ => kind.review = count,
        }
    }
    Ok(stats)
}

pub(super) fn unclaimed(connection: &Connection, since: Duration) -> Result<Vec<String>> {
    let mut kinds = connection.prepare(
        "SELECT DISTINCT kind FROM inqud_inbox_object WHERE due_at IS NOT NULL AND kind NOT IN
             (SELECT kind FROM inqud_inbox_runner WHERE claimed_at > ?1)",
    )?;
    // The file's clock stops while nothing is committed, so the system time counts if it is later.
    let now = last(connection)?.max(Timestamp::now().as_microsecond());
    let before = now.saturating_sub(micros(since));
    kinds.query_map([before], |row| row.get(0))?.collect()
}

pub(super) fn list(connection: &Connection, list: List, count: usize) -> Result<Vec<Entry>> {
    let (which, code) = match list {
        List::Dead => ("state > 1 AND state = ?1", State::Dead as i64),
        List::Review => ("state > 1 AND state = ?1", State::Review as i64),
        List::Skipped => ("state > 1 AND state = ?1", State::Skipped as i64),
        List::Amended => ("state = 1 AND verdict > 0 AND verdict = ?1", code(Verdict::Amended)),
        List::Unordered => ("state = 1 AND verdict > 0 AND verdict = ?1", code(Verdict::Unordered)),
    };
    let mut entries = connection.prepare(&format!(
        "SELECT key, kind, id, body, attempts, error, received_at
         FROM inqud_inbox_notification JOIN inqud_inbox_object ON number = object
         WHERE {which} ORDER BY seq LIMIT ?2"
    ))?;
    let rows = params![code, i64::try_from(count).unwrap_or(i64::MAX)];
    let entries = entries.query_map(rows, |row| {
        Ok(Entry {
            key: Key::from_bytes(row.get(0)?),
            kind: row.get(1)?,
            object: row.get(2)?,
            body: body(row.get(3)?),
            attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
            error: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            received_at: time(row.get(6)?),
        })
    })?;
    entries.collect()
}

/// Replaces a merchant's error by its text, so that no merchant code runs when the error is later formatted
/// or dropped. An error of SQLite stays as it is, because [`is_of_work`](super::writer::is_of_work) looks
/// at it.
fn plain(error: BoxError) -> BoxError {
    match error.downcast::<rusqlite::Error>() {
        Ok(error) if matches!(*error, rusqlite::Error::SqliteFailure(..)) => error,
        Ok(error) => error.to_string().into(),
        Err(error) => error.to_string().into(),
    }
}

fn body(bytes: Option<Vec<u8>>) -> Bytes {
    bytes.unwrap_or_default().into()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_ahead_of_the_file_and_increases() {
        let wall = Timestamp::from_microsecond(1_000).unwrap();
        for (last, least) in
            [(0, 1_000), (999, 1_000), (5_000_000, 5_000_001), (i64::MAX - 3, i64::MAX - 2)]
        {
            let mut clock = Clock::new(wall, last);
            let (first, second) = (clock.now(), clock.now());
            assert!(least <= first && first < second, "{last}: {first}, {second}");
            assert!(
                first.checked_sub(least).is_some_and(|late| late < 60_000_000),
                "{last}: {first}"
            );
        }
    }
}
