//! The statements, and the transactions that they run in.
//!
//! # Lock, then look
//!
//! Every decision depends on all notifications of an object: whether a new one is a duplicate, which is next,
//! whether the object is still due. So each transaction first locks the rows of its objects, and only then
//! reads their notifications.
//!
//! The lock and the read must be two statements. In `READ COMMITTED` each statement sees what was committed
//! when it began. If one statement both waited for the lock and read the notifications, it would read them
//! as of before the wait. It would miss a notification that the previous holder of the lock has just
//! committed. Then it could take a repeat for a duplicate or the other way round, or leave an object with
//! open notifications not due, so that no runner would ever claim it. A second statement begins after the
//! lock was acquired, so it sees everything that earlier holders have committed. In `REPEATABLE READ` this
//! would not help, because the snapshot is that of the first statement; so each transaction sets its
//! isolation level itself.
//!
//! # Lock order
//!
//! All transactions of the inbox lock objects in the order of kind and id, before any notification. Two
//! that need the same objects therefore wait for each other in one direction only, and cannot deadlock. The
//! columns have the collation `"C"`, so that the order does not depend on the database's locale.
//!
//! # Pipelining
//!
//! `tokio::join!` sends the statements of a transaction without waiting for the answers in between, which
//! saves a round trip for each. After a failed statement the server refuses the others, and `COMMIT` rolls
//! back.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use deadpool_postgres::ClientWrapper as Client;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::effect::PostgresEffect;
use crate::admin::{Entry, List, Stats};
use crate::key::Key;
use crate::record::Record;
use crate::store;
use crate::store::{Claimed, Inserted, Outcome, Settled, Settlement, Ticket};
use tower_inqud::{Dedup, OrderKey, Processed, Verdict};

/// Sets the isolation level that lock-then-look relies on, whatever the default of the database is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Longer ids are shortened, because an index row can have at most 2,700 bytes.
const OBJECT_LEN: usize = 1000;

/// Returns the id of the transaction, and limits its statements in time, unless the role has a limit already.
///
/// When a handler times out it is dropped, but a statement that it sent continues on the server. It would
/// hold its locks, and block the next attempt.
const ENTER_TRANSACTION: &str = "
SELECT txid_current(), CASE current_setting('statement_timeout')
    WHEN '0' THEN set_config('statement_timeout', $1, true) END";

/// Begins the transaction of a handler.
pub(super) async fn begin(client: &Client, handler_timeout: Duration) -> Result<i64, Error> {
    let enter = client.prepare_cached(ENTER_TRANSACTION).await?;
    // In milliseconds; 0 would be no limit, and more than 31 bits is an error.
    let limit = handler_timeout.as_millis().clamp(1, 1 << 30).to_string();
    let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
    let (begun, entered) =
        tokio::join!(client.batch_execute(BEGIN), client.query_one(&enter, &parameters));
    begun?;
    entered?.try_get(0)
}

/// Runs one statement in a transaction.
async fn transact(
    client: &Client,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let statement = client.prepare_cached(statement).await?;
    let (begun, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&statement, parameters),
        client.batch_execute("COMMIT"),
    );
    // After a failed statement `COMMIT` reports no error; it rolls back. So all results are checked.
    begun?;
    let rows = rows?;
    committed?;
    Ok(rows)
}

/// Locks the objects of a batch, and creates those that are new.
const INSERT_OBJECT: &str = include_str!("insert_object.sql");

/// Stores the records that repeat nothing, and reports the others.
const INSERT: &str = include_str!("insert.sql");

