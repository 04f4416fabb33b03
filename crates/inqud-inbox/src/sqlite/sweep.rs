//! What a retention deletes.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, params};

use super::admin;
use super::row::{State, micros};
use crate::sweep::{Sweep, SweptBatch};

/// Deletes one batch. `now` must not be later than the writer's clock.
pub(super) fn sweep(
    connection: &Connection,
    now: i64,
    sweep: Sweep,
    limit: usize,
) -> Result<SweptBatch> {
    let before = |age| now.saturating_sub(micros(age));
    match sweep {
        Sweep::Bodies(age) => {
            Ok(SweptBatch::of(sweep, admin::prune(connection, now, age, limit)?, limit))
        }
        Sweep::Notifications { age, includes_reviews, after } => {
            let (count, last) =
                notifications(connection, before(age), includes_reviews, after, limit)?;
            let next = last.map(|after| Sweep::Notifications { age, includes_reviews, after });
            Ok(SweptBatch { count, next })
        }
        Sweep::Objects(age) => {
            Ok(SweptBatch::of(sweep, objects(connection, before(age), limit)?, limit))
        }
    }
}

/// Deletes settled notifications among the next ones by number, in the order of which they arrived. Returns how many, and
/// the last one that it looked at unless there are no more.
fn notifications(
    connection: &Connection,
    before: i64,
    includes_reviews: bool,
    after: i64,
    limit: usize,
) -> Result<(usize, Option<i64>)> {
    // The last row stays, because SQLite would give its number to another, and later ones must have higher numbers.
    let mut rows = connection.prepare(
        "SELECT seq, object, state, received_at, coalesce(settled_at, received_at)
         FROM inqud_inbox_notification
         WHERE seq > ?1 AND seq < (SELECT max(seq) FROM inqud_inbox_notification)
         ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = rows.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let may_delete = |state: i64| {
        state == State::Done as i64
            || state == State::Skipped as i64
            || includes_reviews && state == State::Review as i64
    };
    let mut of_objects: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let (mut looked, mut last) = (0_usize, after);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(3)? > before {
            break;
        }
        (looked, last) = (looked.saturating_add(1), row.get(0)?);
        let settled_at = row.get(4)?;
        if may_delete(row.get(2)?) && settled_at <= before {
            of_objects.entry(row.get(1)?).or_default().push((last, settled_at));
        }
    }
    drop(rows);
    let mut is_kept = connection.prepare(
        "SELECT 1 FROM inqud_inbox_notification
         WHERE object = ?1 AND state NOT IN (1, 2) AND NOT (?2 AND state = 4)",
    )?;
    let mut delete = connection.prepare("DELETE FROM inqud_inbox_notification WHERE seq = ?1")?;
    let mut mark = connection.prepare(
        "UPDATE inqud_inbox_object SET pruned_at = max(coalesce(pruned_at, 0), ?2)
         WHERE number = ?1",
    )?;
    let mut count = 0_usize;
    for (number, all) in of_objects {
        if is_kept.exists(params![number, includes_reviews])? {
            continue;
        }
        for (seq, settled_at) in all {
            count = count.saturating_add(delete.execute([seq])?);
            mark.execute([number, settled_at])?;
        }
    }
    Ok((count, (looked >= limit && limit > 0).then_some(last)))
}

fn objects(connection: &Connection, before: i64, limit: usize) -> Result<usize> {
    connection.execute(
        "DELETE FROM inqud_inbox_object WHERE number IN
             (SELECT number FROM inqud_inbox_object
              WHERE pruned_at <= ?1 AND due_at IS NULL AND leased_until IS NULL AND NOT EXISTS
                  (SELECT 1 FROM inqud_inbox_notification WHERE object = number)
              ORDER BY pruned_at LIMIT ?2)",
        params![before, i64::try_from(limit).unwrap_or(i64::MAX)],
    )
}
