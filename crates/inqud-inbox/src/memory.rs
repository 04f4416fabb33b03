mod lookup;
mod reopen;
mod watch;
mod watch_list;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::erase::{ERASED, ErasedObject};
use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::filter::{Filter, Page};
use crate::handler::Context;
use crate::inserted::Inserted;
use crate::key::Key;
use crate::known::Known;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::{self, Replayed};
use crate::sealed::Sealed;
use crate::state::State;
use crate::stats::Stats;
use crate::store;
use crate::store::{Claim, Claimed, Outcome, Settled, Settlement, Store, Ticket};
use crate::sweep::{Sweep, SweptBatch};
use tower_inqud::{Dedup, Processed, Verdict};

/// An in-memory store for tests. Nothing outlives the process.
///
/// It uses Tokio's clock, so leases and backoff expire in a test that pauses or advances the time.
#[derive(Default)]
pub struct Memory {
    tables: Mutex<Tables>,
}

impl Memory {
    fn tables(&self) -> Result<MutexGuard<'_, Tables>, InboxError> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.is_closed {
            return Err(InboxError::new(InboxErrorKind::Closed));
        }
        Ok(tables)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// An effect that a handler commits together with "done" in a [`Memory`] store.
pub struct MemoryEffect(Effect);

enum Effect {
    Plain(Box<Plain>),
    Once { idempotency_key: String, effect: Box<Plain>, otherwise: Box<Otherwise> },
}

type Plain = dyn FnOnce() -> Result<(), BoxError> + Send;
type Otherwise = dyn FnOnce(Key) -> Result<(), BoxError> + Send;

impl fmt::Debug for MemoryEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEffect").finish_non_exhaustive()
    }
}

impl<S: Store<Effect = MemoryEffect>> Context<S> {
    /// Calls `effect` when the notification is settled as done.
    ///
    /// Effects run in the order in which they were added, and only if the handler returns `Ok`. If an effect
    /// fails or panics, the notification is retried. Changes that the effect made before it failed are not
    /// undone.
    pub fn effect<F, R, E>(&self, effect: F)
    where
        F: FnOnce() -> Result<R, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let effect = move || effect().map(drop).map_err(Into::into);
        self.push(MemoryEffect(Effect::Plain(Box::new(effect))));
    }

    /// Calls `effect` once for all notifications of this inbox that use the same `idempotency_key`, such as
    /// `ship:order-17`. For each later one it calls `otherwise`, with the key of the first notification.
    ///
    /// The idempotency key is kept only if the effect succeeds. Neither is called for a
    /// [replay](Self::is_replay) of the first notification.
    pub fn once<F, R, E, G, Q>(&self, idempotency_key: impl Into<String>, effect: F, otherwise: G)
    where
        F: FnOnce() -> Result<R, E> + Send + 'static,
        G: FnOnce(Key) -> Result<Q, E> + Send + 'static,
        E: Into<BoxError>,
    {
        let effect = Box::new(move || effect().map(drop).map_err(Into::into));
        let otherwise = Box::new(move |first| otherwise(first).map(drop).map_err(Into::into));
        self.push(MemoryEffect(Effect::Once {
            idempotency_key: idempotency_key.into(),
            effect,
            otherwise,
        }));
    }
}

impl MemoryEffect {
    fn run(self, key: Key, idempotency_keys: &mut HashMap<String, Key>) -> Result<(), BoxError> {
        match self.0 {
            Effect::Plain(effect) => effect(),
            Effect::Once { idempotency_key, effect, otherwise } => {
                match idempotency_keys.get(&idempotency_key) {
                    // The effect succeeded in an earlier attempt, and then a later effect failed. Or it is a replay.
                    Some(first) if *first == key => Ok(()),
                    Some(first) => otherwise(*first),
                    None => {
                        effect()?;
                        idempotency_keys.insert(idempotency_key, key);
                        Ok(())
                    }
                }
            }
        }
    }
}

fn run_all(
    effects: Vec<MemoryEffect>,
    key: Key,
    idempotency_keys: &mut HashMap<String, Key>,
) -> Result<(), BoxError> {
    effects.into_iter().try_for_each(|effect| {
        let run = || effect.run(key, idempotency_keys);
        let done = catch_unwind(AssertUnwindSafe(run));
        done.unwrap_or_else(|_| Err("the effect panicked".into()))
    })
}

