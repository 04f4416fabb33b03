use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap, HashSet};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, DEAD, DONE, OPEN, REVIEW, SKIPPED, code, micros, text};
use crate::postgres::effect::PostgresEffect;
use crate::store;
use crate::store::{Outcome, Settled, Settlement, Ticket};
use tower_inqud::Processed;

/// Locks the objects of some claims, and returns the claims that are still valid.
pub(super) const LOCK: &str = include_str!("../lock.sql");
const LOCK_FREE: &str = concat!(include_str!("../lock.sql"), "SKIP LOCKED");

/// Returns the claims that are still valid, without a lock.
const STANDING: &str = "
SELECT it.nth FROM unnest($1::text[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS it (kind, object, claim, nth)
JOIN inqud_inbox.object AS mine USING (kind, object)
WHERE mine.claim = it.claim";

/// Limits the wait for a lock.
const WAIT: &str = "SET LOCAL lock_timeout = '1s'";

/// Settles notifications, and makes each object due for its retry or for its next notification.
const SETTLE: &str = include_str!("../settle.sql");

/// Settles notifications without effects, all in one transaction.
///
/// Returns `None` for those whose object another transaction has locked. The caller settles them one by one,
/// so that one lock does not hold up the batch.
pub(in crate::postgres) async fn settle(
    client: &Client,
    settlements: &[Settlement<PostgresEffect>],
) -> Result<Vec<Option<Settled>>, Error> {
    let (lock, standing) =
        tokio::try_join!(client.prepare_cached(LOCK_FREE), client.prepare_cached(STANDING))?;
    let claims = Claims::of(settlements);
    let parameters = claims.parameters();
    let (begun, locked, standing) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&lock, &parameters),
        client.query(&standing, &parameters),
    );
    begun?;
    let (locked, standing) = (places(&locked?)?, places(&standing?)?);
    let done = close(client, settlements, &locked).await?;
    let settled = |at: usize| match (done.contains(&at), locked.contains(&at)) {
        (true, _) => Some(Settled::Done),
        (false, false) if standing.contains(&at) => None,
        (false, _) => Some(Settled::LeaseExpired),
    };
    Ok((0..settlements.len()).map(settled).collect())
}

/// Settles one notification whose object was locked. Waits for the lock for up to a second.
pub(in crate::postgres) async fn settle_one(
    client: &Client,
    settlement: &Settlement<PostgresEffect>,
) -> Result<Settled, Error> {
    let lock = client.prepare_cached(LOCK).await?;
    let one = std::slice::from_ref(settlement);
    let claims = Claims::of(one);
    let parameters = claims.parameters();
    let (begun, waits, locked) = tokio::join!(
        client.batch_execute(BEGIN),
        client.batch_execute(WAIT),
        client.query(&lock, &parameters),
    );
    begun?;
    waits?;
    let done = close(client, one, &places(&locked?)?).await?;
    Ok(if done.is_empty() { Settled::LeaseExpired } else { Settled::Done })
}

/// Settles the notifications at the given places, whose objects are locked, and commits. Returns the places
/// of those that were still open.
pub(super) async fn close(
    client: &Client,
    settlements: &[Settlement<PostgresEffect>],
    places: &BTreeSet<usize>,
) -> Result<HashSet<usize>, Error> {
    let statement = client.prepare_cached(SETTLE).await?;
    // If a notification is settled twice in one batch, the first settlement counts.
    let mut firsts = HashMap::new();
    let mut columns = Columns::default();
    for at in places {
        let Some(settlement) = settlements.get(*at) else { continue };
        if let Place::Vacant(vacant) = firsts.entry(settlement.ticket.seq) {
            vacant.insert(*at);
            columns.push(settlement);
        }
    }
    let parameters = columns.parameters();
    let (closed, committed) =
        tokio::join!(client.query(&statement, &parameters), client.batch_execute("COMMIT"));
    let closed = closed?;
    committed?;
    let mut done = HashSet::new();
    for row in &closed {
        done.extend(firsts.get(&row.try_get::<_, i64>(0)?).copied());
    }
    Ok(done)
}

