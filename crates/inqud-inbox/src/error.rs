use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An error of an inbox or its store. Cheap to clone.
///
/// `Display` shows a fixed text for each [kind](InboxErrorKind). The [source](Error::source) has the
/// details; log it.
#[derive(Clone, Debug)]
pub struct InboxError {
    kind: InboxErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of [`InboxError`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum InboxErrorKind {
    /// The bounded queue in front of the store is full.
    Full,
    /// The store did not commit within the receiver's timeout. It may still store the notification.
    Timeout,
    /// The store failed. For example, the disk is full, or another connection held a lock for too long.
    Store,
    /// The inbox was closed, or its writer thread has ended.
    Closed,
    /// Another inbox has the file open, in this process or in another.
    InUse,
    /// The file is on a network filesystem, where SQLite's locks are not reliable.
    NetworkFilesystem,
    /// The file is on tmpfs or ramfs, and does not outlive a restart of the machine.
    MemoryFilesystem,
    /// The file of an open inbox, or its log, was moved, deleted or replaced.
    FileMoved,
    /// Another inbox has opened the file, although this one has it open. This one is closed.
    TakenOver,
    /// The database could lose a commit in a crash. In SQLite, `journal_mode = WAL` or
    /// `synchronous = FULL` could not be set. In Postgres, `fsync` is off.
    NotDurable,
    /// The program is linked with an SQLite before 3.51.3, which can corrupt a file that several
    /// connections write to.
    UnsupportedSqlite,
    /// There is no inbox in the file.
    NotFound,
    /// The tables were created by a later version of this crate.
    SchemaTooNew,
    /// The tables are missing, or were created by an earlier version of this crate.
    NotMigrated,
    /// A notification that [`Inbox::erase`](crate::Inbox::erase) is to erase is not settled yet.
    NotSettled,
    /// The file that a backup is to be written to exists.
    BackupExists,
    /// A [`Retention`](crate::Retention) is shorter than the time in which Inqud may repeat a notification.
    RetentionTooShort,
}

impl InboxError {
    /// Creates an error of the given kind.
    #[must_use]
    pub fn new(kind: InboxErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Creates an error of the given kind with a source.
    #[must_use]
    pub fn caused_by(
        kind: InboxErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source: BoxError = source.into();
        Self { kind, source: Some(Arc::from(source)) }
    }

    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> InboxErrorKind {
        self.kind
    }
}

impl InboxErrorKind {
    /// Returns the name of this kind in logs and metrics, such as `not_durable`. Names do not change
    /// between versions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Store => "store",
            Self::Closed => "closed",
            Self::InUse => "in_use",
            Self::NetworkFilesystem => "network_filesystem",
            Self::MemoryFilesystem => "memory_filesystem",
            Self::FileMoved => "file_moved",
            Self::TakenOver => "taken_over",
            Self::NotDurable => "not_durable",
            Self::UnsupportedSqlite => "unsupported_sqlite",
            Self::NotFound => "not_found",
            Self::SchemaTooNew => "schema_too_new",
            Self::NotMigrated => "not_migrated",
            Self::NotSettled => "not_settled",
            Self::BackupExists => "backup_exists",
            Self::RetentionTooShort => "retention_too_short",
        }
    }
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            InboxErrorKind::Full => "the inbox is full",
            InboxErrorKind::Timeout => "the store did not commit the notification in time",
            InboxErrorKind::Store => "the store failed",
            InboxErrorKind::Closed => "the inbox is closed",
            InboxErrorKind::InUse => {
                "another inbox has the file open: only one inbox can open a file at a time"
            }
            InboxErrorKind::NetworkFilesystem => {
                "the file is on a network filesystem, where SQLite's locks are not reliable: move it \
                 to a local disk"
            }
            InboxErrorKind::MemoryFilesystem => {
                "the file is on tmpfs or ramfs, and is lost when the machine restarts: move it to a disk, or \
                 call `SqliteOptions::allow_tmpfs`"
            }
            InboxErrorKind::FileMoved => {
                "a file of the inbox was moved, deleted or replaced while it was open: put it back, or \
                 restart the program"
            }
            InboxErrorKind::TakenOver => {
                "another inbox has opened the file, so this one is closed: stop one of the two, and do not \
                 delete the lock file"
            }
            InboxErrorKind::NotDurable => {
                "the database could lose a commit in a crash: change the setting that the source names"
            }
            InboxErrorKind::UnsupportedSqlite => {
                "SQLite before 3.51.3 can corrupt the inbox's file: update rusqlite to 0.39 or later. If \
                 LIBSQLITE3_SYS_USE_PKG_CONFIG is set, unset it or update the system's SQLite"
            }
            InboxErrorKind::NotFound => "no inbox in the file: check the path",
            InboxErrorKind::SchemaTooNew => {
                "the tables were created by a later version of inqud-inbox: update this program"
            }
            InboxErrorKind::NotMigrated => {
                "the tables are missing or of an earlier version: call `Inbox::migrate` first"
            }
            InboxErrorKind::NotSettled => {
                "some of these notifications are not settled: wait until they are handled, or force it, and they are never \
                 handled"
            }
            InboxErrorKind::BackupExists => {
                "the backup file exists, and is never overwritten: use another name"
            }
            InboxErrorKind::RetentionTooShort => {
                "the retention is too short, because Inqud may repeat a notification for that long: keep it for at \
                 least 3 days"
            }
        })
    }
}

impl Error for InboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Formats an error followed by its chain of sources.
pub(super) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts filter by these names.
    #[test]
    fn names_of_kinds_do_not_change() {
        use InboxErrorKind as Kind;
        for (kind, name) in [
            (Kind::Full, "full"),
            (Kind::Timeout, "timeout"),
            (Kind::Store, "store"),
            (Kind::Closed, "closed"),
            (Kind::InUse, "in_use"),
            (Kind::NetworkFilesystem, "network_filesystem"),
            (Kind::MemoryFilesystem, "memory_filesystem"),
            (Kind::FileMoved, "file_moved"),
            (Kind::TakenOver, "taken_over"),
            (Kind::NotDurable, "not_durable"),
            (Kind::UnsupportedSqlite, "unsupported_sqlite"),
            (Kind::NotFound, "not_found"),
            (Kind::SchemaTooNew, "schema_too_new"),
            (Kind::NotMigrated, "not_migrated"),
            (Kind::NotSettled, "not_settled"),
            (Kind::BackupExists, "backup_exists"),
            (Kind::RetentionTooShort, "retention_too_short"),
        ] {
            assert_eq!(kind.as_str(), name);
        }
    }
}
