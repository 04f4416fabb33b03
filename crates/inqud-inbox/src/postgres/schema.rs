//! The tables, and how a database of an earlier version gets them.

use tokio_postgres::{Client, IsolationLevel};

use super::error::engine;
use crate::error::{InboxError, InboxErrorKind};

/// One a version, in order, each with the row that says it was applied; what was released is never
/// changed.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("1.sql")];

/// The number is arbitrary: the lock that whoever migrates holds.
const LOCK: &str = "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(5432704301)";

/// Brings the tables to the version of `steps`, in one transaction, and one process at a time.
pub(super) async fn migrate(client: &mut Client, steps: &[&str]) -> Result<(), InboxError> {
    // So that what it sees after it waited for the lock is what the one before has left.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.read_only(false).start().await.map_err(engine)?;
    transaction.batch_execute(LOCK).await.map_err(engine)?;
    let version = version(transaction.client()).await?;
    for sql in missing(steps, version)? {
        transaction.batch_execute(sql).await.map_err(engine)?;
    }
    transaction.commit().await.map_err(engine)
}

/// What a database of `version` has not seen yet.
fn missing<'a>(steps: &'a [&'a str], version: usize) -> Result<&'a [&'a str], InboxError> {
    steps.get(version..).ok_or_else(schema_too_new)
}

/// Whether the tables are those of this version.
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
    fn a_database_of_an_earlier_version_gets_what_it_lacks() {
        let steps = ["1", "2", "3"];
        assert_eq!(missing(&steps, 0).unwrap(), ["1", "2", "3"]);
        assert_eq!(missing(&steps, 1).unwrap(), ["2", "3"]);
        assert!(missing(&steps, 3).unwrap().is_empty());
        let error = missing(&steps, 4).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
    }
}
