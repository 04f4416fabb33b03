//! The file, its lock, and connections to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{engine, failed};
use crate::error::{InboxError, InboxErrorKind};

/// How long a connection waits for another that holds the database, such as one of the merchant's.
const BUSY: Duration = Duration::from_secs(5);

/// How many pages of 4 KiB the log has before they are written into the file: the more commits between,
/// the fewer pages.
const LOG_PAGES: i64 = 16_000;

/// Makes the file, for its owner only. Does not so much as open one that exists: closing it again
/// would free the locks that SQLite holds on it in this process.
pub(super) fn create(path: &Path) -> Result<(), InboxError> {
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
pub(super) fn check_version(number: i32) -> Result<(), InboxError> {
    const FIRST: i32 = 3_051_003;
    if number >= FIRST {
        return Ok(());
    }
    let found = format!("the order_key number of SQLite is {number}, not {FIRST} or later");
    Err(InboxError::caused_by(InboxErrorKind::UnsupportedSqlite, found))
}

/// A database with nothing in it, held in a transaction that never ends: SQLite locks the same way on
/// every system, against this process too.
pub(super) fn lock(path: &Path) -> Result<Connection, InboxError> {
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

pub(super) fn connect(path: &Path, how: OpenFlags) -> Result<Connection, InboxError> {
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
pub(super) fn is_on_network(path: &Path) -> bool {
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
        assert_eq!(error.kind(), InboxErrorKind::UnsupportedSqlite);
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
