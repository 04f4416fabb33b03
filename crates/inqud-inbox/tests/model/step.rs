//! What can happen next, and the state after it.

use std::fmt;

use crate::bug::Bug;
use crate::look::{Step, Watch, Watching};
use crate::properties::Broken;
use crate::state::{Ending, Kept, OBJECTS, ROWS, Receiver, State};
use crate::store::Model;
use crate::upkeep::{Reprocessed, Sweep};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Inqud sends a notification, and a receiver gets it.
    Deliver {
        note: u8,
    },
    /// The receiver stores it.
    Commit {
        receiver: u8,
    },
    /// Both receivers store theirs in one commit.
    CommitBoth,
    /// The receiver answers with 200.
    Answer {
        receiver: u8,
    },
    /// The receiver ends, or its store or its answer fails.
    LoseReceiver {
        receiver: u8,
    },
    /// A runner claims an object. Its lease may expire at once, as that of a slow runner or of one that ends.
    Claim {
        object: u8,
        is_suspect: bool,
        lapses: bool,
    },
    /// A runner settles what it holds.
    Settle {
        runner: u8,
        ending: Ending,
    },
    /// It settles, and the answer is lost.
    LoseAnswer {
        runner: u8,
        ending: Ending,
    },
    /// A runner ends.
    Crash {
        runner: u8,
    },
    /// Time passes, and all retries are due.
    Wake,
    /// An operator redrives a dead letter or a review.
    Redrive {
        object: u8,
        row: u8,
    },
    /// An operator discards one.
    Discard {
        object: u8,
        row: u8,
    },
    /// An operator reprocesses what was processed.
    Reprocess {
        object: u8,
        row: u8,
    },
    /// The duplicate window passes.
    Age,
    /// A retention deletes what is old.
    Sweep(Sweep),
    /// The object changes, and Inqud begins to send the next notification.
    Happen,
    /// Inqud gives up sending a notification.
    GiveUp {
        note: u8,
    },
    /// The reconciler reads what has arrived.
    Enrol,
    /// It begins a look. Its lease may expire at once.
    BeginLook {
        lapses: bool,
    },
    /// The API answers.
    Fetch,
    /// The API does not answer.
    FailFetch,
    /// What was fetched is compared, and stored if it is missing.
    StoreLook,
    EndLook,
    /// The reconciler ends.
    CrashLook,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Model {
    /// Lists what can happen. The second value of each says whether it brings things forward: if it is possible, it
    /// happens sooner or later.
    pub(crate) fn actions(&self, state: &State, actions: &mut Vec<(Action, bool)>) {
        actions.clear();
        let left = state.left;
        let most = if self.world.is_narrow { 1 } else { 2 };
        let receiving = state.receivers.iter().filter(|it| **it != Receiver::Idle).count();
        if receiving < most {
            for note in 0..self.world.notes.len() as u8 {
                let is_held = state.receivers.contains(&Receiver::Holds(note))
                    || state.receivers.contains(&Receiver::Stored(note));
                let is_repeat = is_held || state.answered >> note & 1 == 1;
                let object = &state.objects[self.world.note(note).object];
                let has_room = object.rows().len() + receiving + 1 < ROWS
                    && state
                        .watching
                        .is_none_or(|it| note < it.happened && it.lost >> note & 1 == 0);
                if has_room && (!is_repeat || left.repeats > 0) {
                    actions.push((Action::Deliver { note }, !is_repeat));
                }
            }
        }
        for (receiver, holds) in (0..).zip(state.receivers) {
            match holds {
                Receiver::Idle => continue,
                Receiver::Holds(_) => actions.push((Action::Commit { receiver }, true)),
                Receiver::Stored(_) => actions.push((Action::Answer { receiver }, true)),
            }
            if left.faults > 0 {
                actions.push((Action::LoseReceiver { receiver }, false));
            }
        }
        if state.receivers.iter().all(|it| matches!(it, Receiver::Holds(_))) {
            actions.push((Action::CommitBoth, true));
        }
        if state.runners.iter().flatten().count() < most {
            for object in 0..OBJECTS as u8 {
                let Some(is_suspect) = self.due(state, usize::from(object)) else { continue };
                actions.push((Action::Claim { object, is_suspect, lapses: false }, true));
                if left.faults > 0 {
                    actions.push((Action::Claim { object, is_suspect, lapses: true }, false));
                }
            }
        }
        for (runner, ticket) in (0..).zip(state.runners) {
            let Some(ticket) = ticket else { continue };
            if let Some(ending) = ticket.in_doubt {
                actions.push((Action::Settle { runner, ending }, true));
                continue;
            }
            let ending = Self::ending(&ticket);
            actions.push((Action::Settle { runner, ending }, true));
            if ticket.lapses {
                actions.push((Action::Crash { runner }, false));
            }
            if left.faults == 0 {
                continue;
            }
            actions.push((Action::LoseAnswer { runner, ending }, false));
            if ending != Ending::Done {
                continue;
            }
            let failed = Self::failure(state, &ticket, false);
            actions.push((Action::Settle { runner, ending: failed }, false));
            if failed != Ending::Dead {
                let ending = Self::failure(state, &ticket, true);
                actions.push((Action::Settle { runner, ending }, false));
            }
            if left.faults > 1 {
                actions.push((Action::LoseAnswer { runner, ending: failed }, false));
            }
        }
        let waits = state.objects.iter().any(|it| it.rows().iter().any(|row| row.waits));
        if waits && self.bug != Some(Bug::ForgetsRetry) {
            actions.push((Action::Wake, true));
        }
        if left.operations > 0 {
            for object in 0..OBJECTS as u8 {
                for (row, it) in (0..).zip(state.objects[usize::from(object)].rows()) {
                    if matches!(it.kept, Kept::Dead | Kept::Review) {
                        actions.push((Action::Redrive { object, row }, false));
                        actions.push((Action::Discard { object, row }, false));
                    }
                }
            }
        }
        if let Some(it) = &state.watching {
            self.look_actions(state, it, actions);
        }
        if self.world.has_replays && left.replays > 0 {
            for object in 0..OBJECTS as u8 {
                for row in 0..state.objects[usize::from(object)].rows().len() as u8 {
                    let done = self.reprocess(&mut state.clone(), usize::from(object), row);
                    if matches!(done, Reprocessed::Opened { rows } | Reprocessed::Empty { rows } if rows > 0)
                    {
                        actions.push((Action::Reprocess { object, row }, false));
                    }
                }
            }
        }
        if left.sweeps > 0 {
            if Self::has_young(state) {
                actions.push((Action::Age, false));
            }
            for sweep in Sweep::ALL {
                let mut next = *state;
                self.sweep(&mut next, sweep);
                if next != *state {
                    actions.push((Action::Sweep(sweep), false));
                }
            }
        }
    }

    fn look_actions(&self, state: &State, it: &Watching, actions: &mut Vec<(Action, bool)>) {
        if usize::from(it.happened) < self.world.notes.len() {
            actions.push((Action::Happen, true));
        }
        for note in 0..it.happened {
            if (state.answered | it.lost) >> note & 1 == 0 {
                actions.push((Action::GiveUp { note }, false));
            }
        }
        let waits = it.entry == Watch::Stored && self.bug != Some(Bug::WatchStays);
        if Self::unread(state) || waits {
            actions.push((Action::Enrol, true));
        }
        match it.look.map(|look| look.at) {
            None if matches!(it.entry, Watch::Due | Watch::Lapsed) => {
                actions.push((Action::BeginLook { lapses: false }, true));
                if state.left.faults > 0 {
                    actions.push((Action::BeginLook { lapses: true }, false));
                }
            }
            None => {}
            Some(Step::Begun) => {
                actions.push((Action::Fetch, true));
                if state.left.faults > 0 {
                    actions.push((Action::FailFetch, false));
                }
            }
            Some(Step::Fetched(_)) => actions.push((Action::StoreLook, true)),
            Some(Step::Stored { .. } | Step::Failed) => actions.push((Action::EndLook, true)),
        }
        if it.look.is_some_and(|look| look.lapses) {
            actions.push((Action::CrashLook, false));
        }
    }

    /// The state after an action, or the property that the action breaks.
    pub(crate) fn apply(&self, state: &State, action: Action) -> Result<State, Broken> {
        let mut next = *state;
        match action {
            Action::Deliver { note } => {
                let is_held = state.receivers.contains(&Receiver::Holds(note))
                    || state.receivers.contains(&Receiver::Stored(note));
                let is_repeat = is_held || state.answered >> note & 1 == 1;
                next.left.repeats -= u8::from(is_repeat);
                let idle = next.receivers.iter_mut().find(|it| **it == Receiver::Idle).unwrap();
                *idle = Receiver::Holds(note);
                if self.bug == Some(Bug::AnswersBeforeCommit) {
                    next.answered |= 1 << note;
                }
            }
            Action::Commit { receiver } => self.commit(&mut next, receiver)?,
            Action::CommitBoth => {
                self.commit(&mut next, 0)?;
                self.commit(&mut next, 1)?;
            }
            Action::Answer { receiver } => {
                let receiver = &mut next.receivers[usize::from(receiver)];
                let Receiver::Stored(note) = *receiver else { unreachable!() };
                *receiver = Receiver::Idle;
                next.answered |= 1 << note;
            }
            Action::LoseReceiver { receiver } => {
                next.left.faults -= 1;
                next.receivers[usize::from(receiver)] = Receiver::Idle;
            }
            Action::Claim { object, lapses, .. } => {
                next.left.faults -= u8::from(lapses);
                let ticket = self.claim(&mut next, usize::from(object), lapses)?;
                *next.runners.iter_mut().find(|it| it.is_none()).unwrap() = ticket;
            }
            Action::Settle { runner, ending } => {
                let ticket = next.runners[usize::from(runner)].unwrap();
                let is_failure = matches!(ending, Ending::Retry { .. } | Ending::Dead);
                next.left.faults -= u8::from(is_failure && ticket.in_doubt.is_none());
                self.settle(&mut next, &ticket, ending)?;
                next.runners[usize::from(runner)] = None;
            }
            Action::LoseAnswer { runner, ending } => {
                let ticket = next.runners[usize::from(runner)].unwrap();
                let is_failure = matches!(ending, Ending::Retry { .. } | Ending::Dead);
                next.left.faults -= 1 + u8::from(is_failure);
                self.settle(&mut next, &ticket, ending)?;
                next.runners[usize::from(runner)].as_mut().unwrap().in_doubt = Some(ending);
            }
            Action::Crash { runner } => {
                let ticket = next.runners[usize::from(runner)].take().unwrap();
                if self.bug == Some(Bug::EffectsApart) {
                    next.objects[ticket.object].row_mut(ticket.row).effects += 1;
                }
            }
            Action::Wake => Self::wake(&mut next),
            Action::Redrive { object, row } => {
                next.left.operations -= 1;
                self.redrive(&mut next, usize::from(object), row);
            }
            Action::Discard { object, row } => {
                next.left.operations -= 1;
                Self::discard(&mut next, usize::from(object), row);
            }
            Action::Reprocess { object, row } => {
                next.left.replays -= 1;
                _ = self.reprocess(&mut next, usize::from(object), row);
            }
            Action::Age => Self::age(&mut next),
            Action::Happen => next.watching.as_mut().unwrap().happened += 1,
            Action::GiveUp { note } => next.watching.as_mut().unwrap().lost |= 1 << note,
            Action::Enrol => self.enrol(&mut next),
            Action::BeginLook { lapses } => {
                next.left.faults -= u8::from(lapses);
                self.begin_look(&mut next, lapses);
            }
            Action::Fetch => Self::fetch(&mut next),
            Action::FailFetch => {
                next.left.faults -= 1;
                next.watching.as_mut().unwrap().look.as_mut().unwrap().at = Step::Failed;
            }
            Action::StoreLook => _ = self.store_look(&mut next)?,
            Action::EndLook => self.end_look(&mut next),
            Action::CrashLook => next.watching.as_mut().unwrap().look = None,
            Action::Sweep(sweep) => {
                next.left.sweeps -= 1;
                self.sweep(&mut next, sweep);
            }
        }
        next.receivers.sort_unstable();
        Ok(next)
    }

    fn commit(&self, state: &mut State, receiver: u8) -> Result<(), Broken> {
        let Receiver::Holds(note) = state.receivers[usize::from(receiver)] else { unreachable!() };
        self.insert(state, note)?;
        state.receivers[usize::from(receiver)] = Receiver::Stored(note);
        Ok(())
    }
}
