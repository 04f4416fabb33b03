//! The file, its lock, and the connections to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{engine, failed};
use crate::error::{InboxError, InboxErrorKind};

/// How long a connection waits for a lock that another one holds, such as one of the merchant's.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// How many pages of 4 KiB the log holds before a checkpoint. Between two checkpoints, a page that many
/// commits change is written into the file only once, so fewer checkpoints mean fewer writes.
const LOG_PAGES: i64 = 16_000;

/// The length in bytes that the log keeps after a checkpoint. A reader can have kept it from an earlier one.
const LOG_BYTES: i64 = LOG_PAGES * 4096;

/// Creates the file with mode 0600 if it does not exist.
///
/// It never opens a file that exists. POSIX locks belong to the process: closing any descriptor of the file
/// would release the locks that SQLite holds on it through another connection of this process.
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

/// Refuses an SQLite before 3.51.3, in which a checkpoint could reset the log while another connection
/// writes to it.
///
/// The version of rusqlite that this crate requires bundles a later one, but the build environment can
/// link the system's instead.
pub(super) fn check_version(number: i32) -> Result<(), InboxError> {
    const FIRST: i32 = 3_051_003;
    if number >= FIRST {
        return Ok(());
    }
    let found = format!("the version number of SQLite is {number}, not {FIRST} or later");
    Err(InboxError::caused_by(InboxErrorKind::UnsupportedSqlite, found))
}

/// Locks the inbox against other inboxes, in this process and in others.
///
/// The lock is an exclusive transaction on an empty database beside the file. It lasts until the connection
/// is dropped or the process ends. Going through SQLite gives the same behaviour on every system, and
/// excludes other connections of this process, which a plain POSIX lock would not.
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

/// Opens a connection with the settings that every connection to the file needs.
pub(super) fn connect(path: &Path, how: OpenFlags) -> Result<Connection, InboxError> {
    let flags = how | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(engine)?;
    connection.busy_timeout(BUSY).map_err(engine)?;
    make_durable(&connection)?;
    // Overwrites what is deleted. An update deletes, too: it can leave parts of a body behind.
    connection.pragma_update(None, "secure_delete", true).map_err(engine)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(engine)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES).map_err(engine)?;
    Ok(connection)
}

/// Makes commits durable, and checks the settings by reading them back, because SQLite silently ignores a
/// setting that it cannot apply.
fn make_durable(connection: &Connection) -> Result<(), InboxError> {
    const FULL: i64 = 2;
    let set = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON"];
    let refused = set.iter().try_for_each(|it| run(connection, it)).err();
    let is_of_disk = |error: &rusqlite::Error| {
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::CannotOpen)
        )
    };
    let refused = match refused {
        Some(error) if is_of_disk(&error) => return Err(engine(error)),
        refused => refused,
    };
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

/// Runs a statement to its end. A pragma that returns a row commits after it, which can fail.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Copies the log into the file, and truncates it, so that it has nothing that was deleted. Does nothing if a reader needs
/// the log: the writer does it later.
pub(super) fn truncate_log(path: &Path) -> Result<(), InboxError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(engine)
}

/// A kind of file system that cannot hold an inbox, or only if the merchant wants that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unfit {
    /// SQLite's locks and its shared memory are not reliable there.
    Network,
    /// Nothing outlives a restart of the machine.
    Memory,
}

/// The file systems of networks, clusters, object stores, and of folders that a host shares with a virtual machine.
const NETWORK: [&str; 28] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "fakeowner",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs3",
    "nfs4",
    "orangefs",
    "panfs",
    "prl_fs",
    "pvfs2",
    "smb2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "wekafs",
    "xtreemfs",
];

/// The same, as clients in user space: their type is `fuse.` and this.
const FUSE: [&str; 28] = [
    "beegfs",
    "ceph",
    "ceph-fuse",
    "curlftpfs",
    "davfs",
    "gcsfuse",
    "glusterfs",
    "goofys",
    "grpcfuse",
    "juicefs",
    "lizardfs",
    "mfs",
    "moosefs",
    "mount-s3",
    "mountpoint-s3",
    "nfs",
    "osxfs",
    "rclone",
    "s3fs",
    "s3ql",
    "saunafs",
    "seaweedfs",
    "smbnetfs",
    "sshfs",
    "vmhgfs",
    "vmhgfs-fuse",
    "weed",
    "xtreemfs",
];

