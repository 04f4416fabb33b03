//! What an operator reads and changes.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Result, params};

use super::clock::last;
use super::reopen;
use super::row::{micros, time};
use super::tables::ARRIVE;
use crate::key::Key;
use crate::stats::Stats;

/// Reopens dead letters and reviews. `now` must not be later than the writer's clock.
pub(super) fn redrive(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut open = connection.prepare(
        "UPDATE inqud_inbox_notification
         SET reviewed = reviewed OR state = 4, state = 0, failures = 0,
             retry_at = NULL, settled_at = NULL
         WHERE key = ?1 AND state > 2 AND replays = 0 RETURNING object",
    )?;
    let mut replays = connection.prepare(
        "SELECT seq FROM inqud_inbox_notification WHERE key = ?1 AND state > 2 AND replays > 0",
    )?;
    let mut arrive = connection.prepare(ARRIVE)?;
    let mut dead_replays = Vec::new();
    let mut count = 0_usize;
    for key in keys {
        let opened = open.query_map([key.as_bytes()], |row| row.get::<_, i64>(0))?;
        // Collected first, because the statement must be finished before the next one writes.
        let numbers = opened.collect::<Result<Vec<_>>>()?;
        for number in &numbers {
            arrive.execute([*number, now])?;
        }
        count = count.saturating_add(numbers.len());
        let replays = replays.query_map([key.as_bytes()], |row| row.get::<_, i64>(0))?;
        dead_replays.extend(replays.collect::<Result<Vec<_>>>()?);
    }
    // Together, because one can open another of its object.
    let opened = reopen::replay(connection, &dead_replays, now, false)?.opened;
    dead_replays.sort_unstable();
    dead_replays.dedup();
    let replays = dead_replays.iter().filter(|number| opened.contains(number)).count();
    Ok(count.saturating_add(replays))
}

pub(super) fn discard(connection: &Connection, keys: &[Key], now: i64) -> Result<usize> {
    let mut skip = connection.prepare(
        "UPDATE inqud_inbox_notification
         SET verdict = iif(state = 4, 4, verdict), state = 2, settled_at = ?2
         WHERE key = ?1 AND state > 2",
    )?;
    keys.iter().try_fold(0_usize, |count, key| {
        Ok(count.saturating_add(skip.execute(params![key.as_bytes(), now])?))
    })
}

pub(super) fn prune(
    connection: &Connection,
    now: i64,
    age: Duration,
    count: usize,
) -> Result<usize> {
    connection.execute(
        "UPDATE inqud_inbox_notification SET body = NULL WHERE seq IN
             (SELECT seq FROM inqud_inbox_notification
              WHERE state IN (1, 2) AND body IS NOT NULL AND settled_at <= ?1
              ORDER BY settled_at LIMIT ?2)",
        params![now.saturating_sub(micros(age)), i64::try_from(count).unwrap_or(i64::MAX)],
    )
}

/// Reads the counts that the triggers keep.
pub(super) fn stats(connection: &Connection) -> Result<Stats> {
    let mut stats = Stats::default();
    let mut counts = connection.prepare(
        "SELECT kind, open, skipped, dead, review,
             (SELECT received_at FROM inqud_inbox_notification AS it
              WHERE it.kind = its.kind AND state = 0 ORDER BY seq LIMIT 1)
         FROM inqud_inbox_count AS its WHERE open + skipped + dead + review > 0 ORDER BY kind",
    )?;
    let mut rows = counts.query([])?;
    while let Some(row) = rows.next()? {
        let kind = stats.kind(row.get_ref(0)?.as_str()?);
        let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.try_into().unwrap_or(0));
        (kind.backlog, kind.skipped) = (count(1)?, count(2)?);
        (kind.dead, kind.review) = (count(3)?, count(4)?);
        kind.oldest = row.get::<_, Option<i64>>(5)?.map(time);
    }
    Ok(stats)
}

pub(super) fn unclaimed(connection: &Connection, since: Duration) -> Result<Vec<String>> {
    let mut kinds = connection.prepare(
        "SELECT kind FROM inqud_inbox_count WHERE open > 0 AND kind NOT IN
             (SELECT kind FROM inqud_inbox_runner WHERE claimed_at > ?1)",
    )?;
    // The file's clock stops while nothing is committed, so the system time counts if it is later.
    let now = last(connection)?.max(Timestamp::now().as_microsecond());
    let before = now.saturating_sub(micros(since));
    kinds.query_map([before], |row| row.get(0))?.collect()
}
