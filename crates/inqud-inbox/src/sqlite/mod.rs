//! The inbox in a SQLite file (feature `sqlite`).

mod attached;
mod foreign;
mod index;
mod schema;
mod tables;
mod writer;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use self::attached::Attached;
use self::foreign::Foreign;
use self::tables::Tables;
use self::writer::Writer;
use crate::error::BoxError;
use crate::error::{InboxError, InboxErrorKind};
use crate::handler::Cx;
use crate::inbox::Inbox;
use crate::key::Key;
use crate::record::Record;
use crate::store::{Claimed, Entry, List, Outcome, Put, Settled, Settlement, Stats, Store};

/// How long a connection waits for another that holds the database, such as one of the merchant's.
const BUSY: Duration = Duration::from_secs(5);

/// How many pages of 4 KiB the log has before they are written into the file: the more commits between,
/// the fewer pages.
const LOG_PAGES: i64 = 16_000;

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
/// - Tables of your own may live in the same file, for [effects](Cx::effect) to write to; those of the
///   inbox have names that begin with `inqud_inbox_`. You may read with connections of your own. Write
///   through [`Inbox::write`], or the writer has to wait for you.
pub struct Sqlite {
    writer: Writer,
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
    /// - [`Network`](InboxErrorKind::Network): it is on a network file system.
    /// - [`NotDurable`](InboxErrorKind::NotDurable): `journal_mode` or `synchronous` read otherwise than
    ///   they were set.
    /// - [`OldSqlite`](InboxErrorKind::OldSqlite): the program was linked with an SQLite before 3.51.3.
    /// - [`FromLaterVersion`](InboxErrorKind::FromLaterVersion): a later version made the tables.
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
        let mut work = Foreign::new(work);
        let work = move |connection: &Connection| match work.take() {
            Some(work) => work(connection).map_err(Into::into),
            None => Err("it was done before".into()),
        };
        let done = self.store().writer.commit_alone(move |tables| tables.apart(work)).await?;
        done.map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))
    }

    /// Closes the file, after what was begun before. All clones of the inbox are closed with it.
    ///
    /// Without it, the file is closed soon after the last of them is dropped.
    pub async fn close(&self) {
        self.store().writer.close().await;
    }
}

/// What a handler has done together with "done", in a [`Sqlite`].
pub struct SqliteEffect(Foreign<Box<Effect>>);

/// Given the key of the notification.
type Effect = dyn Fn(&Connection, Key) -> Result<(), BoxError> + Send;

impl Cx<Sqlite> {
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

    /// Has `effect` done once for all notifications of this inbox that name the same `mark`: a key of your
    /// own, such as `ship:order-17`. For each later one `otherwise` is called, with the key of the
    /// notification that was first.
    ///
    /// Which one is first is decided when the notification is settled. The mark is kept with the effect, or
    /// neither is; it is never deleted. Both closures are under the rules of [`effect`](Self::effect).
    ///
    /// For what can be undone or amended, such as a credited balance, write the target into the row of the
    /// object instead.
    pub fn once<F, R, E, G, Q>(&self, mark: impl Into<String>, effect: F, otherwise: G)
    where
        F: Fn(&Connection) -> Result<R, E> + Send + 'static,
        G: Fn(&Connection, Key) -> Result<Q, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let mark = mark.into();
        self.push_effect(move |connection, key| match tables::mark(connection, &mark, key)? {
            None => effect(connection).map(drop).map_err(Into::into),
            Some(first) => otherwise(connection, first).map(drop).map_err(Into::into),
        });
    }

    fn push_effect(
        &self,
        effect: impl Fn(&Connection, Key) -> Result<(), BoxError> + Send + 'static,
    ) {
        self.push(SqliteEffect(Foreign::new(Box::new(effect))));
    }
}

impl SqliteEffect {
    fn run(&self, connection: &Connection, key: Key) -> Result<(), BoxError> {
        self.0.as_ref().map_or(Ok(()), |effect| effect(connection, key))
    }
}

