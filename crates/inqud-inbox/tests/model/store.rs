//! A naive store: what each call does, in as few words as possible. Bugs can be planted into it.

use tower_inqud::{Dedup, Verdict};

use crate::bug::Bug;
use crate::properties::{Broken, is_older, repeat_is_news};
use crate::state::{Ending, Kept, Lease, MAX_ATTEMPTS, Row, Seen, State, Ticket};
use crate::world::World;

/// The answer to an insert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inserted {
    New,
    Duplicate,
    Review,
}

/// The answer to a settlement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Settled {
    Done { next_is_due: bool },
    LeaseExpired,
}

/// The world, and the bug that is planted.
pub(crate) struct Model {
    pub(crate) world: World,
    pub(crate) bug: Option<Bug>,
}

impl Model {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn insert(&self, state: &mut State, note: u8) -> Result<Inserted, Broken> {
        let told = self.world.note(note);
        let object = &mut state.objects[told.object];
        let counted = object.rows().iter().filter(|row| !row.is_discarded);
        let counted = counted.map(|row| self.world.note(row.note).order_key());
        let mut dedup = told.order_key().dedup(counted);
        let is_same_status = |row: &Row| {
            let its = self.world.note(row.note).order_key();
            (its.status(), its.last_update())
                == (told.order_key().status(), told.order_key().last_update())
        };
        if self.has(Bug::DropsOtherContent) && object.rows().iter().any(is_same_status)
            || self.has(Bug::DropsRepeats) && dedup != Dedup::New
        {
            dedup = Dedup::Duplicate;
        }
        if dedup == Dedup::Duplicate {
            return match repeat_is_news(&self.world, object, told) {
                true => Err("no repeat with something in between is dropped"),
                false => Ok(Inserted::Duplicate),
            };
        }
        let mut row = Row::new(note);
        if dedup == Dedup::Review {
            row.kept = Kept::Review;
        }
        object.push(row);
        Ok(if dedup == Dedup::Review { Inserted::Review } else { Inserted::New })
    }

    /// The open row that is claimed next.
    fn next(&self, state: &State, object: usize) -> Option<u8> {
        let rows = state.objects[object].rows();
        let open = (0_u8..).zip(rows).filter(|(_, row)| row.kept == Kept::Open);
        let next = open
            .min_by_key(|(at, row)| (self.world.position(row.note, self.bug), row.is_moved, *at));
        next.map(|(at, _)| at)
    }

    /// Whether the object can be claimed, and then whether it is a suspect.
    pub(crate) fn due(&self, state: &State, object: usize) -> Option<bool> {
        let next = self.next(state, object)?;
        let it = &state.objects[object];
        let is_blocked =
            self.has(Bug::DeadBlocks) && it.rows().iter().any(|row| row.kept == Kept::Dead);
        if it.row(next).waits || is_blocked {
            return None;
        }
        match it.lease {
            Lease::Held if self.has(Bug::IgnoresLease) => Some(false),
            Lease::Held => None,
            Lease::Expired if self.has(Bug::ForgetsSuspects) => None,
            Lease::Expired => Some(true),
            Lease::Free => Some(it.crashes > 0),
        }
    }

    /// Leases an object that is due.
    pub(crate) fn claim(
        &self,
        state: &mut State,
        object: usize,
        lapses: bool,
    ) -> Result<Option<Ticket>, Broken> {
        let row = self.next(state, object).unwrap();
        let it = &mut state.objects[object];
        match it.lease {
            Lease::Held => return Err("an object has one lease at a time"),
            Lease::Expired => {
                it.crashes += 1;
                if self.has(Bug::CrashIsFailure) {
                    it.row_mut(row).failures += 1;
                }
            }
            Lease::Free => {}
        }
        let claimed = it.row_mut(row);
        if self.has(Bug::ClaimsInACircle) && claimed.failures > 0 {
            claimed.waits = true;
            return Ok(None);
        }
        if self.has(Bug::ClaimIsDone) {
            claimed.kept = Kept::Done;
        }
        it.lease = if lapses { Lease::Expired } else { Lease::Held };
        let Row { note, is_reviewed, is_moved, .. } = *it.row(row);
        let handled = it.processed.map(|seen| {
            let time = seen.time.filter(|_| !self.has(Bug::ForgetsTime));
            (it.row(seen.row).note, time.map(|time| it.row(time).note))
        });
        let is_later = is_moved
            || self.has(Bug::SortsByRank)
            || it.processed.is_none_or(|seen| row > seen.row);
        let mut verdict = self.world.verdict(note, is_reviewed, is_later, handled);
        if self.has(Bug::HandlesStale) && verdict == Verdict::Stale {
            verdict = Verdict::Unordered;
        }
        if self.has(Bug::SkipsUnordered) && verdict == Verdict::Unordered {
            verdict = Verdict::Stale;
        }
        let is_timed = self.world.note(note).time().is_some();
        let time = if is_timed { Some(row) } else { it.processed.and_then(|seen| seen.time) };
        let seen = verdict.should_handle().then_some(Seen { row, time });
        for other in state.runners.iter_mut().flatten() {
            other.is_valid &= other.object != object;
        }
        Ok(Some(Ticket { object, row, verdict, seen, is_valid: true, lapses, in_doubt: None }))
    }

