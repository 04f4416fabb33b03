//! A naive store: what each call does, in as few words as possible. Bugs can be planted into it.

use tower_inqud::{Dedup, Verdict};

use crate::bug::Bug;
use crate::properties::{Broken, is_older, repeat_is_news, replay_is_due, was_settled_lately};
use crate::state::{Ending, Kept, Lease, MAX_ATTEMPTS, Object, Row, Seen, State, Ticket};
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
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn insert(&self, state: &mut State, note: u8) -> Result<Inserted, Broken> {
        let told = self.world.note(note);
        let object = &mut state.objects[told.object];
        let counted = Self::known(object).filter(|row| !row.is_discarded);
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
        if was_settled_lately(object, note) && !repeat_is_news(&self.world, object, told) {
            return Err("a repeat is handled once, within the duplicate window");
        }
        let mut row = Row::new(note);
        if dedup == Dedup::Review {
            row.kept = Kept::Review;
        }
        object.push(row);
        Ok(if dedup == Dedup::Review { Inserted::Review } else { Inserted::New })
    }

    /// What is known of an object when something arrives: its rows, and what was processed, even if its row is deleted.
    pub(crate) fn known(object: &Object) -> impl Iterator<Item = &Row> {
        let processed = object.processed.filter(|_| object.is_swept).map(|seen| seen.row);
        let rows = (0_u8..).zip(object.rows());
        rows.filter(move |(at, row)| !row.is_deleted || processed == Some(*at)).map(|(_, row)| row)
    }

    /// The open row that is claimed next.
    fn next(&self, state: &State, object: usize) -> Option<u8> {
        let rows = state.objects[object].rows();
        let open = (0_u8..).zip(rows).filter(|(_, row)| row.kept == Kept::Open);
        let place = |(at, row): &(u8, &Row)| {
            let rank = if row.is_replay { i64::from(row.rank) } else { i64::MAX };
            let rank = if self.has(Bug::ReplaysLast) && rank == i64::MAX { 0 } else { rank };
            (rank, self.world.position(row.note, self.bug), row.is_moved, *at)
        };
        let first = open.clone().min_by_key(place)?;
        let takes_newest = self.world.newest_only && !first.1.is_replay;
        let next = if takes_newest { open.max_by_key(place)? } else { first };
        Some(next.0)
    }

    /// Whether the object can be claimed, and then whether it is a suspect.
    pub(crate) fn due(&self, state: &State, object: usize) -> Option<bool> {
        let next = self.next(state, object)?;
        let it = &state.objects[object];
        let is_blocked =
            self.has(Bug::DeadBlocks) && it.rows().iter().any(|row| row.kept == Kept::Dead);
        let newest_waits = self.world.newest_only
            && self.has(Bug::ReplayWaits)
            && it.rows().iter().any(|row| row.kept == Kept::Open && row.waits);
        if it.row(next).waits || is_blocked || newest_waits {
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

    /// Checks that the first replay of an object waits for nothing but its own retry.
    pub(crate) fn forgets_replay(&self, state: &State) -> Option<Broken> {
        let mut objects = (0..).zip(&state.objects);
        let waits = objects.any(|(at, it)| replay_is_due(it) && self.due(state, at).is_none());
        waits.then_some("a replay waits for no other")
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
        let Row { note, is_reviewed, is_moved, is_replay, verdict: first_verdict, .. } =
            *it.row(row);
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
        let mut seen = verdict.should_handle().then_some(Seen { row, time });
        if let Some(first) = first_verdict.filter(|_| is_replay && !self.has(Bug::ReplayIsJudged)) {
            verdict = first;
            seen = self.has(Bug::ReplayIsProcessed).then_some(Seen { row, time });
        }
        if self.has(Bug::SkipsAllOlder) && it.processed.is_some_and(|seen| row < seen.row) {
            verdict = Verdict::Stale;
        }
        let it = &state.objects[object];
        if it.row(row).is_empty {
            return Err("what is handled has a body");
        }
        if is_replay && Some(verdict) != first_verdict {
            return Err("a replay has its first verdict");
        }
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
        let is_replay = row.is_replay;
        if ending == Ending::Done && is_replay {
            object.written = Some(ticket.row);
            object.processed = ticket.seen.or(object.processed);
        } else if ending == Ending::Done {
            if is_older(&self.world, object, ticket.row) {
                return Err("a late delivery never regresses");
            }
            let is_timed = self.world.note(row.note).time().is_some();
            let time =
                if is_timed { Some(ticket.row) } else { object.shown.and_then(|seen| seen.time) };
            let shown = if self.has(Bug::HandlesFirst) { 0 } else { ticket.row };
            object.shown = Some(Seen { row: shown, time });
            object.written = Some(shown);
            object.processed = ticket.seen.or(object.processed);
            if self.world.has_replays {
                let last = object.rows().iter().map(|row| row.rank).max();
                object.row_mut(ticket.row).rank = last.unwrap_or_default() + 1;
            }
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
                row.verdict = row.verdict.filter(|_| is_replay);
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
        if state.objects[object].row(row).is_replay {
            _ = self.reprocess(state, object, row);
            return;
        }
        let row = state.objects[object].row_mut(row);
        row.is_reviewed |= row.kept == Kept::Review;
        row.is_moved |= self.has(Bug::RedriveMoves);
        row.kept = Kept::Open;
        (row.failures, row.failed, row.waits, row.is_old) = (0, 0, false, false);
    }

    pub(crate) fn discard(state: &mut State, object: usize, row: u8) {
        let row = state.objects[object].row_mut(row);
        row.is_discarded |= row.kept == Kept::Review;
        (row.kept, row.is_old) = (Kept::Skipped, false);
        row.verdict = row.verdict.filter(|_| row.is_replay);
    }
}
