//! The statements that the writer runs inside its transactions.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, Result, Statement};

use super::clock::{Clock, last};
use super::index::Index;

pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    pub(super) clock: Clock,
    pub(super) index: Index<'c>,
    /// When each kind's row in `inqud_inbox_runner` was last written.
    pub(super) asked: HashMap<&'static str, i64>,
    pub(super) same: Statement<'c>,
    pub(super) all: Statement<'c>,
    pub(super) insert: Statement<'c>,
    pub(super) convert: Statement<'c>,
    pub(super) arrive: Statement<'c>,
    pub(super) record_runner: Statement<'c>,
    pub(super) due: Statement<'c>,
    pub(super) oldest: Statement<'c>,
    pub(super) attempt: Statement<'c>,
    pub(super) lease: Statement<'c>,
    pub(super) claimed: Statement<'c>,
    pub(super) close: Statement<'c>,
    pub(super) process: Statement<'c>,
    pub(super) go_on: Statement<'c>,
    pub(super) wait: Statement<'c>,
    pub(super) fail: Statement<'c>,
    pub(super) stamp: Statement<'c>,
    pub(super) open: Statement<'c>,
    pub(super) keep: Statement<'c>,
}

pub(super) const ARRIVE: &str =
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
}
