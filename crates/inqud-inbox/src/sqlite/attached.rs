//! The inbox in a file that another process holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{engine, failed};
use super::file::{check_version, connect, is_on_network};
use super::store::Sqlite;
use super::{schema, tables};
use crate::error::{InboxError, InboxErrorKind};
use crate::inbox::Inbox;
use crate::key::Key;
use crate::store::{Entry, List, Stats};

/// How many rows one commit changes at most.
const GROUP: usize = 256;

/// As long as SQLite lets one that waits for a lock sleep, so that whoever waits has it next.
const PAUSE: Duration = Duration::from_millis(100);

/// A look into the file of an inbox while another process holds that open, for a command line beside
/// the server; made by [`Inbox::attach`].
///
/// It can neither receive nor process: of two that do, each would take the other's work for that of a
/// process that is gone. It writes at most 256 rows a commit, and leaves the file to others in between:
/// a notification that comes meanwhile waits for a fraction of a second.
#[derive(Clone, Debug)]
pub struct Attached {
    path: PathBuf,
}

impl Inbox<Sqlite> {
    /// Opens the file of an inbox beside the process that holds it open, without its lock, and without
    /// beginning anew what that has begun. It works while nobody holds it, too.
    ///
    /// It reads the file, and so blocks for a moment.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](InboxErrorKind::NotFound): there is no such file, or no inbox has been opened in it.
    ///   None is made.
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew),
    ///   [`NetworkFilesystem`](InboxErrorKind::NetworkFilesystem), [`UnsupportedSqlite`](InboxErrorKind::UnsupportedSqlite),
    ///   [`Store`](InboxErrorKind::Store): as of [`Inbox::sqlite`].
    pub fn attach(path: impl AsRef<Path>) -> Result<Attached, InboxError> {
        check_version(rusqlite::version_number())?;
        let not_found = |error| InboxError::caused_by(InboxErrorKind::NotFound, error);
        let path = fs::canonicalize(path).map_err(not_found)?;
        if is_on_network(&path) {
            return Err(InboxError::new(InboxErrorKind::NetworkFilesystem));
        }
        // Nothing is set before it is known to be an inbox.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(engine)?;
        schema::check(&connection)?;
        Ok(Attached { path })
    }
}

impl Attached {
    /// As [`Inbox::stats`].
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn stats(&self) -> Result<Stats, InboxError> {
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, |it| tables::stats(it).map_err(engine)).await
    }

    /// Kinds with open notifications that no runner has claimed for as long as `since`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        let unclaimed = move |it: &mut Connection| tables::unclaimed(it, since).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, unclaimed).await
    }

    /// As [`Inbox::list`].
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        let list = move |it: &mut Connection| tables::list(it, list, count).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, list).await
    }

    /// As [`Inbox::redrive`]; a runner of the other process finds them within a second.
    ///
    /// # Errors
    ///
    /// If the store fails. What was committed before stays so.
    pub async fn redrive(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        self.change(keys, tables::redrive).await
    }

    /// As [`Inbox::discard`], as of the last commit of the file: by that [`prune`](Self::prune) counts.
    ///
    /// # Errors
    ///
    /// If the store fails. What was committed before stays so.
    pub async fn discard(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        self.change(keys, tables::discard).await
    }

    /// As [`Inbox::prune`], but in as many commits as it takes.
    ///
    /// # Errors
    ///
    /// If the store fails. What was committed before stays so.
    pub async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        let prune = move |connection: &mut Connection| {
            let mut pruned = 0_usize;
            loop {
                let group = count.saturating_sub(pruned).min(GROUP);
                let some = commit(connection, |it| {
                    // As above: what is fresh by that clock is not to be old by the wall's.
                    tables::prune(it, tables::last(it)?, age, group)
                })?;
                pruned = pruned.saturating_add(some);
                if some < group || pruned >= count {
                    return Ok(pruned);
                }
            }
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, prune).await
    }

    async fn change(
        &self,
        keys: impl IntoIterator<Item = Key>,
        change: fn(&Connection, &[Key], i64) -> rusqlite::Result<usize>,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let change = move |connection: &mut Connection| {
            keys.chunks(GROUP).try_fold(0_usize, |count, keys| {
                let changed = commit(connection, |it| {
                    // The clock of the process that holds it may be behind that of the wall.
                    change(it, keys, tables::last(it)?)
                })?;
                Ok(count.saturating_add(changed))
            })
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, change).await
    }

    /// On a thread and a connection of its own.
    async fn on<R: Send + 'static>(
        &self,
        how: OpenFlags,
        work: impl FnOnce(&mut Connection) -> Result<R, InboxError> + Send + 'static,
    ) -> Result<R, InboxError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut connect(&path, how)?));
        done.await.map_err(failed)?
    }
}

fn commit<R>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<R>,
) -> Result<R, InboxError> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let done = begun.and_then(|transaction| {
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    });
    sleep(PAUSE);
    done.map_err(engine)
}
