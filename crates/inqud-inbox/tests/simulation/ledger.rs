//! What must be true: who was told what, and what follows from it.
//!
//! The ledger is no part of the simulated system. It is told of each commit at the moment in which it happens, and of each
//! response. The verdicts are those of `tower_inqud`: what a store or a runner makes of them is what is checked.

mod attempt;
mod looks;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use inqud_inbox::{Claim, Claimed, Inserted, Key, Record, State, Stats, Ticket};
use tokio::time::Instant;
use tower_inqud::{Dedup, History, OrderKey, Processed, Verdict};

pub(crate) use self::attempt::{Ended, is_shipped};
pub(crate) use self::looks::LOOKS;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) object: usize,
    pub(crate) order_key: OrderKey,
    pub(crate) body: Bytes,
    pub(crate) state: State,
    /// The failed attempts that were settled, since it was stored or redriven.
    failures: u32,
    /// Since it was stored or reprocessed.
    effects: u32,
    /// Its place among those that were processed, from 1 on.
    rank: u64,
    /// The verdict that it was processed with first.
    verdict: Option<Verdict>,
    /// It was fetched, or redriven after a review.
    is_reviewed: bool,
    /// It was kept for review, and was discarded.
    is_discarded: bool,
    /// It was processed, and was reprocessed.
    is_replay: bool,
    settled_at: Option<Instant>,
    /// Its body was deleted.
    is_empty: bool,
    /// It was deleted.
    is_deleted: bool,
}

impl Row {
    fn new(object: usize, record: &Record, state: State) -> Self {
        Self {
            object,
            order_key: record.order_key.clone(),
            body: record.body.clone(),
            state,
            failures: 0,
            effects: 0,
            rank: 0,
            verdict: None,
            is_reviewed: false,
            is_discarded: false,
            is_replay: false,
            settled_at: None,
            is_empty: false,
            is_deleted: false,
        }
    }

    fn is_open_replay(&self) -> bool {
        self.is_replay && self.state == State::Open
    }
}

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) claim: i64,
    until: Instant,
    /// The process and its generation.
    pub(crate) owner: (usize, u32),
    /// Whether the owner got the answer.
    pub(crate) is_known: bool,
    /// Whether the store failed to settle it.
    pub(crate) is_spoilt: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Object {
    kind: String,
    id: String,
    rows: Vec<usize>,
    /// What a merchant without an inbox knows, who handles everything when it arrives.
    history: History,
    latest: Option<usize>,
    /// The order key processed last, and its row. Replays do not count.
    processed: Option<Processed>,
    processed_row: Option<usize>,
    /// The row whose state the merchant has written last.
    state: Option<usize>,
    pub(crate) lease: Option<Lease>,
    shipped: u32,
    /// Some of its rows were deleted, so the row processed last counts as stored.
    is_swept: bool,
    /// The last row when a look read what is known.
    read_to: Option<usize>,
    /// Rows were deleted at some time, so that a `History` knows more.
    was_swept: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) objects: Vec<Object>,
    pub(crate) rows: Vec<Row>,
    keys: BTreeMap<Key, usize>,
    /// All bodies that Inqud sends.
    pub(crate) authentic: BTreeSet<Bytes>,
    /// How many were processed.
    processed: u64,
    /// How often the answer to an insert was lost.
    pub(crate) lost_inserts: u64,
}

impl Object {
    pub(crate) fn is(&self, kind: &str, id: &str) -> bool {
        self.kind == kind && self.id == id
    }
}

type Check = Result<(), String>;

fn check(holds: bool, violation: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(violation()) }
}

impl Ledger {
    /// The number of an object.
    pub(crate) fn object(&mut self, kind: &str, id: &str) -> usize {
        let at = self.objects.iter().position(|it| it.kind == kind && it.id == id);
        at.unwrap_or_else(|| {
            let new = Object { kind: kind.to_owned(), id: id.to_owned(), ..Object::default() };
            self.objects.push(new);
            self.objects.len() - 1
        })
    }

    /// A record was committed, or was found to be a duplicate.
    pub(crate) fn inserted(&mut self, record: &Record, answer: Inserted) -> Check {
        let at = self.object(record.kind, &record.object);
        check(self.authentic.contains(&record.body), || {
            format!("something forged was stored: object {at}")
        })?;
        let seq = self.rows.len();
        let object = &mut self.objects[at];
        let recalled = object.processed_row.filter(|_| object.is_swept);
        let rows = object.rows.iter().filter(|row| {
            let (it, is_recalled) = (&self.rows[**row], recalled == Some(**row));
            is_recalled || !it.is_deleted && !it.is_discarded
        });
        let expected = record.order_key.dedup(rows.map(|row| &self.rows[*row].order_key));
        let state = match (expected, answer) {
            (Dedup::Duplicate, Inserted::Duplicate | Inserted::DuplicateDiffers) => return Ok(()),
            (Dedup::Review, Inserted::Review) => State::Review,
            (Dedup::New | Dedup::Recurrence, Inserted::New) => State::Open,
            _ => return Err(format!("object {at}: the answer is {answer:?} for {expected:?}")),
        };
        if object.history.receive_order_key(record.order_key.clone()).should_handle() {
            object.latest = Some(seq);
        }
        object.rows.push(seq);
        self.rows.push(Row::new(at, record, state));
        Ok(())
    }

