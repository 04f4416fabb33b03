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

/// The answer of [`Context::once`](crate::Context::once).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use = "the effect belongs to the first only"]
pub enum Once {
    /// It is the first: do it.
    First,
    /// The notification with this key was the first.
    After(Key),
}

/// A connection amid the transaction of a handler; see [`Context::transaction`](crate::Context::transaction). It dereferences to
/// [`tokio_postgres::Client`]. Do not send it `COMMIT` or `ROLLBACK`; savepoints are fine.
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

/// Settles as done, in the transaction itself, and commits it. There is never a second one.
pub(super) async fn commit(effects: Vec<PostgresEffect>, ticket: &Ticket) -> Settled {
    let Some(effect) = effects.into_iter().next() else { return Settled::LeaseExpired };
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
