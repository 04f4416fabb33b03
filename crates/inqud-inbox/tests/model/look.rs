//! Reconciliation: looks at the first object of the world, whose true states are its notes, one after the other.

use crate::bug::Bug;
use crate::properties::Broken;
use crate::state::{Kept, Object, Row, Seen, State};
use crate::store::Model;
use tower_inqud::Verdict;

/// The most looks after an arrival.
pub(crate) const LOOKS: u8 = 2;

/// What Inqud knows and sends, and the watch list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Watching {
    /// How many notes have become true. The last of them is what the API says.
    pub(crate) happened: u8,
    /// The notes that Inqud has given up sending, as bits.
    pub(crate) lost: u8,
    /// How many rows the reconciler has read.
    pub(crate) read: u8,
    pub(crate) entry: Watch,
    /// How many looks the API has answered since the last arrival.
    pub(crate) looks: u8,
    /// The arrival that scheduled the look.
    pub(crate) since: Option<u8>,
    pub(crate) look: Option<Look>,
    /// A look has seen the last note.
    pub(crate) saw_end: bool,
}

/// The state of the object in the watch list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Watch {
    Off,
    Due,
    Leased,
    /// Its lease has expired.
    Lapsed,
    /// It stays until what was fetched is read as an arrival.
    Stored,
}

/// A look that has begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Look {
    pub(crate) lapses: bool,
    /// No arrival has moved the look, and it was not claimed again.
    pub(crate) is_valid: bool,
    /// How many rows were known when it began.
    pub(crate) known: u8,
    /// How the object ends by these, when all are handled.
    pub(crate) end: Option<Seen>,
    /// The same without dead letters and what was discarded, unless they were processed before.
    pub(crate) heard: Option<Seen>,
    /// Which of them are kept for review, as bits.
    pub(crate) reviews: u8,
    pub(crate) at: Step,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Begun,
    Fetched(u8),
    /// The row that was stored, if any, and whether the object leaves the list unless there is one.
    Stored {
        row: Option<u8>,
        is_done: bool,
    },
    Failed,
}

/// How a fetched note compares with what is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compared {
    Agreed,
    Recovered,
    Ahead,
    /// Something has arrived meanwhile.
    Useless,
}

impl Watching {
    /// The merchant has told the inbox to expect the object.
    pub(crate) fn new() -> Self {
        Self {
            happened: 1,
            lost: 0,
            read: 0,
            entry: Watch::Due,
            looks: 0,
            since: None,
            look: None,
            saw_end: false,
        }
    }
}

impl Model {
    pub(crate) fn unread(state: &State) -> bool {
        state.watching.is_some_and(|it| usize::from(it.read) < state.objects[0].rows().len())
    }

    /// Reads what has arrived, and schedules looks because of it.
    pub(crate) fn enrol(&self, state: &mut State) {
        let rows = state.objects[0].rows();
        let it = state.watching.as_mut().unwrap();
        let place = |row: u8| (self.world.position(rows[usize::from(row)].note, None), row);
        for row in it.read..rows.len() as u8 {
            if it.entry == Watch::Off {
                (it.since, it.looks) = (None, 0);
            }
            let is_later = it.since.is_none_or(|since| place(row) > place(since));
            let moves = is_later && !self.has(Bug::ArrivalKeepsLook);
            if it.entry == Watch::Off || moves || self.has(Bug::AnyArrivalMovesLook) {
                let looks = if self.has(Bug::ArrivalKeepsCount) { it.looks } else { 0 };
                (it.entry, it.since, it.looks) = (Watch::Due, Some(row), looks);
                it.look.iter_mut().for_each(|look| look.is_valid = false);
            }
        }
        it.read = rows.len() as u8;
        if it.entry == Watch::Stored && !self.has(Bug::WatchStays) {
            it.entry = Watch::Off;
        }
    }

    /// Claims the look, and reads what is known.
    pub(crate) fn begin_look(&self, state: &mut State, lapses: bool) {
        let object = state.objects[0];
        let it = state.watching.as_mut().unwrap();
        it.entry = match lapses {
            _ if self.has(Bug::LookIgnoresLease) => Watch::Due,
            true => Watch::Lapsed,
            false => Watch::Leased,
        };
        it.look = Some(Look { lapses, is_valid: true, at: Step::Begun, ..self.look_at(&object) });
    }

    /// A look that knows what is stored now.
    fn look_at(&self, object: &Object) -> Look {
        let rows = (0..).zip(object.rows());
        let reviews = rows
            .filter(|(_, row)| row.kept == Kept::Review)
            .fold(0, |bits, (at, _)| bits | 1 << at);
        Look {
            lapses: false,
            is_valid: false,
            known: object.rows().len() as u8,
            end: self.end_of(object, |_| true),
            heard: self.end_of(object, |row| {
                row.is_replay || !matches!(row.kept, Kept::Dead | Kept::Skipped)
            }),
            reviews,
            at: Step::Begun,
        }
    }

    fn end_of(&self, object: &Object, counts: impl Fn(&Row) -> bool) -> Option<Seen> {
        let mut end: Option<Seen> = None;
        for (at, row) in (0..).zip(object.rows()) {
            let is_stale = row.kept == Kept::Skipped && row.verdict == Some(Verdict::Stale);
            if row.kept == Kept::Review || row.is_discarded || is_stale || !counts(row) {
                continue;
            }
            let verdict = self.verdict_after(object, end, row.note, row.is_reviewed);
            if verdict.should_handle() {
                let is_timed = self.world.note(row.note).time().is_some();
                let time = if is_timed { Some(at) } else { end.and_then(|end| end.time) };
                end = Some(Seen { row: at, time });
            }
        }
        end
    }

