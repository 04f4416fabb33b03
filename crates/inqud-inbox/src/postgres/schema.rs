//! The tables and their migrations.

use tokio_postgres::{Client, IsolationLevel};

use super::error::engine;
use crate::error::{InboxError, InboxErrorKind};

/// The migrations, one for each version, in order. Each inserts the row that records it. A released migration
/// is never changed.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("1.sql")];

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

/// Returns the migrations that a database of the given version lacks.
fn missing<'a>(steps: &'a [&'a str], version: usize) -> Result<&'a [&'a str], InboxError> {
    steps.get(version..).ok_or_else(schema_too_new)
}

/// Checks that the tables are those of this version.
pub(super) async fn check(client: &Client) -> Result<(), InboxError> {
    match version(client).await? {
        found if found < MIGRATIONS.len() => Err(InboxError::new(InboxErrorKind::NotMigrated)),
        found if found > MIGRATIONS.len() => Err(schema_too_new()),
        _ => Ok(()),
    }
}

async fn version(client: &Client) -> Result<usize, InboxError> {
    let exists = "SELECT to_regclass('inqud_inbox.version') IS NOT NULL";
    if !client.query_one_scalar::<bool, _>(exists, &[]).await.map_err(engine)? {
        return Ok(0);
    }
    let version = "SELECT coalesce(max(version), 0) FROM inqud_inbox.version";
    let version: i32 = client.query_one_scalar(version, &[]).await.map_err(engine)?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
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
        assert_eq!(missing(&steps, 0).unwrap(), ["1", "2", "3"]);
        assert_eq!(missing(&steps, 1).unwrap(), ["2", "3"]);
        assert!(missing(&steps, 3).unwrap().is_empty());
        let error = missing(&steps, 4).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
    }
}