#[derive(Default)]
struct Tables {
    is_closed: bool,
    rows: Vec<Row>,
    keys: BTreeMap<Key, usize>,
    objects: HashMap<(&'static str, Arc<str>), Object>,
    idempotency_keys: HashMap<String, Key>,
    claimed: HashMap<&'static str, Instant>,
    /// How many were processed for the first time.
    processed: i64,
    rejections: Vec<LoggedRejection>,
    watched: watch::Watched,
}

struct Row {
    record: Record,
    received_at: Timestamp,
    arrived: Instant,
    state: State,
    verdict: Option<Verdict>,
    is_reviewed: bool,
    failures: u32,
    retry_at: Option<Instant>,
    settled: Option<Instant>,
    settled_at: Option<Timestamp>,
    error: String,
    /// Where it comes in the order of the open notifications of its object.
    position: i64,
    replays: u32,
    /// How many were processed before it, once it was processed.
    rank: i64,
    /// Whether the row is only there because others are found by their place.
    is_deleted: bool,
}

#[derive(Default)]
struct Object {
    /// All of its rows, in order of arrival.
    rows: BTreeSet<usize>,
    open: BTreeSet<(i64, usize)>,
    processed: Option<Processed>,
    /// When the object can be claimed next, and a row that breaks ties: among objects due at the same time, the
    /// one whose row arrived first is claimed first.
    due: Option<(Instant, usize)>,
    leased_until: Option<Instant>,
    claim: i64,
    /// How many claims ended without a settlement, since the last one that was settled.
    crashes: u32,
    /// When the last one of its deleted rows was settled.
    pruned: Option<Instant>,
}

impl Object {
    /// The open row that is claimed next. Replays come first.
    fn next(&self, newest_first: bool) -> Option<usize> {
        let first = self.open.first();
        let is_replay = first.is_some_and(|(position, _)| *position < replay::END);
        let next = if newest_first && !is_replay { self.open.last() } else { first };
        next.map(|(_, seq)| *seq)
    }

    /// Makes the object due if it is idle or waits for a retry.
    fn arrive(&mut self, now: Instant, seq: usize) {
        if self.leased_until.is_none() && self.due.is_none_or(|(due, _)| due > now) {
            self.due = Some((now, seq));
        }
    }

    /// Whether it can be claimed, and since when.
    fn due(&self, now: Instant, claim: &Claim) -> Option<(bool, (Instant, usize))> {
        let (due, seq) = self.due?;
        let since = self.leased_until.unwrap_or(due);
        let is_suspect = self.leased_until.is_some() || self.crashes > 0;
        (since <= now && (claim.with_suspect || !is_suspect)).then_some((is_suspect, (since, seq)))
    }
}

impl Tables {
    fn object(&mut self, kind: &'static str, id: &str) -> &mut Object {
        self.objects.entry((kind, Arc::from(id))).or_default()
    }

    /// Returns how to store a record and under which key, or the result of the insert if it is a duplicate.
    fn dedup(&self, record: &Record) -> Result<(Dedup, Key), Inserted> {
        let [first, last] = record.key.range();
        let rows = self.keys.range(first..=last).filter_map(|(_, seq)| self.rows.get(*seq));
        let same = rows.filter(|row| record.order_key.is_duplicate_of(&row.record.order_key));
        let mut bodies = same.map(|row| &row.record.body).peekable();
        let object = self.objects.get(&(record.kind, Arc::from(&*record.object)));
        let is_pruned = object.is_some_and(|object| object.pruned.is_some());
        if bodies.peek().is_none() && !is_pruned {
            return Ok((Dedup::New, record.key));
        }
        let is_known = bodies.peek().is_some();
        let is_same = bodies.any(|body| body.is_empty() || *body == record.body) || !is_known;
        let duplicate = if is_same { Inserted::Duplicate } else { Inserted::DuplicateDiffers };
        let mut known = Known::default();
        for seq in object.into_iter().flat_map(|object| &object.rows) {
            let Some(row) = self.rows.get(*seq) else { continue };
            let counts = !row.is_discarded_review();
            known.add(number(*seq), row.record.key, row.record.order_key.clone(), counts);
        }
        if is_pruned {
            let processed = object.and_then(|object| object.processed.clone());
            known.recall(record.kind, &record.object, processed);
        }
        known.dedup(record).ok_or(duplicate)
    }

