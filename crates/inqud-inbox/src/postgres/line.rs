//! What waits for tasks that take it in groups.

use std::collections::VecDeque;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Things that wait in line, and how many tasks take them.
pub(super) struct Line<T> {
    most_tasks: usize,
    waiting: Mutex<Waiting<T>>,
}

struct Waiting<T> {
    items: VecDeque<T>,
    tasks: usize,
}

impl<T> Line<T> {
    /// Has up to `most_tasks` tasks.
    pub(super) fn new(most_tasks: usize) -> Self {
        Self { most_tasks, waiting: Mutex::new(Waiting { items: VecDeque::new(), tasks: 0 }) }
    }

    /// Adds one. Returns whether the caller must start another task. That task counts from now on.
    #[must_use]
    pub(super) fn push(&self, item: T) -> bool {
        let mut waiting = self.waiting();
        waiting.items.push_back(item);
        let starts = waiting.tasks < self.most_tasks;
        waiting.tasks = waiting.tasks.saturating_add(usize::from(starts));
        starts
    }

    /// Takes up to `most`. If nothing waits, the calling task does not count any more, and the next one that is added
    /// starts another.
    pub(super) fn take(&self, most: usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting();
        if waiting.items.is_empty() {
            waiting.tasks = waiting.tasks.saturating_sub(1);
            return None;
        }
        let count = waiting.items.len().min(most);
        Some(waiting.items.drain(..count).collect())
    }

    /// The calling task was ended early, and does not count any more.
    pub(super) fn leave(&self) {
        let mut waiting = self.waiting();
        waiting.tasks = waiting.tasks.saturating_sub(1);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
