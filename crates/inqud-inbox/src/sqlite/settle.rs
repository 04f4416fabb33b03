//! Settling claims, together with the effects of the merchant.

use std::error::Error;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Result, params};

use super::catch_drop::contain;
use super::effect::SqliteEffect;
use super::row::{State, code, micros};
use super::sandbox::Breach;
use super::tables::Tables;
use super::writer::is_of_work;
use crate::error::BoxError;
use crate::key::Key;
use crate::store;
use crate::store::{Outcome, Settled, Settlement, Ticket};
use tower_inqud::Processed;

/// How merchant code ended.
pub(super) enum Ran<R> {
    Done(R),
    Failed(BoxError),
    /// It did what it must not do, which is described.
    Refused(String),
}

impl Tables<'_> {
    pub(super) fn settle(&mut self, settlement: &Settlement<SqliteEffect>) -> Result<Settled> {
        let Settlement { ticket, outcome } = settlement;
        let Ticket { seq, claim, verdict, processed, newest_first, .. } = ticket;
        let claimed = self
            .claimed
            .query_row([seq, claim], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?)));
        let Some((number, key)) = claimed.optional()? else { return Ok(Settled::LeaseExpired) };
        let now = self.now();
        let mut is_decoded_due = false;
        let mut handled = None;
        let close = match outcome {
            Outcome::Done(effects) => {
                let key = Key::from_bytes(key);
                let all = |connection: &Connection| {
                    let mut effects = effects.iter();
                    effects.try_for_each(|effect| effect.run(connection, key)).map_err(plain)
                };
                // Without effects, the two statements of a savepoint are saved.
                let ran = if effects.is_empty() {
                    Ran::Done(())
                } else {
                    self.in_savepoint("the effect", all)?
                };
                match ran {
                    Ran::Done(()) => {}
                    Ran::Failed(error) => return Ok(Settled::EffectFailed(error.to_string())),
                    Ran::Refused(what) => return Ok(Settled::EffectRefused(what)),
                }
                handled = processed.as_ref().map(Processed::to_bytes);
                Some((State::Done, None))
            }
            Outcome::Skipped => {
                Some((State::Skipped, ticket.is_replay.then_some(store::SKIPPED_REPLAY)))
            }
            Outcome::Review => Some((State::Review, Some(store::REVIEW_WITHOUT_TIME))),
            Outcome::Dead { error } => Some((State::Dead, Some(&**error))),
            Outcome::Decoded(record) => {
                is_decoded_due = self.replace_decoded(*seq, record, now)?;
                None
            }
            Outcome::Retry { after, error } => {
                let retry_at = now.saturating_add(micros(*after));
                self.retry.execute(params![seq, retry_at, error])?;
                None
            }
        };
        if let Some((state, error)) = close {
            self.close.execute(params![seq, state as i64, now, error, code(*verdict)])?;
        }
        let due_at = self.free(number, *newest_first, handled.as_deref())?;
        let next_is_due = is_decoded_due || due_at.is_some_and(|due_at| due_at <= now);
        Ok(Settled::Done { next_is_due })
    }

    /// Runs merchant code in a savepoint, and rolls that back if the code fails, panics, or does what it must not do.
    ///
    /// An error means that the whole transaction is lost. If the merchant code ended the transaction, `is_ended` is set.
    pub(super) fn in_savepoint<R>(
        &mut self,
        who: &str,
        work: impl FnOnce(&Connection) -> std::result::Result<R, BoxError>,
    ) -> Result<Ran<R>> {
        self.open.execute([])?;
        let contained = || contain(|| work(self.connection));
        let (done, breach) = self.sandbox.run(self.connection, contained);
        let done = done.unwrap_or_else(|| Err(format!("{who} panicked").into()));
        match (done, breach) {
            (Ok(done), None) => {
                self.keep.execute([])?;
                Ok(Ran::Done(done))
            }
            (Err(error), None) => {
                self.roll_back()?;
                Ok(Ran::Failed(error))
            }
            (done, Some(Breach::Refused { what, has_ended })) => {
                contain(|| drop(done));
                if has_ended {
                    self.is_ended = true;
                } else {
                    self.roll_back()?;
                }
                Ok(Ran::Refused(format!("{who} {what}")))
            }
            (done, Some(Breach::Ended)) => {
                let mut what = format!(
                    "{who} ended the transaction: a statement with OR ROLLBACK or RAISE(ROLLBACK) failed (use OR \
                     ABORT or RAISE(ABORT)), or the disk or the memory did"
                );
                let ran = match done.map_err(|error| error.downcast::<rusqlite::Error>()) {
                    Err(Ok(error)) if !is_of_work(&error) => return Err(*error),
                    Err(Ok(error)) if is_constraint(&error) => {
                        Ran::Refused(format!("{what}: {error}"))
                    }
                    // The merchant code hides the cause.
                    Err(Ok(error)) => Ran::Failed(format!("{what}: {error}").into()),
                    Err(Err(error)) => {
                        if let Some(text) = contain(|| error.to_string()) {
                            what = format!("{what}: {text}");
                        }
                        contain(|| drop(error));
                        Ran::Failed(what.into())
                    }
                    Ok(done) => {
                        contain(|| drop(done));
                        Ran::Failed(what.into())
                    }
                };
                self.is_ended = true;
                Ok(ran)
            }
        }
    }

    fn roll_back(&self) -> Result<()> {
        self.connection.execute_batch("ROLLBACK TO inqud_inbox_effect; RELEASE inqud_inbox_effect")
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

/// Whether a row was refused, by a constraint or by `RAISE`.
fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Replaces a merchant's error by its text, so that no merchant code runs when the error is later formatted
/// or dropped. An error of SQLite stays one, also if the merchant wrapped it, because its code says who caused it.
fn plain(error: BoxError) -> BoxError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    for depth in 0..8 {
        let Some(it) = cause else { break };
        if let Some(rusqlite::Error::SqliteFailure(code, text)) = it.downcast_ref() {
            let text = if depth == 0 { text.clone() } else { Some(error.to_string()) };
            return rusqlite::Error::SqliteFailure(*code, text).into();
        }
        cause = it.source();
    }
    error.to_string().into()
}
