//! Settling a notification in a transaction of the handler's own.

use std::fmt::{self, Write as _};

use super::effect::PostgresEffect;
use super::error::failed;
use super::store::Postgres;
use super::tables::{Found, code};
use crate::error::InboxError;
use crate::handler::Context;
use crate::key::Key;
use crate::store::{Outcome, Settled, Settlement, Ticket};
use tower_inqud::Processed;

/// Why a notification becomes a dead letter if its handler took the completion and returned `Ok` without using it.
/// Another attempt could have the effect twice.
const NOT_COMPLETED: &str = "the handler took its completion and returned Ok, but the notification is not done: run \
    `Completion::SQL` with the token in the transaction of the effect, and commit it";

/// Why a statement that was added after the completion was taken is not run.
const BOTH: &str = "the handler called `execute` after `completion`, and the statement was not run: run it in the \
    transaction that completes the notification";

/// Settles a notification as done in a transaction of your own, on a connection of any driver.
///
/// Returned by [`Context::completion`]. In the transaction that has your effect, run [`SQL`](Self::SQL) with the
/// [token](Self::token) as its parameter, and commit: the effect and "done" are both committed, or neither is.
///
/// [The guide](crate::guide::drivers) has examples for sqlx, SeaORM, Diesel, tokio-postgres and deadpool.
#[must_use = "the notification becomes a dead letter unless the handler completes it"]
pub struct Completion {
    token: String,
}

impl Completion {
    /// The statement that settles the notification. It has one parameter, a text: the [token](Self::token).
    ///
    /// It returns nothing. It fails with one of these SQLSTATEs if the notification cannot be done by this claim. Roll
    /// back then, and return the error from the handler: the runner finds out what became of the notification.
    ///
    /// | SQLSTATE | because |
    /// | --- | --- |
    /// | `IQ001` | the lease has expired, and another runner has claimed the notification |
    /// | `IQ003` | the notification is done already, and its effects are committed |
    /// | `IQ004` | the notification is not in this database |
    /// | `55P03` | another transaction has locked the object for a second |
    pub const SQL: &str = "SELECT inqud_inbox.complete($1)";

    /// Returns the token, which identifies this claim of the notification.
    ///
    /// Of the body it contains the status, the times and a hash, but no ids, names or amounts. It is void once the
    /// notification is claimed again.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    fn new(ticket: &Ticket, key: Key) -> Self {
        let Ticket { seq, claim, verdict, processed, newest_first, .. } = ticket;
        let mut token = format!("{seq}-{key}-{claim}-{}-{newest_first}-", code(*verdict));
        for byte in processed.iter().flat_map(Processed::to_bytes) {
            _ = write!(token, "{byte:02x}");
        }
        Self { token }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("token", &self.token).finish()
    }
}

impl Context<Postgres> {
    /// Returns what a transaction of your own needs to settle the notification as done, on a connection of any driver to
    /// the same database.
    ///
    /// Run [`Completion::SQL`] as the last statement of the transaction that has your effect, and commit right after it,
    /// because it locks the object. The effect and "done" are both committed, or neither is. The runner then finds the
    /// notification done, even if the handler fails after the commit, or if the answer to the commit is lost.
    ///
    /// A handler that takes the completion must use it. If it returns `Ok` and the notification is not done, the
    /// notification becomes a dead letter, because another attempt could have the effect twice. If it returns an error
    /// before the commit, the notification is retried as usual.
    ///
    /// [`transaction`](Self::transaction), [`execute`](Self::execute) and [`once`](Self::once) commit in a transaction of
    /// the inbox, so a handler uses either those or this.
    ///
    /// # Errors
    ///
    /// If the handler has used one of those before, or if the context is that of a
    /// [`TestContext`](crate::testing::TestContext), which has no notification to settle.
    ///
    /// # Example
    ///
    /// With sqlx. [The guide](crate::guide::drivers) has the other drivers.
    ///
    /// ```ignore
    /// async fn on_request(pool: PgPool, request: Stored<PaymentRequest>, cx: Context<Postgres>) -> Result<(), BoxError> {
    ///     let done = cx.completion()?;
    ///     let mut transaction = pool.begin().await?;
    ///     sqlx::query("UPDATE orders SET paid = true WHERE id = $1")
    ///         .bind(&request.client_order_id)
    ///         .execute(&mut *transaction)
    ///         .await?;
    ///     sqlx::query(Completion::SQL).bind(done.token()).execute(&mut *transaction).await?;
    ///     Ok(transaction.commit().await?)
    /// }
    /// ```
    pub fn completion(&self) -> Result<Completion, InboxError> {
        let Some(ticket) = self.ticket() else {
            return Err(failed("a `TestContext` has no notification to settle"));
        };
        // Locked, so that no transaction of the inbox begins at the same time.
        let effects = self.effects();
        if !effects.is_empty() {
            return Err(failed(
                "`completion` cannot be used after `transaction`, `execute` or `once`: they commit on another connection",
            ));
        }
        self.take_completion();
        drop(effects);
        Ok(Completion::new(ticket, self.key()))
    }
}

impl Postgres {
    /// Settles a claim whose completion was taken: finds out first whether the handler has settled it.
    pub(super) async fn settle_taken(
        &self,
        settlement: &mut Settlement<PostgresEffect>,
    ) -> Result<Settled, InboxError> {
        if let Outcome::Done(effects) = &mut settlement.outcome
            && !effects.is_empty()
        {
            effects.clear();
            return Ok(Settled::EffectRefused(BOTH.to_owned()));
        }
        let ticket = settlement.ticket.clone();
        match self.look_at_completion(&ticket).await? {
            Found::Done(freed) => return Ok(self.completed(&ticket, freed)),
            Found::Expired => return Ok(Settled::LeaseExpired),
            Found::Unsettled => {}
        }
        if matches!(settlement.outcome, Outcome::Done(_)) {
            return Ok(Settled::EffectRefused(NOT_COMPLETED.to_owned()));
        }
        let settled = self.settle_claim(settlement).await?;
        if settled == Settled::LeaseExpired
            && let Found::Done(freed) = self.look_at_completion(&ticket).await?
        {
            // The transaction of the handler was still running, and has committed in between.
            return Ok(self.completed(&ticket, freed));
        }
        Ok(settled)
    }
}
