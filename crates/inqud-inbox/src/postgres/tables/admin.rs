use std::time::Duration;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, DEAD, OPEN, REVIEW, SKIPPED, body, bytes, code, key, micros, time, transact};
use crate::admin::{Entry, List, Stats};
use crate::key::Key;
use tower_inqud::Verdict;

/// Returns whether `fsync` is on, and the encoding of the database.
pub(in crate::postgres) async fn settings(client: &Client) -> Result<(bool, String), Error> {
    let settings = "SELECT current_setting('fsync') = 'on', current_setting('server_encoding')";
    let row = client.query_one(settings, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(in crate::postgres) async fn stats(client: &Client) -> Result<Stats, Error> {
    let count = "
        SELECT kind, 0::smallint, count(*), (extract(epoch FROM min(received_at)) * 1000000)::bigint
        FROM inqud_inbox.notification WHERE state = 0 GROUP BY kind
        UNION ALL SELECT kind, state, count(*), NULL
        FROM inqud_inbox.notification WHERE state > 1 GROUP BY kind, state
        ORDER BY 1";
    let mut stats = Stats::default();
    for row in &client.query(count, &[]).await? {
        let kind = stats.kind(row.try_get(0)?);
        let count = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default();
        match row.try_get(1)? {
            OPEN => {
                kind.backlog = count;
                kind.oldest = row.try_get::<_, Option<i64>>(3)?.map(time);
            }
            SKIPPED => kind.skipped = count,
            DEAD => kind.dead = count,
            _ => kind.review = count,
        }
    }
    Ok(stats)
}

pub(in crate::postgres) async fn unclaimed(
    client: &Client,
    since: Duration,
) -> Result<Vec<String>, Error> {
    let unclaimed = "
        SELECT DISTINCT kind FROM inqud_inbox.object WHERE due_at IS NOT NULL
        EXCEPT SELECT kind FROM inqud_inbox.runner
        WHERE claimed_at > statement_timestamp() - $1::bigint * interval '1 microsecond'
        ORDER BY 1";
    let rows = client.query(unclaimed, &[&micros(since)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(in crate::postgres) async fn list(
    client: &Client,
    list: List,
    count: usize,
) -> Result<Vec<Entry>, Error> {
    let (which, code) = match list {
        List::Dead => ("state > 1 AND state = $1", DEAD),
        List::Review => ("state > 1 AND state = $1", REVIEW),
        List::Skipped => ("state > 1 AND state = $1", SKIPPED),
        List::Amended => ("state = 1 AND verdict > 0 AND verdict = $1", code(Verdict::Amended)),
        List::Unordered => ("state = 1 AND verdict > 0 AND verdict = $1", code(Verdict::Unordered)),
    };
    let entries = format!(
        "SELECT key, kind, object, body, attempts, error,
            (extract(epoch FROM received_at) * 1000000)::bigint
        FROM inqud_inbox.notification WHERE {which} ORDER BY seq LIMIT $2"
    );
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = client.query(&entries, &[&code, &count]).await?;
    let entry = |row: &Row| {
        Ok(Entry {
            key: key(row.try_get(0)?),
            kind: row.try_get(1)?,
            object: row.try_get(2)?,
            body: body(row.try_get(3)?),
            attempts: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or_default(),
            error: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
            received_at: time(row.try_get(6)?),
        })
    };
    rows.iter().map(entry).collect()
}
/// Reopens dead letters and reviews. Locks them in the order of their keys, so that two calls cannot
/// deadlock.
const REDRIVE: &str = "
WITH opened AS (
    UPDATE inqud_inbox.notification
    SET reviewed = reviewed OR state = 4, state = 0, attempts = 0, settled_at = NULL
    WHERE seq = ANY (ARRAY(
        SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2
        ORDER BY key FOR UPDATE))
    RETURNING kind, object, seq
), due AS (
    INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
    SELECT kind, object, statement_timestamp() FROM opened
    GROUP BY kind, object ORDER BY kind, object
    ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at WHERE mine.due_at IS NULL
)
SELECT count(*) FROM opened";

pub(in crate::postgres) async fn redrive(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let rows = change_kept(client, REDRIVE, keys).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(in crate::postgres) async fn discard(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let discard = "
        UPDATE inqud_inbox.notification
        SET verdict = CASE state WHEN 4 THEN 4 ELSE verdict END, state = 2,
            settled_at = statement_timestamp()
        WHERE seq = ANY (ARRAY(
            SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2
            ORDER BY key FOR UPDATE))
        RETURNING seq";
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
