//! The statements of the watch list.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::clock::last;
use super::row::{State, body, micros, order_key};
use super::tables::ARRIVE;
use crate::key::Key;
use crate::record::Record;
use crate::source::Source;
use crate::watch::{
    Arrival, Arrived, Expected, Extent, Known, KnownRow, Look, NEVER, Next, Reach, Scheduled,
};
use tower_inqud::Processed;

pub(super) fn expect(connection: &Connection, expected: &Expected) -> Result<()> {
    let mut expect = connection.prepare(
        "INSERT INTO inqud_inbox_watch (kind, object, look_at, since, added_at)
         VALUES (?1, ?2, ?3, coalesce(?4, ?3), ?3) ON CONFLICT DO NOTHING",
    )?;
    let Expected { kind, object, since } = expected;
    expect.execute(params![kind, object, last(connection)?, since]).map(drop)
}

pub(super) fn arrived(
    connection: &Connection,
    kind: &'static str,
    limit: usize,
    horizon: Duration,
) -> Result<Arrived> {
    let mut read = connection.prepare("SELECT seq FROM inqud_inbox_watch_read WHERE kind = ?1")?;
    let newest = "SELECT coalesce(max(seq), 0) FROM inqud_inbox_notification";
    let newest: i64 = connection.query_row(newest, [], |row| row.get(0))?;
    let from = match read.query_row([kind], |row| row.get(0)).optional()? {
        // The number of a deleted notification can be used again if it was the newest.
        Some(from) => newest.min(from),
        None => first_since(connection, newest, last(connection)?.saturating_sub(micros(horizon)))?,
    };
    let mut rows = connection.prepare(
        "SELECT seq, id, order_key, received_at, body, source
         FROM inqud_inbox_notification AS its JOIN inqud_inbox_object ON number = object
         WHERE seq > ?1 AND seq <= ?2 AND its.kind = ?3 ORDER BY seq LIMIT ?4",
    )?;
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let arrivals = rows.query_map(params![from, newest, kind, count], |row| {
        let order_key = order_key(row.get_ref(2)?.as_blob()?);
        let body = body(row.get(4)?);
        let arrival = Arrival::new(row.get(0)?, row.get(1)?, order_key, row.get(3)?, body);
        Ok(arrival.fetched(Source::of_code(row.get(5)?) == Source::Fetched))
    })?;
    let arrivals = arrivals.collect::<Result<Vec<_>>>()?;
    let has_more = arrivals.len() >= limit;
    let to = arrivals.last().filter(|_| has_more).map_or(newest, |it| it.seq);
    Ok(Arrived::new(Reach::new(from, to), has_more, arrivals))
}

