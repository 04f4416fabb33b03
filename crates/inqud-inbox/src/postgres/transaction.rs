use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::{Client, Error};

use super::effect::{Open, PostgresEffect};
use super::error::{ANSWER, engine, within};
use super::tables;
use crate::error::error_chain;
use crate::key::Key;
use crate::store::{Settled, Ticket};

/// The result of [`Context::once`](crate::Context::once).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use = "only the first notification may have the effect"]
pub enum Once {
    /// This notification is the first to use the idempotency key.
    First,
    /// The idempotency key was first used by the notification with this key.
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

/// Settles a notification as done in the transaction of its handler, and commits it. A handler has at most
/// one transaction, so `effects` has at most one element.
pub(super) async fn commit(effects: Vec<PostgresEffect>, ticket: &Ticket) -> Settled {
    let Some(effect) = effects.into_iter().next() else { return Settled::LeaseExpired };
    // If a task that the handler spawned still holds the transaction, it could write after the commit.
    let mut open = match effect.into_open() {
        Ok(open) => open,
        Err(error) => return Settled::EffectFailed(error.to_owned()),
    };
    let settled = within(ANSWER, async {
        tables::settle_in(&open.connection, ticket, open.id).await.map_err(engine)
    });
    match settled.await {
        Ok(settled) => {
            open.is_ended = settled == Settled::Done;
            settled
        }
        Err(error) => Settled::EffectFailed(error_chain(&error)),
    }
}

pub(super) async fn begin(connection: Object, handler_timeout: Duration) -> Result<Open, Error> {
    let mut open = Open { connection, id: 0, is_ended: false };
    open.id = tables::begin(&open.connection, handler_timeout).await?;
    Ok(open)
}