    fn insert(&mut self, mut record: Record) -> Inserted {
        let seq = self.rows.len();
        let now = Instant::now();
        let (dedup, key) = match self.dedup(&record) {
            Ok(stored) => stored,
            Err(known) => return known,
        };
        record.key = key;
        let mut row = Row {
            received_at: Timestamp::now(),
            arrived: now,
            state: State::Open,
            verdict: None,
            is_reviewed: false,
            failures: 0,
            retry_at: None,
            settled: None,
            settled_at: None,
            error: String::new(),
            position: record.order_key.position(),
            replays: 0,
            rank: 0,
            is_deleted: false,
            record,
        };
        if let Some(dead) = row.record.dead.clone() {
            row.settle(State::Dead, now);
            row.error = dead;
        }
        self.rows.push(row);
        self.file(seq, dedup, now)
    }

    /// Adds an open or dead row to the index of keys and to its object.
    fn file(&mut self, seq: usize, dedup: Dedup, now: Instant) -> Inserted {
        let Some(row) = self.rows.get_mut(seq) else { return Inserted::Duplicate };
        if dedup == Dedup::Review {
            row.settle(State::Review, now);
            store::REVIEW_REPEATED.clone_into(&mut row.error);
        }
        let state = row.state;
        let Record { key, kind, object, order_key, .. } = &row.record;
        row.position = order_key.position();
        let (key, kind, position) = (*key, *kind, row.position);
        let object = self.objects.entry((kind, Arc::from(&**object))).or_default();
        object.rows.insert(seq);
        if state == State::Open {
            object.open.insert((position, seq));
            object.arrive(now, seq);
        }
        self.keys.insert(key, seq);
        if state == State::Review { Inserted::Review } else { Inserted::New }
    }

    fn claim(&mut self, claim: &Claim) -> Vec<Claimed> {
        let now = Instant::now();
        self.claimed.insert(claim.kind, now);
        let of_kind = self.objects.iter_mut().filter(|((kind, _), _)| *kind == claim.kind);
        let mut due: Vec<_> = of_kind
            .filter_map(|((_, id), object)| {
                let (is_suspect, since) = object.due(now, claim)?;
                Some((!is_suspect, since, id, object))
            })
            .collect();
        due.sort_by_key(|(is_sound, since, ..)| (*is_sound, *since));
        let mut claimed = Vec::new();
        for (is_sound, _, id, object) in due {
            let has_suspect = claimed.first().is_some_and(|first: &Claimed| first.crashes > 0);
            if has_suspect || claimed.len() >= claim.count || !is_sound && !claimed.is_empty() {
                break;
            }
            let Some(seq) = object.next(claim.newest_first) else { continue };
            let Some(row) = self.rows.get(seq) else { continue };
            if object.leased_until.take().is_some() {
                object.crashes = object.crashes.saturating_add(1);
            }
            if let Some(retry_at) = row.retry_at.filter(|at| *at > now) {
                object.due = Some((retry_at, seq));
                continue;
            }
            object.leased_until = Some(later(now, claim.lease));
            object.claim = object.claim.saturating_add(1);
            let ticket = Ticket::new(
                number(seq),
                (claim.kind, Arc::clone(id)),
                object.claim,
                (&row.record.order_key, row.is_reviewed),
                object.processed.as_ref(),
                claim.newest_first,
            );
            let is_replay = row.replays > 0;
            claimed.push(Claimed {
                ticket: match row.verdict {
                    Some(verdict) if is_replay => ticket.replay_of(verdict),
                    _ => ticket,
                },
                key: row.record.key,
                body: row.record.body.clone(),
                failures: row.failures,
                crashes: object.crashes,
                received_at: row.received_at,
                source: row.record.source,
            });
        }
        claimed
    }

