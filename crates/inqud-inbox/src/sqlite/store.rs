use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::catch_drop::CatchDrop;
use super::effect::SqliteEffect;
use super::error::{engine, failed};
use super::file::{check_version, connect, create, lock, refuse, truncate_log, unfit};
use super::settle::Ran;
use super::tables::Tables;
use super::writer::{self, Needs, Writer};
use super::{admin, backup, erase, lookup, rejections, reopen, sweep};
use crate::admin::Admin;
use crate::erase::ErasedObject;
use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::filter::{Filter, Page};
use crate::inbox::Inbox;
use crate::inserted::Inserted;
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::Replayed;
use crate::sealed::Sealed;
use crate::stats::Stats;
use crate::store::{Claim, Claimed, Outcome, Settled, Settlement, Store};
use crate::sweep::{Sweep, SweptBatch};

/// A store in a SQLite file. SQLite itself is compiled in.
///
/// - One thread writes. Work that waits for it is committed together, in write-ahead mode and with
///   `synchronous=FULL`: a commit has reached the disk when it is answered. Only claims do not wait for the disk. A
///   power loss may undo them, and the notifications are handled again.
/// - A file has one inbox. A second one, in this process or another, is refused. The lock is a file next to
///   it, whose name ends in `-inqud-lock`. The operating system releases it when the process ends. If somebody
///   deletes it and a second inbox opens, that one owns the file: every commit of the first fails, and it closes. A
///   command line next to the server can [attach](Inbox::attach).
/// - If the file or its log is moved, deleted or replaced while it is open, everything fails, and webhooks are
///   answered with 503, until it is back. Nothing is acknowledged that is lost (on Unix).
/// - If a sync fails, all that waited for it get an error, and the log is written again before anything else is
///   acknowledged. Operating systems report a failed sync once, and then forget what they could not write.
///   This does not cover a sync of the file, rather than of the log, that fails in a checkpoint, nor a system that drops
///   unwritten pages from its memory before the log is read. A power loss after either can lose acknowledged
///   notifications.
/// - Its clock starts with the system's when the file is opened. It never goes back, even if the system's
///   clock does, and not from one run to the next either.
/// - Network file systems are refused if the operating system names them (Linux), and so are tmpfs and ramfs unless
///   [they are allowed](crate::SqliteOptions::allow_tmpfs).
/// - Its log is a file next to it, whose name ends in `-wal`. It grows to about 64 MB, and further while
///   a connection of yours reads for long. It is truncated after some seconds without work.
/// - It creates the file for its owner only, with mode 0600, because the bodies hold personal data. It does
///   not change the mode of an existing file.
/// - Your own tables may live in the same file, so that [effects](crate::Context::effect) can write to them.
///   The names of the inbox's tables begin with `inqud_inbox_`. You may read with your own connections. Write
///   through [`Inbox::write`], because the writer has to wait for any other.
pub struct Sqlite {
    pub(super) writer: Writer,
    path: PathBuf,
}

impl Inbox<Sqlite> {
    /// Runs `work` on the writer thread, in a transaction of its own, and waits for the commit.
    ///
    /// Use it to write to your own tables: it does not wait for a lock. Be short, because notifications wait
    /// meanwhile. What [effects must not do](crate::Context::effect) is refused here, too.
    ///
    /// # Errors
    ///
    /// The error of `work`, an error of the store, or the refusal of a statement. Nothing is committed then.
    pub async fn write<F, R, E>(&self, work: F) -> Result<R, InboxError>
    where
        F: FnOnce(&Connection) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
    {
        let mut work = CatchDrop::new(work);
        self.store()
            .commit_alone("the write", move |connection| match work.take() {
                Some(work) => work(connection).map_err(Into::into),
                None => Err("it was done before".into()),
            })
            .await
    }

    /// Writes a copy of the file to `path`, as of now, while the inbox continues.
    ///
    /// The copy is complete and on the disk when it gets its name. It has mode 0600, because the bodies hold personal data.
    /// Meanwhile the log next to the file grows, because it cannot be truncated.
    ///
    /// Read [the guide](crate::guide::inbox#back-up-and-restore) before you restore one.
    ///
    /// # Errors
    ///
    /// - [`BackupExists`](InboxErrorKind::BackupExists): there is such a file. Nothing is overwritten.
    /// - [`Store`](InboxErrorKind::Store): the copy could not be written. It is removed.
    pub async fn back_up(&self, path: impl AsRef<Path>) -> Result<(), InboxError> {
        let (from, to) = (self.store().path.clone(), path.as_ref().to_owned());
        self.store().writer.check()?;
        let back_up =
            move || backup::back_up(&connect(&from, OpenFlags::SQLITE_OPEN_READ_ONLY)?, &to);
        tokio::task::spawn_blocking(back_up).await.map_err(failed)?
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path, is_tmpfs_allowed: bool) -> Result<Self, InboxError> {
        check_version(rusqlite::version_number())?;
        create(path)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        refuse(unfit(&path), is_tmpfs_allowed)?;
        let lock = lock(&path)?;
        Ok(Self { writer: Writer::start(path.clone(), lock)?, path })
    }

