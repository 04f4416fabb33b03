//! A copy of the file, made while the inbox is open.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::error::{engine, failed};
use super::schema;
use crate::error::{InboxError, InboxErrorKind};

/// Writes a copy to a file that must not exist. It gets its name when it is complete and on the disk.
pub(super) fn back_up(connection: &Connection, to: &Path) -> Result<(), InboxError> {
    let exists = || InboxError::new(InboxErrorKind::BackupExists);
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let part = Part::create(to)?;
    // SQLite accepts an empty file, and keeps its mode.
    let name = part.0.to_str().ok_or_else(|| failed("the path is not UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(engine)?;
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(&part.0, read_only).map_err(engine)?;
    schema::check(&copy)?;
    copy.close().map_err(|(_, error)| engine(error))?;
    File::open(&part.0).and_then(|file| file.sync_all()).map_err(failed)?;
    // Unlike a rename, it never replaces a file.
    match fs::hard_link(&part.0, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists()),
        Ok(()) => {}
        // A file system without links.
        Err(_) => {
            if to.symlink_metadata().is_ok() {
                return Err(exists());
            }
            fs::rename(&part.0, to).map_err(failed)?;
        }
    }
    drop(part);
    sync_folder(to)
}

/// The unfinished copy, which is removed in any case.
struct Part(PathBuf);

impl Part {
    /// Creates it with mode 0600, because the bodies hold personal data.
    fn create(to: &Path) -> Result<Self, InboxError> {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".{}-part", std::process::id()));
        let path = PathBuf::from(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
        let mut journal = self.0.as_os_str().to_owned();
        journal.push("-journal");
        drop(fs::remove_file(journal));
    }
}

#[cfg(unix)]
fn sync_folder(of: &Path) -> Result<(), InboxError> {
    let folder = of.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or_else(|| Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), InboxError> {
    Ok(())
}
