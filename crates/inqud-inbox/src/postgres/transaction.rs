use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::{Client, Error};

use super::{ANSWER, Postgres, engine, tables, within};
use crate::error::InboxError;
use crate::error::described;
use crate::handler::Cx;
use crate::key::Key;
use crate::store::{Settled, Ticket};

impl Cx<Postgres> {
    /// The transaction that settles the notification as done: what is written in it and "done" are both
    /// committed, or neither. It begins with the first call; later calls give the same. The handler need
    /// not give it back: let go of it before you return.
    ///
    /// It is committed only if the handler returns `Ok`. If that fails, nothing is kept, and the
    /// notification is tried again; so too if a statement had failed, or if a task of yours still holds it
    /// when the handler returns. Do not end it yourself: a `COMMIT` of yours keeps what was written, and
    /// the handler is called again.
    ///
    /// The isolation is `READ COMMITTED`. Do slow things before you begin: it holds a connection, and
    /// the locks of what it wrote. A statement ends after the runner's
    /// [deadline](super::super::Runner::deadline), unless the role has a `statement_timeout` anyway. A role
    /// that was set in it has to be reset before the handler returns.
    ///
    /// # Errors
    ///
    /// If there is no connection.
    pub async fn transaction(&self) -> Result<PostgresTransaction, InboxError> {
        let begun = self.effects().first().map(|begun| Arc::clone(&begun.0));
        if let Some(begun) = begun {
            return Ok(PostgresTransaction(begun));
        }
        let new = Arc::new(self.store().begin(self.deadline()).await?);
        // Of two calls at the same time the first to get here wins; the other's is rolled back.
        let mut effects = self.effects();
        if effects.is_empty() {
            effects.push(PostgresEffect(Arc::clone(&new)));
        }
        let begun = effects.first().map_or(new, |begun| Arc::clone(&begun.0));
        Ok(PostgresTransaction(begun))
    }
}

impl Cx<Postgres> {
    /// Whether this notification is the first of this inbox to name `mark`: a key of your own, such as
    /// `ship:order-17`.
    ///
    /// The mark is kept in the [transaction](Self::transaction) of the handler, with what that writes, or
    /// neither is; it is never deleted. If another transaction has named it and is not over, this waits for
    /// that. Name several marks in the same order everywhere, or two handlers can wait for each other until
    /// Postgres ends one, which is tried again.
    ///
    /// For what can be undone or amended, such as a credited balance, write the target into the row of the
    /// object instead.
    ///
    /// # Errors
    ///
    /// If there is no connection, or the statement fails.
    pub async fn once(&self, mark: &str) -> Result<Once, InboxError> {
        let transaction = self.transaction().await?;
        let marked = tables::mark(&transaction.0.connection, mark, self.key()).await;
        Ok(marked.map_err(engine)?.map_or(Once::First, Once::After))
    }
}

/// The answer of [`Cx::once`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use = "the effect belongs to the first only"]
pub enum Once {
    /// It is the first: do it.
    First,
    /// The notification with this key was the first.
    After(Key),
}

/// A connection amid the transaction of a handler; see [`Cx::transaction`]. It dereferences to
/// [`tokio_postgres::Client`]. Do not send it `COMMIT` or `ROLLBACK`; savepoints are fine.
pub struct PostgresTransaction(Arc<Open>);

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

/// What a handler has done together with "done", in a [`Postgres`]: its
/// [transaction](Cx::transaction).
pub struct PostgresEffect(Arc<Open>);

/// Settles as done, in the transaction itself, and commits it. There is never a second one.
pub(super) async fn commit(effects: Vec<PostgresEffect>, ticket: &Ticket) -> Settled {
    let Some(mut open) = effects.into_iter().next().and_then(|it| Arc::into_inner(it.0)) else {
        let error = "the transaction is still in use: let go of it before the handler returns";
        return Settled::EffectFailed(error.to_owned());
    };
    let settled = within(ANSWER, async {
        tables::settle_in(&open.connection, ticket, open.id).await.map_err(engine)
    });
    match settled.await {
        Ok(settled) => {
            open.is_ended = settled == Settled::Done;
            settled
        }
        Err(error) => Settled::EffectFailed(described(&error)),
    }
}

impl fmt::Debug for PostgresEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEffect").finish_non_exhaustive()
    }
}

/// A transaction that is rolled back unless it was ended.
pub(super) struct Open {
    connection: Object,
    /// The database's name for it.
    id: i64,
    is_ended: bool,
}

impl Open {
    pub(super) async fn begin(connection: Object, deadline: Duration) -> Result<Self, Error> {
        let mut open = Self { connection, id: 0, is_ended: false };
        open.id = tables::begin(&open.connection, deadline).await?;
        Ok(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_ended {
            // The first poll sends it; whoever gets the connection from the pool is heard after it.
            let rollback = pin!(self.connection.batch_execute("ROLLBACK"));
            let _ = rollback.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}
