//! The time of the file.

use std::time::Instant;

use jiff::Timestamp;
use rusqlite::{Connection, Result};

use super::row::micros;

/// A monotonic clock, in microseconds since 1970.
///
/// It starts at the system time when the file is opened, or at the latest time in the file if that is later.
/// From then on it follows a monotonic timer. No two readings are equal.
///
/// With the plain system time, a clock that is set back would extend every lease and every backoff by the
/// difference, possibly by years. With this clock nothing waits longer than it was told to. The price: a file
/// that was once used while the system time was in the future stays ahead, and shows wrong times.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    base: i64,
    opened: Instant,
    is_stopped: bool,
    pub(super) last: i64,
}

impl Clock {
    pub(super) fn new(wall: Timestamp, last: i64) -> Self {
        let base = wall.as_microsecond().max(last);
        Self { base, opened: Instant::now(), is_stopped: false, last }
    }

    /// A clock that always shows this time.
    pub(super) fn stopped(last: i64) -> Self {
        Self { base: last, opened: Instant::now(), is_stopped: true, last }
    }

    pub(super) fn now(&mut self) -> i64 {
        if self.is_stopped {
            return self.last;
        }
        let now = self.base.saturating_add(micros(self.opened.elapsed()));
        self.last = now.max(self.last.saturating_add(1));
        self.last
    }
}

/// Returns the latest time in the file.
pub(super) fn last(connection: &Connection) -> Result<i64> {
    connection.query_row("SELECT at FROM inqud_inbox_clock", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_ahead_of_the_file_and_increases() {
        let wall = Timestamp::from_microsecond(1_000).unwrap();
        for (last, least) in
            [(0, 1_000), (999, 1_000), (5_000_000, 5_000_001), (i64::MAX - 3, i64::MAX - 2)]
        {
            let mut clock = Clock::new(wall, last);
            let (first, second) = (clock.now(), clock.now());
            assert!(least <= first && first < second, "{last}: {first}, {second}");
            assert!(
                first.checked_sub(least).is_some_and(|late| late < 60_000_000),
                "{last}: {first}"
            );
        }
    }
}
