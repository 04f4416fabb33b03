//! The statements. In each transaction objects are locked before their notifications are looked at, and
//! by a statement of its own: the next one then sees all that was committed until the lock was had.
//! Everyone locks in the same order, so that nobody waits in a circle.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::ClientWrapper as Client;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::PostgresEffect;
use crate::inbox::{
    Claimed, DeadLetter, Freshness, Key, Outcome, Put, Record, Settled, Settlement, Stats, Ticket,
    Version,
};

/// Read committed is what the order of lock and look relies on, whatever the database's default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Longer ids are cut: an index takes no more than 2,700 bytes a row.
const OBJECT_LEN: usize = 1000;
const VERSION_LEN: usize = 200;

/// Gives the database's name for the transaction. A statement that goes on when the handler was dropped
/// would hold its locks against the next attempt: it ends by itself, unless the role has a limit anyway.
const ENTER: &str = "
SELECT txid_current(), CASE current_setting('statement_timeout')
    WHEN '0' THEN set_config('statement_timeout', $1, true) END";

/// For a handler that has so long.
pub(super) async fn begin(client: &Client, deadline: Duration) -> Result<i64, Error> {
    let enter = client.prepare_cached(ENTER).await?;
    // In milliseconds; 0 would be no limit, and more than 31 bits is an error.
    let limit = deadline.as_millis().clamp(1, 1 << 30).to_string();
    let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
    let (begun, entered) =
        tokio::join!(client.batch_execute(BEGIN), client.query_one(&enter, &parameters));
    begun?;
    entered?.try_get(0)
}

/// One statement in a transaction, sent together.
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
    // After a statement that failed, `COMMIT` is no error: it rolls back.
    begun?;
    let rows = rows?;
    committed?;
    Ok(rows)
}

const PUT: &str = include_str!("put.sql");

pub(super) async fn put(client: &Client, records: &[Record]) -> Result<Vec<Put>, Error> {
    let mut seen = HashSet::new();
    let firsts: Vec<_> = records.iter().filter(|it| seen.insert(it.key)).collect();
    let keys: Vec<&[u8]> = firsts.iter().map(|it| &it.key.as_bytes()[..]).collect();
    let kinds: Vec<&str> = firsts.iter().map(|it| it.kind).collect();
    let objects: Vec<String> = firsts.iter().map(|it| object(&it.object)).collect();
    let versions: Vec<&[u8]> = firsts.iter().map(|it| version(&it.version)).collect();
    let bodies: Vec<&[u8]> = firsts.iter().map(|it| &it.body[..]).collect();

    let dead: Vec<_> = firsts.iter().map(|it| it.dead.as_deref().map(text)).collect();

    let parameters: [&(dyn ToSql + Sync); 6] = [&keys, &kinds, &objects, &versions, &bodies, &dead];
    let rows = transact(client, PUT, &parameters).await?;
    let mut new = HashSet::new();
    for row in rows {
        new.insert(key(row.try_get(0)?));
    }
    // The first of equal ones is new.
    let put = |it: &Record| if new.remove(&it.key) { Put::New } else { Put::Duplicate };
    Ok(records.iter().map(put).collect())
}

const LEASE: &str = include_str!("lease.sql");

const ATTEMPT: &str = include_str!("attempt.sql");

/// Those that had nothing open: nobody should have made them due.
const REST: &str = "
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
        client.prepare_cached(REST),
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
        claimed
            .push((leased.try_get::<_, std::time::SystemTime>(3)?, claimed_of(kind, leased, row)?));
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
    let version = Version::from_bytes(attempted.try_get(3)?);
    let attempts: i32 = attempted.try_get(5)?;
    Ok(Claimed {
        ticket: Ticket {
            seq: attempted.try_get(1)?,
            kind,
            object: Arc::from(object),
            claim: leased.try_get(1)?,
        },
        key: key(attempted.try_get(2)?),
        body: body(attempted.try_get(4)?),
        freshness: Freshness::new(&version, processed.map(Version::from_bytes).as_ref()),
        attempt: u32::try_from(attempts).unwrap_or(u32::MAX),
        received_at: time(attempted.try_get(6)?),
    })
}

/// Which of the claims stand, with a lock on their objects.
const LOCK: &str = include_str!("lock.sql");
const LOCK_FREE: &str = concat!(include_str!("lock.sql"), "SKIP LOCKED");

/// Which of them stand, whoever has a lock.
const STANDING: &str = "
SELECT it.nth FROM unnest($1::text[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS it (kind, object, claim, nth)
JOIN inqud_inbox.object AS mine USING (kind, object)
WHERE mine.claim = it.claim";

/// For how long a lock is waited for.
const WAIT: &str = "SET LOCAL lock_timeout = '1s'";

/// Of one that is settled, its object waits for what it was told to wait, or goes on with the next.
const SETTLE: &str = include_str!("settle.sql");

/// Without effects, all in one transaction. `None` for those whose object somebody else has locked:
/// they are to be settled one by one, so that nobody waits for them.
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
        (false, _) => Some(Settled::Lapsed),
    };
    Ok((0..settlements.len()).map(settled).collect())
}

/// One whose object was locked. Waits for it, but not for long.
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
    Ok(if done.is_empty() { Settled::Lapsed } else { Settled::Done })
}

