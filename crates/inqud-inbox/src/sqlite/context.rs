//! What a handler can commit together with "done".

use rusqlite::Connection;

use super::effect::SqliteEffect;
use super::settle;
use super::store::Sqlite;
use crate::error::BoxError;
use crate::handler::Context;
use crate::key::Key;

impl Context<Sqlite> {
    /// Calls `effect` in the transaction that settles the notification as done: both are committed, or
    /// neither is.
    ///
    /// Effects run in their order, and only if the handler returns `Ok`. If one fails or panics, or makes the
    /// commit fail, none of them is committed, and the notification is retried.
    ///
    /// The writer thread runs them: be short. The transaction covers other notifications too. If it is rolled back
    /// because of one of those, the effect is undone and called again. That is why it is an `Fn`.
    ///
    /// An effect must not end the transaction, attach another file, or change a setting of the connection. An attempt
    /// is refused, even if the effect ignores the error: nothing of the effect is committed, and the notification
    /// becomes a dead letter at once, and its error names the refused statement. Savepoints, and pragmas that only read, are allowed.
    ///
    /// SQLite itself ends the transaction if a statement with `OR ROLLBACK` fails, but also if the disk is full. Return
    /// its error, or one whose [`source`](std::error::Error::source) it is: if it is not known, the notification is
    /// retried.
    pub fn effect<F, R, E>(&self, effect: F)
    where
        F: Fn(&Connection) -> Result<R, E> + Send + 'static,
        E: Into<BoxError>,
    {
        self.push_effect(move |connection, _| effect(connection).map(drop).map_err(Into::into));
    }

    /// Calls `effect` once for all notifications of this inbox that use the same `idempotency_key`: a key of
    /// your own, such as `ship:order-17`. For each later one it calls `otherwise`, with the key of the first
    /// notification. It calls neither for a [replay](Self::is_replay) of the first one.
    ///
    /// Which one is first is decided when the notification is settled. The idempotency key and the effect are
    /// committed together, or neither is. It is never deleted. The rules of [`effect`](Self::effect) hold for
    /// both closures.
    ///
    /// Do not use it for what can be undone or amended, such as a credited balance. Write the new value into
    /// the row of the object instead.
    pub fn once<F, R, E, G, Q>(&self, idempotency_key: impl Into<String>, effect: F, otherwise: G)
    where
        F: Fn(&Connection) -> Result<R, E> + Send + 'static,
        G: Fn(&Connection, Key) -> Result<Q, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let idempotency_key = idempotency_key.into();
        self.push_effect(move |connection, key| {
            match settle::insert_once(connection, &idempotency_key, key)? {
                None => effect(connection).map(drop).map_err(Into::into),
                // A replay of the notification that was first.
                Some(first) if first == key => Ok(()),
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
