use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Waker};

use deadpool_postgres::Object;

/// What a handler has done together with "done", in a [`Postgres`](crate::Postgres): its
/// [transaction](crate::Context::transaction).
pub struct PostgresEffect(pub(super) Arc<Open>);

impl fmt::Debug for PostgresEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEffect").finish_non_exhaustive()
    }
}

/// A transaction that is rolled back unless it was ended.
pub(super) struct Open {
    pub(super) connection: Object,
    /// The database's name for it.
    pub(super) id: i64,
    pub(super) is_ended: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_ended {
            // The first poll sends it; whoever gets the connection from the pool is heard after it.
            let rollback = pin!(self.connection.batch_execute("ROLLBACK"));
            let _ = rollback.poll(&mut task::Context::from_waker(Waker::noop()));
        }
    }
}
