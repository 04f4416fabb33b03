use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::catch_drop::CatchDrop;
use super::effect::SqliteEffect;
use super::error::{engine, failed};
use super::file::{check_version, connect, create, is_on_network, lock};
use super::schema;
use super::tables::{self, Tables};
use super::writer::{self, Writer};
use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::inbox::Inbox;
use crate::key::Key;
use crate::record::Record;
use crate::store::{Claimed, Entry, Inserted, List, Outcome, Settled, Settlement, Stats, Store};

/// A store in a file of SQLite, whose library is built along.
///
/// - One thread writes. What waits for it is committed together, in write-ahead mode and with
///   `synchronous=FULL`: a commit has reached the disk when it is told.
/// - One inbox a file: a second, in this process or another, is refused. The lock is a file beside it,
///   whose name ends in `-inqud-lock`; the system frees it with the process. A command line beside the
///   server may [attach](Inbox::attach).
/// - Its clock is the system's when the file is opened, and runs on from there: it never goes back, also
///   when the system's is set back, and also not from one run to the next.
/// - Network file systems are refused where the system tells them (Linux).
/// - Of the latest 16,384 objects, and at times four times as many, it keeps a hash in memory, a few megabytes
///   at most: they get into the index of the file later, those that belong on one page together.
/// - Its log, a file beside it whose name ends in `-wal`, grows to about 64 MB, and further while a
///   connection of yours reads for long.
/// - The file is made for its owner only, mode 0600: the bodies hold personal data. One that exists
///   stays as it is.
/// - Tables of your own may live in the same file, for [effects](crate::Context::effect) to write to; those of the
///   inbox have names that begin with `inqud_inbox_`. You may read with connections of your own. Write
///   through [`Inbox::write`], or the writer has to wait for you.
pub struct Sqlite {
    pub(super) writer: Writer,
    path: PathBuf,
}

impl Inbox<Sqlite> {
    /// Opens the inbox in a file, which is made if there is none. Work that a process before had begun
    /// is due at once.
    ///
    /// It reads and writes the file, and so blocks for a moment: do it when you start.
    ///
    /// # Errors
    ///
    /// - [`InUse`](InboxErrorKind::InUse): another inbox has it.
    /// - [`NetworkFilesystem`](InboxErrorKind::NetworkFilesystem): it is on a network file system.
    /// - [`NotDurable`](InboxErrorKind::NotDurable): `journal_mode` or `synchronous` read otherwise than
    ///   they were set.
    /// - [`UnsupportedSqlite`](InboxErrorKind::UnsupportedSqlite): the program was linked with an SQLite before 3.51.3.
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew): a later version made the tables.
    /// - [`Store`](InboxErrorKind::Store): it cannot be opened, or is no database.
    pub fn sqlite(path: impl AsRef<Path>) -> Result<Self, InboxError> {
        Ok(Self::new(Sqlite::open(path.as_ref())?))
    }

    /// Has `work` done by the writer, in a transaction, and waits for its commit. For tables of your
    /// own: what it writes here waits for no lock. Be short, for notifications wait meanwhile.
    ///
    /// # Errors
    ///
    /// The error of `work`, and then nothing of it is kept; or that of the store.
    pub async fn write<F, R, E>(&self, work: F) -> Result<R, InboxError>
    where
        F: FnOnce(&Connection) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
    {
        let mut work = CatchDrop::new(work);
        let work = move |connection: &Connection| match work.take() {
            Some(work) => work(connection).map_err(Into::into),
            None => Err("it was done before".into()),
        };
        let done =
            self.store().writer.commit_alone(move |tables| tables.in_savepoint(work)).await?;
        done.map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))
    }

    /// Closes the file, after what was begun before. All clones of the inbox are closed with it.
    ///
    /// Without it, the file is closed soon after the last of them is dropped.
    pub async fn close(&self) {
        self.store().writer.close().await;
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, InboxError> {
        check_version(rusqlite::version_number())?;
        create(path)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        if is_on_network(&path) {
            return Err(InboxError::new(InboxErrorKind::NetworkFilesystem));
        }
        let lock = lock(&path)?;
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::migrate(&mut connection, schema::MIGRATIONS)?;
        let again = path.clone();
        let reopen = move || connect(&again, OpenFlags::SQLITE_OPEN_READ_WRITE);
        Ok(Self { writer: Writer::start(connection, reopen, lock)?, path })
    }

    /// On a thread and a connection of its own.
    async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let path = self.path.clone();
        let read = move || {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            look(&connection).map_err(engine)
        };
        tokio::task::spawn_blocking(read).await.map_err(failed)?
    }
}

impl Store for Sqlite {
    type Effect = SqliteEffect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let inserted =
            move |tables: &mut Tables<'_>| records.iter().map(|it| tables.insert(it)).collect();
        self.writer.commit(inserted).await
    }

    async fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, InboxError> {
        self.writer.commit(move |tables| tables.claim(kind, count, lease)).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement<SqliteEffect>>,
    ) -> Result<Vec<Settled>, InboxError> {
        let has_effects = |it: &Settlement<SqliteEffect>| matches!(&it.outcome, Outcome::Done(effects) if !effects.is_empty());
        let has_effects: Vec<_> = settlements.iter().map(has_effects).collect();
        let works = settlements
            .into_iter()
            .map(|settlement| move |tables: &mut Tables<'_>| tables.settle(&settlement));
        let settled = self.writer.commit_each(works).await?;
        let settled = settled.into_iter().zip(has_effects).map(|(settled, has_effects)| {
            settled.or_else(|error| match work_failed(&error) {
                // It was alone in its transaction, and so has failed that.
                Some(why) if has_effects => Ok(Settled::EffectFailed(why)),
                _ => Err(error),
            })
        });
        let settled: Vec<_> = settled.collect();
        if settled.iter().any(Result::is_ok) {
            // The answers of the others are not lost with one, which is settled by its lease.
            return Ok(settled.into_iter().map(|it| it.unwrap_or(Settled::LeaseExpired)).collect());
        }
        settled.into_iter().collect()
    }

    async fn stats(&self) -> Result<Stats, InboxError> {
        self.read(tables::stats).await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.read(move |connection| tables::unclaimed(connection, since)).await
    }

    async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.read(move |connection| tables::list(connection, list, count)).await
    }

    async fn redrive(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        let redrive = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            tables::redrive(tables.connection, &keys, now)
        };
        self.writer.commit(redrive).await
    }

    async fn discard(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        let discard = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            tables::discard(tables.connection, &keys, now)
        };
        self.writer.commit(discard).await
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        let prune = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            tables::prune(tables.connection, now, age, count)
        };
        self.writer.commit(prune).await
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the work itself did wrong, if that is why.
fn work_failed(error: &InboxError) -> Option<String> {
    let why = std::error::Error::source(error)?.downcast_ref::<rusqlite::Error>()?;
    writer::is_of_work(why).then(|| why.to_string())
}
