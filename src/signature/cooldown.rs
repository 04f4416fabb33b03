//! A cooldown that all threads share.

use crate::sync::{AtomicU64, Ordering};

/// Lets one call through, and no other one for a while.
///
/// Times are in milliseconds after a moment of the caller's choice.
pub(super) struct Cooldown {
    length: u64,
    /// During the cooldown, a flood of calls only reads it.
    until: AtomicU64,
}

impl Cooldown {
    pub(super) fn new(length: u64) -> Self {
        Self { length, until: AtomicU64::new(0) }
    }

    /// Whether the call at `now` gets through.
    pub(super) fn begin(&self, now: u64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        let next = now.saturating_add(self.length);
        // If two calls get here at once, only one of them gets through.
        let set = || self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        now >= until && set().is_ok()
    }
}