    /// Objects were leased, at this moment.
    pub(crate) fn claimed(
        &mut self,
        claim: &Claim,
        claimed: &[Claimed],
        owner: (usize, u32),
    ) -> Check {
        let now = Instant::now();
        check(claimed.len() <= claim.count, || "more was claimed than was asked for".to_owned())?;
        for one in claimed {
            let seq = usize::try_from(one.ticket.seq).unwrap();
            let row = self.rows.get(seq).ok_or("something was claimed that was never stored")?;
            let (at, object) = (row.object, &mut self.objects[row.object]);
            check(row.state == State::Open, || {
                format!("object {at}: row {seq} was claimed, but is {}", row.state)
            })?;
            let leased = object.lease.as_ref().filter(|lease| lease.until > now);
            check(leased.is_none(), || format!("object {at}: it was claimed while it is leased"))?;
            let next = next_of(&self.rows, object, claim.newest_first);
            check(next == Some(seq), || {
                format!("object {at}: row {seq} was claimed before {next:?}")
            })?;
            self.keys.insert(one.key, seq);
            let until = now + claim.lease;
            let claim = one.ticket.claim;
            let lease = Lease { claim, until, owner, is_known: false, is_spoilt: false };
            object.lease = Some(lease);
        }
        Ok(())
    }

    /// The lease of a claim, if it was not claimed again.
    pub(crate) fn lease(&mut self, ticket: &Ticket) -> Option<&mut Lease> {
        let row = self.rows.get(usize::try_from(ticket.seq).ok()?)?;
        let lease = self.objects[row.object].lease.as_mut();
        lease.filter(|lease| lease.claim == ticket.claim)
    }

    /// Returns the row of a key.
    pub(crate) fn row(&self, key: Key) -> Option<usize> {
        self.keys.get(&key).copied()
    }

    /// A handler begins.
    pub(crate) fn handling(&self, key: Key, body: &Bytes) -> Result<(usize, usize), String> {
        let seq = self.row(key).ok_or("the handler got an unknown key")?;
        let row = &self.rows[seq];
        check(row.body == body, || format!("row {seq}: the handler got another body"))?;
        Ok((row.object, seq))
    }

    /// A delivery was answered with 200.
    pub(crate) fn acknowledged(&self, at: usize, order_key: &OrderKey) -> Check {
        let mut rows = self.objects[at].rows.iter().map(|row| &self.rows[*row].order_key);
        check(rows.any(|stored| order_key.is_duplicate_of(stored)), || {
            format!("object {at}: {} was answered with 200 and not stored", order_key.status())
        })
    }

    /// A process has shut down, without a crash.
    pub(crate) fn ended(&self, owner: (usize, u32)) -> Check {
        let is_left = |lease: &&Lease| lease.owner == owner && lease.is_known && !lease.is_spoilt;
        let left = self.objects.iter().position(|it| it.lease.as_ref().filter(is_left).is_some());
        check(left.is_none(), || format!("object {left:?}: its runner ended and left it leased"))
    }

    pub(crate) fn count(&self, state: State) -> usize {
        self.rows.iter().filter(|row| row.state == state && !row.is_deleted).count()
    }

    pub(crate) fn counted(&self, stats: &Stats) -> Check {
        let counts = [
            (State::Open, stats.backlog()),
            (State::Dead, stats.dead()),
            (State::Review, stats.review()),
            (State::Skipped, stats.skipped()),
        ];
        for (state, counted) in counts {
            let expected = self.count(state) as u64;
            check(counted == expected, || format!("{counted} are {state}, and not {expected}"))?;
        }
        Ok(())
    }

    /// Faults have ended, and all is delivered.
    pub(crate) fn end(&self) -> Check {
        for (at, object) in self.objects.iter().enumerate() {
            let status = |seq: Option<usize>| seq.map(|seq| self.rows[seq].order_key.status());
            let found = status(object.state);
            let mut rows = object.rows.iter().map(|row| &self.rows[*row]);
            let is_plain = !object.was_swept && rows.all(|it| !it.is_reviewed && !it.is_discarded);
            check(object.state == object.latest || !is_plain, || {
                let expected = status(object.latest);
                format!("object {at}: it ends as {found:?}, and a `History` as {expected:?}")
            })?;
            let last = object.rows.iter().max_by_key(|row| self.rows[**row].rank);
            let last = last.filter(|row| self.rows[**row].rank > 0).copied();
            check(object.state == last, || {
                let expected = status(last);
                format!("object {at}: it ends as {found:?} after replays, not as {expected:?}")
            })?;
            // A replay of what was done can end as a dead letter.
            let was_done = |seq: &&usize| self.rows[**seq].rank > 0;
            let mut done = object.rows.iter().filter(was_done);
            let is_paid = done.any(|seq| is_shipped(self.rows[*seq].order_key.status()));
            check(object.shipped == u32::from(is_paid), || {
                format!("object {at}: it was shipped {} times", object.shipped)
            })?;
        }
        Ok(())
    }
}

/// The row that is claimed next: replays first, as they were processed; then the first one, or the last one.
fn next_of(rows: &[Row], object: &Object, newest_first: bool) -> Option<usize> {
    let open = object.rows.iter().copied().filter(|row| rows[*row].state == State::Open);
    let place = |row: &usize| (rows[*row].order_key.position(), *row);
    let replay = open.clone().filter(|row| rows[*row].is_replay).min_by_key(|row| rows[*row].rank);
    replay.or_else(|| if newest_first { open.max_by_key(place) } else { open.min_by_key(place) })
}
