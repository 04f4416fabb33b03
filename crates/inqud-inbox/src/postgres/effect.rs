use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Waker};

use deadpool_postgres::Object;

use super::error::{engine, failed};
use crate::error::InboxError;

/// The [transaction](crate::Context::transaction) that a handler commits together with "done" in a
/// [`Postgres`](crate::Postgres) store.
pub struct PostgresEffect(pub(super) Arc<Open>);

impl PostgresEffect {
    /// Returns the transaction, or an error if it is still in use.
    pub(super) fn into_open(self) -> Result<Open, &'static str> {
        let in_use = "the transaction is still in use: let go of it before the handler returns";
        Arc::into_inner(self.0).ok_or(in_use)
    }

    /// Commits without settling anything.
    pub(super) async fn commit(self) -> Result<(), InboxError> {
        let mut open = self.into_open().map_err(failed)?;
        // COMMIT alone does not report an error if the transaction has failed. SELECT does.
        open.connection.batch_execute("SELECT; COMMIT").await.map_err(engine)?;
        open.is_ended = true;
        Ok(())
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
    pub(super) is_ended: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_ended {
            // The first poll sends the ROLLBACK. The server reads it before anything that the next user of
            // the connection sends.
            let rollback = pin!(self.connection.batch_execute("ROLLBACK"));
            let _ = rollback.poll(&mut task::Context::from_waker(Waker::noop()));
        }
    }
}
