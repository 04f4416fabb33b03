use std::time::{Duration, Instant, SystemTime};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, bytes, micros, reopen, time_of, transact};
use crate::key::Key;
use crate::stats::Stats;

/// Returns whether `fsync` is on, and the encoding of the database.
pub(in crate::postgres) async fn settings(client: &Client) -> Result<(bool, String), Error> {
    let settings = "SELECT current_setting('fsync') = 'on', current_setting('server_encoding')";
    let row = client.query_one(settings, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Adds up the changes of each kind.
pub(in crate::postgres) async fn stats(client: &Client) -> Result<Stats, Error> {
    let count = "
        SELECT kind, backlog, skipped, dead, review, (
            SELECT received_at FROM inqud_inbox.notification AS oldest
            WHERE oldest.kind = counted.kind AND state + 0 = 0 ORDER BY seq LIMIT 1)
        FROM (
            SELECT kind, sum(backlog)::bigint AS backlog, sum(skipped)::bigint AS skipped,
                sum(dead)::bigint AS dead, sum(review)::bigint AS review
            FROM inqud_inbox.tally GROUP BY kind
        ) AS counted ORDER BY kind";
    let mut stats = Stats::default();
    for row in &client.query(count, &[]).await? {
        let counts = [1, 2, 3, 4].map(|at| row.try_get::<_, i64>(at));
        let [backlog, skipped, dead, review] =
            counts.map(|count| count.map(|count| u64::try_from(count).unwrap_or_default()));
        let counts = (backlog?, skipped?, dead?, review?);
        if counts == (0, 0, 0, 0) {
            continue;
        }
        let kind = stats.kind(row.try_get(0)?);
        (kind.backlog, kind.skipped, kind.dead, kind.review) = counts;
        kind.oldest = row.try_get::<_, Option<SystemTime>>(5)?.map(time_of);
    }
    Ok(stats)
}

/// How many rows to replace by their sums at once, and for how long to go on.
const COMPACTED: i64 = 100_000;
const COMPACTING: Duration = Duration::from_secs(3);

/// Replaces changes by their sums. It skips those that another call replaces, and leaves out sums of zero.
pub(in crate::postgres) async fn compact(client: &Client) -> Result<(), Error> {
    let compact = "
        WITH taken AS (
            DELETE FROM inqud_inbox.tally WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM inqud_inbox.tally LIMIT $1 FOR UPDATE SKIP LOCKED))
            RETURNING *
        ), summed AS (
            INSERT INTO inqud_inbox.tally
            SELECT kind, sum(backlog), sum(skipped), sum(dead), sum(review) FROM taken GROUP BY kind
            HAVING (sum(backlog), sum(skipped), sum(dead), sum(review)) <> (0, 0, 0, 0)
        )
        SELECT count(*) FROM taken";
    let began = Instant::now();
    while began.elapsed() < COMPACTING {
        let rows = transact(client, compact, &[&COMPACTED]).await?;
        let taken: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        if taken < COMPACTED {
            break;
        }
    }
    Ok(())
}