/// Returns why the file system of the path is unfit, by the type of its mount. Only known on Linux.
pub(super) fn unfit(path: &Path) -> Option<Unfit> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    unfit_type(type_of_mount(&mounts, path)?)
}

/// Refuses an unfit file system.
pub(super) fn refuse(unfit: Option<Unfit>, is_tmpfs_allowed: bool) -> Result<(), InboxError> {
    match unfit {
        Some(Unfit::Network) => Err(InboxError::new(InboxErrorKind::NetworkFilesystem)),
        Some(Unfit::Memory) if !is_tmpfs_allowed => {
            Err(InboxError::new(InboxErrorKind::MemoryFilesystem))
        }
        _ => Ok(()),
    }
}

fn unfit_type(kind: &str) -> Option<Unfit> {
    let is_network = match kind.strip_prefix("fuse.") {
        Some(client) => FUSE.contains(&client),
        None => NETWORK.contains(&kind),
    };
    if is_network {
        return Some(Unfit::Network);
    }
    matches!(kind, "tmpfs" | "ramfs").then_some(Unfit::Memory)
}

fn type_of_mount<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.replace("\\040", " "), words.next()?))
    });
    let around = mounts.filter(|(folder, _)| path.starts_with(folder));
    // If two are mounted on one folder, the later hides the earlier; `max_by_key` returns the last maximum.
    around.max_by_key(|(folder, _)| folder.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_connection_that_is_not_durable() {
        let connection = Connection::open_in_memory().unwrap();
        // A database in memory has no write-ahead log.
        let error = make_durable(&connection).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::NotDurable);

        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("inbox.db")).unwrap();
        let begin =
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN; CREATE TABLE t (c)";
        connection.execute_batch(begin).unwrap();
        let error = make_durable(&connection).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::NotDurable, "it cannot be set in a transaction");

        connection.execute_batch("COMMIT").unwrap();
        make_durable(&connection).unwrap();
    }

    #[test]
    fn checkpointed_log_keeps_the_pages_between_two_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(&folder.path().join("inbox.db"), flags).unwrap();
        let of = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = of("wal_autocheckpoint").unwrap();
        assert_eq!(pages, 16_000);
        assert_eq!(of("journal_size_limit").unwrap(), pages * of("page_size").unwrap());
    }

    #[test]
    fn rejects_sqlite_before_3_51_3() {
        let error = check_version(3_051_002).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::UnsupportedSqlite);
        assert!(error.to_string().contains("update rusqlite to 0.39"), "{error}");
        check_version(3_051_003).unwrap();
        check_version(rusqlite::version_number()).unwrap();
    }

    #[test]
    fn knows_unfit_file_systems() {
        let network =
            ["nfs4", "cifs", "virtiofs", "vboxsf", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone"];
        for kind in network {
            assert_eq!(unfit_type(kind), Some(Unfit::Network), "{kind}");
        }
        for kind in ["tmpfs", "ramfs"] {
            assert_eq!(unfit_type(kind), Some(Unfit::Memory), "{kind}");
        }
        for kind in
            ["ext4", "xfs", "btrfs", "zfs", "overlay", "fuseblk", "fuse.mergerfs", "fuse.gocryptfs"]
        {
            assert_eq!(unfit_type(kind), None, "{kind}");
        }
        for names in [NETWORK, FUSE] {
            assert!(names.is_sorted());
        }
    }

    #[test]
    fn refuses_unfit_file_systems() {
        use InboxErrorKind::{MemoryFilesystem, NetworkFilesystem};
        for (unfit, refused, refused_with_tmpfs) in [
            (None, None, None),
            (Some(Unfit::Memory), Some(MemoryFilesystem), None),
            (Some(Unfit::Network), Some(NetworkFilesystem), Some(NetworkFilesystem)),
        ] {
            let kind = |is_allowed| refuse(unfit, is_allowed).err().map(|it| it.kind());
            assert_eq!((kind(false), kind(true)), (refused, refused_with_tmpfs), "{unfit:?}");
        }
    }

    #[test]
    fn uses_the_innermost_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\nserver:/a /srv/my\\040shop nfs4 rw 0 0\n";
        let of = |path| type_of_mount(mounts, Path::new(path));
        assert_eq!(of("/srv/my shop/inbox.db"), Some("nfs4"));
        assert_eq!(of("/srv/my shopping/inbox.db"), Some("ext4"));
    }
}
