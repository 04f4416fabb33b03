//! How a store reads a page of a list: in windows of numbers, so that no statement reads a whole table.

use std::time::{Duration, Instant};

use crate::entry::Entry;
use crate::filter::{Cursor, Filter, Page};

/// How many numbers a window has, without and with an index that finds the notifications in it.
const STEP: i64 = 50_000;
const WIDE_STEP: i64 = 4_000_000;

/// How long to search for one page.
const SEARCH: Duration = Duration::from_secs(1);

pub(crate) struct Walk {
    newest_first: bool,
    /// What is left to read.
    low: i64,
    high: i64,
    step: i64,
    limit: usize,
    began: Instant,
    entries: Vec<Entry>,
}

impl Walk {
    /// `numbers` are the first and the last number of the table.
    pub(crate) fn new(filter: &Filter, limit: usize, numbers: Option<(i64, i64)>) -> Self {
        let (mut low, mut high) = numbers.unwrap_or((1, 0));
        high = high.min(filter.up_to.unwrap_or(high));
        match filter.after {
            Some(Cursor(number)) if filter.newest_first => {
                high = high.min(number.saturating_sub(1));
            }
            Some(Cursor(number)) => low = low.max(number.saturating_add(1)),
            None => {}
        }
        let step = if filter.key.is_some() || filter.object.is_some() {
            i64::MAX
        } else if filter.order_id.is_some() {
            WIDE_STEP
        } else {
            STEP
        };
        let (newest_first, entries) = (filter.newest_first, Vec::new());
        Self { newest_first, low, high, step, limit, began: Instant::now(), entries }
    }

    /// Returns the first and the last number of the next window, and how many entries to read of it. `None` if the page
    /// is complete.
    pub(crate) fn window(&self) -> Option<(i64, i64, usize)> {
        let room = self.limit.saturating_sub(self.entries.len());
        let has_time = self.began.elapsed() < SEARCH;
        if self.low > self.high || room == 0 || !has_time {
            return None;
        }
        let step = self.step.saturating_sub(1);
        Some(if self.newest_first {
            (self.low.max(self.high.saturating_sub(step)), self.high, room)
        } else {
            (self.low, self.high.min(self.low.saturating_add(step)), room)
        })
    }

    /// Adds what the window has.
    pub(crate) fn add(&mut self, (first, last, room): (i64, i64, usize), entries: Vec<Entry>) {
        let is_full = entries.len() >= room;
        let read_to = entries.last().filter(|_| is_full).map(|entry| entry.number);
        if self.newest_first {
            self.high = read_to.unwrap_or(first).saturating_sub(1);
        } else {
            self.low = read_to.unwrap_or(last).saturating_add(1);
        }
        self.entries.extend(entries);
    }

    pub(crate) fn page(self) -> Page {
        let read_to =
            if self.newest_first { self.high.checked_add(1) } else { self.low.checked_sub(1) };
        let next = read_to.filter(|_| self.low <= self.high).map(Cursor);
        Page { entries: self.entries, next }
    }
}
