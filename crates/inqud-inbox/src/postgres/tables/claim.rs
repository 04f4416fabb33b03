use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, body, key, micros, order_key, time};
use crate::store::{Claimed, Ticket};
use tower_inqud::Processed;

/// Records that a runner claims a kind.
pub(in crate::postgres) async fn record_runner(
    client: &Client,
    kind: &'static str,
) -> Result<(), Error> {
    let ask = "
        INSERT INTO inqud_inbox.runner VALUES ($1, statement_timestamp())
        ON CONFLICT (kind) DO UPDATE SET claimed_at = excluded.claimed_at";
    client.execute(&client.prepare_cached(ask).await?, &[&kind]).await.map(drop)
}

const LEASE: &str = include_str!("../lease.sql");

const ATTEMPT: &str = include_str!("../attempt.sql");

/// Makes leased objects without open notifications not due. Normally there are none.
pub(super) const CLEAR_DUE: &str = "
UPDATE inqud_inbox.object SET due_at = NULL WHERE kind = $1 AND object = ANY ($2::text[])";

pub(in crate::postgres) async fn claim(
    client: &Client,
    kind: &'static str,
    count: usize,
    lease: Duration,
) -> Result<Vec<Claimed>, Error> {
    let statements = tokio::try_join!(
        client.prepare_cached(LEASE),
        client.prepare_cached(ATTEMPT),
        client.prepare_cached(CLEAR_DUE),
    )?;
    let (take, attempt, rest) = statements;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let lease = micros(lease);
    let parameters: [&(dyn ToSql + Sync); 3] = [&kind, &count, &lease];
    let (begun, leased) =
        tokio::join!(client.batch_execute(BEGIN), client.query(&take, &parameters));
    begun?;
    let leased = leased?;
    if leased.is_empty() {
        client.batch_execute("COMMIT").await?;
        return Ok(Vec::new());
    }
    let mut all = HashMap::new();
    for row in &leased {
        all.insert(row.try_get::<_, &str>(0)?, row);
    }
    let objects: Vec<&str> = all.keys().copied().collect();
    let attempted = client.query(&attempt, &[&kind, &objects]).await?;
    let mut claimed = Vec::with_capacity(attempted.len());
    for row in &attempted {
        let Some(leased) = all.remove(row.try_get::<_, &str>(0)?) else { continue };
        claimed.push((leased.try_get::<_, SystemTime>(3)?, claimed_of(kind, leased, row)?));
    }
    let idle: Vec<&str> = all.keys().copied().collect();
    if !idle.is_empty() {
        client.execute(&rest, &[&kind, &idle]).await?;
    }
    client.batch_execute("COMMIT").await?;
    claimed.sort_by_key(|(since, _)| *since);
    Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
}

fn claimed_of(kind: &'static str, leased: &Row, attempted: &Row) -> Result<Claimed, Error> {
    let object: &str = leased.try_get(0)?;
    let processed: Option<Vec<u8>> = leased.try_get(2)?;
    let processed = processed.and_then(|bytes| Processed::from_bytes(&bytes));
    let order_key = order_key(attempted.try_get(3)?);
    let attempts: i32 = attempted.try_get(5)?;
    Ok(Claimed {
        ticket: Ticket::new(
            attempted.try_get(1)?,
            (kind, Arc::from(object)),
            leased.try_get(1)?,
            (&order_key, attempted.try_get(7)?),
            processed.as_ref(),
        ),
        key: key(attempted.try_get(2)?),
        body: body(attempted.try_get(4)?),
        attempt: u32::try_from(attempts).unwrap_or(u32::MAX),
        received_at: time(attempted.try_get(6)?),
    })
}
