//! Where to look for due objects.
//!
//! A settlement moves an object in the index by which claims find it. What it leaves there is removed only
//! when no transaction can see it any more. If one is open for an hour, such as a dump or a report, all that was
//! settled in that hour stays at the front of the index, and each claim would read past it.
//!
//! So if a look at all that is due took long, the next ones begin where it ended. That could miss an object
//! which becomes due with an earlier time: its next notification may have been stored long ago, or a
//! slow transaction has just stored it. What this process does itself lowers the floor by as much as needed.
//! For the rest, a claim looks at all again after ten times as long as the last time took.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::tables::Look;

/// A look that takes less is fast enough to look at all each time. One that takes more may only have met a busy
/// server, so it takes several in a row.
const QUICK: Duration = Duration::from_millis(5);
const SLOW_LOOKS: u32 = 3;

/// How much the time between two looks at all is longer than they take.
const TIMES: u32 = 10;

/// How long the transaction of another process may take that makes an object due.
const MARGIN: Duration = Duration::from_millis(100);

/// The same for one that has announced itself.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// Among how many objects a claim looks for a suspect, and the same once in a second. Suspects were claimed, so they
/// are among those that were due first.
const SUSPECTS: i64 = 100;
const ALL_SUSPECTS: i64 = 10_000;
const LOOK_FAR: Duration = Duration::from_secs(1);

/// The floors of all kinds.
#[derive(Default)]
pub(super) struct Floors {
    floors: Mutex<HashMap<&'static str, Floor>>,
    looked_far: Mutex<HashMap<&'static str, Instant>>,
}

struct Floor {
    due_from: SystemTime,
    /// When to look at all again.
    until: Instant,
    /// When the last look began, by the clock of the database and by that of this process.
    looked: (SystemTime, Instant),
    /// The earliest that became due during a look.
    lowered: Option<SystemTime>,
    /// How many looks in a row were slow.
    slow: u32,
}

impl Floors {
    /// Returns where the next look begins. `None` means to look at all.
    pub(super) fn due_from(&self, kind: &str) -> Option<SystemTime> {
        let mut floors = self.lock();
        let floor = floors.get_mut(kind)?;
        floor.lowered = None;
        let is_needed = floor.slow >= SLOW_LOOKS && Instant::now() < floor.until;
        is_needed.then_some(floor.due_from)
    }

    /// Returns among how many objects to look for a suspect.
    pub(super) fn suspects(&self, kind: &'static str) -> i64 {
        let mut looked = self.looked_far.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.get(kind).is_some_and(|looked| looked.elapsed() < LOOK_FAR) {
            return SUSPECTS;
        }
        looked.insert(kind, Instant::now());
        ALL_SUSPECTS
    }

    /// Records what a look found that began at `due_from`.
    pub(super) fn looked(&self, kind: &'static str, due_from: Option<SystemTime>, look: &Look) {
        let mut floors = self.lock();
        if due_from.is_none() && look.took < QUICK {
            floors.remove(kind);
            return;
        }
        if look.claimed.iter().any(|it| it.crashes > 0) {
            // It was not looked for others.
            return;
        }
        let end = look.last_due.unwrap_or_else(|| before(look.began, MARGIN));
        let now = Instant::now();
        let until = |took: Duration| now.checked_add(took.saturating_mul(TIMES)).unwrap_or(now);
        let looked = (look.began, now);
        let new =
            || Floor { due_from: end, until: until(look.took), looked, lowered: None, slow: 0 };
        let floor = floors.entry(kind).or_insert_with(new);
        floor.looked = looked;
        if due_from.is_none() {
            floor.until = until(look.took);
            floor.slow = floor.slow.saturating_add(1);
        }
        floor.due_from = floor.lowered.map_or(end, |lowered| lowered.min(end));
    }

    /// An object becomes due with this time.
    pub(super) fn lower(&self, kind: &str, due_at: SystemTime) {
        if let Some(floor) = self.lock().get_mut(kind) {
            floor.lower(due_at);
        }
    }

    /// Objects have become due in the last moment.
    pub(super) fn lower_all(&self) {
        for floor in self.lock().values_mut() {
            let (began, then) = floor.looked;
            let now = began.checked_add(then.elapsed()).unwrap_or(began);
            floor.lower(before(now, ANNOUNCED));
        }
    }

    /// Something may have become due at any time.
    pub(super) fn forget_all(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|floor| floor.until = now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Floor>> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Floor {
    fn lower(&mut self, due_at: SystemTime) {
        self.due_from = self.due_from.min(due_at);
        self.lowered = Some(self.lowered.map_or(due_at, |lowered| lowered.min(due_at)));
    }
}

fn before(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_sub(by).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KIND: &str = "request";
    const TOOK: Duration = Duration::from_secs(1);

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(second)).unwrap()
    }

    /// A slow look that began at second 1000, and found objects that were due until the second.
    fn look(until: u64) -> Look {
        Look { claimed: vec![], last_due: Some(at(until)), began: at(1000), took: TOOK }
    }

    /// Looks at all until the next look begins at the second.
    fn slow(until: u64) -> Floors {
        let floors = Floors::default();
        for _ in 0..SLOW_LOOKS {
            assert_eq!(floors.due_from(KIND), None);
            floors.looked(KIND, None, &look(until));
        }
        assert_eq!(floors.due_from(KIND), Some(at(until)));
        floors
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_all_again_after_ten_times_as_long() {
        let floors = slow(500);
        advance(TOOK * TIMES - Duration::from_millis(1)).await;
        assert_eq!(floors.due_from(KIND), Some(at(500)));
        floors.looked(KIND, Some(at(500)), &look(600));
        assert_eq!(floors.due_from(KIND), Some(at(600)));
        advance(Duration::from_millis(1)).await;
        assert_eq!(floors.due_from(KIND), None);
        floors.looked(KIND, None, &Look { took: QUICK / 2, ..look(600) });
        assert_eq!(floors.due_from(KIND), None, "it is fast again");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_from_what_became_due_meanwhile() {
        let floors = slow(500);
        floors.lower(KIND, at(300));
        floors.lower("payment", at(1));
        assert_eq!(floors.due_from(KIND), Some(at(300)));
        // During the look, after it has read past it.
        floors.lower(KIND, at(200));
        floors.lower(KIND, at(400));
        floors.looked(KIND, Some(at(300)), &look(600));
        assert_eq!(floors.due_from(KIND), Some(at(200)));
        floors.looked(KIND, Some(at(200)), &look(600));
        assert_eq!(floors.due_from(KIND), Some(at(600)));

        // What another process has announced may have become due a second ago, by the clock of the database.
        floors.looked(KIND, Some(at(600)), &look(1100));
        advance(Duration::from_secs(5)).await;
        floors.lower_all();
        assert_eq!(floors.due_from(KIND), Some(at(1004)));
        floors.forget_all();
        assert_eq!(floors.due_from(KIND), None);
    }
}
