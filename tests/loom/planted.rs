//! The mistakes that the checks must find.

use std::collections::VecDeque;

use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use crate::{Begin, Shared, Wait};

/// A cooldown that checks, and sets afterwards.
pub(crate) struct SetsLate {
    length: u64,
    until: AtomicU64,
}

impl SetsLate {
    pub(crate) fn new(length: u64) -> Self {
        Self { length, until: AtomicU64::new(0) }
    }
}

impl Begin for SetsLate {
    fn begin(&self, now: u64) -> bool {
        let may_begin = now >= self.until.load(Ordering::SeqCst);
        if may_begin {
            self.until.store(now + self.length, Ordering::SeqCst);
        }
        may_begin
    }
}

/// Secrets that are not replaced while a call reads them.
pub(crate) struct SkipsIfRead(RwLock<[u32; 2]>);

impl SkipsIfRead {
    pub(crate) fn new(value: [u32; 2]) -> Self {
        Self(RwLock::new(value))
    }
}

impl Shared for SkipsIfRead {
    fn replace(&self, value: [u32; 2]) {
        if let Ok(mut current) = self.0.try_write() {
            *current = value;
        }
    }

    fn snapshot(&self) -> [u32; 2] {
        let current = self.0.read().unwrap();
        loom::thread::yield_now();
        *current
    }
}

/// Secrets that are replaced one after the other.
pub(crate) struct HalfReplaced([Mutex<u32>; 2]);

impl HalfReplaced {
    pub(crate) fn new(value: [u32; 2]) -> Self {
        Self(value.map(Mutex::new))
    }
}

impl Shared for HalfReplaced {
    fn replace(&self, value: [u32; 2]) {
        for (current, value) in self.0.iter().zip(value) {
            *current.lock().unwrap() = value;
        }
    }

    fn snapshot(&self) -> [u32; 2] {
        [*self.0[0].lock().unwrap(), *self.0[1].lock().unwrap()]
    }
}

/// A line whose tasks look whether something waits, and leave in a second step.
#[derive(Default)]
pub(crate) struct TwoLocks {
    items: Mutex<VecDeque<u32>>,
    tasks: Mutex<u32>,
}

impl Wait for TwoLocks {
    fn push(&self, item: u32) -> bool {
        self.items.lock().unwrap().push_back(item);
        let mut tasks = self.tasks.lock().unwrap();
        let starts = *tasks < 1;
        *tasks += u32::from(starts);
        starts
    }

    fn take(&self) -> Option<Vec<u32>> {
        let items: Vec<_> = self.items.lock().unwrap().drain(..).collect();
        if items.is_empty() {
            self.leave();
            return None;
        }
        Some(items)
    }

    fn leave(&self) {
        *self.tasks.lock().unwrap() -= 1;
    }
}
