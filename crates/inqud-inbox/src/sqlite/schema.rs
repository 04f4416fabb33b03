//! The tables and their migrations.

use rusqlite::{Connection, OptionalExtension};

use super::error::engine;
use crate::error::{InboxError, InboxErrorKind};

/// A step from one version of the tables to the next.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    sql: &'static str,
    /// The earliest version whose programs can still use the tables. An old and a new release of a program can then
    /// take turns with the file.
    least_reader: usize,
}

/// The migrations, one for each version, in order. A released migration is never changed.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    sql: concat!(include_str!("1.sql"), include_str!("watch.sql")),
    least_reader: 1,
}];

const VERSION: &str = "CREATE TABLE IF NOT EXISTS inqud_inbox_version
    (version INTEGER NOT NULL, least_reader INTEGER NOT NULL) STRICT";

/// Checks that the file is an inbox with tables that this version can use.
pub(super) fn check(connection: &Connection) -> Result<(), InboxError> {
    let exists = connection.table_exists(None, "inqud_inbox_version").map_err(engine)?;
    if !exists {
        return Err(InboxError::new(InboxErrorKind::NotFound));
    }
    if missing(connection, MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    Err(InboxError::new(InboxErrorKind::NotMigrated))
}

/// Migrates the tables to the version of `steps`. Refuses tables of a later version, unless that says that this one
/// can use them.
///
/// The version has a table of its own. SQLite's `user_version` is left to the merchant, whose tables are in
/// the same file.
pub(super) fn migrate(connection: &mut Connection, steps: &[Migration]) -> Result<(), InboxError> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(engine)?;
    transaction.execute_batch(VERSION).map_err(engine)?;
    let missing = missing(&transaction, steps)?;
    for (step, migration) in (steps.len().saturating_sub(missing.len())..).zip(missing) {
        transaction.execute_batch(migration.sql).map_err(engine)?;
        let version = i64::try_from(step).unwrap_or(i64::MAX).saturating_add(1);
        let least_reader = i64::try_from(migration.least_reader).unwrap_or(i64::MAX);
        transaction
            .execute("INSERT INTO inqud_inbox_version VALUES (?1, ?2)", [version, least_reader])
            .map_err(engine)?;
    }
    transaction.commit().map_err(engine)
}

/// Returns the steps that the tables lack.
fn missing<'m>(
    connection: &Connection,
    steps: &'m [Migration],
) -> Result<&'m [Migration], InboxError> {
    let latest = "SELECT version, least_reader FROM inqud_inbox_version ORDER BY version DESC";
    let latest = connection.query_row(latest, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (version, least_reader): (i64, i64) =
        latest.optional().map_err(engine)?.unwrap_or_default();
    let [version, least_reader] =
        [version, least_reader].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    if least_reader > steps.len() {
        return Err(InboxError::new(InboxErrorKind::SchemaTooNew));
    }
    Ok(steps.get(version..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &str = "ALTER TABLE inqud_inbox_object ADD COLUMN remark TEXT";
    const ROW: &str = "INSERT INTO inqud_inbox_object (kind, id) VALUES ('request', 'CAPD-1')";

    fn next(least_reader: usize) -> Vec<Migration> {
        [MIGRATIONS, &[Migration { sql: NEXT, least_reader }]].concat()
    }

    #[test]
    fn migrates_earlier_version_and_keeps_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        connection.execute_batch(ROW).unwrap();
        for _ in 0..2 {
            migrate(&mut connection, &next(2)).unwrap();
        }
        let row = connection.query_row("SELECT id, remark FROM inqud_inbox_object", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        });
        assert_eq!(row.unwrap(), ("CAPD-1".to_owned(), None));
        assert_eq!(check(&connection).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
        let error = migrate(&mut connection, MIGRATIONS).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
    }

    #[test]
    fn opens_later_version_that_allows_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &next(1)).unwrap();
        for _ in 0..2 {
            check(&connection).unwrap();
            migrate(&mut connection, MIGRATIONS).unwrap();
        }
        connection.execute_batch(ROW).unwrap();
        let versions = "SELECT group_concat(version) FROM inqud_inbox_version";
        let versions: String = connection.query_row(versions, [], |row| row.get(0)).unwrap();
        assert_eq!(versions, "1,2", "and leaves it as it is");
    }
}
