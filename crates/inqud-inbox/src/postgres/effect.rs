use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Waker};
use std::time::Duration;

use deadpool_postgres::Object;

use super::statement::Statement;
use super::tables::CLEAN;

/// What a handler commits together with "done" in a [`Postgres`](crate::Postgres) store: its
/// [transaction](crate::Context::transaction), or a [statement](crate::Context::execute).
pub struct PostgresEffect(pub(super) Effect);

pub(super) enum Effect {
    Transaction(Arc<Open>),
    Statement(Arc<Statement>),
    /// The transaction was sent to be committed, and the answer is lost.
    Sent,
}

impl PostgresEffect {
    pub(super) fn statement(&self) -> Option<Arc<Statement>> {
        match &self.0 {
            Effect::Statement(statement) => Some(Arc::clone(statement)),
            Effect::Transaction(_) | Effect::Sent => None,
        }
    }

    pub(super) fn transaction(&self) -> Option<Arc<Open>> {
        match &self.0 {
            Effect::Transaction(open) => Some(Arc::clone(open)),
            Effect::Statement(_) | Effect::Sent => None,
        }
    }
}

impl fmt::Debug for PostgresEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEffect").finish_non_exhaustive()
    }
}

/// A transaction that is rolled back if it is dropped before it ends.
pub(super) struct Open {
    pub(super) connection: Object,
    /// The id that Postgres gave the transaction.
    pub(super) id: i64,
    /// How long the handler may take.
    pub(super) limit: Duration,
    pub(super) is_ended: bool,
    /// Whether statements of [`execute`](crate::Context::execute) may not have run in it, because running them failed or
    /// was dropped. Then it must not be committed.
    pub(super) is_incomplete: AtomicBool,
    /// Whether to clean the session when it ends, and not only when the next transaction begins.
    pub(super) cleans: bool,
}

impl Open {
    /// Fails if the transaction must not be committed.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.is_incomplete.load(Ordering::Relaxed) {
            return Err(
                "the call of `transaction` that was to run the statements of `execute` failed, or was \
                 dropped before it returned",
            );
        }
        Ok(())
    }
}

/// Marks the transaction as incomplete, unless all statements have run.
pub(super) struct Running<'o>(pub(super) &'o Open, pub(super) bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.is_incomplete.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The first poll sends the statement. The server reads it before anything that the next user of the connection
        // sends.
        let send = |sql| {
            let statement = pin!(self.connection.batch_execute(sql));
            let _ = statement.poll(&mut task::Context::from_waker(Waker::noop()));
        };
        if !self.is_ended {
            send("ROLLBACK");
        }
        if self.cleans {
            send(CLEAN);
        }
    }
}
