use std::time::Duration;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::{BEGIN, bytes_of, key, object};
use crate::key::Key;

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
    // In milliseconds; 0 would be no limit, and more than 31 bits is an error.
    let limit = handler_timeout.as_millis().clamp(1, 1 << 30).to_string();
    let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
    let (begun, entered) =
        tokio::join!(client.batch_execute(BEGIN), client.query_one(&enter, &parameters));
    begun?;
    entered?.try_get(0)
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
