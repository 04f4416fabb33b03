//! What an operator and a retention do with what is settled.

use crate::bug::Bug;
use crate::state::{Kept, Lease, Object, Row, State};
use crate::store::Model;

/// What a retention deletes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sweep {
    Bodies,
    Notifications,
    Objects,
}

impl Sweep {
    pub(crate) const ALL: [Self; 3] = [Self::Bodies, Self::Notifications, Self::Objects];
}

/// What becomes of a chosen notification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reprocessed {
    Opened { rows: usize },
    Busy,
    Empty { rows: usize },
    Unprocessed,
    Open,
}

impl Model {
    /// Opens a row that was processed, and those that were processed after it.
    pub(crate) fn reprocess(&self, state: &mut State, object: usize, row: u8) -> Reprocessed {
        let it = &mut state.objects[object];
        let was_processed = |row: &Row| match row.kept {
            _ if row.is_deleted => false,
            Kept::Done => true,
            Kept::Skipped | Kept::Dead => row.is_replay,
            Kept::Open | Kept::Review => false,
        };
        let chosen = *it.row(row);
        if chosen.is_open_replay() {
            return Reprocessed::Open;
        }
        if !was_processed(&chosen) {
            return Reprocessed::Unprocessed;
        }
        if it.lease == Lease::Held && !self.has(Bug::ReplaysLeased) {
            return Reprocessed::Busy;
        }
        let processed = it.rows().iter().filter(|row| was_processed(row));
        let empty = processed.filter(|row| row.is_empty).map(|row| row.rank).max();
        let first = empty.filter(|_| !self.has(Bug::ReplaysEmpty)).map_or(0, |rank| rank + 1);
        let mut rows = 0;
        for at in 0..it.rows().len() as u8 {
            let each = it.row_mut(at);
            if !was_processed(each)
                || each.rank < chosen.rank.max(first)
                || self.has(Bug::ReplaysOne) && at != row
            {
                continue;
            }
            (each.kept, each.is_replay, each.is_old) = (Kept::Open, true, false);
            (each.failures, each.failed, each.waits, each.effects) = (0, 0, false, 0);
            rows += 1;
        }
        if rows > 0 {
            if it.lease == Lease::Expired {
                (it.lease, it.crashes) = (Lease::Free, it.crashes + 1);
            }
            for ticket in state.runners.iter_mut().flatten() {
                ticket.is_valid &= ticket.object != object || self.has(Bug::ReplaysLeased);
            }
        }
        if chosen.is_empty { Reprocessed::Empty { rows } } else { Reprocessed::Opened { rows } }
    }

    /// The duplicate window passes, and all retries are due.
    pub(crate) fn age(state: &mut State) {
        Self::wake(state);
        for object in &mut state.objects {
            for at in 0..object.rows().len() as u8 {
                let row = object.row_mut(at);
                row.is_old = row.kept != Kept::Open;
            }
        }
    }

    /// Whether something that is settled is not old.
    pub(crate) fn has_young(state: &State) -> bool {
        let mut rows = state.objects.iter().flat_map(Object::rows);
        rows.any(|row| !row.is_deleted && !row.is_old && row.kept != Kept::Open)
    }

    pub(crate) fn sweep(&self, state: &mut State, sweep: Sweep) {
        let is_settled = |row: &Row| matches!(row.kept, Kept::Done | Kept::Skipped);
        let is_old = |row: &Row| is_settled(row) && (row.is_old || self.has(Bug::SweepsYoung));
        for object in &mut state.objects {
            let all_settled = object.rows().iter().all(is_settled) || self.has(Bug::SweepsOpen);
            let has_rows = object.rows().iter().any(|row| !row.is_deleted);
            for at in 0..object.rows().len() as u8 {
                let row = object.row_mut(at);
                match sweep {
                    Sweep::Bodies => row.is_empty |= is_old(row),
                    Sweep::Notifications if !all_settled || row.is_deleted => {}
                    Sweep::Notifications if is_old(row) || self.has(Bug::SweepsOpen) => {
                        row.is_deleted = true;
                        object.is_swept = true;
                    }
                    Sweep::Notifications | Sweep::Objects => {}
                }
            }
            if sweep == Sweep::Objects && object.is_swept && !has_rows {
                (object.is_swept, object.processed) = (false, None);
                (object.shown, object.written) = (None, None);
            }
            if sweep == Sweep::Notifications && self.has(Bug::SweepForgets) && object.is_swept {
                object.processed = None;
            }
        }
    }
}
