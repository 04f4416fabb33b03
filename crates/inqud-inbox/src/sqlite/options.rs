//! How to open the inbox in a SQLite file.

use std::path::{Path, PathBuf};

use super::store::Sqlite;
use crate::error::InboxError;
use crate::inbox::Inbox;

/// How to open an inbox in a SQLite file.
///
/// [`Inbox::sqlite`] is the short form with the defaults.
///
/// # Example
///
/// ```no_run
/// use inqud_inbox::SqliteOptions;
///
/// # fn run() -> Result<(), inqud_inbox::InboxError> {
/// let inbox = SqliteOptions::new("/dev/shm/inbox.db").allow_tmpfs().open()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open` is called"]
pub struct SqliteOptions {
    pub(super) path: PathBuf,
    pub(super) is_tmpfs_allowed: bool,
}

impl SqliteOptions {
    /// Starts with the defaults, for the file at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), is_tmpfs_allowed: false }
    }

    /// Allows a file on tmpfs or ramfs, which is lost when the machine or its container restarts.
    ///
    /// By default it is refused, because Inqud does not send a notification again that was answered with 200.
    /// Allow it in tests.
    pub fn allow_tmpfs(mut self) -> Self {
        self.is_tmpfs_allowed = true;
        self
    }

    /// Opens the inbox, and creates the file if there is none.
    ///
    /// # Errors
    ///
    /// The same as of [`Inbox::sqlite`].
    pub fn open(self) -> Result<Inbox<Sqlite>, InboxError> {
        Ok(Inbox::new(Sqlite::open(&self)?))
    }
}
