use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError};
use tokio::time::timeout;
use tokio_postgres::Error;

use crate::error::{BoxError, InboxError, InboxErrorKind};

/// How long to wait for a connection. Less than the timeout of a [`Receiver`](crate::Receiver), so that the
/// 503 is logged with this reason and not as a timeout.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// How long to wait for an answer of the database.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn within<R>(
    limit: Duration,
    work: impl Future<Output = Result<R, InboxError>>,
) -> Result<R, InboxError> {
    timeout(limit, work).await.unwrap_or_else(|elapsed| Err(failed(elapsed)))
}

pub(super) async fn connection(pool: &Pool) -> Result<Object, InboxError> {
    within(CONNECT, async { pool.get().await.map_err(no_connection) }).await
}

/// A connection that goes back to the pool only after success. Otherwise it may still be in a transaction,
/// and the next user's work would be lost with that.
pub(super) struct PooledClient(Option<Object>);

impl PooledClient {
    pub(super) fn of(connection: Object) -> Self {
        Self(Some(connection))
    }

    pub(super) fn client(&self) -> Result<&ClientWrapper, InboxError> {
        self.0.as_deref().ok_or_else(|| InboxError::new(InboxErrorKind::Closed))
    }

    pub(super) fn give_back<R>(mut self, done: R) -> R {
        drop(self.0.take());
        done
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

fn no_connection(error: PoolError) -> InboxError {
    match error {
        PoolError::Closed => InboxError::new(InboxErrorKind::Closed),
        error => failed(error),
    }
}

pub(super) fn engine(error: Error) -> InboxError {
    failed(error)
}

pub(super) fn failed(error: impl Into<BoxError>) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}
