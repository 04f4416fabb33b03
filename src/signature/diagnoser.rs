//! When a mismatch is looked at, and with which keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha1::Sha1;
use tokio::time::Instant;

use super::mac::Key;
use super::{Diagnosis, guess};

/// Time between two looks. A look costs up to 15 HMACs of the body for each secret.
const COOLDOWN: Duration = Duration::from_secs(10);

/// What one secret is looked at with.
pub(super) struct Diagnoser {
    /// Keys that are easily taken for the secret, under HMAC-SHA1.
    pub(super) mistakes: Vec<(Diagnosis, Key<Sha1>)>,
    created_at: Instant,
    /// In milliseconds after `created_at`. A flood of forged calls only reads it.
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
        // `as_millis` divides 128 bits, which a flood would notice.
        let millis = |time: Duration| {
            time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
        };
        let (now, until) =
            (millis(self.created_at.elapsed()), self.cooldown_until.load(Ordering::Relaxed));
        let next = now.saturating_add(millis(COOLDOWN));
        // If two come at once, one of them looks.
        let set = || {
            self.cooldown_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        now >= until && set().is_ok()
    }
}
