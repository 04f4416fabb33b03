//! The statements that the writer runs inside its transactions.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, Statement, params};

use super::clock::{Clock, last};
use super::sandbox::Sandbox;
use crate::store;

pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    pub(super) sandbox: &'c Sandbox,
    pub(super) session: Session,
    /// Whether merchant code ended the transaction that is not committed yet.
    pub(super) is_ended: bool,
    /// Whether commits reach the disk.
    is_synced: bool,
    /// When each kind's row in `inqud_inbox_runner` was last written.
    pub(super) asked: HashMap<&'static str, i64>,
    pub(super) find: Statement<'c>,
    pub(super) insert_object: Statement<'c>,
    pub(super) same: Statement<'c>,
    pub(super) all: Statement<'c>,
    pub(super) recall: Statement<'c>,
    pub(super) insert: Statement<'c>,
    pub(super) convert: Statement<'c>,
    pub(super) arrive: Statement<'c>,
    pub(super) record_runner: Statement<'c>,
    pub(super) due: Statement<'c>,
    pub(super) suspect: Statement<'c>,
    pub(super) first: Statement<'c>,
    pub(super) last: Statement<'c>,
    pub(super) lease: Statement<'c>,
    pub(super) wait: Statement<'c>,
    pub(super) claimed: Statement<'c>,
    pub(super) close: Statement<'c>,
    pub(super) retry: Statement<'c>,
    next_due_first: Statement<'c>,
    next_due_last: Statement<'c>,
    free: Statement<'c>,
    pub(super) open: Statement<'c>,
    pub(super) keep: Statement<'c>,
    stamp: Statement<'c>,
    owns: Statement<'c>,
}

/// What outlives a connection: the clock, so that leases do not expire early, and the proof that this inbox is the one
/// that opened the file last.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) clock: Clock,
    owner: Vec<u8>,
}

/// Makes an object due that is idle or waits for a retry. `due_at` is that of a leased object, too, but its settlement
/// looks at what is open then.
pub(super) const ARRIVE: &str = "UPDATE inqud_inbox_object SET due_at = ?2
    WHERE number = ?1 AND leased_until IS NULL AND (due_at IS NULL OR due_at > ?2)";

/// The number of the last open notification of an object. Replays come first nevertheless: they are below `replay::END`.
macro_rules! last {
    () => {
        "coalesce(
            (SELECT seq FROM inqud_inbox_notification
             WHERE object = ?1 AND state = 0 AND position < -4611686018427387904
             ORDER BY position, seq LIMIT 1),
            (SELECT seq FROM inqud_inbox_notification
             WHERE object = ?1 AND state = 0 ORDER BY position DESC, seq DESC LIMIT 1))"
    };
}

/// Finds when the next open notification of an object can be claimed.
macro_rules! next_due {
    ($order:literal) => {
        concat!(
            "SELECT max(received_at, coalesce(retry_at, received_at)) FROM inqud_inbox_notification
             WHERE object = ?1 AND state = 0 ORDER BY ",
            $order,
            " LIMIT 1"
        )
    };
}

/// The same, but of the last.
const NEXT_DUE_LAST: &str = concat!(
    "SELECT max(received_at, coalesce(retry_at, received_at)) FROM inqud_inbox_notification WHERE seq = ",
    last!()
);

/// Finds the open notification of an object that is claimed next.
macro_rules! next {
    ($order:literal) => {
        concat!(
            "SELECT seq, key, order_key, body, failures, received_at, reviewed, retry_at, source, verdict, replays
             FROM inqud_inbox_notification
             WHERE object = ?1 AND state = 0 ORDER BY ",
            $order,
            " LIMIT 1"
        )
    };
}

/// The same, but the last.
const LAST: &str = concat!(
    "SELECT seq, key, order_key, body, failures, received_at, reviewed, retry_at, source, verdict, replays
     FROM inqud_inbox_notification WHERE seq = ",
    last!()
);