/// Finds the number before that of the first notification that was stored at a time or later, by bisection.
fn first_since(connection: &Connection, newest: i64, time: i64) -> Result<i64> {
    let mut next = connection.prepare(
        "SELECT seq, received_at FROM inqud_inbox_notification WHERE seq > ?1 ORDER BY seq LIMIT 1",
    )?;
    let (mut earlier, mut later) = (0, newest);
    while earlier < later {
        let middle = earlier.midpoint(later);
        let found =
            next.query_row([middle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        match found.optional()? {
            Some((seq, received_at)) if time > received_at => earlier = seq,
            _ => later = middle,
        }
    }
    Ok(earlier)
}

pub(super) fn schedule(
    connection: &Connection,
    now: i64,
    (kind, reach): (&'static str, Reach),
    looks: &[Scheduled],
) -> Result<()> {
    let mut schedule = connection.prepare(
        "INSERT INTO inqud_inbox_watch
             (kind, object, look_at, since, looks, added_at, position, seq)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET look_at = excluded.look_at, since = excluded.since, looks = 0,
             failures = 0, leased = 0, claim = claim + 1, position = excluded.position,
             seq = excluded.seq
         WHERE (excluded.position, excluded.seq) > (position, seq) AND NOT ?8",
    )?;
    let mut looks: Vec<_> = looks.iter().collect();
    looks.sort_by_key(|it| it.rank());
    for Scheduled { object, position: (position, seq), since, look_at, is_fetched } in looks {
        schedule.execute(params![kind, object, look_at, since, now, position, seq, is_fetched])?;
    }
    let mut read = connection.prepare(
        "INSERT INTO inqud_inbox_watch_read VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET seq = excluded.seq WHERE seq >= ?3",
    )?;
    read.execute(params![kind, reach.to, reach.from])?;
    let mut over = connection
        .prepare("DELETE FROM inqud_inbox_watch WHERE kind = ?1 AND look_at = ?2 AND seq <= ?3")?;
    over.execute(params![kind, NEVER, reach.to]).map(drop)
}

pub(super) fn claim(
    connection: &Connection,
    now: i64,
    kind: &'static str,
    (count, lease): (usize, Duration),
) -> Result<Vec<Look>> {
    let mut due = connection.prepare(
        "SELECT object, claim + 1, added_at, since, looks, failures FROM inqud_inbox_watch
         WHERE kind = ?1 AND look_at <= ?2 ORDER BY look_at LIMIT ?3",
    )?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let due = due.query_map(params![kind, now, count], |row| {
        let object: Arc<str> = row.get(0)?;
        let mut look = Look::new((kind, object), row.get(1)?, now);
        (look.added_at, look.since) = (row.get(2)?, row.get(3)?);
        (look.looks, look.failures) = (row.get(4)?, row.get(5)?);
        Ok(look)
    })?;
    let due = due.collect::<Result<Vec<_>>>()?;
    let mut lease_one = connection.prepare(
        "UPDATE inqud_inbox_watch SET claim = ?3, leased = 1, look_at = ?4
         WHERE kind = ?1 AND object = ?2",
    )?;
    for look in &due {
        let until = now.saturating_add(micros(lease));
        lease_one.execute(params![kind, &*look.object, look.claim, until])?;
    }
    Ok(due)
}

pub(super) fn end(connection: &Connection, now: i64, ended: &[(Look, Next)]) -> Result<()> {
    let mut done = connection.prepare(
        "DELETE FROM inqud_inbox_watch
         WHERE kind = ?1 AND object = ?2 AND claim = ?3 AND added_at = ?4",
    )?;
    let mut again = connection.prepare(
        "UPDATE inqud_inbox_watch
         SET look_at = ?4, looks = ?5, failures = ?6, leased = 0, claim = claim + 1,
             looked_at = iif(looks IS NULL, NULL, ?7),
             position = coalesce(?8, position), seq = coalesce(?9, seq)
         WHERE kind = ?1 AND object = ?2 AND claim = ?3 AND added_at = ?10",
    )?;
    for (look, next) in ended {
        let (kind, object, claim) = (look.kind, &*look.object, look.claim);
        let added_at = look.added_at;
        match next {
            Next::Done => done.execute(params![kind, object, claim, added_at])?,
            Next::At { look_at, looks, failures, stored } => {
                let (position, seq) = stored.unzip();
                again.execute(params![
                    kind, object, claim, look_at, looks, failures, now, position, seq, added_at
                ])?
            }
        };
    }
    Ok(())
}

pub(super) fn hasten(
    connection: &Connection,
    now: i64,
    kind: &'static str,
    (objects, pause): (&[String], Duration),
) -> Result<()> {
    let mut hasten = connection.prepare(
        "INSERT INTO inqud_inbox_watch (kind, object, look_at, since, looks, added_at)
         VALUES (?1, ?2, ?3, ?3, 0, ?3)
         ON CONFLICT DO UPDATE SET look_at = excluded.look_at
         WHERE look_at > excluded.look_at AND NOT leased AND failures = 0
             AND (looked_at IS NULL OR looked_at <= ?4)",
    )?;
    for object in objects {
        hasten.execute(params![kind, object, now, now.saturating_sub(micros(pause))])?;
    }
    Ok(())
}

pub(super) fn known(connection: &Connection, kind: &str, object: &str) -> Result<Known> {
    let mut rows = connection.prepare(
        "SELECT its.seq, its.key, its.order_key, its.reviewed, its.state, its.verdict,
             its.replays
         FROM inqud_inbox_object AS object
         JOIN inqud_inbox_notification AS its ON its.object = object.number
         WHERE object.kind = ?1 AND object.id = ?2 ORDER BY its.seq",
    )?;
    let rows = rows.query_map([kind, object], |row| {
        let (state, verdict): (i64, i64) = (row.get(4)?, row.get(5)?);
        let order_key = order_key(row.get_ref(2)?.as_blob()?);
        let is_undone = state == State::Dead as i64 || state == State::Skipped as i64;
        let known =
            KnownRow::new(row.get(0)?, Key::from_bytes(row.get(1)?), order_key, row.get(3)?);
        Ok(known
            .in_review(state == State::Review as i64)
            .skipped(state == State::Skipped as i64 && (verdict == 3 || verdict == 4))
            .given_up(is_undone && row.get::<_, i64>(6)? == 0))
    })?;
    let mut pruned = connection.prepare(
        "SELECT processed FROM inqud_inbox_object
         WHERE kind = ?1 AND id = ?2 AND pruned_at IS NOT NULL",
    )?;
    let processed: Option<Vec<u8>> =
        pruned.query_row([kind, object], |row| row.get(0)).optional()?.flatten();
    let processed = processed.and_then(|bytes| Processed::from_bytes(&bytes));
    let known = Known::new(rows.collect::<Result<Vec<_>>>()?).recall(kind, object, processed);
    let mut read =
        connection.prepare("SELECT body FROM inqud_inbox_notification WHERE seq = ?1")?;
    let latest = match known.end_seq() {
        Some(seq) => read.query_row([seq], |row| row.get(0)).optional()?.flatten(),
        None => None,
    };
    Ok(known.with_body(body(latest)))
}

pub(super) fn insert_after(
    connection: &Connection,
    now: i64,
    record: &Record,
    extent: Extent,
) -> Result<Option<i64>> {
    let Record { key, kind, object, order_key, body, order_id, source, .. } = record;
    connection.execute(
        "INSERT INTO inqud_inbox_object (kind, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        [kind, &**object],
    )?;
    let (number, last, count): (i64, Option<i64>, i64) = connection.query_row(
        "SELECT number, max(its.seq), count(its.seq) FROM inqud_inbox_object
         LEFT JOIN inqud_inbox_notification AS its ON its.object = number
         WHERE inqud_inbox_object.kind = ?1 AND id = ?2",
        [kind, &**object],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if (last, count) != (extent.last, extent.count) {
        return Ok(None);
    }
    let mut insert = connection.prepare(
        "INSERT INTO inqud_inbox_notification
             (object, kind, key, position, order_key, received_at, reviewed, body, order_id, status, source)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10)",
    )?;
    let row = params![
        number,
        kind,
        key.as_bytes(),
        order_key.position(),
        order_key.to_bytes(),
        now,
        &body[..],
        order_id,
        order_key.status(),
        source.code(),
    ];
    let seq = insert.insert(row)?;
    connection.prepare(ARRIVE)?.execute([number, now])?;
    Ok(Some(seq))
}
