//! Opens notifications again that were processed.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::tables::ARRIVE;
use crate::replay::{FIRST, Replayed};

/// Whether a notification was processed and is not open, and the position of its replay.
const PROCESSED: &str = "(state = 1 OR state IN (2, 3) AND replays > 0)";
const RANK: &str = "iif(replays > 0, position, settled_at + ?1)";

/// Opens what was processed with these numbers, and what was processed after it of the same objects. `now` must not be
/// later than the writer's clock.
pub(super) fn replay(
    connection: &Connection,
    numbers: &[i64],
    now: i64,
    dry_run: bool,
) -> Result<Replayed> {
    if !dry_run {
        return open(connection, numbers, now);
    }
    connection.execute_batch("SAVEPOINT inqud_inbox_dry_run")?;
    let replayed = open(connection, numbers, now);
    connection.execute_batch("ROLLBACK TO inqud_inbox_dry_run; RELEASE inqud_inbox_dry_run")?;
    replayed
}

fn open(connection: &Connection, numbers: &[i64], now: i64) -> Result<Replayed> {
    let mut chosen = connection.prepare(&format!(
        "SELECT object, {PROCESSED}, {RANK}, body IS NULL, state = 0 AND replays > 0
         FROM inqud_inbox_notification WHERE seq = ?2"
    ))?;
    let mut is_busy = connection
        .prepare("SELECT 1 FROM inqud_inbox_object WHERE number = ?1 AND leased_until > ?2")?;
    let mut after_pruned = connection.prepare(&format!(
        "SELECT max({RANK}) + 1 FROM inqud_inbox_notification
         WHERE object = ?2 AND {PROCESSED} AND body IS NULL"
    ))?;
    let mut open = connection.prepare(&format!(
        "UPDATE inqud_inbox_notification
         SET state = 0, position = {RANK}, replays = replays + 1, failures = 0, retry_at = NULL,
             settled_at = NULL, error = NULL
         WHERE object = ?2 AND {PROCESSED} AND {RANK} >= ?3 RETURNING seq"
    ))?;
    // A lease that has expired is void.
    let mut free = connection.prepare(
        "UPDATE inqud_inbox_object SET leased_until = NULL, crashes = crashes + 1
         WHERE number = ?1 AND leased_until IS NOT NULL",
    )?;
    let mut arrive = connection.prepare(ARRIVE)?;
    let mut replayed = Replayed::default();
    for number in numbers {
        let row = chosen.query_row([FIRST, *number], |row| {
            let rank: Option<i64> = row.get(2)?;
            Ok((row.get(0)?, row.get(1)?, rank, row.get(3)?, row.get(4)?))
        });
        let Some(row) = row.optional()? else { continue };
        let (object, was_processed, rank, is_pruned, is_open_replay): (i64, bool, _, bool, bool) =
            row;
        let Some(rank) = rank.filter(|_| was_processed) else {
            if !is_open_replay {
                replayed.unprocessed.push(*number);
            }
            continue;
        };
        if is_busy.exists([object, now])? {
            replayed.busy.push(*number);
            continue;
        }
        if is_pruned {
            replayed.pruned.push(*number);
        }
        let after: Option<i64> = after_pruned.query_row([FIRST, object], |row| row.get(0))?;
        let from = after.map_or(rank, |after| after.max(rank));
        let opened = open.query_map([FIRST, object, from], |row| row.get::<_, i64>(0))?;
        // Collected first, because the statement must be finished before the next one writes.
        let opened = opened.collect::<Result<Vec<_>>>()?;
        if !opened.is_empty() {
            free.execute([object])?;
            arrive.execute(params![object, now])?;
        }
        replayed.opened.extend(opened);
    }
    Ok(replayed)
}
