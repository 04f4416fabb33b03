//! What a retention deletes.

use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::admin::prune;
use super::{BEGIN, DONE, REVIEW, SKIPPED, micros, transact};
use crate::sweep::{Sweep, SweptBatch};

/// Deletes one batch.
pub(in crate::postgres) async fn sweep(
    client: &Client,
    sweep: Sweep,
    limit: usize,
) -> Result<SweptBatch, Error> {
    match sweep {
        Sweep::Bodies(age) => Ok(SweptBatch::of(sweep, prune(client, age, limit).await?, limit)),
        Sweep::Notifications { age, includes_reviews, after } => {
            let (count, last) = notifications(client, age, includes_reviews, after, limit).await?;
            let next = last.map(|after| Sweep::Notifications { age, includes_reviews, after });
            Ok(SweptBatch { count, next })
        }
        Sweep::Objects(age) => {
            let limited = i64::try_from(limit).unwrap_or(i64::MAX);
            let count = transact(client, OBJECTS, &[&micros(age), &limited]).await?.len();
            Ok(SweptBatch::of(sweep, count, limit))
        }
    }
}

/// The next notifications by number, which is about the order of arrival.
const NEXT: &str = "
SELECT seq, kind, object, state, received_at <= $2, coalesce(settled_at, received_at) <= $2
FROM inqud_inbox.notification WHERE seq > $1 ORDER BY seq LIMIT $3";

const BEFORE: &str = "SELECT statement_timestamp() - $1::bigint * interval '1 microsecond'";

/// Locks the objects that nobody else has locked. See the module's lock order.
const LOCK: &str = "
SELECT mine.kind, mine.object FROM inqud_inbox.object AS mine
WHERE (kind, object) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY kind, object FOR UPDATE OF mine SKIP LOCKED";

const DELETE: &str = "
WITH of AS MATERIALIZED (
    SELECT kind, object FROM unnest($1::text[], $2::text[]) AS it (kind, object)
    WHERE NOT EXISTS (
        SELECT FROM inqud_inbox.notification AS its
        WHERE its.kind = it.kind AND its.object = it.object AND its.state + 0 <> ALL ($4::smallint[]))
), deleted AS (
    DELETE FROM inqud_inbox.notification AS mine USING of
    WHERE mine.seq = ANY ($3::bigint[]) AND mine.kind = of.kind AND mine.object = of.object
    RETURNING mine.kind, mine.object, mine.state, coalesce(mine.settled_at, mine.received_at) AS settled_at
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, skipped, review)
    SELECT kind, -count(*) FILTER (WHERE state = 2), -count(*) FILTER (WHERE state = 4)
    FROM deleted GROUP BY kind HAVING count(*) FILTER (WHERE state > 1) > 0
), marked AS (
    UPDATE inqud_inbox.object AS mine SET pruned_at = greatest(mine.pruned_at, its.settled_at)
    FROM (SELECT kind, object, max(settled_at) AS settled_at FROM deleted GROUP BY kind, object) AS its
    WHERE mine.kind = its.kind AND mine.object = its.object
)
SELECT FROM deleted";

async fn notifications(
    client: &Client,
    age: Duration,
    includes_reviews: bool,
    after: i64,
    limit: usize,
) -> Result<(usize, Option<i64>), Error> {
    let (before, next, lock, delete) = tokio::try_join!(
        client.prepare_cached(BEFORE),
        client.prepare_cached(NEXT),
        client.prepare_cached(LOCK),
        client.prepare_cached(DELETE),
    )?;
    let before: SystemTime = client.query_one(&before, &[&micros(age)]).await?.try_get(0)?;
    let limited = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(&next, &[&after, &before, &limited]).await?;
    let mut states = vec![DONE, SKIPPED];
    states.extend(includes_reviews.then_some(REVIEW));
    let (mut kinds, mut objects, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    let mut is_young = false;
    for row in &rows {
        if !row.try_get::<_, bool>(4)? {
            is_young = true;
            break;
        }
        last = Some(row.try_get(0)?);
        if states.contains(&row.try_get(3)?) && row.try_get(5)? {
            seqs.push(row.try_get::<_, i64>(0)?);
            kinds.push(row.try_get::<_, &str>(1)?);
            objects.push(row.try_get::<_, &str>(2)?);
        }
    }
    let last = last.filter(|_| !is_young && rows.len() >= limit);
    if seqs.is_empty() {
        return Ok((0, last));
    }
    client.batch_execute(BEGIN).await?;
    let locked = client.query(&lock, &[&kinds, &objects]).await?;
    let kinds: Vec<&str> = column(&locked, 0)?;
    let objects: Vec<&str> = column(&locked, 1)?;
    let parameters: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &seqs, &states];
    let count = client.query(&delete, &parameters).await?.len();
    client.batch_execute("COMMIT").await?;
    Ok((count, last))
}

fn column(rows: &[Row], at: usize) -> Result<Vec<&str>, Error> {
    rows.iter().map(|row| row.try_get(at)).collect()
}

/// Deletes objects of which nothing else is left. A row that somebody has locked is about to be used again.
const OBJECTS: &str = "
DELETE FROM inqud_inbox.object AS mine WHERE (kind, object) IN (
    SELECT its.kind, its.object FROM inqud_inbox.object AS its
    WHERE its.pruned_at <= statement_timestamp() - $1::bigint * interval '1 microsecond'
        AND its.due_at IS NULL AND its.leased_until IS NULL
        AND NOT EXISTS (SELECT FROM inqud_inbox.notification AS of
            WHERE of.kind = its.kind AND of.object = its.object)
    ORDER BY its.pruned_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1";
