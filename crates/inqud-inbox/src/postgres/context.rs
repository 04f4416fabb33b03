//! What a handler can commit together with "done".

use std::sync::Arc;

use super::effect::{Effect, Open, PostgresEffect, Running};
use super::error::{engine, failed};
use super::parameters::PostgresParameters;
use super::statement::{Statement, refused};
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
    /// is retried. Do not end the transaction yourself: if you do, the notification becomes a dead letter, because
    /// another attempt could write twice what you have committed.
    ///
    /// The isolation level is `READ COMMITTED`. Do slow work before the first call, because the transaction
    /// holds a connection, and locks on the rows that it wrote. A statement fails after the
    /// [timeout](crate::Runner::handler_timeout) of the handler, unless the role has a `statement_timeout`.
    /// If you change the role in it, reset it before the handler returns.
    ///
    /// # Errors
    ///
    /// If there is no connection, if the handler has taken its [completion](Self::completion), or if a statement of
    /// [`execute`](Self::execute) fails. If that happens, or if you drop the
    /// future while such a statement runs, the transaction cannot be committed any more, and the notification is
    /// retried.
    pub async fn transaction(&self) -> Result<PostgresTransaction, InboxError> {
        self.check_completion()?;
        let begun = self.effects().iter().find_map(PostgresEffect::transaction);
        let open = match begun {
            Some(open) => open,
            None => self.begin().await?,
        };
        open.check().map_err(failed)?;
        // Statements that were added before come first.
        let mut statements = Vec::new();
        {
            let mut effects = self.effects();
            statements.extend(effects.iter().filter_map(PostgresEffect::statement));
            if let Some(why) = refused(&statements) {
                return Err(failed(why));
            }
            effects.retain(|effect| effect.statement().is_none());
        }
        if !statements.is_empty() {
            let mut running = Running(&open, false);
            tables::run(&open.connection, &statements).await.map_err(engine)?;
            running.1 = true;
        }
        Ok(PostgresTransaction(open))
    }

    async fn begin(&self) -> Result<Arc<Open>, InboxError> {
        let new = Arc::new(self.store().begin(self.handler_timeout()).await?);
        // Two calls may race. The first to get here wins, and the other transaction is rolled back.
        let mut effects = self.effects();
        self.check_completion()?;
        if let Some(begun) = effects.iter().find_map(PostgresEffect::transaction) {
            return Ok(begun);
        }
        effects.push(PostgresEffect(Effect::Transaction(Arc::clone(&new))));
        Ok(new)
    }

    /// Fails if the handler settles the notification in a transaction of its own.
    fn check_completion(&self) -> Result<(), InboxError> {
        if self.completion_is_taken() {
            return Err(failed(
                "`transaction` and `once` cannot be used after `completion`: the notification is settled in a \
                 transaction of yours",
            ));
        }
        Ok(())
    }

    /// Runs a statement in the transaction that settles the notification as done: both are committed, or neither
    /// is.
    ///
    /// It is run after the handler has returned `Ok`, together with "done". It needs no connection while the handler
    /// runs, and shares its commit with other notifications, so it is faster than a
    /// [transaction](Self::transaction) of your own. Statements are run in their order. If one fails, none of
    /// them is committed, and the notification is retried.
    ///
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE` and `WITH` share a commit. Other statements, such as `SELECT` and `CALL`, are
    /// run in a transaction of their own, because they may take locks or change settings. Statements that control the
    /// transaction or the session, such as `COMMIT` and `SET`, are refused: the notification becomes a dead letter.
    ///
    /// If the handler also calls [`transaction`](Self::transaction), the statements are run in that: those so far
    /// before it returns, and later ones before the commit.
    ///
    /// # Example
    ///
    /// ```
    /// use inqud_inbox::{Context, Postgres, Stored};
    /// use std::convert::Infallible;
    /// use tower_inqud::PaymentRequest;
    ///
    /// async fn on_request(request: Stored<PaymentRequest>, cx: Context<Postgres>) -> Result<(), Infallible> {
    ///     if request.status.is_successful() {
    ///         let order = request.client_order_id.clone();
    ///         cx.execute("UPDATE orders SET paid = true WHERE id = $1", [order]);
    ///         cx.execute("INSERT INTO outbox (word, times) VALUES ($1, $2)", ("paid", 1_i32));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn execute(&self, sql: impl Into<String>, parameters: impl PostgresParameters) {
        let statement =
            Statement::new(sql.into(), parameters.into_values(), self.handler_timeout());
        self.push(PostgresEffect(Effect::Statement(Arc::new(statement))));
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
