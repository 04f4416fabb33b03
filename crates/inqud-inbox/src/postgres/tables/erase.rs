//! Deleting what the tables have about a person.

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;

use super::{BEGIN, object};
use crate::erase::{ERASED, ErasedObject};

const LOCK: &str = "
SELECT FROM inqud_inbox.object WHERE kind = $1 AND object = $2 FOR UPDATE";

/// A statement of its own, which sees what the last holder of the lock has committed.
const ERASE: &str = "
WITH mine AS MATERIALIZED (
    SELECT seq, state FROM inqud_inbox.notification WHERE kind = $1 AND object = $2 FOR UPDATE
), allowed AS (
    SELECT $3 OR NOT EXISTS (SELECT FROM mine WHERE state = 0) AS is_allowed
), erased AS (
    UPDATE inqud_inbox.notification AS its
    SET body = NULL, order_id = NULL, retry_at = NULL, settled_at = coalesce(settled_at, statement_timestamp()),
        error = CASE WHEN mine.state IN (1, 2) THEN NULL ELSE $4 END,
        state = CASE WHEN mine.state IN (1, 2) THEN mine.state ELSE 2 END
    FROM mine, allowed WHERE its.seq = mine.seq AND allowed.is_allowed
    RETURNING mine.state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, skipped, dead, review)
    SELECT $1, -count(*) FILTER (WHERE state = 0), count(*), -count(*) FILTER (WHERE state = 3),
        -count(*) FILTER (WHERE state = 4)
    FROM erased WHERE state NOT IN (1, 2) HAVING count(*) > 0
), freed AS (
    UPDATE inqud_inbox.object SET due_at = NULL, leased_until = NULL, crashes = 0
    FROM allowed WHERE kind = $1 AND object = $2 AND is_allowed AND due_at IS NOT NULL
), unwatched AS (
    -- A look would store the body again.
    DELETE FROM inqud_inbox.watch USING allowed WHERE kind = $1 AND object = $2 AND is_allowed
)
SELECT is_allowed, (SELECT count(*) FROM erased) FROM allowed";

/// Erases bodies and errors. Returns how many notifications it found, or `None` if some are not settled and it is not
/// forced.
pub(in crate::postgres) async fn erase(
    client: &Client,
    of: &ErasedObject,
    is_forced: bool,
) -> Result<Option<usize>, Error> {
    let (lock, erase) =
        tokio::try_join!(client.prepare_cached(LOCK), client.prepare_cached(ERASE))?;
    let id = object(&of.id);
    client.batch_execute(BEGIN).await?;
    client.query(&lock, &[&of.kind, &id]).await?;
    let row = client.query_one(&erase, &[&of.kind, &id, &is_forced, &ERASED]).await?;
    client.batch_execute("COMMIT").await?;
    let (is_allowed, count): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(is_allowed.then(|| usize::try_from(count).unwrap_or_default()))
}

/// Lists the objects of which a notification has this order id. The index is by blocks of rows.
pub(in crate::postgres) async fn objects_of_order(
    client: &Client,
    order_id: &str,
) -> Result<Vec<ErasedObject>, Error> {
    let objects = "
        SELECT DISTINCT mine.kind, mine.object
        FROM generate_series((SELECT min(seq) / 1024 FROM inqud_inbox.notification),
            (SELECT max(seq) / 1024 FROM inqud_inbox.notification)) AS block (n)
        CROSS JOIN LATERAL (
            SELECT its.kind, its.object FROM inqud_inbox.notification AS its
            WHERE its.seq / 1024 = block.n AND its.order_id = $1
        ) AS mine";
    let rows = client.query(objects, &[&order_id]).await?;
    let objects =
        rows.iter().map(|row| Ok(ErasedObject { kind: row.try_get(0)?, id: row.try_get(1)? }));
    objects.collect()
}
