//! The inbox in a file that another process has open.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::clock;
use super::error::{engine, failed};
use super::file::{check_version, connect, refuse, truncate_log, unfit};
use super::sandbox::Sandbox;
use super::store::Sqlite;
use super::tables::{Session, Tables};
use super::{admin, backup, erase, lookup, rejections, reopen, schema, sweep};
use crate::admin::Admin;
use crate::erase::ErasedObject;
use crate::error::{InboxError, InboxErrorKind};
use crate::filter::{Filter, Page};
use crate::inbox::Inbox;
use crate::inserted::Inserted;
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::Replayed;
use crate::sealed::Sealed;
use crate::stats::Stats;
use crate::sweep::{Sweep, SweptBatch};

/// The most rows that one commit changes.
const GROUP: usize = 256;

/// How long SQLite sleeps at most between two tries to get a lock. After such a pause the server has had
/// its turn.
const PAUSE: Duration = Duration::from_millis(100);

/// The file of an inbox that another process has open: for [`Admin`] tools next to the server.
///
/// It is made by [`Inbox::attach`]. It can import, but neither receive nor process, because it would take work that the
/// server has in progress for that of a dead process. A commit of it changes at most 256 rows, and then it
/// leaves the file to the server: a notification that arrives meanwhile waits for a fraction of a second.
///
/// - [`stats`](Admin::stats) sets no gauges.
/// - A runner of the server finds what was [redriven](Admin::redrive) within a second.
/// - [`discard`](Admin::discard) and [`prune`](Admin::prune) take the time of the file's last commit as now.
/// - A change takes as many commits as it needs. If the store fails in between, what was committed before
///   stays.
///
/// # Example
///
/// ```no_run
/// use inqud_inbox::{Admin, Inbox};
///
/// # async fn run() -> Result<(), inqud_inbox::InboxError> {
/// let inbox = Inbox::attach("inqud-inbox.db")?;
/// println!("{} dead letters", inbox.stats().await?.dead());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Attached {
    path: PathBuf,
}

impl Inbox<Sqlite> {
    /// Opens the file of an inbox next to the process that has it open, to look at it and to tend it.
    ///
    /// It takes no lock, and leaves leases alone. It also works if no process has the file open.
    ///
    /// It reads the file, so it blocks for a moment.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](InboxErrorKind::NotFound): there is no such file, or no inbox was ever opened in it. No
    ///   file is created.
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew),
    ///   [`NetworkFilesystem`](InboxErrorKind::NetworkFilesystem),
    ///   [`UnsupportedSqlite`](InboxErrorKind::UnsupportedSqlite), [`Store`](InboxErrorKind::Store): as for
    ///   [`Inbox::sqlite`].
    pub fn attach(path: impl AsRef<Path>) -> Result<Attached, InboxError> {
        check_version(rusqlite::version_number())?;
        let not_found = |error| InboxError::caused_by(InboxErrorKind::NotFound, error);
        let path = fs::canonicalize(path).map_err(not_found)?;
        // The owning process may have allowed it.
        let is_tmpfs_allowed = true;
        refuse(unfit(&path), is_tmpfs_allowed)?;
        // Sets nothing before it knows that the file is an inbox.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(engine)?;
        schema::check(&connection)?;
        Ok(Attached { path })
    }
}

impl Sealed for Attached {}

impl Admin for Attached {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, |it| admin::stats(it).map_err(engine)).await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        let unclaimed = move |it: &mut Connection| admin::unclaimed(it, since).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, unclaimed).await
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        let filter = filter.into();
        let list = move |it: &mut Connection| lookup::list(it, &filter, limit).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, list).await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        let replay = move |connection: &mut Connection| {
            // By the clock of the file: see `change`.
            commit(connection, |it| reopen::replay(it, &numbers, clock::last(it)?, dry_run))
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, replay).await
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let import = move |connection: &mut Connection| {
            let sandbox = Sandbox::install(connection).map_err(engine)?;
            let mut inserted = Vec::with_capacity(records.len());
            for group in records.chunks(GROUP) {
                inserted.extend(import(connection, &sandbox, group).map_err(engine)?);
            }
            Ok(inserted)
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, import).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.change(keys, admin::redrive).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.change(keys, admin::discard).await
    }

    async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        let prune = move |connection: &mut Connection| {
            let mut pruned = 0_usize;
            loop {
                let group = limit.saturating_sub(pruned).min(GROUP);
                let some = commit(connection, |it| {
                    // By the clock of the file: see `change`.
                    admin::prune(it, clock::last(it)?, age, group)
                })?;
                pruned = pruned.saturating_add(some);
                if some < group || pruned >= limit {
                    return Ok(pruned);
                }
            }
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, prune).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        let find =
            move |it: &mut Connection| erase::objects_of_order(it, &order_id).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, find).await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        let path = self.path.clone();
        let run = move |connection: &mut Connection| {
            let erased =
                commit(connection, |it| erase::erase(it, &object, is_forced, clock::last(it)?))?;
            drop(truncate_log(&path));
            erased.ok_or_else(|| InboxError::new(InboxErrorKind::NotSettled))
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, run).await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        let list = move |it: &mut Connection| rejections::list(it, limit).map_err(engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, list).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        let run = move |connection: &mut Connection| {
            // By the clock of the file: see `change`.
            commit(connection, |it| sweep::sweep(it, clock::last(it)?, sweep, limit.min(GROUP)))
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, run).await
    }
}

impl Attached {
    /// Writes a copy of the file to `path`, as [`Inbox::back_up`] does.
    ///
    /// # Errors
    ///
    /// The same as of [`Inbox::back_up`].
    pub async fn back_up(&self, path: impl AsRef<Path>) -> Result<(), InboxError> {
        let to = path.as_ref().to_owned();
        let back_up = move |it: &mut Connection| backup::back_up(it, &to);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, back_up).await
    }

    async fn change(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
        change: fn(&Connection, &[Key], i64) -> rusqlite::Result<usize>,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let change = move |connection: &mut Connection| {
            keys.chunks(GROUP).try_fold(0_usize, |count, keys| {
                let changed = commit(connection, |it| {
                    // The server's clock may be behind the system's. What is new by the first must not be
                    // old by the second.
                    change(it, keys, clock::last(it)?)
                })?;
                Ok(count.saturating_add(changed))
            })
        };
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, change).await
    }

    /// On a thread and a connection of its own.
    pub(super) async fn on<R: Send + 'static>(
        &self,
        how: OpenFlags,
        work: impl FnOnce(&mut Connection) -> Result<R, InboxError> + Send + 'static,
    ) -> Result<R, InboxError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut connect(&path, how)?));
        done.await.map_err(failed)?
    }
}

pub(super) fn commit<R>(
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

/// Stores a group in one commit.
fn import(
    connection: &Connection,
    sandbox: &Sandbox,
    records: &[Record],
) -> rusqlite::Result<Vec<Inserted>> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let insert = || {
        let mut tables = Tables::new(connection, sandbox, Session::of_guest(connection)?)?;
        let inserted = records.iter().map(|record| tables.insert(&record.clone().fetched()));
        inserted.collect::<rusqlite::Result<_>>()
    };
    let inserted = insert();
    match &inserted {
        Ok(_) => sandbox.commit(connection)?,
        Err(_) => connection.execute_batch("ROLLBACK")?,
    }
    sleep(PAUSE);
    inserted
}