/// Stores a batch in up to two transactions.
///
/// Most notifications repeat nothing, or are plain duplicates. The first transaction decides those in SQL,
/// for the whole batch at once. What remains needs [`OrderKey::dedup`] over all notifications of the
/// object: a repeat that could be a duplicate or a return to an earlier status. The second transaction
/// reads those rows and decides them one by one.
pub(super) async fn insert(client: &Client, records: &[Record]) -> Result<Vec<Inserted>, Error> {
    // If several records of the batch repeat each other, only the first goes into the first transaction.
    // All that follow it for the same object wait too, so that the order of arrival is kept.
    let mut said = HashSet::new();
    let (mut now, mut later) = (Vec::new(), BTreeSet::new());
    let mut waiting = HashSet::new();
    for (at, record) in records.iter().enumerate() {
        let of = (record.kind, &*record.object);
        if waiting.contains(&of) || !said.insert(record.key.range()) {
            waiting.insert(of);
            later.insert(at);
        } else {
            now.push(at);
        }
    }
    let mut all = vec![Inserted::Duplicate; records.len()];
    let all_of = |places: &mut dyn Iterator<Item = &usize>| -> Vec<_> {
        places.filter_map(|at| Some((records.get(*at)?, later_by(*at, records.len())))).collect()
    };
    let (answers, began) = insert_new(client, &all_of(&mut now.iter())).await?;
    for (at, answer) in now.into_iter().zip(answers) {
        match (answer, all.get_mut(at)) {
            (Some(answer), Some(inserted)) => *inserted = answer,
            _ => _ = later.insert(at),
        }
    }
    if !later.is_empty() {
        let others = all_of(&mut later.iter());
        for (at, answer) in later.iter().zip(insert_known(client, &others, began).await?) {
            all.get_mut(*at).into_iter().for_each(|inserted| *inserted = answer);
        }
    }
    Ok(all)
}

/// Returns an offset in microseconds (0 for the last record of a batch, negative for the others), so that no
/// two records of a batch have the same time.
fn later_by(at: usize, count: usize) -> i64 {
    let rest = count.saturating_sub(at).saturating_sub(1);
    i64::try_from(rest).unwrap_or(i64::MAX).saturating_neg()
}

/// A record and its [offset](later_by) in the batch.
type Nth<'r> = (&'r Record, i64);