    fn settle(&mut self, settlement: &mut Settlement<MemoryEffect>) -> Settled {
        let Settlement { ticket, outcome } = settlement;
        let Ok(seq) = usize::try_from(ticket.seq) else { return Settled::LeaseExpired };
        let of = (ticket.kind, Arc::clone(&ticket.object));
        let Some(object) = self.objects.get_mut(&of) else { return Settled::LeaseExpired };
        let Some(row) = self.rows.get_mut(seq) else { return Settled::LeaseExpired };
        let is_leased = object.claim == ticket.claim && object.leased_until.is_some();
        if !is_leased || row.state != State::Open {
            return Settled::LeaseExpired;
        }
        let now = Instant::now();
        let mut decoded = None;
        match outcome {
            Outcome::Done(effects) => {
                let effects = std::mem::take(effects);
                let done = run_all(effects, row.record.key, &mut self.idempotency_keys);
                if let Err(error) = done {
                    return Settled::EffectFailed(error.to_string());
                }
                row.state = State::Done;
                if !ticket.is_replay {
                    self.processed = self.processed.saturating_add(1);
                    row.rank = self.processed;
                }
                object.processed = ticket.processed.clone().or_else(|| object.processed.take());
            }
            Outcome::Skipped => {
                if ticket.is_replay {
                    store::SKIPPED_REPLAY.clone_into(&mut row.error);
                }
                row.state = State::Skipped;
            }
            Outcome::Review => {
                store::REVIEW_WITHOUT_TIME.clone_into(&mut row.error);
                row.state = State::Review;
            }
            Outcome::Decoded(record) => decoded = Some(record.clone()),
            Outcome::Retry { after, error } => {
                row.error.clone_from(error);
                row.failures = row.failures.saturating_add(1);
                row.retry_at = Some(later(now, *after));
            }
            Outcome::Dead { error } => {
                row.error.clone_from(error);
                row.failures = row.failures.saturating_add(1);
                row.state = State::Dead;
            }
        }
        if !matches!(outcome, Outcome::Retry { .. }) {
            row.verdict = Some(ticket.verdict);
            row.settle(row.state, now);
            object.open.remove(&(row.position, seq));
        }
        (object.leased_until, object.crashes) = (None, 0);
        let next = object.next(ticket.newest_first);
        object.due = next.and_then(|seq| Some((self.rows.get(seq)?.due(), seq)));
        let next_is_due = object.due.is_some_and(|(due, _)| due <= now);
        let is_open = decoded.is_some_and(|record| self.replace_decoded(seq, record, now));
        Settled::Done { next_is_due: next_is_due || is_open }
    }

    /// Replaces the record of an undecodable body that could now be decoded. Skips the row if the decoded
    /// record is a duplicate.
    fn replace_decoded(&mut self, seq: usize, mut record: Record, now: Instant) -> bool {
        let dedup = self.dedup(&record);
        let Some(row) = self.rows.get_mut(seq) else { return false };
        let Ok((dedup, key)) = dedup else {
            row.state = State::Skipped;
            row.verdict = None;
            store::SKIPPED_DUPLICATE.clone_into(&mut row.error);
            return false;
        };
        self.keys.remove(&row.record.key);
        record.key = key;
        (row.record, row.settled, row.settled_at) = (record, None, None);
        (row.verdict, row.failures, row.retry_at) = (None, 0, None);
        row.error.clear();
        self.file(seq, dedup, now) == Inserted::New
    }

    fn kept(&mut self, key: Key) -> Option<(usize, &mut Row)> {
        let seq = *self.keys.get(&key)?;
        let row = self.rows.get_mut(seq)?;
        matches!(row.state, State::Dead | State::Review).then_some((seq, row))
    }

    fn sweep(&mut self, sweep: Sweep, limit: usize) -> SweptBatch {
        match sweep {
            Sweep::Bodies(age) => SweptBatch::of(sweep, self.prune(age, limit), limit),
            Sweep::Notifications { age, includes_reviews, .. } => {
                let count = self.delete_rows(age, includes_reviews);
                SweptBatch { count, next: None }
            }
            Sweep::Objects(age) => {
                let before = self.objects.len();
                let is_old = |pruned: Instant| pruned.elapsed() >= age;
                self.objects.retain(|_, it| !it.rows.is_empty() || !it.pruned.is_some_and(is_old));
                let count = before.saturating_sub(self.objects.len());
                SweptBatch { count, next: None }
            }
        }
    }

