//! What a handler can commit together with "done".

use std::sync::Arc;

use super::effect::PostgresEffect;
use super::error::engine;
use super::store::Postgres;
use super::tables;
use super::transaction::{Once, PostgresTransaction};
use crate::error::InboxError;
use crate::handler::Context;

impl Context<Postgres> {
    /// Returns the transaction that settles the notification as done: what you write in it and "done" are both
    /// committed, or neither is.
    ///
    /// The first call begins it, and later calls return the same one. The runner commits it after the handler
    /// returned `Ok`. Drop what this returns before that. If the commit fails, a statement in it has failed,
    /// or a task of yours still holds it when the handler returns, nothing is committed and the notification
    /// is retried. Do not end the transaction yourself: after a `COMMIT` of yours the handler is called again.
    ///
    /// The isolation level is `READ COMMITTED`. Do slow work before the first call, because the transaction
    /// holds a connection, and locks on the rows that it wrote. A statement fails after the
    /// [timeout](crate::Runner::handler_timeout) of the handler, unless the role has a `statement_timeout`.
    /// If you change the role in it, reset it before the handler returns.
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
        // Two calls may race. The first to get here wins, and the other transaction is rolled back.
        let mut effects = self.effects();
        if effects.is_empty() {
            effects.push(PostgresEffect(Arc::clone(&new)));
        }
        let begun = effects.first().map_or(new, |begun| Arc::clone(&begun.0));
        Ok(PostgresTransaction(begun))
    }

    /// Tells whether this notification is the first of this inbox to use `idempotency_key`: a key of your own,
    /// such as `ship:order-17`.
    ///
    /// The idempotency key is stored in the [transaction](Self::transaction) of the handler: it and what you
    /// write are both committed, or neither is. It is never deleted. If another open transaction has used the
    /// same key, this waits until that one ends. Use several keys in the same order everywhere. Otherwise two
    /// handlers can deadlock, and Postgres fails one of them, which is retried.
    ///
    /// Do not use it for what can be undone or amended, such as a credited balance. Write the new value into
    /// the row of the object instead.
    ///
    /// # Errors
    ///
    /// If there is no connection, or the statement fails.
    pub async fn once(&self, idempotency_key: impl Into<String>) -> Result<Once, InboxError> {
        let idempotency_key = idempotency_key.into();
        let transaction = self.transaction().await?;
        let first =
            tables::insert_once(&transaction.0.connection, &idempotency_key, self.key()).await;
        Ok(first.map_err(engine)?.map_or(Once::First, Once::After))
    }
}
