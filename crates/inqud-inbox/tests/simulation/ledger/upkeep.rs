//! What must be true of what an operator and a retention do.

use inqud_inbox::{Replayed, State, Sweep};
use tokio::time::Instant;

use super::{Check, Ledger, Row, check};

impl Row {
    /// Whether it can be reprocessed.
    fn was_processed(&self) -> bool {
        !self.is_deleted
            && (self.state == State::Done
                || self.is_replay && matches!(self.state, State::Skipped | State::Dead))
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, State::Done | State::Skipped)
    }

    fn reopen(&mut self) {
        (self.state, self.failures, self.settled_at) = (State::Open, 0, None);
    }
}

impl Ledger {
    /// A dead letter or a review was requeued.
    pub(crate) fn redriven(&mut self, seq: usize) {
        let row = &mut self.rows[seq];
        row.is_reviewed |= row.state == State::Review;
        row.reopen();
    }

    /// A dead letter or a review was discarded.
    pub(crate) fn discarded(&mut self, seq: usize) {
        let row = &mut self.rows[seq];
        row.is_discarded |= row.state == State::Review;
        (row.state, row.settled_at) = (State::Skipped, Some(Instant::now()));
    }

    /// Rows were reprocessed: those that were chosen, and those of their objects that were processed after them.
    pub(crate) fn replayed(&mut self, chosen: &[i64], replayed: &Replayed) -> Check {
        let mut expected = Replayed::default();
        for number in chosen {
            let seq = usize::try_from(*number).unwrap();
            let row = &self.rows[seq];
            if row.is_open_replay() {
                continue;
            }
            if !row.was_processed() {
                expected.unprocessed.push(*number);
                continue;
            }
            let (rank, at) = (row.rank, row.object);
            let lease = self.objects[at].lease.as_ref();
            if lease.is_some_and(|lease| lease.until > Instant::now()) {
                expected.busy.push(*number);
                continue;
            }
            if row.is_empty {
                expected.pruned.push(*number);
            }
            let mut later: Vec<_> = self.objects[at].rows.clone();
            later.retain(|row| self.rows[*row].was_processed() && self.rows[*row].rank >= rank);
            later.sort_unstable_by_key(|row| self.rows[*row].rank);
            // Nothing is replayed without what came between.
            let empty = later.iter().rposition(|row| self.rows[*row].is_empty);
            for row in later.split_off(empty.map_or(0, |at| at + 1)) {
                expected.opened.push(i64::try_from(row).unwrap());
                self.rows[row].reopen();
                (self.rows[row].is_replay, self.rows[row].effects) = (true, 0);
                self.objects[at].lease = None;
            }
        }
        let told =
            |it: &Replayed| [&it.opened, &it.busy, &it.pruned, &it.unprocessed].map(Clone::clone);
        check(told(replayed) == told(&expected), || {
            format!("{chosen:?} were reprocessed as {replayed:?}, not {expected:?}")
        })
    }

    /// A retention has deleted so many.
    pub(crate) fn swept(&mut self, sweep: Sweep, count: usize) -> Check {
        let expected = match sweep {
            Sweep::Bodies(age) => {
                let is_old = |row: &&mut Row| {
                    let is_old = row.settled_at.is_some_and(|at| at.elapsed() >= age);
                    is_old && row.is_settled() && !row.is_empty && !row.is_deleted
                };
                self.rows.iter_mut().filter(is_old).map(|row| row.is_empty = true).count()
            }
            Sweep::Notifications { age, .. } => {
                let mut count = 0;
                for object in &mut self.objects {
                    let left = object.rows.iter().filter(|row| !self.rows[**row].is_deleted);
                    let left: Vec<_> = left.copied().collect();
                    if !left.iter().all(|row| self.rows[*row].is_settled()) {
                        continue;
                    }
                    for row in left {
                        let row = &mut self.rows[row];
                        if row.settled_at.is_some_and(|at| at.elapsed() >= age) {
                            (row.is_deleted, row.is_empty) = (true, true);
                            (object.is_swept, object.was_swept) = (true, true);
                            count += 1;
                        }
                    }
                }
                count
            }
            Sweep::Objects(age) => {
                let mut count = 0;
                for object in &mut self.objects {
                    let mut rows = object.rows.iter().map(|row| &self.rows[*row]);
                    let is_gone = rows.clone().all(|row| row.is_deleted);
                    let is_old = |row: &Row| row.settled_at.is_some_and(|at| at.elapsed() >= age);
                    if object.is_swept && is_gone && rows.all(is_old) {
                        (object.is_swept, object.processed) = (false, None);
                        (object.processed_row, object.lease) = (None, None);
                        count += 1;
                    }
                }
                count
            }
        };
        check(count == expected, || format!("{sweep:?} has deleted {count}, not {expected}"))
    }

    /// Whether a dead letter is a replay.
    pub(crate) fn is_replay(&self, seq: usize) -> bool {
        self.rows[seq].is_replay
    }

    /// What is left: the state of each row, and its body, which may be deleted.
    pub(crate) fn left(&self) -> impl Iterator<Item = (State, &[u8])> {
        let left = self.rows.iter().filter(|row| !row.is_deleted);
        left.map(|row| (row.state, if row.is_empty { &[][..] } else { &row.body[..] }))
    }
}
