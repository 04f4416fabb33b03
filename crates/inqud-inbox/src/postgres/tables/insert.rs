use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::{BEGIN, DEAD, OPEN, REVIEW, bytes, bytes_of, key, object, order_key, text};
use crate::inserted::Inserted;
use crate::key::Key;
use crate::known::Known;
use crate::record::Record;
use crate::store;
use tower_inqud::{Dedup, Processed};

/// Locks the objects of a batch, and creates those that are new.
const INSERT_OBJECT: &str = include_str!("../insert_object.sql");

/// Stores the records that repeat nothing, and reports the others.
const INSERT: &str = include_str!("../insert.sql");

/// Stores a batch, again if it was the victim of a deadlock. The inbox locks in one order, but a merchant's transaction
/// may lock objects in another.
pub(in crate::postgres) async fn insert(
    client: &Client,
    records: &[Record],
) -> Result<Vec<Inserted>, Error> {
    match insert_batch(client, records).await {
        Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
            client.batch_execute("ROLLBACK").await?;
            insert_batch(client, records).await
        }
        inserted => inserted,
    }
}

/// Stores a batch in up to two transactions.
///
/// Most notifications repeat nothing, or are plain duplicates. The first transaction decides those in SQL,
/// for the whole batch at once. What remains needs [`OrderKey::dedup`] over all notifications of the
/// object: a repeat that could be a duplicate or a return to an earlier status. The second transaction
/// reads those rows and decides them one by one.
async fn insert_batch(client: &Client, records: &[Record]) -> Result<Vec<Inserted>, Error> {
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
    let order_ids: Vec<Option<&str>> = records.iter().map(|it| it.order_id.as_deref()).collect();
    let statuses: Vec<String> = records.iter().map(|it| text(it.order_key.status())).collect();
    let sources: Vec<i16> = records.iter().map(|it| it.source.code()).collect();
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let columns: [&(dyn ToSql + Sync); 12] = [
        &keys,
        &kinds,
        &objects,
        &positions,
        &order_keys,
        &bodies,
        &dead,
        &plain,
        &later,
        &order_ids,
        &statuses,
        &sources,
    ];
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

/// Whether a record with an equal key is a duplicate, whatever was stored in between. For an
/// undecodable body it always is.
fn repeat_is_duplicate(record: &Record) -> bool {
    record.dead.is_some() || record.order_key.repeat_is_duplicate()
}

const INSERT_ONE: &str = include_str!("../insert_one.sql");

/// Reads all notifications of some objects in the order of arrival.
const STORED: &str = "
SELECT mine.kind, mine.object, mine.key, mine.order_key, NOT (mine.state = 2 AND mine.verdict = 4), mine.seq
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS it (kind, object)
JOIN inqud_inbox.notification AS mine USING (kind, object) ORDER BY mine.seq";

/// Reads what was processed last of those objects some of whose notifications are deleted.
const PRUNED: &str = "
SELECT mine.kind, mine.object, mine.processed FROM inqud_inbox.object AS mine
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS it (kind, object) USING (kind, object)
WHERE mine.pruned_at IS NOT NULL AND mine.processed IS NOT NULL";

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
        let Record { kind, order_key, body, order_id, source, .. } = record;
        let parameters: [&(dyn ToSql + Sync); 12] = [
            &bytes_of(&key),
            kind,
            object,
            &order_key.position(),
            &order_key.to_bytes(),
            &&body[..],
            &state,
            &why,
            &received_at,
            order_id,
            &text(order_key.status()),
            &source.code(),
        ];
        client.query(&one, &parameters).await?;
        stored.of(record.kind, object).add(i64::MAX, key, order_key.clone(), true);
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
pub(super) async fn lock_objects(
    client: &Client,
    kinds: &[&str],
    objects: &[String],
    dead: &[Option<String>],
) -> Result<StoredRows, Error> {
    let (insert_object, all, pruned) = tokio::try_join!(
        client.prepare_cached(INSERT_OBJECT),
        client.prepare_cached(STORED),
        client.prepare_cached(PRUNED),
    )?;
    let later = vec![0_i64; kinds.len()];
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let of: [&(dyn ToSql + Sync); 2] = [&kinds, &objects];
    let (met, rows, pruned) = tokio::join!(
        client.execute(&insert_object, &met),
        client.query(&all, &of),
        client.query(&pruned, &of)
    );
    met?;
    let mut stored = StoredRows::default();
    for row in &rows? {
        let known = stored.of(row.try_get(0)?, row.try_get(1)?);
        let (key, order_key) = (key(row.try_get(2)?), order_key(row.try_get(3)?));
        known.add(row.try_get(5)?, key, order_key, row.try_get(4)?);
    }
    for row in &pruned? {
        let (kind, object) = (row.try_get(0)?, row.try_get(1)?);
        stored.of(kind, object).recall(kind, object, Processed::from_bytes(row.try_get(2)?));
    }
    Ok(stored)
}

/// The notifications of some objects, by kind and id.
#[derive(Default)]
pub(super) struct StoredRows(HashMap<(String, String), Known>);

impl StoredRows {
    fn of(&mut self, kind: &str, object: &str) -> &mut Known {
        self.0.entry((kind.to_owned(), object.to_owned())).or_default()
    }

    /// Decides how to store a record, and under which key. The error has the keys that it is a duplicate of.
    pub(super) fn dedup(&self, object: &str, record: &Record) -> Result<(Dedup, Key), Vec<Key>> {
        match self.0.get(&(record.kind.to_owned(), object.to_owned())) {
            Some(known) => known.dedup(record).ok_or_else(|| known.duplicates(record)),
            None => Ok((Dedup::New, record.key)),
        }
    }
}

/// Returns what to report for a new row, its state, and the reason for that state.
pub(super) fn stored_as(dedup: Dedup, dead: Option<&str>) -> (Inserted, i16, Option<&str>) {
    match (dedup, dead) {
        (Dedup::Review, _) => (Inserted::Review, REVIEW, Some(store::REVIEW_REPEATED)),
        (_, Some(dead)) => (Inserted::New, DEAD, Some(dead)),
        (_, None) => (Inserted::New, OPEN, None),
    }
}
