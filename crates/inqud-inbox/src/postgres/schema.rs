//! The tables and their migrations.

use tokio_postgres::{Client, IsolationLevel};

use super::error::engine;
use crate::error::{InboxError, InboxErrorKind};

/// The migrations, one for each version, in order. Each inserts the row that records it. A released migration
/// is never changed.
pub(super) const MIGRATIONS: &[&str] = &[concat!(include_str!("1.sql"), include_str!("watch.sql"))];

/// Takes the lock that serializes migrations. The number is arbitrary.
const LOCK: &str = "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(5432704301)";

/// Migrates the tables to the version of `steps`, in one transaction. Concurrent calls wait for each other.
pub(super) async fn migrate(client: &mut Client, steps: &[&str]) -> Result<(), InboxError> {
    // With a stricter isolation level the snapshot would be from before the wait for the lock, and would miss
    // what another process has migrated in the meantime.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.read_only(false).start().await.map_err(engine)?;
    transaction.batch_execute(LOCK).await.map_err(engine)?;
    let version = version(transaction.client()).await?;
    for sql in missing(steps, version)? {
        transaction.batch_execute(sql).await.map_err(engine)?;
    }
    transaction.commit().await.map_err(engine)
}

/// Returns the migrations that a database lacks.
fn missing<'a>(steps: &'a [&'a str], found: Version) -> Result<&'a [&'a str], InboxError> {
    if found.least_reader > steps.len() {
        return Err(schema_too_new());
    }
    Ok(steps.get(found.version..).unwrap_or_default())
}

/// Checks that this version can use the tables. They may be of a later version that still has this reader: during
/// a deploy, the programs that run on are older than the tables.
pub(super) async fn check(client: &Client) -> Result<(), InboxError> {
    if missing(MIGRATIONS, version(client).await?)?.is_empty() {
        return Ok(());
    }
    Err(InboxError::new(InboxErrorKind::NotMigrated))
}

/// The version of the tables, 0 if there are none, and the earliest version that can use them.
#[derive(Clone, Copy, Default)]
struct Version {
    version: usize,
    least_reader: usize,
}

async fn version(client: &Client) -> Result<Version, InboxError> {
    let exists = "SELECT to_regclass('inqud_inbox.version') IS NOT NULL";
    if !client.query_one_scalar::<bool, _>(exists, &[]).await.map_err(engine)? {
        return Ok(Version::default());
    }
    let latest =
        "SELECT version, least_reader FROM inqud_inbox.version ORDER BY version DESC LIMIT 1";
    let Some(row) = client.query_opt(latest, &[]).await.map_err(engine)? else {
        return Ok(Version::default());
    };
    let number = |at: usize| {
        let number: i32 = row.try_get(at).map_err(engine)?;
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    };
    Ok(Version { version: number(0)?, least_reader: number(1)? })
}

fn schema_too_new() -> InboxError {
    InboxError::new(InboxErrorKind::SchemaTooNew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_missing_migrations() {
        let steps = ["1", "2", "3"];
        let found = |version, least_reader| missing(&steps, Version { version, least_reader });
        assert_eq!(found(0, 0).unwrap(), ["1", "2", "3"]);
        assert_eq!(found(1, 1).unwrap(), ["2", "3"]);
        assert!(found(3, 2).unwrap().is_empty());
        assert!(found(9, 3).unwrap().is_empty(), "a later version that this one can use");
        assert_eq!(found(4, 4).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
    }
}