impl<'c> Tables<'c> {
    /// Prepares the statements.
    pub(super) fn new(
        connection: &'c Connection,
        sandbox: &'c Sandbox,
        session: Session,
    ) -> Result<Self> {
        Ok(Self {
            connection,
            sandbox,
            session,
            is_ended: false,
            is_synced: true,
            asked: HashMap::new(),
            find: connection
                .prepare("SELECT number, pruned_at IS NOT NULL FROM inqud_inbox_object WHERE kind = ?1 AND id = ?2")?,
            insert_object: connection
                .prepare("INSERT INTO inqud_inbox_object (kind, id, due_at) VALUES (?1, ?2, ?3)")?,
            same: connection.prepare(
                "SELECT order_key, body IS NULL OR body = ?4 FROM inqud_inbox_notification
                 WHERE object = ?1 AND key BETWEEN ?2 AND ?3",
            )?,
            all: connection.prepare(
                "SELECT seq, key, order_key, NOT (state = 2 AND verdict = 4) FROM inqud_inbox_notification
                 WHERE object = ?1 ORDER BY seq",
            )?,
            recall: connection
                .prepare("SELECT processed FROM inqud_inbox_object WHERE number = ?1")?,
            insert: connection.prepare(
                "INSERT INTO inqud_inbox_notification (object, kind, key, position, order_key,
                     received_at, state, settled_at, error, body, order_id, status, source)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?7 = 0, NULL, ?6), ?8, ?9, ?10, ?11, ?12)",
            )?,
            convert: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET object = ?2, key = ?3, position = ?4, order_key = ?5, state = ?6, error = ?7,
                     failures = 0, retry_at = NULL, verdict = 0,
                     settled_at = iif(?6 = 0, NULL, ?8), order_id = ?9, status = ?10
                 WHERE seq = ?1",
            )?,
            arrive: connection.prepare(ARRIVE)?,
            record_runner: connection.prepare(
                "INSERT INTO inqud_inbox_runner VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET claimed_at = excluded.claimed_at",
            )?,
            due: connection.prepare(
                "SELECT number, id, processed, claim, crashes FROM inqud_inbox_object
                 WHERE kind = ?1 AND due_at <= ?2 AND leased_until IS NULL AND crashes = 0
                 ORDER BY due_at LIMIT ?3 + 0", // a parameter alone would be planned for each number
            )?,
            suspect: connection.prepare(
                "SELECT number, id, processed, claim, crashes + (leased_until IS NOT NULL)
                 FROM inqud_inbox_object INDEXED BY inqud_inbox_suspect
                 WHERE kind = ?1 AND (leased_until IS NOT NULL OR crashes > 0)
                     AND coalesce(leased_until, due_at) <= ?2
                 ORDER BY coalesce(leased_until, due_at) LIMIT 1",
            )?,
            first: connection.prepare(next!("position, seq"))?,
            last: connection.prepare(LAST)?,
            lease: connection.prepare(
                "UPDATE inqud_inbox_object SET leased_until = ?2, claim = ?3, crashes = ?4
                 WHERE number = ?1",
            )?,
            wait: connection.prepare(
                "UPDATE inqud_inbox_object SET leased_until = NULL, due_at = ?2, crashes = ?3
                 WHERE number = ?1",
            )?,
            claimed: connection.prepare(
                "SELECT number, key FROM inqud_inbox_notification
                 JOIN inqud_inbox_object ON number = object
                 WHERE seq = ?1 AND state = 0 AND claim = ?2 AND leased_until IS NOT NULL",
            )?,
            close: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET state = ?2, settled_at = ?3, error = coalesce(?4, error), verdict = ?5,
                     failures = failures + (?2 = 3)
                 WHERE seq = ?1",
            )?,
            retry: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET retry_at = ?2, error = ?3, failures = failures + 1 WHERE seq = ?1",
            )?,
            next_due_first: connection.prepare(next_due!("position, seq"))?,
            next_due_last: connection.prepare(NEXT_DUE_LAST)?,
            // Not one statement with those above that returns the time: SQLite would open a table for it each time.
            free: connection.prepare(
                "UPDATE inqud_inbox_object SET leased_until = NULL, crashes = 0, due_at = ?2,
                     processed = coalesce(?3, processed)
                 WHERE number = ?1",
            )?,
            open: connection.prepare("SAVEPOINT inqud_inbox_effect")?,
            keep: connection.prepare("RELEASE inqud_inbox_effect")?,
            stamp: connection.prepare("UPDATE inqud_inbox_clock SET at = ?1 WHERE owner = ?2")?,
            owns: connection.prepare("SELECT 1 FROM inqud_inbox_clock WHERE owner = ?1")?,
        })
    }

    pub(super) fn now(&mut self) -> i64 {
        self.session.clock.now()
    }

    /// Whether no other inbox has opened the file since this one did.
    pub(super) fn is_owner(&mut self) -> Result<bool> {
        self.owns.exists([&self.session.owner])
    }

    /// Writes the time. Called before the commit of each transaction that changed anything. Returns whether this
    /// inbox may commit.
    pub(super) fn stamp(&mut self) -> Result<bool> {
        let Session { clock, owner } = &self.session;
        Ok(self.stamp.execute(params![clock.last, owner])? > 0)
    }

    /// Ends a lease, and stores what was handled, if that is given. Returns when the object is due again.
    pub(super) fn free(
        &mut self,
        number: i64,
        newest_first: bool,
        processed: Option<&[u8]>,
    ) -> Result<Option<i64>> {
        let next = if newest_first { &mut self.next_due_last } else { &mut self.next_due_first };
        let due_at = next.query_row([number], |row| row.get::<_, i64>(0)).optional()?;
        self.free.execute(params![number, due_at, processed])?;
        Ok(due_at)
    }

    /// Sets whether the next commits reach the disk.
    pub(super) fn sync(&mut self, is_synced: bool) -> Result<()> {
        let set =
            if is_synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        self.is_synced = false;
        self.connection.execute_batch(set)?;
        self.is_synced = is_synced;
        Ok(())
    }

    /// Whether the connection must be replaced after the transaction.
    pub(super) fn is_spoilt(&self) -> bool {
        self.is_broken() || !self.is_synced || self.sandbox.is_spoilt()
    }

    /// Whether a transaction is still open after it was committed or rolled back.
    pub(super) fn is_broken(&self) -> bool {
        !self.connection.is_autocommit()
    }
}

