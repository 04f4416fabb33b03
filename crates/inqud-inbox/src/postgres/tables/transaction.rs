//! The transactions of handlers.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::{BEGIN, bytes_of, join_all, key, object, prepare};
use crate::key::Key;
use crate::postgres::statement::Statement;

/// The statements look up their parameters by index, however many there are. Planning them again for each
/// batch would take longer than running them.
pub(in crate::postgres) const PLAN_ONCE: &str = "SET plan_cache_mode = force_generic_plan";

/// Removes what an earlier handler has left in the session. Like `DISCARD ALL`, but it keeps prepared statements.
pub(in crate::postgres) const CLEAN: &str = "
CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *;
SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Returns the id of the transaction, and limits its statements in time, unless the role has a limit already.
///
/// When a handler times out it is dropped, but a statement that it sent continues on the server. It would
/// hold its locks, and block the next attempt.
const ENTER_TRANSACTION: &str = "
SELECT txid_current(), CASE current_setting('statement_timeout')
    WHEN '0' THEN set_config('statement_timeout', $1, true) END";

/// Begins the transaction of a handler.
pub(in crate::postgres) async fn begin(
    client: &Client,
    handler_timeout: Duration,
) -> Result<i64, Error> {
    let enter = client.prepare_cached(ENTER_TRANSACTION).await?;
    let limit = milliseconds(handler_timeout).to_string();
    let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
    let (cleaned, begun, entered) = tokio::join!(
        client.batch_execute(CLEAN),
        client.batch_execute(BEGIN),
        client.query_one(&enter, &parameters),
    );
    cleaned?;
    begun?;
    entered?.try_get(0)
}

/// Cleans the session.
pub(in crate::postgres) async fn clean(client: &Client) -> Result<(), Error> {
    client.batch_execute(CLEAN).await
}

/// Rolls back, and returns whether the session is as before.
pub(in crate::postgres) async fn roll_back(client: &Client) -> Result<bool, Error> {
    let (rolled_back, cleaned, planned) = tokio::join!(
        client.batch_execute("ROLLBACK"),
        client.batch_execute(CLEAN),
        client.batch_execute(PLAN_ONCE),
    );
    rolled_back.map(|()| cleaned.and(planned).is_ok())
}

/// Commits settlements with statements of handlers. Returns whether the session is as before.
pub(in crate::postgres) async fn commit(client: &Client) -> Result<bool, Error> {
    let (committed, cleaned, planned) = tokio::join!(
        client.batch_execute("COMMIT"),
        client.batch_execute(CLEAN),
        client.batch_execute(PLAN_ONCE),
    );
    committed.map(|()| cleaned.and(planned).is_ok())
}

/// 0 would be no limit, and more than 31 bits is an error.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().clamp(1, 1 << 30)
}

/// Runs statements one after the other in the transaction that was begun.
pub(in crate::postgres) async fn run(
    client: &Client,
    statements: &[Arc<Statement>],
) -> Result<(), Error> {
    let mut prepared = Vec::new();
    for statement in statements {
        prepared.push((prepare(client, &statement.sql).await?, statement.parameters()));
    }
    let ran = join_all(prepared.iter().map(|(prepared, of)| client.execute(prepared, of))).await;
    ran.into_iter().try_for_each(|ran| ran.map(drop))
}

/// Stores an idempotency key. If it is stored already, returns the notification that first used it.
///
/// If another transaction has stored it and is not committed yet, Postgres waits for that transaction.
pub(in crate::postgres) async fn insert_once(
    client: &Client,
    idempotency_key: &str,
    of: Key,
) -> Result<Option<Key>, Error> {
    let idempotency_key = object(idempotency_key);
    let (keep, first) = tokio::try_join!(
        client
            .prepare_cached("INSERT INTO inqud_inbox.once VALUES ($1, $2) ON CONFLICT DO NOTHING"),
        client
            .prepare_cached("SELECT notification FROM inqud_inbox.once WHERE idempotency_key = $1"),
    )?;
    if client.execute(&keep, &[&idempotency_key, &bytes_of(&of)]).await? > 0 {
        return Ok(None);
    }
    Ok(Some(key(client.query_one(&first, &[&idempotency_key]).await?.try_get(0)?)))
}