    fn compare(&self, object: &Object, end: Option<Seen>, fetched: u8) -> Compared {
        match end {
            None => Compared::Recovered,
            Some(end) if object.row(end.row).note == fetched && !self.has(Bug::StoresAgain) => {
                Compared::Agreed
            }
            end => match self.verdict_after(object, end, fetched, true) {
                Verdict::Stale => Compared::Ahead,
                _ => Compared::Recovered,
            },
        }
    }

    fn verdict_after(
        &self,
        object: &Object,
        end: Option<Seen>,
        note: u8,
        is_reviewed: bool,
    ) -> Verdict {
        let note_of = |row: u8| object.row(row).note;
        let handled = end.map(|end| (note_of(end.row), end.time.map(note_of)));
        self.world.verdict(note, is_reviewed, true, handled)
    }

    /// The API answers.
    pub(crate) fn fetch(state: &mut State) {
        let it = state.watching.as_mut().unwrap();
        let look = it.look.as_mut().unwrap();
        look.at = Step::Fetched(it.happened - 1);
    }

    /// Compares, and stores what is missing.
    pub(crate) fn store_look(&self, state: &mut State) -> Result<Compared, Broken> {
        let mut it = state.watching.unwrap();
        let mut look = it.look.unwrap();
        let Step::Fetched(fetched) = look.at else { unreachable!() };
        if self.has(Bug::KnowsLate) {
            let Look { lapses, is_valid, at, .. } = look;
            look = Look { lapses, is_valid, at, ..self.look_at(&state.objects[0]) };
        }
        let object = state.objects[0];
        let mut compared = self.compare(&object, look.end, fetched);
        if compared == Compared::Ahead && !self.has(Bug::LookTrustsDead) {
            compared = self.compare(&object, look.heard, fetched);
        }
        let (mut redriven, mut discarded) = (None, Vec::new());
        let reviews = (0..look.known).filter(|row| look.reviews >> row & 1 == 1);
        for row in reviews.filter(|_| compared != Compared::Ahead) {
            let is_confirmed = compared == Compared::Recovered
                && look.end.is_none_or(|end| row > end.row)
                && object.row(row).note == fetched;
            discarded.extend(if is_confirmed { redriven.replace(row) } else { Some(row) });
        }
        if redriven.is_some() {
            compared = Compared::Agreed;
        }
        let has_arrived = usize::from(look.known) != object.rows().len();
        if compared == Compared::Recovered && has_arrived && !self.has(Bug::StoresLate) {
            it.look = Some(Look { at: Step::Failed, ..look });
            state.watching = Some(it);
            return Ok(Compared::Useless);
        }
        let mut stored = None;
        if compared == Compared::Recovered {
            self.check_fetched(&object, fetched)?;
            stored = Some(object.rows().len() as u8);
            state.objects[0].push(Row { is_reviewed: true, ..Row::new(fetched) });
        }
        let is_kept = |state: &State, row: u8| {
            matches!(state.objects[0].row(row).kept, Kept::Dead | Kept::Review)
        };
        for row in redriven.into_iter().filter(|row| is_kept(state, *row)).collect::<Vec<_>>() {
            self.redrive(state, 0, row);
        }
        for row in discarded {
            if is_kept(state, row) {
                Self::discard(state, 0, row);
            }
        }
        let is_open = self.world.note(fetched).is_open;
        let is_settled = compared == Compared::Agreed && !is_open;
        let is_done = is_settled || it.looks + 1 >= LOOKS;
        it.saw_end |= usize::from(fetched) + 1 == self.world.notes.len();
        it.look = Some(Look { at: Step::Stored { row: stored, is_done }, ..look });
        state.watching = Some(it);
        Ok(compared)
    }

    /// What a look stores is neither older than what is stored, nor stored already. The order of the notes is the truth.
    fn check_fetched(&self, object: &Object, fetched: u8) -> Result<(), Broken> {
        let mut counted =
            object.rows().iter().filter(|row| row.kept != Kept::Review && !row.is_discarded);
        let is_timed = self.world.note(fetched).time().is_some();
        let is_stored = is_timed && counted.clone().any(|row| row.note == fetched);
        let last = counted.next_back().map(|row| row.note);
        if last.is_some_and(|last| last > fetched) {
            return Err("a look never sets an object back");
        }
        if is_stored || last == Some(fetched) {
            return Err("a look stores nothing twice");
        }
        Ok(())
    }

    /// Schedules the next look, or takes the object off the list.
    pub(crate) fn end_look(&self, state: &mut State) {
        let it = state.watching.as_mut().unwrap();
        let look = it.look.take().unwrap();
        if !look.is_valid && !self.has(Bug::EndsOthers) {
            return;
        }
        match look.at {
            Step::Stored { row, is_done } => {
                it.looks += u8::from(!is_done);
                it.since = row.or(it.since);
                it.entry = match (is_done, row) {
                    (false, _) => Watch::Due,
                    (true, Some(_)) if !self.has(Bug::WatchForgets) => Watch::Stored,
                    (true, _) => Watch::Off,
                };
            }
            _ => {
                it.looks += u8::from(self.has(Bug::FailedLookCounts));
                it.entry = Watch::Due;
            }
        }
    }
}