/// Settles those at the places, whose objects are locked, and commits. Gives the places of those that
/// were open until now.
async fn close(
    client: &Client,
    settlements: &[Settlement<PostgresEffect>],
    places: &BTreeSet<usize>,
) -> Result<HashSet<usize>, Error> {
    let statement = client.prepare_cached(SETTLE).await?;
    // Of equal ones the first counts.
    let mut firsts = HashMap::new();
    let mut columns = Columns::default();
    for at in places {
        let Some(settlement) = settlements.get(*at) else { continue };
        if let Entry::Vacant(vacant) = firsts.entry(settlement.ticket.seq) {
            vacant.insert(*at);
            columns.push(settlement);
        }
    }
    let Columns { seqs, states, waits, errors } = columns;
    let parameters: [&(dyn ToSql + Sync); 4] = [&seqs, &states, &waits, &errors];
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

/// Counted from 1 in the database.
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
}

impl Columns {
    fn push(&mut self, Settlement { ticket, outcome }: &Settlement<PostgresEffect>) {
        let (state, wait, error) = match outcome {
            Outcome::Done(_) => (1, None, None),
            Outcome::Skipped => (2, None, None),
            Outcome::Dead { error } => (3, None, Some(error)),
            Outcome::Retry { after, error } => (0, Some(micros(*after)), Some(error)),
        };
        self.seqs.push(ticket.seq);
        self.states.push(state);
        self.waits.push(wait);
        self.errors.push(error.map(|error| text(error)));
    }
}

/// As done, in the transaction of a handler, which is known by `id`: after a `COMMIT` or `ROLLBACK` of
/// the handler's own it would be another. It is committed if the answer is [`Settled::Done`].
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
        return Ok(Settled::EffectFailed("the handler ended the transaction itself".to_owned()));
    }
    if locked?.is_empty() {
        return Ok(Settled::Lapsed);
    }
    let statement = client.prepare_cached(SETTLE).await?;
    let mut columns = Columns::default();
    done.iter().for_each(|it| columns.push(it));
    let Columns { seqs, states, waits, errors } = columns;
    if client.query(&statement, &[&seqs, &states, &waits, &errors]).await?.is_empty() {
        return Ok(Settled::Lapsed);
    }
    client.batch_execute("COMMIT").await?;
    Ok(Settled::Done)
}

/// Whether the server asks the disk to keep what it writes, and the encoding of the database.
pub(super) async fn settings(client: &Client) -> Result<(bool, String), Error> {
    let settings = "SELECT current_setting('fsync') = 'on', current_setting('server_encoding')";
    let row = client.query_one(settings, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(super) async fn stats(client: &Client) -> Result<Stats, Error> {
    let stats = "
        SELECT (SELECT count(*) FROM inqud_inbox.notification WHERE state = 0),
            (SELECT (extract(epoch FROM min(received_at)) * 1000000)::bigint
             FROM inqud_inbox.notification WHERE state = 0),
            (SELECT count(*) FROM inqud_inbox.notification WHERE state = 3)";
    let row = client.query_one(stats, &[]).await?;
    let count = |at| row.try_get(at).map(|count: i64| u64::try_from(count).unwrap_or_default());
    Ok(Stats {
        open: count(0)?,
        oldest: row.try_get::<_, Option<i64>>(1)?.map(time),
        dead: count(2)?,
    })
}

pub(super) async fn dead(client: &Client, count: usize) -> Result<Vec<DeadLetter>, Error> {
    let dead = "
        SELECT key, kind, object, body, attempts, error,
            (extract(epoch FROM received_at) * 1000000)::bigint
        FROM inqud_inbox.notification WHERE state = 3 ORDER BY received_at, seq LIMIT $1";
    let rows = client.query(dead, &[&i64::try_from(count).unwrap_or(i64::MAX)]).await?;
    let letter = |row: &Row| {
        Ok(DeadLetter {
            key: key(row.try_get(0)?),
            kind: row.try_get(1)?,
            object: row.try_get(2)?,
            body: body(row.try_get(3)?),
            attempts: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or_default(),
            error: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
            received_at: time(row.try_get(6)?),
        })
    };
    rows.iter().map(letter).collect()
}

/// In the order of their keys, so that of two neither waits for the other.
const REDRIVE: &str = "
WITH opened AS (
    UPDATE inqud_inbox.notification SET state = 0, attempts = 0, settled_at = NULL
    WHERE seq = ANY (ARRAY(
        SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state = 3
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
    let rows = transact(client, REDRIVE, &[&bytes(keys)]).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) async fn discard(client: &Client, keys: &[Key]) -> Result<usize, Error> {
    // In the order of `REDRIVE`.
    let discard = "
        UPDATE inqud_inbox.notification SET state = 2, settled_at = statement_timestamp()
        WHERE seq = ANY (ARRAY(
            SELECT seq FROM inqud_inbox.notification WHERE key = ANY ($1::bytea[]) AND state = 3
            ORDER BY key FOR UPDATE))
        RETURNING seq";
    Ok(transact(client, discard, &[&bytes(keys)]).await?.len())
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

/// Postgres holds no NUL in a text.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn object(id: &str) -> String {
    let id = text(id);
    if id.len() <= OBJECT_LEN {
        return id;
    }
    // No two are mixed up: the hash is of all of it.
    let hash = Key::hash([id.as_bytes()]);
    let start: String = id.chars().take(OBJECT_LEN / 4).collect();
    format!("{start}...{hash}")
}

fn version(version: &Version) -> &[u8] {
    let bytes = version.as_bytes();
    bytes.get(..VERSION_LEN).unwrap_or(bytes)
}

fn bytes(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(|key| &key.as_bytes()[..]).collect()
}

/// The table holds no other length.
fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(bytes.try_into().unwrap_or_default())
}

fn body(bytes: Option<Vec<u8>>) -> Bytes {
    bytes.unwrap_or_default().into()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// A hundred years at most: the database's times end somewhere.
fn micros(duration: Duration) -> i64 {
    const MOST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    i64::try_from(duration.min(MOST).as_micros()).unwrap_or(i64::MAX)
}