    fn prune(&mut self, age: Duration, limit: usize) -> usize {
        let old = |row: &&mut Row| {
            matches!(row.state, State::Done | State::Skipped)
                && row.settled.is_some_and(|settled| settled.elapsed() >= age)
                && !row.record.body.is_empty()
        };
        let pruned = self.rows.iter_mut().filter(old).take(limit);
        pruned.map(|row| row.record.body.clear()).count()
    }

    fn delete_rows(&mut self, age: Duration, includes_reviews: bool) -> usize {
        let Self { rows, keys, objects, .. } = self;
        let may_delete = |row: &Row| match row.state {
            State::Done | State::Skipped => true,
            State::Review => includes_reviews,
            State::Open | State::Dead => false,
        };
        let mut count = 0_usize;
        for object in objects.values_mut() {
            if !object.rows.iter().filter_map(|seq| rows.get(*seq)).all(may_delete) {
                continue;
            }
            let mut pruned = object.pruned;
            object.rows.retain(|seq| {
                let Some(row) = rows.get_mut(*seq) else { return false };
                let is_old = |settled: &Instant| settled.elapsed() >= age;
                let Some(settled) = row.settled.filter(is_old) else { return true };
                row.is_deleted = true;
                row.record.body.clear();
                keys.remove(&row.record.key);
                pruned = pruned.max(Some(settled));
                count = count.saturating_add(1);
                false
            });
            object.pruned = pruned;
        }
        count
    }

    fn erase(&mut self, of: &ErasedObject, is_forced: bool) -> Option<usize> {
        let Self { rows, objects, watched, .. } = self;
        let object =
            objects.iter_mut().find(|((kind, id), _)| **kind == *of.kind && **id == *of.id);
        let Some((_, object)) = object else { return Some(0) };
        if !object.open.is_empty() {
            if !is_forced {
                return None;
            }
            object.open.clear();
            (object.due, object.leased_until, object.crashes) = (None, None, 0);
        }
        watched.forget(&of.kind, &of.id);
        for seq in &object.rows {
            let Some(row) = rows.get_mut(*seq) else { continue };
            row.record.body.clear();
            row.record.order_id = None;
            row.error.clear();
            if !matches!(row.state, State::Done | State::Skipped) {
                row.settle(State::Skipped, Instant::now());
                ERASED.clone_into(&mut row.error);
            }
        }
        Some(object.rows.len())
    }

    fn discard(&mut self, key: Key) -> bool {
        let Some((_, row)) = self.kept(key) else { return false };
        if row.state == State::Review {
            row.verdict = Some(Verdict::Review);
        }
        row.settle(State::Skipped, Instant::now());
        true
    }

    fn redrive(&mut self, keys: impl IntoIterator<Item = Key>) -> usize {
        let mut dead_replays = Vec::new();
        let mut count = 0_usize;
        for key in keys {
            let Some((seq, row)) = self.kept(key) else { continue };
            if row.replays > 0 {
                dead_replays.push(number(seq));
            } else {
                self.reopen(seq);
                count = count.saturating_add(1);
            }
        }
        // Together, because one can open another of its object.
        let opened = self.replay(&dead_replays, false).opened;
        dead_replays.sort_unstable();
        dead_replays.dedup();
        let replays = dead_replays.iter().filter(|number| opened.contains(number)).count();
        count.saturating_add(replays)
    }

    fn reopen(&mut self, seq: usize) {
        let Some(row) = self.rows.get_mut(seq) else { return };
        row.is_reviewed |= row.state == State::Review;
        row.state = State::Open;
        (row.failures, row.retry_at) = (0, None);
        (row.settled, row.settled_at) = (None, None);
        let (record, position) = (row.record.clone(), row.position);
        let object = self.object(record.kind, &record.object);
        object.open.insert((position, seq));
        object.arrive(Instant::now(), seq);
    }
}

impl Row {
    fn due(&self) -> Instant {
        self.retry_at.map_or(self.arrived, |retry_at| retry_at.max(self.arrived))
    }

    /// Returns whether an operator discarded the review. Discarding it means that it was a late duplicate, so
    /// nothing happened between its neighbours.
    fn is_discarded_review(&self) -> bool {
        self.state == State::Skipped && self.verdict == Some(Verdict::Review)
    }

    /// Whether it was skipped because it is stale.
    fn is_stale(&self) -> bool {
        self.state == State::Skipped && self.verdict == Some(Verdict::Stale)
    }

