//! Claims due objects.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, body, count_of, key, micros, order_key, time_of, transact, verdict};
use crate::source::Source;
use crate::store::{Claim, Claimed, Ticket};
use tower_inqud::Processed;

/// Records that a runner claims a kind.
pub(in crate::postgres) async fn record_runner(
    client: &Client,
    kind: &'static str,
) -> Result<(), Error> {
    let ask = "
        INSERT INTO inqud_inbox.runner VALUES ($1, statement_timestamp())
        ON CONFLICT (kind) DO UPDATE SET claimed_at = excluded.claimed_at";
    transact(client, ask, &[&kind]).await.map(drop)
}

/// Whether a suspect is among the first objects that are due.
pub(in crate::postgres) async fn has_suspect(
    client: &Client,
    kind: &'static str,
    among: i64,
) -> Result<bool, Error> {
    let suspect = "
        SELECT EXISTS (SELECT FROM (
            SELECT leased_until, crashes FROM inqud_inbox.object
            WHERE kind = $1 AND due_at <= statement_timestamp() ORDER BY due_at LIMIT $2
        ) AS front
        WHERE leased_until <= statement_timestamp() OR leased_until IS NULL AND crashes > 0)";
    let suspect = client.prepare_cached(suspect).await?;
    client.query_one(&suspect, &[&kind, &among]).await?.try_get(0)
}

const CLAIM: &str = "
SELECT object, claim, crashes, processed, due_at, seq, key, order_key, body, failures, received_at, reviewed,
    source, verdict, replays
FROM inqud_inbox.claim($1, $2, $3::bigint * interval '1 microsecond', $4, $5,
    coalesce($6::timestamptz, '-infinity'))";

/// When a transaction began, and for how many microseconds it has run.
const TOOK: &str = "
SELECT transaction_timestamp(),
    (extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000000)::bigint";

/// What a claim found.
pub(in crate::postgres) struct Look {
    pub(in crate::postgres) claimed: Vec<Claimed>,
    /// When the last object became due that was looked at, if more may be due.
    pub(in crate::postgres) last_due: Option<SystemTime>,
    pub(in crate::postgres) began: SystemTime,
    pub(in crate::postgres) took: Duration,
}

/// Leases objects that became due at `due_from` or later. Looks for a suspect among the first `suspects`.
pub(in crate::postgres) async fn claim(
    client: &Client,
    claim: &Claim,
    due_from: Option<SystemTime>,
    suspects: i64,
) -> Result<Look, Error> {
    let (statement, took) =
        tokio::try_join!(client.prepare_cached(CLAIM), client.prepare_cached(TOOK))?;
    let count = i64::try_from(claim.count).unwrap_or(i64::MAX);
    let lease = micros(claim.lease);
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&claim.kind, &count, &lease, &claim.newest_first, &suspects, &due_from];
    let (begun, rows, took, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&statement, &parameters),
        client.query_one(&took, &[]),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let rows = rows?;
    let took = took?;
    committed?;
    let mut look = Look {
        claimed: Vec::with_capacity(rows.len()),
        last_due: None,
        began: took.try_get(0)?,
        took: Duration::from_micros(took.try_get::<_, i64>(1)?.unsigned_abs()),
    };
    for row in &rows {
        if row.try_get::<_, Option<i64>>(5)?.is_none() {
            look.last_due = row.try_get(4)?;
            continue;
        }
        look.claimed.push(claimed_of(claim, row)?);
    }
    Ok(look)
}

fn claimed_of(claim: &Claim, row: &Row) -> Result<Claimed, Error> {
    let object: &str = row.try_get(0)?;
    let processed: Option<&[u8]> = row.try_get(3)?;
    let processed = processed.and_then(Processed::from_bytes);
    let order_key = order_key(row.try_get(7)?);
    let ticket = Ticket::new(
        row.try_get(5)?,
        (claim.kind, Arc::from(object)),
        row.try_get(1)?,
        (&order_key, row.try_get(11)?),
        processed.as_ref(),
        claim.newest_first,
    );
    let is_replay = row.try_get::<_, i32>(14)? > 0;
    Ok(Claimed {
        ticket: if is_replay { ticket.replay_of(verdict(row.try_get(13)?)) } else { ticket },
        key: key(row.try_get(6)?),
        body: body(row.try_get(8)?),
        failures: count_of(row.try_get(9)?),
        crashes: count_of(row.try_get(2)?),
        received_at: time_of(row.try_get(10)?),
        source: Source::of_code(row.try_get(12)?),
    })
}
