use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Claimed, Cx, DeadLetter, Freshness, InboxError, Key, Outcome, Put, Record, Settled, Settlement,
    Stats, Store, Ticket, Version,
};
use crate::rejection::BoxError;

/// A store in memory, for tests: it forgets all when the process ends.
///
/// Its clock is Tokio's, so that a test with paused time sees leases and waits pass.
#[derive(Default)]
pub struct Memory {
    tables: Mutex<Tables>,
}

impl Memory {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// What a handler has done together with "done", in a [`Memory`].
pub struct MemoryEffect(Box<dyn FnOnce() -> Result<(), BoxError> + Send>);

impl fmt::Debug for MemoryEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEffect").finish_non_exhaustive()
    }
}

impl Cx<Memory> {
    /// Calls `effect` when the notification is settled as done; if it fails, the notification is tried
    /// again. What it did before it failed is not undone.
    pub fn effect<F, R, E>(&self, effect: F)
    where
        F: FnOnce() -> Result<R, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let effect = move || effect().map(drop).map_err(Into::into);
        self.push(MemoryEffect(Box::new(effect)));
    }
}

#[derive(Default)]
struct Tables {
    rows: Vec<Row>,
    keys: HashMap<Key, usize>,
    objects: HashMap<(&'static str, Arc<str>), Object>,
}

struct Row {
    record: Record,
    received_at: Timestamp,
    arrived: Instant,
    state: State,
    attempts: u32,
    settled: Option<Instant>,
    error: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Open,
    Done,
    Skipped,
    Dead,
}

#[derive(Default)]
struct Object {
    open: BTreeSet<(Version, usize)>,
    processed: Option<Version>,
    /// And what came first of those that are due at once.
    due: Option<(Instant, usize)>,
    claim: i64,
}

impl Tables {
    fn object(&mut self, kind: &'static str, id: &str) -> &mut Object {
        self.objects.entry((kind, Arc::from(id))).or_default()
    }

    fn put(&mut self, record: Record) -> Put {
        let seq = self.rows.len();
        if *self.keys.entry(record.key).or_insert(seq) != seq {
            return Put::Duplicate;
        }
        let now = Instant::now();
        if record.dead.is_none() {
            let object = self.object(record.kind, &record.object);
            object.open.insert((record.version.clone(), seq));
            object.due.get_or_insert((now, seq));
        }
        self.rows.push(Row {
            received_at: Timestamp::now(),
            arrived: now,
            state: record.dead.as_ref().map_or(State::Open, |_| State::Dead),
            attempts: 0,
            settled: record.dead.as_ref().map(|_| now),
            error: record.dead.clone().unwrap_or_default(),
            record,
        });
        Put::New
    }

    fn claim(&mut self, kind: &'static str, count: usize, lease: Duration) -> Vec<Claimed> {
        let now = Instant::now();
        let mut due: Vec<_> = self
            .objects
            .iter_mut()
            .filter(|((its, _), object)| *its == kind && object.due.is_some_and(|due| due.0 <= now))
            .filter_map(|((_, id), object)| {
                let oldest = object.open.first()?.1;
                Some((object.due, oldest, id, object))
            })
            .collect();
        due.sort_by_key(|(due, ..)| *due);
        let mut claimed = Vec::new();
        for (_, seq, id, object) in due.into_iter().take(count) {
            let Some(row) = self.rows.get_mut(seq) else { continue };
            object.due = Some((later(now, lease), seq));
            object.claim = object.claim.saturating_add(1);
            row.attempts = row.attempts.saturating_add(1);
            claimed.push(Claimed {
                ticket: Ticket {
                    seq: i64::try_from(seq).unwrap_or(i64::MAX),
                    kind,
                    object: Arc::clone(id),
                    claim: object.claim,
                },
                key: row.record.key,
                body: row.record.body.clone(),
                freshness: Freshness::new(&row.record.version, object.processed.as_ref()),
                attempt: row.attempts,
                received_at: row.received_at,
            });
        }
        claimed
    }

