//! What a handler can do beside "done".

use std::sync::Arc;

use super::effect::PostgresEffect;
use super::error::engine;
use super::store::Postgres;
use super::tables;
use super::transaction::{Once, PostgresTransaction};
use crate::error::InboxError;
use crate::handler::Context;

impl Context<Postgres> {
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
    /// [timeout](crate::Runner::handler_timeout), unless the role has a `statement_timeout` anyway. A role
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
        let new = Arc::new(self.store().begin(self.handler_timeout()).await?);
        // Of two calls at the same time the first to get here wins; the other's is rolled back.
        let mut effects = self.effects();
        if effects.is_empty() {
            effects.push(PostgresEffect(Arc::clone(&new)));
        }
        let begun = effects.first().map_or(new, |begun| Arc::clone(&begun.0));
        Ok(PostgresTransaction(begun))
    }
}

impl Context<Postgres> {
    /// Whether this notification is the first of this inbox to name `idempotency_key`: a key of your own, such as
    /// `ship:order-17`.
    ///
    /// The key is kept in the [transaction](Self::transaction) of the handler, with what that writes, or
    /// neither is; it is never deleted. If another transaction has named it and is not over, this waits for
    /// that. Name several keys in the same order everywhere, or two handlers can wait for each other until
    /// Postgres ends one, which is tried again.
    ///
    /// For what can be undone or amended, such as a credited balance, write the target into the row of the
    /// object instead.
    ///
    /// # Errors
    ///
    /// If there is no connection, or the statement fails.
    pub async fn once(&self, idempotency_key: &str) -> Result<Once, InboxError> {
        let transaction = self.transaction().await?;
        let marked =
            tables::insert_once(&transaction.0.connection, idempotency_key, self.key()).await;
        Ok(marked.map_err(engine)?.map_or(Once::First, Once::After))
    }
}