    /// In a transaction of its own, which holds a savepoint.
    async fn commit_alone<R: Send + 'static>(
        &self,
        who: &'static str,
        work: impl FnOnce(&Connection) -> Result<R, BoxError> + Send + 'static,
    ) -> Result<R, InboxError> {
        let run = move |tables: &mut Tables<'_>| tables.in_savepoint(who, work);
        match self.writer.commit_alone(run).await? {
            Ran::Done(done) => Ok(done),
            Ran::Failed(error) => Err(failed(error)),
            Ran::Refused(what) => Err(failed(what)),
        }
    }

    /// On a thread and a connection of its own.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        self.writer.check()?;
        let path = self.path.clone();
        let read = move || {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            look(&connection).map_err(engine)
        };
        tokio::task::spawn_blocking(read).await.map_err(failed)?
    }
}

impl Sealed for Sqlite {}

impl Admin for Sqlite {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.read(admin::stats).await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.read(move |connection| admin::unclaimed(connection, since)).await
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        let filter = filter.into();
        self.read(move |connection| lookup::list(connection, &filter, limit)).await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        let replay = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            reopen::replay(tables.connection, &numbers, now, dry_run)
        };
        self.writer.commit(replay).await
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.insert(records.into_iter().map(Record::fetched).collect()).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let redrive = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            admin::redrive(tables.connection, &keys, now)
        };
        self.writer.commit(redrive).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let discard = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            admin::discard(tables.connection, &keys, now)
        };
        self.writer.commit(discard).await
    }

    async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        let prune = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            admin::prune(tables.connection, now, age, limit)
        };
        self.writer.commit(prune).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        self.read(move |connection| erase::objects_of_order(connection, &order_id)).await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        let erase = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            erase::erase(tables.connection, &object, is_forced, now)
        };
        let erased = self.writer.commit(erase).await?;
        // The log has pages as they were.
        let path = self.path.clone();
        let truncated = tokio::task::spawn_blocking(move || truncate_log(&path)).await;
        if !matches!(truncated, Ok(Ok(()))) {
            self.writer.doubt_log();
        }
        erased.ok_or_else(|| InboxError::new(InboxErrorKind::NotSettled))
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.read(move |connection| rejections::list(connection, limit)).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        let run = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            sweep::sweep(tables.connection, now, sweep, limit)
        };
        self.writer.commit(run).await
    }
}

impl Store for Sqlite {
    type Effect = SqliteEffect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let inserted =
            move |tables: &mut Tables<'_>| records.iter().map(|it| tables.insert(it)).collect();
        self.writer.commit(inserted).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        self.writer.commit_as(Needs::NoSync, move |tables| tables.claim(&claim)).await
    }

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        self.writer.commit_as(Needs::NoSync, move |tables| tables.has_suspect(kind)).await
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<SqliteEffect>,
    ) -> Result<Settled, InboxError> {
        let Settlement { ticket, outcome } = &*settlement;
        let has_effects = matches!(outcome, Outcome::Done(effects) if !effects.is_empty());
        let shared = Settlement { ticket: ticket.clone(), outcome: share(outcome) };
        let settle = move |tables: &mut Tables<'_>| tables.settle(&shared);
        let settled = self.writer.commit_as(Needs::SyncAfterClaim, settle).await;
        settled.or_else(|error| match work_failed(&error) {
            // It was alone in its transaction, and so has failed that.
            Some(why) if has_effects => Ok(Settled::EffectFailed(why)),
            _ => Err(error),
        })
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        let log = move |tables: &mut Tables<'_>| rejections::log(tables.connection, &calls, keep);
        self.writer.commit(log).await
    }

    async fn commit(&self, key: Key, effects: Vec<SqliteEffect>) -> Result<(), InboxError> {
        self.commit_alone("the effect", move |connection| {
            effects.iter().try_for_each(|effect| effect.run(connection, key))
        })
        .await
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Returns the same outcome for the writer. The runner keeps the other one, because it settles again if the store
/// fails.
fn share(outcome: &Outcome<SqliteEffect>) -> Outcome<SqliteEffect> {
    match outcome {
        Outcome::Done(effects) => Outcome::Done(effects.iter().map(SqliteEffect::share).collect()),
        Outcome::Skipped => Outcome::Skipped,
        Outcome::Review => Outcome::Review,
        Outcome::Decoded(record) => Outcome::Decoded(record.clone()),
        Outcome::Retry { after, error } => Outcome::Retry { after: *after, error: error.clone() },
        Outcome::Dead { error } => Outcome::Dead { error: error.clone() },
    }
}

/// What the work itself did wrong, if that is why.
fn work_failed(error: &InboxError) -> Option<String> {
    let why = std::error::Error::source(error)?.downcast_ref::<rusqlite::Error>()?;
    writer::is_of_work(why).then(|| why.to_string())
}