    fn settle(&mut self, settlement: Settlement<MemoryEffect>) -> Settled {
        let Settlement { ticket, outcome } = settlement;
        let Ok(seq) = usize::try_from(ticket.seq) else { return Settled::Lapsed };
        let Some(object) = self.objects.get_mut(&(ticket.kind, ticket.object)) else {
            return Settled::Lapsed;
        };
        let Some(row) = self.rows.get_mut(seq) else { return Settled::Lapsed };
        if object.claim != ticket.claim || row.state != State::Open {
            return Settled::Lapsed;
        }
        let now = Instant::now();
        match outcome {
            Outcome::Done(effects) => {
                for effect in effects {
                    let done = catch_unwind(AssertUnwindSafe(effect.0));
                    match done.unwrap_or_else(|_| Err("the effect panicked".into())) {
                        Ok(()) => {}
                        Err(error) => return Settled::EffectFailed(error.to_string()),
                    }
                }
                row.state = State::Done;
                object.processed = object.processed.take().max(Some(row.record.version.clone()));
            }
            Outcome::Skipped => row.state = State::Skipped,
            Outcome::Retry { after, error } => {
                row.error = error;
                object.due = Some((later(now, after), seq));
                return Settled::Done;
            }
            Outcome::Dead { error } => {
                row.error = error;
                row.state = State::Dead;
            }
        }
        row.settled = Some(now);
        object.open.remove(&(row.record.version.clone(), seq));
        let next = object.open.first().map(|(_, seq)| *seq);
        object.due = next.and_then(|seq| Some((self.rows.get(seq)?.arrived, seq)));
        Settled::Done
    }

    fn dead(&mut self, key: Key) -> Option<(usize, &mut Row)> {
        let seq = *self.keys.get(&key)?;
        let row = self.rows.get_mut(seq).filter(|row| row.state == State::Dead)?;
        Some((seq, row))
    }

    fn discard(&mut self, key: Key) -> bool {
        let Some((_, row)) = self.dead(key) else { return false };
        row.state = State::Skipped;
        row.settled = Some(Instant::now());
        true
    }

    fn redrive(&mut self, key: Key) -> bool {
        let Some((seq, row)) = self.dead(key) else { return false };
        row.state = State::Open;
        row.attempts = 0;
        row.settled = None;
        let record = row.record.clone();
        let object = self.object(record.kind, &record.object);
        object.open.insert((record.version, seq));
        object.due.get_or_insert_with(|| (Instant::now(), seq));
        true
    }
}

fn later(now: Instant, by: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    now.checked_add(by.min(YEAR)).unwrap_or(now)
}

impl Store for Memory {
    type Effect = MemoryEffect;

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Put>, InboxError> {
        let mut tables = self.tables();
        Ok(records.into_iter().map(|record| tables.put(record)).collect())
    }

    async fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, InboxError> {
        Ok(self.tables().claim(kind, count, lease))
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement<MemoryEffect>>,
    ) -> Result<Vec<Settled>, InboxError> {
        let mut tables = self.tables();
        Ok(settlements.into_iter().map(|settlement| tables.settle(settlement)).collect())
    }

    async fn stats(&self) -> Result<Stats, InboxError> {
        let tables = self.tables();
        let count = |state| tables.rows.iter().filter(|row| row.state == state).count();
        Ok(Stats {
            open: u64::try_from(count(State::Open)).unwrap_or(u64::MAX),
            oldest: tables
                .rows
                .iter()
                .find(|row| row.state == State::Open)
                .map(|row| row.received_at),
            dead: u64::try_from(count(State::Dead)).unwrap_or(u64::MAX),
        })
    }

    async fn dead(&self, count: usize) -> Result<Vec<DeadLetter>, InboxError> {
        let tables = self.tables();
        let dead = tables.rows.iter().filter(|row| row.state == State::Dead).take(count);
        Ok(dead
            .map(|row| DeadLetter {
                key: row.record.key,
                kind: row.record.kind.to_owned(),
                object: row.record.object.clone(),
                body: row.record.body.clone(),
                attempts: row.attempts,
                error: row.error.clone(),
                received_at: row.received_at,
            })
            .collect())
    }

    async fn redrive(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        let mut tables = self.tables();
        Ok(keys.into_iter().filter(|key| tables.redrive(*key)).count())
    }

    async fn discard(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        let mut tables = self.tables();
        Ok(keys.into_iter().filter(|key| tables.discard(*key)).count())
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        let old = |row: &&mut Row| {
            matches!(row.state, State::Done | State::Skipped)
                && row.settled.is_some_and(|settled| settled.elapsed() >= age)
                && !row.record.body.is_empty()
        };
        let mut tables = self.tables();
        let pruned = tables.rows.iter_mut().filter(old).take(count);
        Ok(pruned.map(|row| row.record.body.clear()).count())
    }
}
