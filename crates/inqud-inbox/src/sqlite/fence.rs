//! Notices that the files were moved, deleted or replaced while they are open.
//!
//! SQLite goes on with what it has open. What it commits then is lost with the last descriptor, and a crash is not
//! recovered from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{InboxError, InboxErrorKind};

/// The file, its log, and the index of the log, as they were when the connection was opened. SQLite makes the last
/// two when a connection first reads, and deletes them when the last connection closes.
pub(super) struct Fence {
    files: [(PathBuf, Identity); 3],
}

/// What tells a file from another one of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Fence {
    /// Call it after the connection has read. `file` is what the first connection had opened.
    pub(super) fn new(path: &Path, file: Identity) -> Result<Self, InboxError> {
        let beside = |suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let path = PathBuf::from(name);
            let identity = identity(&path)?;
            Ok::<_, InboxError>((path, identity))
        };
        let fence = Self { files: [(path.to_owned(), file), beside("-wal")?, beside("-shm")?] };
        fence.check()?;
        Ok(fence)
    }

    /// Returns an error if one of the files is not at its path.
    pub(super) fn check(&self) -> Result<(), InboxError> {
        self.files.iter().try_for_each(|(path, its)| its.check(path))
    }

    /// Returns the length of the log in bytes.
    pub(super) fn log_len(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |it| it.len())
    }

    /// Returns the path of the log.
    pub(super) fn log(&self) -> &Path {
        let [_, (log, _), _] = &self.files;
        log
    }
}

impl Identity {
    /// Returns an error if another file is at the path, or none.
    pub(super) fn check(self, path: &Path) -> Result<(), InboxError> {
        if identity(path)? == self {
            return Ok(());
        }
        let what = format!("{} is another file", path.display());
        Err(InboxError::caused_by(InboxErrorKind::FileMoved, what))
    }
}

/// Identifies the file that is at the path now.
pub(super) fn identity(path: &Path) -> Result<Identity, InboxError> {
    let look = |error: io::Error| {
        let what = format!("{}: {error}", path.display());
        InboxError::caused_by(InboxErrorKind::FileMoved, what)
    };
    #[cfg_attr(not(unix), expect(unused_variables, reason = "only its existence is known"))]
    let it = fs::metadata(path).map_err(look)?;
    Ok(Identity {
        #[cfg(unix)]
        device: std::os::unix::fs::MetadataExt::dev(&it),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&it),
    })
}
