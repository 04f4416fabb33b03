//! Opens notifications again that were processed.

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::BEGIN;
use crate::replay::Replayed;

/// Locks the objects before their notifications. See the module's lock order.
const LOCK: &str = "
SELECT FROM inqud_inbox.object AS mine
WHERE (kind, object) IN (
    SELECT kind, object FROM inqud_inbox.notification WHERE seq = ANY ($1::bigint[]))
ORDER BY kind, object FOR UPDATE OF mine";

/// Reports what becomes of each number: 0 to be opened, 1 busy, 2 pruned, 3 never processed.
const LOOK: &str = "
SELECT it.seq, CASE
        WHEN it.state <> 1 AND (it.state NOT IN (2, 3) OR it.replays = 0) THEN 3
        WHEN its.leased_until > statement_timestamp() THEN 1
        WHEN it.body IS NULL THEN 2
        ELSE 0
    END
FROM inqud_inbox.notification AS it JOIN inqud_inbox.object AS its USING (kind, object)
WHERE it.seq = ANY ($1::bigint[]) AND NOT (it.state < 1 AND it.replays > 0)
ORDER BY it.seq";

const OPEN: &str = include_str!("../reopen.sql");

/// Opens what was processed with these numbers, and what was processed after it of the same objects.
pub(in crate::postgres) async fn replay(
    client: &Client,
    numbers: &[i64],
    dry_run: bool,
) -> Result<Replayed, Error> {
    let (lock, look, open) = tokio::try_join!(
        client.prepare_cached(LOCK),
        client.prepare_cached(LOOK),
        client.prepare_cached(OPEN),
    )?;
    let of: [&(dyn ToSql + Sync); 1] = [&numbers];
    let end = if dry_run { "ROLLBACK" } else { "COMMIT" };
    let (begun, locked, looked, opened, ended) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&lock, &of),
        client.query(&look, &of),
        client.query(&open, &of),
        client.batch_execute(end),
    );
    begun?;
    locked?;
    let (looked, opened) = (looked?, opened?);
    ended?;
    let mut replayed = Replayed::default();
    for row in &looked {
        let to = match row.try_get::<_, i32>(1)? {
            1 => &mut replayed.busy,
            2 => &mut replayed.pruned,
            3 => &mut replayed.unprocessed,
            _ => continue,
        };
        to.push(row.try_get(0)?);
    }
    for row in &opened {
        replayed.opened.push(row.try_get(0)?);
    }
    Ok(replayed)
}
