//! How to open the inbox in a SQLite file.

use std::path::{Path, PathBuf};

use super::store::Sqlite;
use crate::error::InboxError;
#[cfg(doc)]
use crate::error::InboxErrorKind;
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
    path: PathBuf,
    is_tmpfs_allowed: bool,
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
        Ok(Inbox::new(Sqlite::open(&self.path, self.is_tmpfs_allowed)?))
    }
}

impl Inbox<Sqlite> {
    /// Opens the inbox in a file, and creates the file if there is none. Work that an earlier process did not
    /// finish is due at once.
    ///
    /// It reads and writes the file, so it blocks for a moment: call it when you start.
    ///
    /// # Errors
    ///
    /// - [`InUse`](InboxErrorKind::InUse): another inbox has the file open.
    /// - [`NetworkFilesystem`](InboxErrorKind::NetworkFilesystem): the file is on a network file system.
    /// - [`MemoryFilesystem`](InboxErrorKind::MemoryFilesystem): the file is on tmpfs or ramfs, and you did not
    ///   [allow it](SqliteOptions::allow_tmpfs).
    /// - [`NotDurable`](InboxErrorKind::NotDurable): SQLite did not accept `journal_mode` or `synchronous`.
    /// - [`UnsupportedSqlite`](InboxErrorKind::UnsupportedSqlite): the program is linked with SQLite before
    ///   3.51.3.
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew): a later version of this crate made the tables.
    /// - [`Store`](InboxErrorKind::Store): the file cannot be opened, or is not a database.
    pub fn sqlite(path: impl AsRef<Path>) -> Result<Self, InboxError> {
        SqliteOptions::new(path).open()
    }
}
