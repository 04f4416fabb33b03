//! The tables, and how a database of an earlier version gets them.

use tokio_postgres::{Client, IsolationLevel};

use super::engine;
use crate::inbox::{InboxError, InboxErrorKind};

/// One a version, in order, each with the row that says it was applied; what was released is never
/// changed.
pub(super) const STEPS: &[&str] = &[include_str!("1.sql")];

/// The number is arbitrary: the lock that whoever migrates holds.
const LOCK: &str = "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(5432704301)";

/// Brings the tables to the version of `steps`, in one transaction, and one process at a time.
pub(super) async fn migrate(client: &mut Client, steps: &[&str]) -> Result<(), InboxError> {
    // So that what it sees after it waited for the lock is what the one before has left.
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.read_only(false).start().await.map_err(engine)?;
    transaction.batch_execute(LOCK).await.map_err(engine)?;
    let version = version(transaction.client()).await?;
    let missing = steps.get(version..).ok_or_else(from_later_version)?;
    for sql in missing {
        transaction.batch_execute(sql).await.map_err(engine)?;
    }
    transaction.commit().await.map_err(engine)
}

/// Whether the tables are those of this version.
pub(super) async fn check(client: &Client) -> Result<(), InboxError> {
    match version(client).await? {
        found if found < STEPS.len() => Err(InboxError::new(InboxErrorKind::NotMigrated)),
        found if found > STEPS.len() => Err(from_later_version()),
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

fn from_later_version() -> InboxError {
    InboxError::new(InboxErrorKind::FromLaterVersion)
}

#[cfg(test)]
#[path = "../../../tests/support/postgres.rs"]
mod postgres;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_of_an_earlier_version_gets_what_it_lacks_and_keeps_its_rows() {
        const NEXT: &str = "ALTER TABLE inqud_inbox.object ADD COLUMN remark text;
            INSERT INTO inqud_inbox.version VALUES (2)";
        const ROW: &str =
            "INSERT INTO inqud_inbox.object (kind, object) VALUES ('request', 'CAPD-1')";
        let Some(server) = postgres::Server::start() else { return };
        let mut client = postgres::connect(&server.config("postgres")).await;
        migrate(&mut client, STEPS).await.unwrap();
        client.batch_execute(ROW).await.unwrap();
        let next = [STEPS, &[NEXT]].concat();
        for _ in 0..2 {
            migrate(&mut client, &next).await.unwrap();
        }
        let row = "SELECT object, remark FROM inqud_inbox.object";
        let row = client.query_one(row, &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("CAPD-1", None::<&str>));
        assert_eq!(check(&client).await.unwrap_err().kind(), InboxErrorKind::FromLaterVersion);
        let error = migrate(&mut client, STEPS).await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::FromLaterVersion);
    }
}