/// Runs the first transaction of [`insert`]. Returns `None` for the records that the second has to decide,
/// and the time when the transaction began.
async fn insert_new(
    client: &Client,
    batch: &[Nth<'_>],
) -> Result<(Vec<Option<Inserted>>, SystemTime), Error> {
    let (insert_object, insert) =
        tokio::try_join!(client.prepare_cached(INSERT_OBJECT), client.prepare_cached(INSERT))?;
    let (records, later): (Vec<&Record>, Vec<i64>) = batch.iter().copied().unzip();
    let keys: Vec<&[u8]> = records.iter().map(|it| &it.key.as_bytes()[..]).collect();
    let kinds: Vec<&str> = records.iter().map(|it| it.kind).collect();
    let objects: Vec<String> = records.iter().map(|it| object(&it.object)).collect();
    let positions: Vec<i64> = records.iter().map(|it| it.order_key.position()).collect();
    let order_keys: Vec<Vec<u8>> = records.iter().map(|it| it.order_key.to_bytes()).collect();
    let bodies: Vec<&[u8]> = records.iter().map(|it| &it.body[..]).collect();
    let dead: Vec<_> = records.iter().map(|it| it.dead.as_deref().map(text)).collect();
    let plain: Vec<bool> = records.iter().map(|it| repeat_is_duplicate(it)).collect();
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let columns: [&(dyn ToSql + Sync); 9] =
        [&keys, &kinds, &objects, &positions, &order_keys, &bodies, &dead, &plain, &later];
    let (begun, met, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.execute(&insert_object, &met),
        client.query(&insert, &columns),
        client.batch_execute("COMMIT"),
    );
    // After a failed statement `COMMIT` reports no error; it rolls back. So all results are checked.
    begun?;
    met?;
    let rows = rows?;
    committed?;
    let mut all = vec![None; records.len()];
    let mut began = SystemTime::UNIX_EPOCH;
    let places: HashMap<_, _> = keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    for row in &rows {
        began = row.try_get(0)?;
        let nth: Option<i64> = row.try_get(2)?;
        let (at, answer) = match nth {
            None => (places.get(row.try_get::<_, &[u8]>(1)?).copied(), Inserted::New),
            Some(nth) => {
                let answer = match (row.try_get(3)?, row.try_get(4)?) {
                    (true, true) => Inserted::DuplicateDiffers,
                    (true, false) => Inserted::Duplicate,
                    (false, _) => continue,
                };
                (usize::try_from(nth).unwrap_or_default().checked_sub(1), answer)
            }
        };
        at.and_then(|at| all.get_mut(at)).into_iter().for_each(|it| *it = Some(answer));
    }
    Ok((all, began))
}

/// Whether a record with an equal key is a duplicate, no matter what was stored in between. For an
/// undecodable body it always is.
fn repeat_is_duplicate(record: &Record) -> bool {
    record.dead.is_some() || record.order_key.repeat_is_duplicate()
}

const INSERT_ONE: &str = include_str!("insert_one.sql");

/// Reads all notifications of some objects in the order of arrival.
const STORED: &str = "
SELECT mine.kind, mine.object, mine.key, mine.order_key, NOT (mine.state = 2 AND mine.verdict = 4)
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS it (kind, object)
JOIN inqud_inbox.notification AS mine USING (kind, object) ORDER BY mine.seq";

const SAME_BODY: &str = "
SELECT bool_or(coalesce(body = $4, true)) FROM inqud_inbox.notification
WHERE kind = $1 AND object = $2 AND key = ANY ($3::bytea[])";

/// Runs the second transaction of [`insert`], which decides one record after the other. `began` is when the
/// first transaction began.
async fn insert_known(
    client: &Client,
    batch: &[Nth<'_>],
    began: SystemTime,
) -> Result<Vec<Inserted>, Error> {
    let kinds: Vec<&str> = batch.iter().map(|(it, _)| it.kind).collect();
    let objects: Vec<String> = batch.iter().map(|(it, _)| object(&it.object)).collect();
    let dead: Vec<_> = batch.iter().map(|(it, _)| it.dead.as_deref().map(text)).collect();
    client.batch_execute(BEGIN).await?;
    let mut stored = lock_objects(client, &kinds, &objects, &dead).await?;
    let (one, same) =
        tokio::try_join!(client.prepare_cached(INSERT_ONE), client.prepare_cached(SAME_BODY))?;
    let mut all = Vec::with_capacity(batch.len());
    for (((record, later), object), dead) in batch.iter().zip(&objects).zip(&dead) {
        let earlier = Duration::from_micros(later.unsigned_abs());
        let received_at = began.checked_sub(earlier).unwrap_or(began);
        let (key, inserted, state, why) = match stored.dedup(object, record) {
            Ok((dedup, key)) => {
                let (inserted, state, why) = stored_as(dedup, dead.as_deref());
                (key, inserted, state, why)
            }
            Err(known) => {
                let of: [&(dyn ToSql + Sync); 4] =
                    [&record.kind, object, &bytes(&known), &&record.body[..]];
                let row = client.query_one(&same, &of).await?;
                let differs = row.try_get::<_, Option<bool>>(0)? == Some(false);
                all.push(if differs { Inserted::DuplicateDiffers } else { Inserted::Duplicate });
                continue;
            }
        };
        let Record { kind, order_key, body, .. } = record;
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &bytes_of(&key),
            kind,
            object,
            &order_key.position(),
            &order_key.to_bytes(),
            &&body[..],
            &state,
            &why,
            &received_at,
        ];
        client.query(&one, &parameters).await?;
        stored.add(record.kind, object, (key, order_key.clone(), true));
        all.push(inserted);
    }
    let idle = client.prepare_cached(IDLE).await?;
    client.execute(&idle, &[&kinds, &objects]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(all)
}

/// Makes objects without open notifications not due.
const IDLE: &str = "
UPDATE inqud_inbox.object AS mine SET due_at = NULL
FROM unnest($1::text[], $2::text[]) AS it (kind, object)
WHERE mine.kind = it.kind AND mine.object = it.object
    -- A subquery for each row, not a join: with stale statistics that show nothing open, the planner would
    -- join by reading all open notifications.
    AND (SELECT open.seq FROM inqud_inbox.notification AS open
        WHERE open.kind = mine.kind AND open.object = mine.object AND open.state = 0
        ORDER BY open.position, open.seq LIMIT 1) IS NULL";

/// Locks the objects, then reads their notifications.
async fn lock_objects(
    client: &Client,
    kinds: &[&str],
    objects: &[String],
    dead: &[Option<String>],
) -> Result<StoredRows, Error> {
    let (insert_object, all) =
        tokio::try_join!(client.prepare_cached(INSERT_OBJECT), client.prepare_cached(STORED))?;
    let later = vec![0_i64; kinds.len()];
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let of: [&(dyn ToSql + Sync); 2] = [&kinds, &objects];
    let (met, rows) = tokio::join!(client.execute(&insert_object, &met), client.query(&all, &of));
    met?;
    let mut stored = StoredRows::default();
    for row in &rows? {
        let row_of = (key(row.try_get(2)?), order_key(row.try_get(3)?), row.try_get(4)?);
        stored.add(row.try_get(0)?, row.try_get(1)?, row_of);
    }
    Ok(stored)
}

/// The notifications of some objects, by kind and id.
#[derive(Default)]
struct StoredRows(HashMap<(String, String), Vec<StoredRow>>);

/// A key, its order key, and whether the row counts: see [`Record::dedup`].
type StoredRow = (Key, OrderKey, bool);

impl StoredRows {
    fn add(&mut self, kind: &str, object: &str, row: StoredRow) {
        self.0.entry((kind.to_owned(), object.to_owned())).or_default().push(row);
    }

    /// Decides how to store a record, and under which key. The error has the keys that it is a duplicate of.
    fn dedup(&self, object: &str, record: &Record) -> Result<(Dedup, Key), Vec<Key>> {
        let rows = self.0.get(&(record.kind.to_owned(), object.to_owned()));
        let rows =
            rows.into_iter().flatten().map(|(key, order_key, counts)| (*key, order_key, *counts));
        let rows: Vec<_> = rows.collect();
        record.dedup(&rows).ok_or_else(|| {
            let same = rows.iter().filter(|(_, it, _)| record.order_key.is_duplicate_of(it));
            same.map(|(key, ..)| *key).collect()
        })
    }
}

/// Returns what to report for a new row, its state, and the reason for that state.
fn stored_as(dedup: Dedup, dead: Option<&str>) -> (Inserted, i16, Option<&str>) {
    match (dedup, dead) {
        (Dedup::Review, _) => (Inserted::Review, REVIEW, Some(store::REVIEW_REPEATED)),
        (_, Some(dead)) => (Inserted::New, DEAD, Some(dead)),
        (_, None) => (Inserted::New, OPEN, None),
    }
}

const OPEN: i16 = 0;
const DONE: i16 = 1;
const SKIPPED: i16 = 2;
const DEAD: i16 = 3;
const REVIEW: i16 = 4;

/// Records that a runner claims a kind.
pub(super) async fn record_runner(client: &Client, kind: &'static str) -> Result<(), Error> {
    let ask = "
        INSERT INTO inqud_inbox.runner VALUES ($1, statement_timestamp())
        ON CONFLICT (kind) DO UPDATE SET claimed_at = excluded.claimed_at";
    client.execute(&client.prepare_cached(ask).await?, &[&kind]).await.map(drop)
}

const LEASE: &str = include_str!("lease.sql");

const ATTEMPT: &str = include_str!("attempt.sql");

/// Makes leased objects without open notifications not due. Normally there are none.
const CLEAR_DUE: &str = "
UPDATE inqud_inbox.object SET due_at = NULL WHERE kind = $1 AND object = ANY ($2::text[])";

pub(super) async fn claim(
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

/// Locks the objects of some claims, and returns the claims that are still valid.
const LOCK: &str = include_str!("lock.sql");
const LOCK_FREE: &str = concat!(include_str!("lock.sql"), "SKIP LOCKED");

/// Returns the claims that are still valid, without a lock.
const STANDING: &str = "
SELECT it.nth FROM unnest($1::text[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS it (kind, object, claim, nth)
JOIN inqud_inbox.object AS mine USING (kind, object)
WHERE mine.claim = it.claim";

/// Limits the wait for a lock.
const WAIT: &str = "SET LOCAL lock_timeout = '1s'";

/// Settles notifications, and makes each object due for its retry or for its next notification.
const SETTLE: &str = include_str!("settle.sql");

/// Settles notifications without effects, all in one transaction.
///
/// Returns `None` for those whose object another transaction has locked. The caller settles them one by one,
/// so that one lock does not hold up the batch.
pub(super) async fn settle(
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
pub(super) async fn settle_one(
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
async fn close(
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

fn code(verdict: Verdict) -> i16 {
    match verdict {
        Verdict::Amended => 1,
        Verdict::Unordered => 2,
        Verdict::Stale => 3,
        Verdict::Review => 4,
        _ => 0,
    }
}

const REPLACE_DECODED: &str = include_str!("replace_decoded.sql");

/// Turns the row of an undecodable body into a row of the record that it was decoded to. Its `seq` stays, and
/// so its place in the order of arrival.
pub(super) async fn replace_decoded(
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

/// Settles a notification as done in the transaction of its handler, and commits if the result is
/// [`Settled::Done`].
///
/// `id` is the transaction that was begun for the handler. If the current one has another id, the handler
/// has sent `COMMIT` or `ROLLBACK` itself. Then settling here would not be atomic with the handler's
/// writes, so it fails.
pub(super) async fn settle_in(client: &Client, ticket: &Ticket, id: i64) -> Result<Settled, Error> {
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

/// Returns whether `fsync` is on, and the encoding of the database.
pub(super) async fn settings(client: &Client) -> Result<(bool, String), Error> {
    let settings = "SELECT current_setting('fsync') = 'on', current_setting('server_encoding')";
    let row = client.query_one(settings, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(super) async fn stats(client: &Client) -> Result<Stats, Error> {
    let count = "
        SELECT kind, 0::smallint, count(*), (extract(epoch FROM min(received_at)) * 1000000)::bigint
        FROM inqud_inbox.notification WHERE state = 0 GROUP BY kind
        UNION ALL SELECT kind, state, count(*), NULL
        FROM inqud_inbox.notification WHERE state > 1 GROUP BY kind, state
        ORDER BY 1";
    let mut stats = Stats::default();
    for row in &client.query(count, &[]).await? {
        let kind = stats.kind(row.try_get(0)?);
        let count = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default();
        match row.try_get(1)? {
            OPEN => {
                kind.backlog = count;
                kind.oldest = row.try_get::<_, Option<i64>>(3)?.map(time);
            }
            SKIPPED => kind.skipped = count,
            DEAD => kind.dead = count,
            _ => kind.review = count,
        }
    }
    Ok(stats)
}

pub(super) async fn unclaimed(client: &Client, since: Duration) -> Result<Vec<String>, Error> {
    let unclaimed = "
        SELECT DISTINCT kind FROM inqud_inbox.object WHERE due_at IS NOT NULL
        EXCEPT SELECT kind FROM inqud_inbox.runner
        WHERE claimed_at > statement_timestamp() - $1::bigint * interval '1 microsecond'
        ORDER BY 1";
    let rows = client.query(unclaimed, &[&micros(since)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(super) async fn list(client: &Client, list: List, count: usize) -> Result<Vec<Entry>, Error> {
    let (which, code) = match list {
        List::Dead => ("state > 1 AND state = $1", DEAD),
        List::Review => ("state > 1 AND state = $1", REVIEW),
        List::Skipped => ("state > 1 AND state = $1", SKIPPED),
        List::Amended => ("state = 1 AND verdict > 0 AND verdict = $1", code(Verdict::Amended)),
        List::Unordered => ("state = 1 AND verdict > 0 AND verdict = $1", code(Verdict::Unordered)),
    };
    let entries = format!(
        "SELECT key, kind, object, body, attempts, error,
            (extract(epoch FROM received_at) * 1000000)::bigint
        FROM inqud_inbox.notification WHERE {which} ORDER BY seq LIMIT $2"
    );
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = client.query(&entries, &[&code, &count]).await?;
    let entry = |row: &Row| {
        Ok(Entry {
            key: key(row.try_get(0)?),
            kind: row.try_get(1)?,
            object: row.try_get(2)?,
            body: body(row.try_get(3)?),
            attempts: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or_default(),
            error: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
            received_at: time(row.try_get(6)?),
        })
    };
    rows.iter().map(entry).collect()
}

/// Stores an idempotency key. If it is stored already, returns the notification that first used it.
///
/// If another transaction has stored it and is not committed yet, Postgres waits for that transaction.
pub(super) async fn insert_once(
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

/// Reopens dead letters and reviews. Locks them in the order of their keys, so that two calls cannot
/// deadlock.
const REDRIVE: &str = "
WITH opened AS (
    UPDATE inqud_inbox.notification
    SET reviewed = reviewed OR state = 4, state = 0, attempts = 0, settled_at = NULL
    WHERE seq = ANY (ARRAY(
        SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2
        ORDER BY key FOR UPDATE))
    RETURNING kind, object, seq
), due AS (
    INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
    SELECT kind, object, statement_timestamp() FROM opened
    GROUP BY kind, object ORDER BY kind, object
    ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at WHERE mine.due_at IS NULL
)
SELECT count(*) FROM opened";

pub(super) async fn redrive(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let rows = change_kept(client, REDRIVE, keys).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) async fn discard(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    let discard = "
        UPDATE inqud_inbox.notification
        SET verdict = CASE state WHEN 4 THEN 4 ELSE verdict END, state = 2,
            settled_at = statement_timestamp()
        WHERE seq = ANY (ARRAY(
            SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2
            ORDER BY key FOR UPDATE))
        RETURNING seq";
    Ok(change_kept(client, discard, keys).await?.len())
}

/// Locks the objects of dead letters and reviews, before their notifications. See the module's lock order.
const LOCK_KEPT: &str = "
SELECT FROM inqud_inbox.object AS mine
WHERE (kind, object) IN (
    SELECT kind, object FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state > 2)
ORDER BY kind, object FOR UPDATE OF mine";

async fn change_kept(client: &Client, change: &str, keys: &[Key]) -> Result<Vec<Row>, Error> {
    let (lock, change) =
        tokio::try_join!(client.prepare_cached(LOCK_KEPT), client.prepare_cached(change))?;
    let keys = bytes(keys);
    let keys: [&(dyn ToSql + Sync); 1] = [&keys];
    let (begun, locked, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query(&lock, &keys),
        client.query(&change, &keys),
        client.batch_execute("COMMIT"),
    );
    begun?;
    locked?;
    let rows = rows?;
    committed?;
    Ok(rows)
}

pub(super) async fn prune(client: &Client, age: Duration, count: usize) -> Result<usize, Error> {
    let prune = "
        UPDATE inqud_inbox.notification SET body = NULL WHERE seq = ANY (ARRAY(
            SELECT seq FROM inqud_inbox.notification
            WHERE state IN (1, 2) AND body IS NOT NULL
                AND settled_at <= statement_timestamp() - $1::bigint * interval '1 microsecond'
            ORDER BY settled_at LIMIT $2
            FOR UPDATE SKIP LOCKED))
        RETURNING seq";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    Ok(transact(client, prune, &[&micros(age), &count]).await?.len())
}

/// Replaces NUL, which Postgres cannot store in a text.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn object(id: &str) -> String {
    let id = text(id);
    if id.len() <= OBJECT_LEN {
        return id;
    }
    // Two long ids stay different, because the hash is of the whole id.
    let hash = Key::hash([id.as_bytes()]);
    let start: String = id.chars().take(OBJECT_LEN / 4).collect();
    format!("{start}...{hash}")
}

/// Decodes a stored order key. Bytes that this crate did not write become an order key that matches nothing.
fn order_key(bytes: &[u8]) -> OrderKey {
    OrderKey::from_bytes(bytes).unwrap_or_else(|| OrderKey::of_undecodable(bytes))
}

fn bytes_of(key: &Key) -> &[u8] {
    &key.as_bytes()[..]
}

fn bytes(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(|key| &key.as_bytes()[..]).collect()
}

/// Decodes a stored key. The table checks its length.
fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(bytes.try_into().unwrap_or_default())
}

fn body(bytes: Option<Vec<u8>>) -> Bytes {
    bytes.unwrap_or_default().into()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// Converts a duration to microseconds, at most 100 years, because the times of Postgres have a maximum.
fn micros(duration: Duration) -> i64 {
    const MOST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    i64::try_from(duration.min(MOST).as_micros()).unwrap_or(i64::MAX)
}
