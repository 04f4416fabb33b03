//! The log of rejected calls.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, params};

use crate::rejection::LoggedRejection;

/// Adds calls, and deletes all but the newest of each reason.
pub(super) fn log(connection: &Connection, calls: &[LoggedRejection], keep: usize) -> Result<()> {
    let mut insert = connection.prepare(
        "INSERT INTO inqud_inbox_rejection
             (at, content_length, dropped, kind, reason, diagnosis, source)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for call in calls {
        let (at, content_length, dropped) = call.numbers();
        let LoggedRejection { kind, reason, diagnosis, source, .. } = call;
        let source = source.map(|it| it.to_string());
        insert.execute(params![at, content_length, dropped, kind, reason, diagnosis, source])?;
    }
    let mut delete = connection.prepare(
        "DELETE FROM inqud_inbox_rejection WHERE reason = ?1 AND id <=
             (SELECT id FROM inqud_inbox_rejection WHERE reason = ?1
              ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    for reason in calls.iter().map(|it| &it.reason).collect::<BTreeSet<_>>() {
        delete.execute(params![reason, keep])?;
    }
    Ok(())
}

pub(super) fn list(connection: &Connection, limit: usize) -> Result<Vec<LoggedRejection>> {
    let mut calls = connection.prepare(
        "SELECT at, content_length, dropped, kind, reason, diagnosis, source
         FROM inqud_inbox_rejection ORDER BY id DESC LIMIT ?1",
    )?;
    let calls = calls.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(LoggedRejection::of(
            (row.get(0)?, row.get(1)?, row.get(2)?),
            [row.get(3)?, row.get(4)?],
            row.get(5)?,
            row.get(6)?,
        ))
    })?;
    calls.collect()
}
