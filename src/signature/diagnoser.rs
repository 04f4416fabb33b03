//! Limits how often mismatches are diagnosed, and holds the keys to try.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha1::Sha1;
use tokio::time::Instant;

use super::mac::Key;
use super::{Diagnosis, guess};

/// The time between two diagnoses. Each costs up to 15 HMACs of the body for each secret.
const COOLDOWN: Duration = Duration::from_secs(10);

/// The state for diagnosing mismatches of one secret.
pub(super) struct Diagnoser {
    /// The keys that result from the usual mistakes with this secret, for HMAC-SHA1.
    pub(super) mistakes: Vec<(Diagnosis, Key<Sha1>)>,
    created_at: Instant,
    /// In milliseconds after `created_at`. During the cooldown, a flood of forged calls only reads
    /// it.
    cooldown_until: AtomicU64,
}

impl Diagnoser {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mistakes =
            guess::mistaken_keys(secret).into_iter().map(|(why, key)| (why, Key::new(&key)));
        let (created_at, cooldown_until) = (Instant::now(), AtomicU64::new(0));
        Self { mistakes: mistakes.collect(), created_at, cooldown_until }
    }

    pub(super) fn may_look(&self) -> bool {
        // `as_millis` divides a 128-bit number, which is measurable in a flood of forged calls.
        let millis = |time: Duration| {
            time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
        };
        let (now, until) =
            (millis(self.created_at.elapsed()), self.cooldown_until.load(Ordering::Relaxed));
        let next = now.saturating_add(millis(COOLDOWN));
        // If two calls get here at once, only one of them is diagnosed.
        let set = || {
            self.cooldown_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        now >= until && set().is_ok()
    }
}
