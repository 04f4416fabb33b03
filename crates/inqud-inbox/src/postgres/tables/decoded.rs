//! Bodies that could not be decoded when they were received.

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::insert::{lock_objects, stored_as};
use super::settle::{Closing, LOCK, Member};
use super::{BEGIN, OPEN, bytes_of, object, text};
use crate::record::Record;
use crate::store::{Outcome, Settled, Ticket};

const REPLACE_DECODED: &str = include_str!("../replace_decoded.sql");

/// Ends the lease of an object that has no open notification any more.
const END_LEASE: &str = "
UPDATE inqud_inbox.object SET due_at = NULL, leased_until = NULL, crashes = 0
WHERE kind = $1 AND object = $2";

/// Turns the row of an undecodable body into a row of the record that it was decoded to. Its `seq` stays, and
/// so its place in the order of arrival.
pub(in crate::postgres) async fn replace_decoded(
    client: &Client,
    ticket: &Ticket,
    record: &Record,
) -> Result<Settled, Error> {
    let (convert, lock) =
        tokio::try_join!(client.prepare_cached(REPLACE_DECODED), client.prepare_cached(LOCK))?;
    let ids = [object(&record.object), ticket.object.to_string()];
    let kinds = [record.kind, ticket.kind];
    // Locks both objects as if for dead letters, so that neither becomes due yet.
    let dead = [None, None].map(|_: Option<String>| Some(String::new()));
    client.batch_execute(BEGIN).await?;
    let stored = lock_objects(client, &kinds, &ids, &dead).await?;
    let (kind, of, claim) = ([ticket.kind], [&*ticket.object], [ticket.claim]);
    let locked =
        client.query(&lock, &[&kind.as_slice(), &of.as_slice(), &claim.as_slice()]).await?;
    if !locked.first().is_some_and(|row| row.try_get(1).unwrap_or(false)) {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Settled::LeaseExpired);
    }
    let [id, _] = &ids;
    let Ok((dedup, key)) = stored.dedup(id, record) else {
        let member = Member::new(ticket, &Outcome::Decoded(record.clone()));
        Closing::prepare(client, &[&member]).await?.run(client).await?;
        client.batch_execute("COMMIT").await?;
        return Ok(Settled::Done { next_is_due: false });
    };
    let (_, state, why) = stored_as(dedup, None);
    let status = text(record.order_key.status());
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &ticket.seq,
        &bytes_of(&key),
        id,
        &record.order_key.position(),
        &record.order_key.to_bytes(),
        &state,
        &why,
        &record.order_id,
        &status,
    ];
    client.execute(&convert, &parameters).await?;
    let rest = client.prepare_cached(END_LEASE).await?;
    client.execute(&rest, &[&ticket.kind, &&*ticket.object]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Settled::Done { next_is_due: state == OPEN })
}