impl Session {
    /// For one who writes next to the owner of the file, by the time of its latest commit.
    pub(super) fn of_guest(connection: &Connection) -> Result<Self> {
        Ok(Self { clock: Clock::stopped(last(connection)?), owner: Vec::new() })
    }

    /// Becomes the owner of the file, and ends all leases. Their holder is gone, because it held the lock that this
    /// process holds now, or it is no longer the owner.
    pub(super) fn begin(connection: &Connection, sandbox: &Sandbox) -> Result<Self> {
        let mut clock = Clock::new(Timestamp::now(), last(connection)?);
        let now = clock.now();
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let owner = connection.query_row(
            "UPDATE inqud_inbox_clock SET at = ?1, owner = randomblob(16) RETURNING owner",
            [now],
            |row| row.get(0),
        )?;
        let mut leased = connection.prepare(
            "SELECT number, crashes FROM inqud_inbox_object WHERE leased_until IS NOT NULL",
        )?;
        let leased = leased.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let leased = leased.collect::<Result<Vec<(i64, u32)>>>()?;
        let mut free = connection.prepare(
            "UPDATE inqud_inbox_object SET leased_until = NULL, crashes = ?2, due_at = ?3
             WHERE number = ?1",
        )?;
        for (number, crashes) in leased {
            let crashes = crashes.saturating_add(1);
            let wait = super::row::micros(store::crash_backoff(crashes));
            free.execute(params![number, crashes, now.saturating_add(wait)])?;
        }
        sandbox.commit(connection)?;
        Ok(Self { clock, owner })
    }
}
