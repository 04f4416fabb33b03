//! The log after a sync that failed.
//!
//! The operating system reports a failed sync once. Then it considers the pages written, although the disk does not have
//! them, and the next sync succeeds. SQLite writes again what it could not commit, but not the claims that it had
//! committed without a sync. They would be a gap in the log, and after a power loss SQLite reads a log up to its first
//! gap: all that was committed later would be lost.
//!
//! So the log is written again, from what the operating system has in memory, before anything else is committed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::{engine, failed};
use crate::error::InboxError;

/// How many bytes are read at once.
const PART: usize = 1024 * 1024;

/// The path of the log of a database.
pub(super) fn path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Whether there is a log with something in it.
pub(super) fn exists(log: &Path) -> bool {
    fs::metadata(log).is_ok_and(|it| it.len() > 0)
}

/// Writes the log again, and syncs it. No transaction must be open.
pub(super) fn rewrite(connection: &Connection, log: &Path) -> Result<(), InboxError> {
    // Meanwhile nobody else writes to the log or truncates it.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(engine)?;
    let rewritten = rewrite_file(log);
    connection.execute_batch("ROLLBACK").map_err(engine)?;
    rewritten.map_err(failed)
}

/// SQLite locks the database and the index of the log, so another descriptor of the log takes no lock away.
fn rewrite_file(log: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(log)?;
    let mut part = vec![0; PART];
    loop {
        let at = file.stream_position()?;
        let len = file.read(&mut part)?;
        let Some(read) = part.get(..len).filter(|it| !it.is_empty()) else { break };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(read)?;
    }
    file.sync_all()
}
