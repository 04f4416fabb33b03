//! Settling claims, together with the effects of the merchant.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::catch_drop::contain;
use super::effect::SqliteEffect;
use super::row::{State, code, micros};
use super::tables::Tables;
use crate::error::BoxError;
use crate::key::Key;
use crate::store;
use crate::store::{Outcome, Settled, Settlement, Ticket};

impl Tables<'_> {
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

/// Replaces a merchant's error by its text, so that no merchant code runs when the error is later formatted
/// or dropped. An error of SQLite stays as it is, because `is_of_work` looks
/// at it.
fn plain(error: BoxError) -> BoxError {
    match error.downcast::<rusqlite::Error>() {
        Ok(error) if matches!(*error, rusqlite::Error::SqliteFailure(..)) => error,
        Ok(error) => error.to_string().into(),
        Err(error) => error.to_string().into(),
    }
}