    fn settle(&mut self, state: State, now: Instant) {
        self.state = state;
        (self.settled, self.settled_at) = (Some(now), Some(Timestamp::now()));
    }
}

fn number(seq: usize) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn later(now: Instant, by: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    now.checked_add(by.min(YEAR)).unwrap_or(now)
}

impl Sealed for Memory {}

impl Admin for Memory {
    async fn stats(&self) -> Result<Stats, InboxError> {
        let mut stats = Stats::default();
        for row in &self.tables()?.rows {
            if row.is_deleted || row.state == State::Done {
                continue;
            }
            let kind = stats.kind(row.record.kind);
            let count = match row.state {
                State::Open => {
                    kind.oldest =
                        Some(kind.oldest.map_or(row.received_at, |it| it.min(row.received_at)));
                    &mut kind.backlog
                }
                State::Dead => &mut kind.dead,
                State::Review => &mut kind.review,
                State::Skipped | State::Done => &mut kind.skipped,
            };
            *count = count.saturating_add(1);
        }
        stats.kinds.sort_by(|one, other| one.kind.cmp(&other.kind));
        Ok(stats)
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        let tables = self.tables()?;
        let is_claimed =
            |kind: &str| tables.claimed.get(kind).is_some_and(|claimed| claimed.elapsed() < since);
        let open = tables.objects.iter().filter(|(_, object)| !object.open.is_empty());
        let kinds: BTreeSet<_> = open.map(|((kind, _), _)| *kind).collect();
        Ok(kinds.into_iter().filter(|kind| !is_claimed(kind)).map(str::to_owned).collect())
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        Ok(self.tables()?.list(&filter.into(), limit))
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        Ok(self.tables()?.replay(&numbers, dry_run))
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.insert(records.into_iter().map(Record::fetched).collect()).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let mut tables = self.tables()?;
        Ok(tables.redrive(keys))
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let mut tables = self.tables()?;
        Ok(keys.into_iter().filter(|key| tables.discard(*key)).count())
    }

    async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        Ok(self.tables()?.prune(age, limit))
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        let tables = self.tables()?;
        let rows = tables.rows.iter().map(|row| &row.record);
        let rows = rows.filter(|it| it.order_id.as_deref() == Some(&*order_id));
        let objects: BTreeSet<_> = rows.map(|it| (it.kind, &*it.object)).collect();
        let object =
            |(kind, id): (&str, &str)| ErasedObject { kind: kind.to_owned(), id: id.to_owned() };
        Ok(objects.into_iter().map(object).collect())
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        let erased = self.tables()?.erase(&object, is_forced);
        erased.ok_or_else(|| InboxError::new(InboxErrorKind::NotSettled))
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        Ok(self.tables()?.rejections.iter().rev().take(limit).cloned().collect())
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        Ok(self.tables()?.sweep(sweep, limit))
    }
}

impl Store for Memory {
    type Effect = MemoryEffect;

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        let (now, claim) = (Instant::now(), Claim::new(kind, 1, Duration::ZERO).with_suspect(true));
        let tables = self.tables()?;
        let mut of_kind = tables.objects.iter().filter(|((its, _), _)| *its == kind);
        Ok(of_kind
            .any(|(_, object)| object.due(now, &claim).is_some_and(|(is_suspect, _)| is_suspect)))
    }

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let mut tables = self.tables()?;
        Ok(records.into_iter().map(|record| tables.insert(record)).collect())
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        Ok(self.tables()?.claim(&claim))
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<MemoryEffect>,
    ) -> Result<Settled, InboxError> {
        Ok(self.tables()?.settle(settlement))
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        let rejections = &mut self.tables()?.rejections;
        for call in calls {
            let same = |it: &&LoggedRejection| it.reason == call.reason;
            let place = rejections.iter().position(|it| it.reason == call.reason);
            if let Some(place) = place.filter(|_| rejections.iter().filter(same).count() >= keep) {
                rejections.remove(place);
            }
            rejections.push(call);
        }
        Ok(())
    }

    async fn commit(&self, key: Key, effects: Vec<MemoryEffect>) -> Result<(), InboxError> {
        let done = run_all(effects, key, &mut self.tables()?.idempotency_keys);
        done.map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))
    }

    async fn close(&self) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }
}
