//! What the writer does to the tables, amid a transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, Statement, params};

use super::SqliteEffect;
use super::foreign::contain;
use super::index::Index;
use crate::inbox::{
    Claimed, DeadLetter, Freshness, Key, Outcome, Put, Record, Settled, Settlement, Stats, Ticket,
    Version,
};
use crate::rejection::BoxError;

pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    pub(super) clock: Clock,
    index: Index<'c>,
    insert: Statement<'c>,
    arrive: Statement<'c>,
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
    /// With the clock of the connection before, if there was one: what is leased stays so.
    pub(super) fn new(connection: &'c Connection, clock: Option<Clock>) -> Result<Self> {
        let last = last(connection)?;
        Ok(Self {
            connection,
            clock: clock.unwrap_or_else(|| Clock::new(Timestamp::now(), last)),
            index: Index::new(connection)?,
            insert: connection.prepare(
                "INSERT INTO inqud_inbox_notification
                     (object, key, version, body, received_at, state, settled_at, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, iif(?6 IS NULL, 0, 3), iif(?6 IS NULL, NULL, ?5), ?6)
                 ON CONFLICT (object, key) DO NOTHING",
            )?,
            arrive: connection.prepare(ARRIVE)?,
            due: connection.prepare(
                "SELECT number, id, processed, claim FROM inqud_inbox_object
                 WHERE kind = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
            )?,
            oldest: connection.prepare(
                "SELECT seq, key, version, body, attempts, received_at FROM inqud_inbox_notification
                 WHERE object = ?1 AND state = 0 ORDER BY version, seq LIMIT 1",
            )?,
            attempt: connection.prepare(
                "UPDATE inqud_inbox_notification SET attempts = attempts + 1 WHERE seq = ?1",
            )?,
            lease: connection.prepare(
                "UPDATE inqud_inbox_object SET due_at = ?2, leased = 1, claim = ?3
                 WHERE number = ?1",
            )?,
            claimed: connection.prepare(
                "SELECT number, version FROM inqud_inbox_notification
                 JOIN inqud_inbox_object ON number = object
                 WHERE seq = ?1 AND state = 0 AND claim = ?2",
            )?,
            close: connection.prepare(
                "UPDATE inqud_inbox_notification SET state = ?2, settled_at = ?3, error = ?4
                 WHERE seq = ?1",
            )?,
            process: connection.prepare(
                "UPDATE inqud_inbox_object SET processed = max(coalesce(processed, ?2), ?2)
                 WHERE number = ?1",
            )?,
            go_on: connection.prepare(
                "UPDATE inqud_inbox_object SET leased = 0, due_at =
                     (SELECT received_at FROM inqud_inbox_notification
                      WHERE object = ?1 AND state = 0 ORDER BY version, seq LIMIT 1)
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

    /// Before the commit of each transaction that has changed anything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.index.sweep()?;
        self.stamp()
    }

    fn stamp(&mut self) -> Result<()> {
        self.stamp.execute([self.clock.last]).map(drop)
    }

    /// After each transaction.
    pub(super) fn end(&mut self, is_committed: bool) {
        self.index.end(is_committed);
    }

    /// Whether a transaction is open that could not be rolled back.
    pub(super) fn is_broken(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Ends the leases of the process before: it is gone, for it held the lock of the file.
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

    pub(super) fn put(&mut self, record: &Record) -> Result<Put> {
        let Record { key, kind, object, version, body, dead } = record;
        let now = self.now();
        let found = self.index.find(kind, object)?;
        let number = match found {
            Some(number) => number,
            None => self.index.meet(kind, object, dead.is_none().then_some(now))?,
        };
        let row = params![number, key.as_bytes(), version.as_bytes(), &body[..], now, dead];
        if self.insert.execute(row)? == 0 {
            return Ok(Put::Duplicate);
        }
        if found.is_some() && dead.is_none() {
            self.arrive.execute([number, now])?;
        }
        Ok(Put::New)
    }

    pub(super) fn claim(
        &mut self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>> {
        let now = self.now();
        let until = now.saturating_add(micros(lease));
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
            let oldest = self.oldest.query_row([number], |row| {
                let attempts: i64 = row.get(4)?;
                let version = Version::from_bytes(row.get(2)?);
                let processed = processed.map(Version::from_bytes);
                Ok(Claimed {
                    ticket: Ticket { seq: row.get(0)?, kind, object: Arc::clone(&object), claim },
                    key: Key::from_bytes(row.get(1)?),
                    body: body(row.get(3)?),
                    freshness: Freshness::new(&version, processed.as_ref()),
                    attempt: u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1),
                    received_at: time(row.get(5)?),
                })
            });
            let Some(claimed) = oldest.optional()? else {
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
        let Settlement { ticket: Ticket { seq, claim, .. }, outcome } = settlement;
        let claimed = self
            .claimed
            .query_row([seq, claim], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let Some((number, version)) = claimed.optional()? else { return Ok(Settled::Lapsed) };
        let now = self.now();
        let (state, error) = match outcome {
            Outcome::Done(effects) => {
                let all = |connection: &Connection| {
                    effects.iter().try_for_each(|effect| effect.run(connection)).map_err(plain)
                };
                // A savepoint for nothing would be two statements for nothing.
                let done = if effects.is_empty() { Ok(()) } else { self.apart(all)? };
                if let Err(error) = done {
                    return Ok(Settled::EffectFailed(error.to_string()));
                }
                self.process.execute(params![number, version])?;
                (1, None)
            }
            Outcome::Skipped => (2, None),
            Outcome::Dead { error } => (3, Some(error)),
            Outcome::Retry { after, error } => {
                let due = now.saturating_add(micros(*after));
                self.wait.execute([number, due])?;
                self.fail.execute(params![seq, error])?;
                return Ok(Settled::Done);
            }
        };
        self.close.execute(params![seq, state, now, error])?;
        self.go_on.execute([number])?;
        Ok(Settled::Done)
    }

    /// Does foreign work in a savepoint of its own, and takes it back if it fails or panics. The outer
    /// error is that of the transaction, which then is lost.
    pub(super) fn apart<R>(
        &mut self,
        work: impl FnOnce(&Connection) -> std::result::Result<R, BoxError>,
    ) -> Result<std::result::Result<R, BoxError>> {
        self.open.execute([])?;
        let done = contain(|| work(self.connection));
        let done = done.unwrap_or_else(|| Err("the effect panicked".into()));
        // It may have ended the transaction, or SQLite has. Then this fails, and all of it with it.
        if let Err(error) = done {
            return match self
                .connection
                .execute_batch("ROLLBACK TO inqud_inbox_effect; RELEASE inqud_inbox_effect")
            {
                Ok(()) => Ok(Err(error)),
                // What SQLite ended the transaction for says more.
                Err(lost) => Err(error.downcast::<rusqlite::Error>().map_or(lost, |it| *it)),
            };
        }
        self.keep.execute([])?;
        Ok(done)
    }
}

/// Microseconds since 1970: by the wall when the file is opened, and from then on by how long that was
/// ago, so that nobody sets it back. No two are equal, and none is earlier than the last of the file:
/// so whatever waits waits no longer than it was asked to, whichever way the wall's clock was wrong, now
/// or in a run before. A file that was used in a wrong future stays ahead; only what it shows is wrong.
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

/// The last time of the file.
pub(super) fn last(connection: &Connection) -> Result<i64> {
    connection.query_row("SELECT at FROM inqud_inbox_clock", [], |row| row.get(0))
}

/// Due from `now` on, which is not to be later than the writer's.
pub(super) fn redrive(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut open = connection.prepare(
        "UPDATE inqud_inbox_notification SET state = 0, attempts = 0, settled_at = NULL
         WHERE key = ?1 AND state = 3 RETURNING object",
    )?;
    let mut arrive = connection.prepare(ARRIVE)?;
    keys.iter().try_fold(0_usize, |count, key| {
        let opened = open.query_map([key.as_bytes()], |row| row.get::<_, i64>(0))?;
        // All of it before anything else is written.
        let numbers = opened.collect::<Result<Vec<_>>>()?;
        for number in &numbers {
            arrive.execute([*number, now])?;
        }
        Ok(count.saturating_add(numbers.len()))
    })
}

pub(super) fn discard(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut skip = connection.prepare(
        "UPDATE inqud_inbox_notification SET state = 2, settled_at = ?2
         WHERE key = ?1 AND state = 3",
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

/// For a connection of its own: a long look must not hold the writer up.
pub(super) fn stats(connection: &Connection) -> Result<Stats> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM inqud_inbox_notification WHERE state = 0),
                (SELECT min(received_at) FROM inqud_inbox_notification WHERE state = 0),
                (SELECT count(*) FROM inqud_inbox_notification WHERE state = 3)",
        [],
        |row| {
            let count = |count: i64| u64::try_from(count).unwrap_or_default();
            let (open, oldest, dead) = (row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?);
            Ok(Stats { open: count(open), oldest: oldest.map(time), dead: count(dead) })
        },
    )
}

pub(super) fn dead(connection: &Connection, count: usize) -> Result<Vec<DeadLetter>> {
    let mut dead = connection.prepare(
        "SELECT key, kind, id, body, attempts, error, received_at
         FROM inqud_inbox_notification JOIN inqud_inbox_object ON number = object
         WHERE state = 3 ORDER BY seq LIMIT ?1",
    )?;
    let letters = dead.query_map([i64::try_from(count).unwrap_or(i64::MAX)], |row| {
        Ok(DeadLetter {
            key: Key::from_bytes(row.get(0)?),
            kind: row.get(1)?,
            object: row.get(2)?,
            body: body(row.get(3)?),
            attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
            error: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            received_at: time(row.get(6)?),
        })
    })?;
    letters.collect()
}

/// Its text, so that nothing of the merchant's is shown or dropped later. SQLite's own stays what it is,
/// for it tells who is at fault.
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
    fn the_clock_is_never_behind_the_file_and_never_stands_still() {
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
