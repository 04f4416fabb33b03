use std::fmt;

use rusqlite::Connection;

use super::catch_drop::CatchDrop;
use crate::error::BoxError;
use crate::key::Key;

/// What a handler commits together with "done" in a [`Sqlite`](crate::Sqlite) store.
pub struct SqliteEffect(CatchDrop<Box<Effect>>);

/// Called with the key of the notification.
type Effect = dyn Fn(&Connection, Key) -> Result<(), BoxError> + Send;

impl SqliteEffect {
    pub(super) fn new(
        effect: impl Fn(&Connection, Key) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        Self(CatchDrop::new(Box::new(effect)))
    }

    pub(super) fn run(&self, connection: &Connection, key: Key) -> Result<(), BoxError> {
        self.0.as_ref().map_or(Ok(()), |effect| effect(connection, key))
    }
}

impl fmt::Debug for SqliteEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEffect").finish_non_exhaustive()
    }
}