    /// How an attempt ends if the handler succeeds.
    pub(crate) fn ending(ticket: &Ticket) -> Ending {
        match ticket.verdict {
            Verdict::Stale => Ending::Skipped,
            Verdict::Review => Ending::Review,
            _ => Ending::Done,
        }
    }

    /// How an attempt ends if the handler fails.
    pub(crate) fn failure(state: &State, ticket: &Ticket, waits: bool) -> Ending {
        let row = state.objects[ticket.object].row(ticket.row);
        if row.failures + 1 >= MAX_ATTEMPTS { Ending::Dead } else { Ending::Retry { waits } }
    }

    pub(crate) fn settle(
        &self,
        state: &mut State,
        ticket: &Ticket,
        ending: Ending,
    ) -> Result<Settled, Broken> {
        let object = &mut state.objects[ticket.object];
        let row = object.row(ticket.row);
        let is_open = row.kept == Kept::Open || self.has(Bug::ClaimIsDone);
        let is_valid = is_open && (ticket.is_valid || self.has(Bug::IgnoresClaim))
            || ticket.in_doubt == Some(Ending::Done) && self.has(Bug::SettlesTwice);
        if !is_valid {
            return Ok(Settled::LeaseExpired);
        }
        if ending == Ending::Skipped && !is_older(&self.world, object, ticket.row) {
            return Err("only what is older is skipped");
        }
        if ending == Ending::Done {
            if is_older(&self.world, object, ticket.row) {
                return Err("a late delivery never regresses");
            }
            let is_timed = self.world.note(row.note).time().is_some();
            let time =
                if is_timed { Some(ticket.row) } else { object.shown.and_then(|seen| seen.time) };
            let shown = if self.has(Bug::HandlesFirst) { 0 } else { ticket.row };
            object.shown = Some(Seen { row: shown, time });
            object.processed = ticket.seen.or(object.processed);
        }
        let row = object.row_mut(ticket.row);
        row.verdict = Some(ticket.verdict);
        match ending {
            Ending::Done => {
                row.kept = Kept::Done;
                row.effects += 1;
            }
            Ending::Skipped => row.kept = Kept::Skipped,
            Ending::Review => row.kept = Kept::Review,
            Ending::Retry { waits } => {
                row.waits = waits;
                row.verdict = None;
            }
            Ending::Dead => row.kept = Kept::Dead,
        }
        if matches!(ending, Ending::Retry { .. } | Ending::Dead) {
            (row.failures, row.failed) = (row.failures + 1, row.failed + 1);
        }
        (object.lease, object.crashes) = (Lease::Free, 0);
        for other in state.runners.iter_mut().flatten() {
            other.is_valid &= other.object != ticket.object;
        }
        Ok(Settled::Done { next_is_due: self.due(state, ticket.object).is_some() })
    }

    /// All retries are due.
    pub(crate) fn wake(state: &mut State) {
        for object in &mut state.objects {
            (0..object.rows().len() as u8).for_each(|row| object.row_mut(row).waits = false);
        }
    }

    pub(crate) fn redrive(&self, state: &mut State, object: usize, row: u8) {
        let row = state.objects[object].row_mut(row);
        row.is_reviewed |= row.kept == Kept::Review;
        row.is_moved |= self.has(Bug::RedriveMoves);
        row.kept = Kept::Open;
        (row.failures, row.failed, row.waits) = (0, 0, false);
    }

    pub(crate) fn discard(state: &mut State, object: usize, row: u8) {
        let row = state.objects[object].row_mut(row);
        row.is_discarded |= row.kept == Kept::Review;
        row.kept = Kept::Skipped;
        row.verdict = None;
    }
}