pub(in crate::postgres) async fn unclaimed(
    client: &Client,
    since: Duration,
) -> Result<Vec<String>, Error> {
    let unclaimed = "
        SELECT kind FROM inqud_inbox.tally GROUP BY kind HAVING sum(backlog) > 0
        EXCEPT SELECT kind FROM inqud_inbox.runner
        WHERE claimed_at > statement_timestamp() - $1::bigint * interval '1 microsecond'
        ORDER BY 1";
    let rows = client.query(unclaimed, &[&micros(since)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Reopens dead letters and reviews. Locks them in the order of their keys, so that two calls cannot
/// deadlock.
const REDRIVE: &str = "
WITH kept AS MATERIALIZED (
    SELECT seq, state FROM inqud_inbox.notification
    WHERE key = ANY ($1::bytea[]) AND state > 2 AND replays = 0
    ORDER BY key FOR UPDATE
), opened AS (
    UPDATE inqud_inbox.notification AS mine
    SET reviewed = reviewed OR kept.state = 4, state = 0, failures = 0, retry_at = NULL, settled_at = NULL
    FROM kept WHERE mine.seq = kept.seq
    RETURNING mine.kind, mine.object, kept.state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, dead, review)
    SELECT kind, count(*), -count(*) FILTER (WHERE state = 3), -count(*) FILTER (WHERE state = 4)
    FROM opened GROUP BY kind
), due AS (
    INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
    SELECT kind, object, statement_timestamp() FROM opened
    GROUP BY kind, object ORDER BY kind, object
    ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at
    WHERE mine.leased_until IS NULL AND (mine.due_at IS NULL OR mine.due_at > excluded.due_at)
)
SELECT count(*) FROM opened";

pub(in crate::postgres) async fn redrive(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let rows = change_kept(client, REDRIVE, keys).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    let count = usize::try_from(count).unwrap_or_default();
    Ok(count.saturating_add(redrive_replays(client, keys).await?))
}

/// Dead letters of replays are replayed together with what was processed after them.
async fn redrive_replays(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let replays = "
        SELECT seq FROM inqud_inbox.notification
        WHERE key = ANY ($1::bytea[]) AND state > 2 AND replays > 0";
    let replays = client.prepare_cached(replays).await?;
    let rows = client.query(&replays, &[&bytes(keys)]).await?;
    let numbers: Result<Vec<i64>, Error> = rows.iter().map(|row| row.try_get(0)).collect();
    let numbers = numbers?;
    if numbers.is_empty() {
        return Ok(0);
    }
    let opened = reopen::replay(client, &numbers, false).await?.opened;
    Ok(numbers.iter().filter(|number| opened.contains(number)).count())
}

pub(in crate::postgres) async fn discard(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let discard = "
        WITH kept AS MATERIALIZED (
            SELECT seq, state FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2
            ORDER BY key FOR UPDATE
        ), discarded AS (
            UPDATE inqud_inbox.notification AS mine
            SET verdict = CASE kept.state WHEN 4 THEN 4 ELSE verdict END, state = 2,
                settled_at = statement_timestamp()
            FROM kept WHERE mine.seq = kept.seq
            RETURNING mine.kind, kept.state
        ), counted AS (
            INSERT INTO inqud_inbox.tally (kind, skipped, dead, review)
            SELECT kind, count(*), -count(*) FILTER (WHERE state = 3), -count(*) FILTER (WHERE state = 4)
            FROM discarded GROUP BY kind
        )
        SELECT FROM discarded";
    Ok(change_kept(client, discard, keys).await?.len())
}

/// Locks the objects of dead letters and reviews, before their notifications. See the module's lock order.
const LOCK_KEPT: &str = "
SELECT FROM inqud_inbox.object AS mine
WHERE (kind, object) IN (
    SELECT kind, object FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2)
ORDER BY kind, object FOR UPDATE OF mine";

async fn change_kept(client: &Client, change: &str, keys: &[Key]) -> Result<Vec<Row>, Error> {
    let (lock, change) =
        tokio::try_join!(client.prepare_cached(LOCK_KEPT), client.prepare_cached(change))?;
    let keys = bytes(keys);
    let keys: [&(dyn ToSql + Sync); 1] = [&keys];
    let (begun, locked, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&lock, &keys),
        client.query(&change, &keys),
        client.batch_execute("COMMIT"),
    );
    begun?;
    locked?;
    let rows = rows?;
    committed?;
    Ok(rows)
}

pub(in crate::postgres) async fn prune(
    client: &Client,
    age: Duration,
    count: usize,
) -> Result<usize, Error> {
    let prune = "
        UPDATE inqud_inbox.notification SET body = NULL WHERE seq = ANY (ARRAY(
            SELECT seq FROM inqud_inbox.notification
            WHERE state IN (1, 2) AND body IS NOT NULL
                AND settled_at <= statement_timestamp() - $1::bigint * interval '1 microsecond'
            ORDER BY settled_at LIMIT $2
            FOR UPDATE SKIP LOCKED))
        RETURNING seq";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    Ok(transact(client, prune, &[&micros(age), &count]).await?.len())
}