/// Converts ordinals, which Postgres counts from 1, to places.
fn places(rows: &[Row]) -> Result<BTreeSet<usize>, Error> {
    let place = |row: &Row| {
        let nth: i64 = row.try_get(0)?;
        Ok(usize::try_from(nth).unwrap_or_default().wrapping_sub(1))
    };
    rows.iter().map(place).collect()
}

struct Claims<'s> {
    kinds: Vec<&'s str>,
    objects: Vec<&'s str>,
    claims: Vec<i64>,
}

impl<'s> Claims<'s> {
    fn of(settlements: &'s [Settlement<PostgresEffect>]) -> Self {
        let tickets = || settlements.iter().map(|it| &it.ticket);
        Self {
            kinds: tickets().map(|it| it.kind).collect(),
            objects: tickets().map(|it| &*it.object).collect(),
            claims: tickets().map(|it| it.claim).collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.kinds, &self.objects, &self.claims]
    }
}

#[derive(Default)]
struct Columns {
    seqs: Vec<i64>,
    states: Vec<i16>,
    waits: Vec<Option<i64>>,
    errors: Vec<Option<String>>,
    verdicts: Vec<i16>,
    processed: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn push(&mut self, Settlement { ticket, outcome }: &Settlement<PostgresEffect>) {
        let (state, wait, error) = match outcome {
            Outcome::Done(_) => (DONE, None, None),
            Outcome::Skipped => (SKIPPED, None, None),
            // Only a duplicate comes here. `replace_decoded` settles the others.
            Outcome::Decoded(_) => (SKIPPED, None, Some(store::SKIPPED_DUPLICATE)),
            Outcome::Review => (REVIEW, None, Some(store::REVIEW_WITHOUT_TIME)),
            Outcome::Dead { error } => (DEAD, None, Some(&**error)),
            Outcome::Retry { after, error } => (OPEN, Some(micros(*after)), Some(&**error)),
        };
        let processed = ticket.processed.as_ref().filter(|_| state == DONE);
        self.seqs.push(ticket.seq);
        self.states.push(state);
        self.waits.push(wait);
        self.errors.push(error.map(text));
        self.verdicts.push(code(ticket.verdict));
        self.processed.push(processed.map(Processed::to_bytes));
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.seqs, &self.states, &self.waits, &self.errors, &self.verdicts, &self.processed]
    }
}

/// Settles a notification as done in the transaction of its handler, and commits if the result is
/// [`Settled::Done`].
///
/// `id` is the transaction that was begun for the handler. If the current one has another id, the handler
/// has sent `COMMIT` or `ROLLBACK` itself. Then settling here would not be atomic with the handler's
/// writes, so it fails.
pub(in crate::postgres) async fn settle_in(
    client: &Client,
    ticket: &Ticket,
    id: i64,
) -> Result<Settled, Error> {
    let (lock, current) = tokio::try_join!(
        client.prepare_cached(LOCK),
        client.prepare_cached("SELECT txid_current_if_assigned()"),
    )?;
    let done = [Settlement { ticket: ticket.clone(), outcome: Outcome::Done(Vec::new()) }];
    let claims = Claims::of(&done);
    let parameters = claims.parameters();
    let (waits, current, locked) = tokio::join!(
        client.batch_execute(WAIT),
        client.query_one(&current, &[]),
        client.query(&lock, &parameters),
    );
    waits?;
    if current?.try_get::<_, Option<i64>>(0)? != Some(id) {
        return Ok(Settled::EffectFailed(
            "the handler ended the transaction: do not send `COMMIT` or `ROLLBACK`".to_owned(),
        ));
    }
    if locked?.is_empty() {
        return Ok(Settled::LeaseExpired);
    }
    let statement = client.prepare_cached(SETTLE).await?;
    let mut columns = Columns::default();
    done.iter().for_each(|it| columns.push(it));
    if client.query(&statement, &columns.parameters()).await?.is_empty() {
        return Ok(Settled::LeaseExpired);
    }
    client.batch_execute("COMMIT").await?;
    Ok(Settled::Done)
}
