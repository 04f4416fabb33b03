use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::effect::{Effect, Open, PostgresEffect};
use super::ended::Ended;
use super::error::{ANSWER, connection, engine, failed};
use super::statement::{Statement, refused};
use super::tables;
use crate::error::{InboxError, error_chain};
use crate::key::Key;
use crate::store::Ticket;

/// The result of [`Context::once`](crate::Context::once).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use = "only the first notification may have the effect"]
pub enum Once {
    /// This notification is the first to use the idempotency key.
    First,
    /// The idempotency key was first used by the notification with this key. For a
    /// [replay](crate::Context::is_replay) of that one it is its own.
    After(Key),
}

/// The transaction of a handler.
///
/// Returned by [`Context::transaction`](crate::Context::transaction). It dereferences to
/// [`tokio_postgres::Client`]. You may use savepoints, but do not send `COMMIT` or `ROLLBACK`.
pub struct PostgresTransaction(pub(super) Arc<Open>);

impl Deref for PostgresTransaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.connection
    }
}

impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTransaction").finish_non_exhaustive()
    }
}

/// What became of a transaction that was to be committed.
pub(super) enum Sent {
    Ended(Ended),
    /// Another transaction has locked the object. Nothing was committed.
    Locked(Error),
    /// The connection was lost, so it is not known.
    Unknown(Option<Box<Open>>),
}

/// Settles a notification as done in the transaction of its handler, and commits it.
pub(super) async fn complete(ticket: &Ticket, effects: Vec<PostgresEffect>) -> Sent {
    match parts(effects) {
        Ok((Some(open), statements)) => settle(open, ticket, &statements).await,
        Ok((None, _)) => Sent::Unknown(None),
        Err(ended) => Sent::Ended(ended),
    }
}

/// Runs the statements in the transaction, settles the notification as done, and commits.
pub(super) async fn settle(mut open: Open, ticket: &Ticket, statements: &[Arc<Statement>]) -> Sent {
    // The server ends a statement that takes too long, and says so. This is for when it does not.
    let limit = open.limit.saturating_add(ANSWER);
    // Nothing is sent before they have succeeded: one that fails on this side fails nothing on the server.
    match timeout(limit, tables::run(&open.connection, statements)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if tables::is_io(&error) => return Sent::Unknown(Some(Box::new(open))),
        Ok(Err(error)) => return Sent::Ended(Ended::EffectFailed(error_chain(&error))),
        Err(_) => {
            let error = "the statements did not end within the timeout of the handler";
            return Sent::Ended(Ended::EffectFailed(error.to_owned()));
        }
    }
    let complete = tables::complete(&open.connection, ticket, open.id);
    match timeout(limit, complete).await {
        Ok(Ok(freed)) => {
            open.is_ended = true;
            Sent::Ended(Ended::Freed(freed))
        }
        Ok(Err(error)) if tables::is_io(&error) => Sent::Unknown(Some(Box::new(open))),
        Ok(Err(error)) => match error.code().map(SqlState::code) {
            Some(tables::LEASE_LOST | tables::DONE_ALREADY) => Sent::Ended(Ended::Expired),
            Some(tables::ENDED) => Sent::Ended(Ended::Refused(error_chain(&error))),
            _ if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Sent::Locked(error),
            _ => Sent::Ended(Ended::EffectFailed(error_chain(&error))),
        },
        Err(_) => Sent::Unknown(Some(Box::new(open))),
    }
}

/// Returns the transaction, and the statements to run in it before the commit.
fn parts(effects: Vec<PostgresEffect>) -> Result<(Option<Open>, Vec<Arc<Statement>>), Ended> {
    let failed = |error: &str| Ended::EffectFailed(error.to_owned());
    let (mut transaction, mut statements) = (None, Vec::new());
    for effect in effects {
        match effect.0 {
            // If a task that the handler spawned still holds it, it could write after the commit.
            Effect::Transaction(open) => {
                let in_use =
                    "the transaction is still in use: let go of it before the handler returns";
                let open = Arc::into_inner(open).ok_or_else(|| failed(in_use))?;
                open.check().map_err(failed)?;
                transaction = Some(open);
            }
            Effect::Statement(statement) => statements.push(statement),
            Effect::Sent => {}
        }
    }
    match refused(&statements) {
        Some(why) => Err(Ended::Refused(why)),
        None => Ok((transaction, statements)),
    }
}

/// Commits without settling anything.
pub(super) async fn commit(pool: &Pool, effects: Vec<PostgresEffect>) -> Result<(), InboxError> {
    let (open, statements) = parts(effects).map_err(|ended| match ended {
        Ended::EffectFailed(why) | Ended::Refused(why) => failed(why),
        Ended::Freed(_) | Ended::Expired => failed("nothing to commit"),
    })?;
    let mut open = match open {
        Some(open) => open,
        None => begin(connection(pool).await?, limit(&statements)).await.map_err(engine)?,
    };
    tables::run(&open.connection, &statements).await.map_err(engine)?;
    // COMMIT alone does not report an error if the transaction has failed. SELECT does.
    open.connection.batch_execute("SELECT; COMMIT").await.map_err(engine)?;
    open.is_ended = true;
    Ok(())
}

/// How long one of the statements may take.
pub(super) fn limit(statements: &[Arc<Statement>]) -> Duration {
    statements.iter().map(|statement| statement.limit).max().unwrap_or(ANSWER)
}

pub(super) async fn begin(connection: Object, handler_timeout: Duration) -> Result<Open, Error> {
    let mut open = Open {
        connection,
        id: 0,
        limit: handler_timeout,
        is_ended: false,
        is_incomplete: AtomicBool::new(false),
        cleans: false,
    };
    open.id = tables::begin(&open.connection, handler_timeout).await?;
    Ok(open)
}
