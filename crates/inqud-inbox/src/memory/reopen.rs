//! Opens notifications again that were processed.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Row, Tables, number};
use crate::replay::{FIRST, Replayed};
use crate::state::State;

impl Tables {
    pub(super) fn replay(&mut self, numbers: &[i64], dry_run: bool) -> Replayed {
        let now = Instant::now();
        let mut replayed = Replayed::default();
        for chosen in numbers {
            let seq = usize::try_from(*chosen).unwrap_or(usize::MAX);
            let Some(row) = self.rows.get(seq) else { continue };
            let Some(rank) = row.replay_rank() else {
                if row.state != State::Open || row.replays == 0 {
                    replayed.unprocessed.push(*chosen);
                }
                continue;
            };
            let of = (row.record.kind, Arc::from(&*row.record.object));
            let Some(object) = self.objects.get_mut(&of) else { continue };
            if object.leased_until.is_some_and(|until| until > now) {
                replayed.busy.push(*chosen);
                continue;
            }
            let mut chain: Vec<_> = object
                .rows
                .iter()
                .filter_map(|seq| Some((self.rows.get(*seq)?.replay_rank()?, *seq)))
                .filter(|(its, _)| *its >= rank)
                .collect();
            chain.sort_unstable();
            let is_pruned =
                |seq: usize| self.rows.get(seq).is_some_and(|row| row.record.body.is_empty());
            let pruned = chain.iter().rposition(|(_, seq)| is_pruned(*seq));
            let chain = chain.split_off(pruned.map_or(0, |last| last.saturating_add(1)));
            if is_pruned(seq) {
                replayed.pruned.push(*chosen);
            }
            for (rank, seq) in chain {
                let is_opened = replayed.opened.contains(&number(seq));
                if !is_opened {
                    replayed.opened.push(number(seq));
                }
                let Some(row) = self.rows.get_mut(seq).filter(|_| !dry_run) else { continue };
                row.reopen(rank);
                object.open.insert((rank, seq));
                if object.leased_until.take().is_some() {
                    object.crashes = object.crashes.saturating_add(1);
                }
                object.arrive(now, seq);
            }
        }
        replayed
    }
}

impl Row {
    /// The position of its replay, if it was processed and is not open.
    fn replay_rank(&self) -> Option<i64> {
        let was_processed = match self.state {
            _ if self.is_deleted => false,
            State::Done => true,
            State::Skipped | State::Dead => self.replays > 0,
            _ => false,
        };
        was_processed.then(|| FIRST.saturating_add(self.rank))
    }

    fn reopen(&mut self, rank: i64) {
        self.state = State::Open;
        self.position = rank;
        self.replays = self.replays.saturating_add(1);
        (self.failures, self.retry_at) = (0, None);
        (self.settled, self.settled_at) = (None, None);
        self.error.clear();
    }
}