impl Sqlite {
    fn open(path: &Path) -> Result<Self, InboxError> {
        check_version(rusqlite::version_number())?;
        create(path)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        if is_on_network(&path) {
            return Err(InboxError::new(InboxErrorKind::Network));
        }
        let lock = lock(&path)?;
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::migrate(&mut connection, schema::STEPS)?;
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

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Put>, InboxError> {
        let put = move |tables: &mut Tables<'_>| records.iter().map(|it| tables.put(it)).collect();
        self.writer.commit(put).await
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
            return Ok(settled.into_iter().map(|it| it.unwrap_or(Settled::Lapsed)).collect());
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

impl fmt::Debug for SqliteEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEffect").finish_non_exhaustive()
    }
}

/// Makes the file, for its owner only. Does not so much as open one that exists: closing it again
/// would free the locks that SQLite holds on it in this process.
fn create(path: &Path) -> Result<(), InboxError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Before, a checkpoint could reset the log amid a write of another connection. This crate's bounds ask
/// for one that bundles a later, but the environment of a build may put the system's in its place.
fn check_version(number: i32) -> Result<(), InboxError> {
    const FIRST: i32 = 3_051_003;
    if number >= FIRST {
        return Ok(());
    }
    let found = format!("the version number of SQLite is {number}, not {FIRST} or later");
    Err(InboxError::caused_by(InboxErrorKind::OldSqlite, found))
}

/// A database with nothing in it, held in a transaction that never ends: SQLite locks the same way on
/// every system, against this process too.
fn lock(path: &Path) -> Result<Connection, InboxError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-inqud-lock");
    let path = PathBuf::from(name);
    create(&path)?;
    let lock = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let lock = lock.map_err(engine)?;
    lock.busy_timeout(Duration::ZERO).map_err(engine)?;
    match lock.execute_batch("BEGIN EXCLUSIVE") {
        Ok(()) => Ok(lock),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            Err(InboxError::caused_by(InboxErrorKind::InUse, error))
        }
        Err(error) => Err(engine(error)),
    }
}

fn connect(path: &Path, how: OpenFlags) -> Result<Connection, InboxError> {
    let flags = how | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(engine)?;
    connection.busy_timeout(BUSY).map_err(engine)?;
    make_durable(&connection)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(engine)?;
    Ok(connection)
}

/// Sets what a 200 depends on, and reads it back: SQLite ignores a setting that it cannot follow.
fn make_durable(connection: &Connection) -> Result<(), InboxError> {
    const FULL: i64 = 2;
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON";
    let refused = connection.execute_batch(set).err();
    let mode: String =
        connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(engine)?;
    let synchronous: i64 =
        connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(engine)?;
    if mode == "wal" && synchronous == FULL {
        return refused.map_or(Ok(()), |error| Err(engine(error)));
    }
    let found = format!("journal_mode is {mode}, synchronous is {synchronous}");
    Err(InboxError::caused_by(InboxErrorKind::NotDurable, found))
}

/// Whether the system says so: by the mount that the path is on, and only on Linux.
fn is_on_network(path: &Path) -> bool {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else { return false };
    type_of_mount(&mounts, path).is_some_and(|kind| {
        let kinds = ["9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "smb3", "smbfs"];
        kinds.contains(&kind) || kind.starts_with("nfs") || kind == "fuse.sshfs"
    })
}

fn type_of_mount<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.replace("\\040", " "), words.next()?))
    });
    let around = mounts.filter(|(folder, _)| path.starts_with(folder));
    // Of two on one folder the later hides the earlier.
    around.max_by_key(|(folder, _)| folder.len()).map(|(_, kind)| kind)
}

/// What the work itself did wrong, if that is why.
fn work_failed(error: &InboxError) -> Option<String> {
    let why = std::error::Error::source(error)?.downcast_ref::<rusqlite::Error>()?;
    writer::is_of_work(why).then(|| why.to_string())
}

fn engine(error: rusqlite::Error) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}

fn failed(error: impl Into<BoxError>) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_would_not_wait_for_the_disk_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        // No file, so no write-ahead log.
        let error = make_durable(&connection).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::NotDurable);

        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("inbox.db")).unwrap();
        let amid = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN; CREATE TABLE t (c)";
        connection.execute_batch(amid).unwrap();
        let error = make_durable(&connection).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::NotDurable, "it cannot be set amid a transaction");

        connection.execute_batch("COMMIT").unwrap();
        make_durable(&connection).unwrap();
    }

    #[test]
    fn an_sqlite_that_can_corrupt_its_log_is_refused() {
        let error = check_version(3_051_002).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::OldSqlite);
        assert!(error.to_string().contains("update rusqlite to 0.39"), "{error}");
        check_version(3_051_003).unwrap();
        check_version(rusqlite::version_number()).unwrap();
    }

    #[test]
    fn the_type_of_the_innermost_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\nserver:/a /srv/my\\040shop nfs4 rw 0 0\n";
        let of = |path| type_of_mount(mounts, Path::new(path));
        assert_eq!(of("/srv/my shop/inbox.db"), Some("nfs4"));
        assert_eq!(of("/srv/my shopping/inbox.db"), Some("ext4"));
    }
}
