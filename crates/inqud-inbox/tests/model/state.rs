//! The state of the model: the naive store, the receivers, the runners, and what is left of each budget.

use tower_inqud::Verdict;

use crate::look::Watching;
use crate::world::World;

pub(crate) const OBJECTS: usize = 2;
/// The most rows of an object: three notifications, and repeats that are stored again.
pub(crate) const ROWS: usize = 7;
/// After so many failed attempts a notification is a dead letter.
pub(crate) const MAX_ATTEMPTS: u8 = 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct State {
    pub(crate) objects: [Object; OBJECTS],
    /// Ordered, because it does not matter which receiver it is.
    pub(crate) receivers: [Receiver; 2],
    pub(crate) runners: [Option<Ticket>; 2],
    /// The notifications that were answered with 200, as bits.
    pub(crate) answered: u8,
    pub(crate) left: Limits,
    /// In worlds with reconciliation.
    pub(crate) watching: Option<Watching>,
}

/// How often something may happen that is not part of the ordinary course.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Failed attempts, expired leases, crashes, lost answers.
    pub(crate) faults: u8,
    /// Deliveries of what was answered already, or is being received.
    pub(crate) repeats: u8,
    /// What an operator does: redrives and discards.
    pub(crate) operations: u8,
    /// How often an operator reprocesses.
    pub(crate) replays: u8,
    /// How often a retention deletes something.
    pub(crate) sweeps: u8,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Receiver {
    Idle,
    /// Before the commit.
    Holds(u8),
    /// After the commit, and before the answer.
    Stored(u8),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Object {
    rows: [Row; ROWS],
    len: u8,
    pub(crate) lease: Lease,
    pub(crate) crashes: u8,
    pub(crate) processed: Option<Seen>,
    /// What the merchant has handled last, by the effects. Replays do not count.
    pub(crate) shown: Option<Seen>,
    /// The row whose state the merchant's handler has written last. Replays count.
    pub(crate) written: Option<u8>,
    /// Rows were deleted, so that what was processed counts like a row.
    pub(crate) is_swept: bool,
}

/// A row whose status counts, and the row whose time does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) row: u8,
    pub(crate) time: Option<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lease {
    Free,
    Held,
    Expired,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    Open,
    Done,
    Skipped,
    Dead,
    Review,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) note: u8,
    pub(crate) kept: Kept,
    /// The verdict that it was settled with. No property depends on it.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) is_reviewed: bool,
    /// It was kept for review, and an operator discarded it.
    pub(crate) is_discarded: bool,
    pub(crate) failures: u8,
    /// It waits for a retry.
    pub(crate) waits: bool,
    /// It was moved to the end by [`Bug::RedriveMoves`](crate::bug::Bug::RedriveMoves).
    pub(crate) is_moved: bool,
    /// How often its effects were committed.
    pub(crate) effects: u8,
    /// How often its handler has failed, since it was redriven.
    pub(crate) failed: u8,
    /// Its place among those that were processed, if the world has replays.
    pub(crate) rank: u8,
    /// It was processed, and is processed again.
    pub(crate) is_replay: bool,
    /// It was settled before the last time that the duplicate window passed.
    pub(crate) is_old: bool,
    /// Its body was deleted.
    pub(crate) is_empty: bool,
    /// It was deleted. Its place stays here, to tell what it was.
    pub(crate) is_deleted: bool,
}

/// What a runner holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) object: usize,
    pub(crate) row: u8,
    pub(crate) verdict: Verdict,
    /// What counts as processed afterwards.
    pub(crate) seen: Option<Seen>,
    /// The object was not claimed again, and this was not settled.
    pub(crate) is_valid: bool,
    /// Its lease expires at once.
    pub(crate) lapses: bool,
    /// It was settled like this, and the answer was lost.
    pub(crate) in_doubt: Option<Ending>,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Done,
    Skipped,
    Review,
    Retry { waits: bool },
    Dead,
}

impl Row {
    const NEW: Self = Self {
        note: 0,
        kept: Kept::Open,
        verdict: None,
        is_reviewed: false,
        is_discarded: false,
        failures: 0,
        waits: false,
        is_moved: false,
        effects: 0,
        failed: 0,
        rank: 0,
        is_replay: false,
        is_old: false,
        is_empty: false,
        is_deleted: false,
    };

    pub(crate) fn new(note: u8) -> Self {
        Self { note, ..Self::NEW }
    }

    /// Whether it is processed again at the moment, or waits for that.
    pub(crate) fn is_open_replay(&self) -> bool {
        self.is_replay && self.kept == Kept::Open
    }
}

impl Object {
    const EMPTY: Self = Self {
        rows: [Row::NEW; ROWS],
        len: 0,
        lease: Lease::Free,
        crashes: 0,
        processed: None,
        shown: None,
        written: None,
        is_swept: false,
    };

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows[..usize::from(self.len)]
    }

    pub(crate) fn row(&self, row: u8) -> &Row {
        &self.rows[usize::from(row)]
    }

    pub(crate) fn row_mut(&mut self, row: u8) -> &mut Row {
        &mut self.rows[usize::from(row)]
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.rows[usize::from(self.len)] = row;
        self.len += 1;
    }
}

impl State {
    pub(crate) fn new(world: &World, left: Limits) -> Self {
        Self {
            objects: [Object::EMPTY; OBJECTS],
            receivers: [Receiver::Idle; 2],
            runners: [None; 2],
            answered: 0,
            left,
            watching: world.is_watched.then(Watching::new),
        }
    }
}
