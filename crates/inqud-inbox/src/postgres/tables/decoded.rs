use std::collections::BTreeSet;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::claim::CLEAR_DUE;
use super::insert::{lock_objects, stored_as};
use super::settle::{LOCK, close};
use super::{BEGIN, bytes_of, object};
use crate::record::Record;
use crate::store::{Outcome, Settled, Settlement, Ticket};

const REPLACE_DECODED: &str = include_str!("../replace_decoded.sql");

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
    if client.query(&lock, &[&kind.as_slice(), &of.as_slice(), &claim.as_slice()]).await?.is_empty()
    {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Settled::LeaseExpired);
    }
    let [id, _] = &ids;
    let Ok((dedup, key)) = stored.dedup(id, record) else {
        let outcome = Outcome::Decoded(record.clone());
        let settlement = Settlement { ticket: ticket.clone(), outcome };
        close(client, &[settlement], &BTreeSet::from([0])).await?;
        return Ok(Settled::Done);
    };
    let (_, state, why) = stored_as(dedup, None);
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &ticket.seq,
        &bytes_of(&key),
        id,
        &record.order_key.position(),
        &record.order_key.to_bytes(),
        &state,
        &why,
    ];
    client.execute(&convert, &parameters).await?;
    let rest = client.prepare_cached(CLEAR_DUE).await?;
    client.execute(&rest, &[&ticket.kind, &[&*ticket.object].as_slice()]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Settled::Done)
}
