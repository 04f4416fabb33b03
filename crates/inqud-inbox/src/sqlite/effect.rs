use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::catch_drop::CatchDrop;
use crate::error::BoxError;
use crate::key::Key;

/// What a handler commits together with "done" in a [`Sqlite`](crate::Sqlite) store.
///
/// It is shared with the writer, so that a settlement can be tried again.
pub struct SqliteEffect(Arc<Mutex<CatchDrop<Box<Effect>>>>);

/// Called with the key of the notification.
type Effect = dyn Fn(&Connection, Key) -> Result<(), BoxError> + Send;

impl SqliteEffect {
    pub(super) fn new(
        effect: impl Fn(&Connection, Key) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        Self(Arc::new(Mutex::new(CatchDrop::new(Box::new(effect)))))
    }

    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(super) fn run(&self, connection: &Connection, key: Key) -> Result<(), BoxError> {
        let effect = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        effect.as_ref().map_or(Ok(()), |effect| effect(connection, key))
    }
}

impl fmt::Debug for SqliteEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEffect").finish_non_exhaustive()
    }
}
