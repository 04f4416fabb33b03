//! The tables and their migrations.

use std::cmp::Ordering;

use rusqlite::Connection;

use super::error::engine;
use crate::error::{InboxError, InboxErrorKind};

/// The migrations, one for each version, in order. A released migration is never changed.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("1.sql")];

/// Checks that the file is an inbox with the tables of this version.
pub(super) fn check(connection: &Connection) -> Result<(), InboxError> {
    let exists = connection.table_exists(None, "inqud_inbox_version").map_err(engine)?;
    if !exists {
        return Err(InboxError::new(InboxErrorKind::NotFound));
    }
    let version: i64 = connection
        .query_row("SELECT coalesce(max(version), 0) FROM inqud_inbox_version", [], |row| {
            row.get(0)
        })
        .map_err(engine)?;
    match usize::try_from(version).unwrap_or(usize::MAX).cmp(&MIGRATIONS.len()) {
        Ordering::Less => Err(InboxError::new(InboxErrorKind::NotMigrated)),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(InboxError::new(InboxErrorKind::SchemaTooNew)),
    }
}

/// Migrates the tables to the version of `steps`. Refuses tables of a later version, because they may need
/// something that this version does not know of.
///
/// The version has a table of its own. SQLite's `user_version` is left to the merchant, whose tables are in
/// the same file.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), InboxError> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(engine)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS inqud_inbox_version (version INTEGER NOT NULL) STRICT",
        )
        .map_err(engine)?;
    let version: i64 = transaction
        .query_row("SELECT coalesce(max(version), 0) FROM inqud_inbox_version", [], |row| {
            row.get(0)
        })
        .map_err(engine)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    let missing =
        steps.get(version..).ok_or_else(|| InboxError::new(InboxErrorKind::SchemaTooNew))?;
    for (step, sql) in (version..).zip(missing) {
        transaction.execute_batch(sql).map_err(engine)?;
        let version = i64::try_from(step).unwrap_or(i64::MAX).saturating_add(1);
        transaction
            .execute("INSERT INTO inqud_inbox_version VALUES (?)", [version])
            .map_err(engine)?;
    }
    transaction.commit().map_err(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrates_earlier_version_and_keeps_rows() {
        const NEXT: &str = "ALTER TABLE inqud_inbox_object ADD COLUMN remark TEXT";
        const ROW: &str =
            "INSERT INTO inqud_inbox_object (hash, kind, id) VALUES (7, 'request', 'CAPD-1')";
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        connection.execute_batch(ROW).unwrap();
        let next = [MIGRATIONS, &[NEXT]].concat();
        for _ in 0..2 {
            migrate(&mut connection, &next).unwrap();
        }
        let row = connection.query_row("SELECT id, remark FROM inqud_inbox_object", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        });
        assert_eq!(row.unwrap(), ("CAPD-1".to_owned(), None));
        assert_eq!(check(&connection).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
        let error = migrate(&mut connection, MIGRATIONS).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
    }
}
