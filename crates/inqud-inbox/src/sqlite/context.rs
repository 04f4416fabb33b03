//! What a handler can do beside "done".

use rusqlite::Connection;

use super::effect::SqliteEffect;
use super::store::Sqlite;
use super::tables;
use crate::error::BoxError;
use crate::handler::Context;
use crate::key::Key;

impl Context<Sqlite> {
    /// Has `effect` done in the transaction that settles the notification as done: both are kept, or
    /// neither. Effects of one handler are done in their order, and only if it returns `Ok`.
    ///
    /// If one fails or panics, or makes the commit fail, none of them is kept, and the notification is
    /// tried again. The writer does them, so be short, and leave the transaction open. It covers other
    /// notifications too: if it is rolled back, what an effect did is undone, and it is called again.
    pub fn effect<F, R, E>(&self, effect: F)
    where
        F: Fn(&Connection) -> Result<R, E> + Send + 'static,
        E: Into<BoxError>,
    {
        self.push_effect(move |connection, _| effect(connection).map(drop).map_err(Into::into));
    }

    /// Has `effect` done once for all notifications of this inbox that name the same `idempotency_key`: a key of your
    /// own, such as `ship:order-17`. For each later one `otherwise` is called, with the key of the
    /// notification that was first.
    ///
    /// Which one is first is decided when the notification is settled. The key is kept with the effect, or
    /// neither is; it is never deleted. Both closures are under the rules of [`effect`](Self::effect).
    ///
    /// For what can be undone or amended, such as a credited balance, write the target into the row of the
    /// object instead.
    pub fn once<F, R, E, G, Q>(&self, idempotency_key: impl Into<String>, effect: F, otherwise: G)
    where
        F: Fn(&Connection) -> Result<R, E> + Send + 'static,
        G: Fn(&Connection, Key) -> Result<Q, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let idempotency_key = idempotency_key.into();
        self.push_effect(move |connection, key| {
            match tables::insert_once(connection, &idempotency_key, key)? {
                None => effect(connection).map(drop).map_err(Into::into),
                Some(first) => otherwise(connection, first).map(drop).map_err(Into::into),
            }
        });
    }

    fn push_effect(
        &self,
        effect: impl Fn(&Connection, Key) -> Result<(), BoxError> + Send + 'static,
    ) {
        self.push(SqliteEffect::new(effect));
    }
}
