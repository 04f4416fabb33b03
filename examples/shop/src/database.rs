//! Reads the shop's file. The inbox's own connection does all writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inqud_inbox::rusqlite::{self, Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::error::BoxError;

#[derive(Clone)]
pub struct Database {
    file: PathBuf,
    /// Limits how many threads read at once.
    readers: Arc<Semaphore>,
}

impl Database {
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), readers: Arc::new(Semaphore::new(8)) }
    }

    pub fn connect(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(Duration::from_secs(5))?;
        Ok(db)
    }

    pub async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, BoxError> {
        let _permit = self.readers.acquire().await?;
        let database = self.clone();
        Ok(tokio::task::spawn_blocking(move || look(&database.connect()?)).await??)
    }
}
