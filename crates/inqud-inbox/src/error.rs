use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why the inbox could not do what it was asked. A clone is cheap.
///
/// `Display` is the fixed text of its [kind](InboxErrorKind); the [source](Error::source) is for the
/// log.
#[derive(Clone, Debug)]
pub struct InboxError {
    kind: InboxErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What went wrong with the inbox.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum InboxErrorKind {
    /// The bounded queue in front of the store is full.
    Full,
    /// The store did not answer within the receiver's timeout. It may yet store the notification.
    Timeout,
    /// The store failed: the disk is full, say, or another connection holds the database for too long.
    Store,
    /// The inbox was closed, or its writer is gone.
    Closed,
    /// Another inbox has the file open, in this process or another.
    InUse,
    /// The file is where no commit can be trusted: on a network file system.
    NetworkFilesystem,
    /// The database would not keep what it committed: it cannot be set to write ahead, or to wait for
    /// the disk.
    NotDurable,
    /// The program runs an SQLite before 3.51.3, which can corrupt a file that several connections write.
    UnsupportedSqlite,
    /// No inbox has been opened in the file.
    NotFound,
    /// The tables were made by a later version of this crate.
    SchemaTooNew,
    /// The database has not the tables of this version.
    NotMigrated,
}

impl InboxError {
    /// Makes an error of a kind.
    #[must_use]
    pub fn new(kind: InboxErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Makes an error of a kind, with what caused it.
    #[must_use]
    pub fn caused_by(
        kind: InboxErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source: BoxError = source.into();
        Self { kind, source: Some(Arc::from(source)) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> InboxErrorKind {
        self.kind
    }
}

impl InboxErrorKind {
    /// The name of this kind in logs and metrics, such as `not_durable`. Stays the same between
    /// versions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Store => "store",
            Self::Closed => "closed",
            Self::InUse => "in_use",
            Self::NetworkFilesystem => "network_filesystem",
            Self::NotDurable => "not_durable",
            Self::UnsupportedSqlite => "unsupported_sqlite",
            Self::NotFound => "not_found",
            Self::SchemaTooNew => "schema_too_new",
            Self::NotMigrated => "not_migrated",
        }
    }
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            InboxErrorKind::Full => "the inbox is full",
            InboxErrorKind::Timeout => "the inbox did not store the notification in time",
            InboxErrorKind::Store => "the inbox's store failed",
            InboxErrorKind::Closed => "the inbox is closed",
            InboxErrorKind::InUse => "another inbox has the file open: one process a file",
            InboxErrorKind::NetworkFilesystem => {
                "the inbox's file is on a network file system, where its locks do not hold"
            }
            InboxErrorKind::NotDurable => {
                "the database would not keep what it committed: see the source for the setting"
            }
            InboxErrorKind::UnsupportedSqlite => {
                "SQLite before 3.51.3 can corrupt the inbox's file: update rusqlite to 0.39 or later, and \
                 if LIBSQLITE3_SYS_USE_PKG_CONFIG is set, unset it or update the system's SQLite"
            }
            InboxErrorKind::NotFound => "no inbox has been opened in the file",
            InboxErrorKind::SchemaTooNew => {
                "the inbox's tables were made by a later version of tower-inqud"
            }
            InboxErrorKind::NotMigrated => {
                "the database has not the inbox's tables. Perhaps you forgot to migrate? Call \
                 `Inbox::migrate` first"
            }
        })
    }
}

impl Error for InboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// With what caused it.
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
