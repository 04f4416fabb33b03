//! Deleting what the file has about a person.

use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::erase::{ERASED, ErasedObject};

/// Erases bodies and errors. Returns how many notifications it found, or `None` if some are not settled and it is not forced.
///
/// Each connection overwrites what it deletes: see `connect`.
pub(super) fn erase(
    connection: &Connection,
    of: &ErasedObject,
    is_forced: bool,
    now: i64,
) -> Result<Option<usize>> {
    let mut find =
        connection.prepare("SELECT number FROM inqud_inbox_object WHERE kind = ?1 AND id = ?2")?;
    let number = find.query_row([&of.kind, &of.id], |row| row.get::<_, i64>(0)).optional()?;
    let Some(number) = number else { return Ok(Some(0)) };
    let mut open = connection
        .prepare("SELECT 1 FROM inqud_inbox_notification WHERE object = ?1 AND state = 0")?;
    if open.exists([number])? {
        if !is_forced {
            return Ok(None);
        }
        connection.execute(
            "UPDATE inqud_inbox_object SET due_at = NULL, leased_until = NULL, crashes = 0
             WHERE number = ?1",
            [number],
        )?;
    }
    let erased = connection.execute(
        "UPDATE inqud_inbox_notification
         SET body = NULL, order_id = NULL, retry_at = NULL, settled_at = coalesce(settled_at, ?2),
             error = iif(state IN (1, 2), NULL, ?3),
             state = iif(state IN (1, 2), state, 2)
         WHERE object = ?1",
        params![number, now, ERASED],
    )?;
    // A look would store the body again.
    connection.execute(
        "DELETE FROM inqud_inbox_watch WHERE kind = ?1 AND object = ?2",
        [&of.kind, &of.id],
    )?;
    Ok(Some(erased))
}

/// Lists the objects of which a notification has this order id. The index is by blocks of rows.
pub(super) fn objects_of_order(
    connection: &Connection,
    order_id: &str,
) -> Result<Vec<ErasedObject>> {
    let mut objects = connection.prepare(
        "WITH RECURSIVE block (n) AS (
             SELECT min(seq) / 1024 FROM inqud_inbox_notification
             UNION ALL SELECT n + 1 FROM block
             WHERE n < (SELECT max(seq) / 1024 FROM inqud_inbox_notification)
         )
         SELECT DISTINCT its.kind, its.id
         FROM block CROSS JOIN inqud_inbox_notification AS mine ON seq / 1024 = n AND order_id = ?1
         JOIN inqud_inbox_object AS its ON its.number = mine.object",
    )?;
    let objects = objects
        .query_map([order_id], |row| Ok(ErasedObject { kind: row.get(0)?, id: row.get(1)? }))?;
    objects.collect()
}
