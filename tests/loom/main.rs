//! What threads share, in every order in which they can run: the cooldown of the diagnosis, the secrets during a rotation,
//! and the line in which settlements wait for a group.
//!
//! The files are those of the crates, compiled with loom's types instead of the standard library's.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../../src/signature/cooldown.rs"]
mod cooldown;
#[path = "../../src/signature/current.rs"]
mod current;
#[path = "../../crates/inqud-inbox/src/postgres/line.rs"]
mod line;
mod planted;

/// What `src/sync.rs` of both crates is otherwise.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock};
}

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::thread;

use crate::cooldown::Cooldown;
use crate::current::Current;
use crate::line::Line;
use crate::planted::{HalfReplaced, SetsLate, SkipsIfRead, TwoLocks};

/// Whether loom finds an order in which the check fails.
fn fails(check: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| loom::model(check))).is_err()
}

trait Begin: Send + Sync + 'static {
    fn begin(&self, now: u64) -> bool;
}

impl Begin for Cooldown {
    fn begin(&self, now: u64) -> bool {
        self.begin(now)
    }
}

/// Calls that come at these times. Those that get through are 10 apart, and one of the first always does.
fn cools_down(cooldown: impl Begin, times: &[u64]) {
    let cooldown = Arc::new(cooldown);
    let calls = times.iter().map(|now| {
        let (cooldown, now) = (Arc::clone(&cooldown), *now);
        thread::spawn(move || cooldown.begin(now).then_some(now))
    });
    let calls: Vec<_> = calls.collect();
    let mut through: Vec<_> = calls.into_iter().filter_map(|it| it.join().unwrap()).collect();
    through.sort_unstable();
    assert!(!through.is_empty(), "none gets through");
    assert!(through.windows(2).all(|it| it[1] - it[0] >= 10), "{through:?}");
}

#[test]
fn cooldown_lets_one_call_through() {
    for times in [[0, 0], [0, 9], [0, 10], [12, 25]] {
        loom::model(move || cools_down(Cooldown::new(10), &times));
    }
    // All orders of three would take half a minute.
    let mut few = loom::model::Builder::new();
    few.preemption_bound = Some(2);
    for times in [[0, 0, 0], [0, 10, 11], [12, 5, 25]] {
        few.check(move || cools_down(Cooldown::new(10), &times));
    }
    assert!(fails(|| cools_down(SetsLate::new(10), &[0, 1])), "checks, and sets afterwards");
}

trait Shared: Send + Sync + 'static {
    fn replace(&self, value: [u32; 2]);
    fn snapshot(&self) -> [u32; 2];
}

impl Shared for Current<[u32; 2]> {
    fn replace(&self, value: [u32; 2]) {
        self.replace(value);
    }

    fn snapshot(&self) -> [u32; 2] {
        self.snapshot()
    }
}

/// A call in flight has the old secrets or the new ones, and a call that begins after the rotation has the new ones.
fn rotates(secrets: impl Shared) {
    let secrets = Arc::new(secrets);
    let in_flight = {
        let secrets = Arc::clone(&secrets);
        thread::spawn(move || [secrets.snapshot(), secrets.snapshot()])
    };
    let other = {
        let secrets = Arc::clone(&secrets);
        thread::spawn(move || {
            secrets.replace([2, 2]);
            secrets.snapshot()
        })
    };
    let after = other.join().unwrap();
    assert_eq!(after, [2, 2], "after the rotation");
    assert_eq!(secrets.snapshot(), [2, 2], "in another thread, after the rotation");
    let [first, second] = in_flight.join().unwrap();
    assert!([first, second].iter().all(|it| *it == [1, 1] || *it == [2, 2]), "a mixture");
    assert!(first <= second, "the old secrets after the new ones");
}

#[test]
fn rotation_is_all_or_nothing_and_lasts() {
    loom::model(|| rotates(Current::new([1, 1])));
    assert!(fails(|| rotates(SkipsIfRead::new([1, 1]))), "gives up while a call reads them");
    assert!(fails(|| rotates(HalfReplaced::new([1, 1]))), "replaces one after the other");
}

trait Wait: Send + Sync + 'static {
    fn push(&self, item: u32) -> bool;
    fn take(&self) -> Option<Vec<u32>>;
    fn leave(&self);
}

impl Wait for Line<u32> {
    fn push(&self, item: u32) -> bool {
        self.push(item)
    }

    fn take(&self) -> Option<Vec<u32>> {
        self.take(2)
    }

    fn leave(&self) {
        self.leave();
    }
}

/// Each item is taken once, by one task at a time. A task that is ended early strands nothing that is added afterwards.
fn is_taken_once(line: impl Wait, is_ended_early: bool) {
    let line = Arc::new(line);
    let push = |item| {
        let line = Arc::clone(&line);
        thread::spawn(move || {
            let mut taken = Vec::new();
            if line.push(item) {
                if is_ended_early && item == 1 {
                    if let Some(group) = line.take() {
                        taken.extend(group);
                        line.leave();
                    }
                    return taken;
                }
                while let Some(group) = line.take() {
                    taken.extend(group);
                }
            }
            taken
        })
    };
    let threads = [push(1), push(2)];
    let mut taken: Vec<_> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
    assert!(is_ended_early || taken.len() == 2, "nobody takes what waits");
    if line.push(3) {
        while let Some(group) = line.take() {
            taken.extend(group);
        }
    }
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 3]);
}

#[test]
fn each_settlement_is_taken_once() {
    for is_ended_early in [false, true] {
        loom::model(move || is_taken_once(Line::new(1), is_ended_early));
        loom::model(move || is_taken_once(Line::new(2), is_ended_early));
    }
    assert!(fails(|| is_taken_once(TwoLocks::default(), false)), "looks and leaves in two steps");
}
