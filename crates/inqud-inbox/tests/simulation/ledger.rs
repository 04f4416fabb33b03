//! What must be true: who was told what, and what follows from it.
//!
//! The ledger is no part of the simulated system. It is told of each commit at the moment in which it happens, and of each
//! response. The verdicts are those of `tower_inqud`: what a store or a runner makes of them is what is checked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use inqud_inbox::{Claim, Claimed, Inserted, Key, Record, Settled, State, Stats, Ticket};
use tokio::time::Instant;
use tower_inqud::{Dedup, History, OrderKey, Processed, Verdict};

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) object: usize,
    pub(crate) order_key: OrderKey,
    pub(crate) body: Bytes,
    pub(crate) state: State,
    /// The failed attempts that were settled, since it was stored or redriven.
    failures: u32,
    effects: u32,
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
    /// What was processed, and the last row of it.
    processed: Option<Processed>,
    state: Option<usize>,
    pub(crate) lease: Option<Lease>,
    shipped: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) objects: Vec<Object>,
    pub(crate) rows: Vec<Row>,
    keys: BTreeMap<Key, usize>,
    /// All bodies that Inqud sends.
    pub(crate) authentic: BTreeSet<Bytes>,
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
        let stored = object.rows.iter().map(|row| &self.rows[*row].order_key);
        let expected = record.order_key.dedup(stored);
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
        let (order_key, body) = (record.order_key.clone(), record.body.clone());
        self.rows.push(Row { object: at, order_key, body, state, failures: 0, effects: 0 });
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
            let open = object.rows.iter().filter(|row| self.rows[**row].state == State::Open);
            let first = open.min_by_key(|row| (self.rows[**row].order_key.position(), **row));
            check(first == Some(&seq), || {
                format!("object {at}: row {seq} was claimed before {first:?}")
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

    /// The merchant's change of the object's row, in the commit of "done".
    pub(crate) fn effect(&mut self, seq: usize, verdict: Verdict) -> Check {
        let row = &mut self.rows[seq];
        let at = row.object;
        let object = &mut self.objects[at];
        row.effects += 1;
        check(row.effects == 1, || format!("object {at}: the effect of row {seq} happened twice"))?;
        let arrival = i64::try_from(seq).unwrap();
        let expected = row.order_key.verdict(arrival, false, object.processed.as_ref());
        check(expected.should_handle(), || {
            format!("object {at}: row {seq} was handled and is {expected}")
        })?;
        check(expected == verdict, || {
            format!("object {at}: the handler of row {seq} was told {verdict}, not {expected}")
        })?;
        object.processed =
            Some(Processed::after(object.processed.as_ref(), &row.order_key, arrival));
        object.state = Some(seq);
        Ok(())
    }

    /// What must happen once for each object.
    pub(crate) fn ship(&mut self, seq: usize) -> Check {
        let at = self.rows[seq].object;
        self.objects[at].shipped += 1;
        check(self.objects[at].shipped == 1, || format!("object {at}: it was shipped twice"))
    }

    /// What happens instead, for each later one.
    pub(crate) fn shipped_before(&self, seq: usize) -> Check {
        let at = self.rows[seq].object;
        check(self.objects[at].shipped == 1, || format!("object {at}: it was never shipped"))
    }

    /// A settlement was committed, or was refused.
    pub(crate) fn settled(
        &mut self,
        ticket: &Ticket,
        outcome: Ended,
        settled: &Settled,
        max_attempts: u32,
    ) -> Check {
        let seq = usize::try_from(ticket.seq).unwrap();
        let is_current = self.lease(ticket).is_some();
        let row = &mut self.rows[seq];
        let at = row.object;
        match settled {
            Settled::EffectFailed(_) => return Ok(()),
            Settled::LeaseExpired => {
                return check(!is_current, || format!("object {at}: a valid claim was refused"));
            }
            Settled::Done { .. } => {}
            other => return Err(format!("object {at}: {other:?}")),
        }
        check(is_current, || format!("object {at}: row {seq} was settled after another claim"))?;
        self.objects[at].lease = None;
        let processed = self.objects[at].processed.as_ref();
        row.state = match outcome {
            Ended::Done => {
                check(row.effects == 1, || {
                    format!("object {at}: row {seq} is done, with {} effects", row.effects)
                })?;
                State::Done
            }
            Ended::Skipped => {
                let arrival = i64::try_from(seq).unwrap();
                let verdict = row.order_key.verdict(arrival, false, processed);
                check(verdict == Verdict::Stale, || {
                    format!("object {at}: row {seq} was skipped and is {verdict}")
                })?;
                State::Skipped
            }
            Ended::Retry => {
                row.failures += 1;
                State::Open
            }
            Ended::Dead => {
                row.failures += 1;
                check(row.failures >= max_attempts, || {
                    format!("object {at}: row {seq} is dead after {} failures", row.failures)
                })?;
                State::Dead
            }
            Ended::Other => return Err(format!("object {at}: an outcome that cannot be")),
        };
        Ok(())
    }

    /// Dead letters were requeued.
    pub(crate) fn redriven(&mut self, key: Key) {
        let Some(seq) = self.row(key) else { return };
        if self.rows[seq].state == State::Dead {
            (self.rows[seq].state, self.rows[seq].failures) = (State::Open, 0);
        }
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
        self.rows.iter().filter(|row| row.state == state).count()
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
            check(object.state == object.latest, || {
                let status = |seq: Option<usize>| seq.map(|seq| self.rows[seq].order_key.status());
                let (found, expected) = (status(object.state), status(object.latest));
                format!("object {at}: it ends as {found:?}, and a `History` as {expected:?}")
            })?;
            let is_done = |seq: &&usize| self.rows[**seq].state == State::Done;
            let mut done = object.rows.iter().filter(is_done);
            let is_paid = done.any(|seq| is_shipped(self.rows[*seq].order_key.status()));
            check(object.shipped == u32::from(is_paid), || {
                format!("object {at}: it was shipped {} times", object.shipped)
            })?;
        }
        Ok(())
    }
}

/// An outcome without what belongs to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Done,
    Skipped,
    Retry,
    Dead,
    Other,
}

/// Whether the merchant ships at this status.
pub(crate) fn is_shipped(status: &str) -> bool {
    matches!(status, "SUCCESS" | "ACTIVE")
}
