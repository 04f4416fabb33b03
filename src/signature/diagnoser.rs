//! Limits how often mismatches are diagnosed, and holds the keys to try.

use std::time::Duration;

use sha1::Sha1;
use tokio::time::Instant;

use super::cooldown::Cooldown;
use super::mac::Key;
use super::{Diagnosis, guess};

/// The time between two diagnoses. Each costs up to 15 HMACs of the body for each secret.
const COOLDOWN: Duration = Duration::from_secs(10);

/// The state for diagnosing mismatches of one secret.
pub(super) struct Diagnoser {
    /// The keys that result from the usual mistakes with this secret, for HMAC-SHA1.
    pub(super) mistakes: Vec<(Diagnosis, Key<Sha1>)>,
    created_at: Instant,
    /// In milliseconds after `created_at`.
    cooldown: Cooldown,
}

impl Diagnoser {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mistakes =
            guess::mistaken_keys(secret).into_iter().map(|(why, key)| (why, Key::new(&key)));
        let (created_at, cooldown) = (Instant::now(), Cooldown::new(millis(COOLDOWN)));
        Self { mistakes: mistakes.collect(), created_at, cooldown }
    }

    pub(super) fn may_look(&self) -> bool {
        self.cooldown.begin(millis(self.created_at.elapsed()))
    }
}

/// `as_millis` divides a 128-bit number, which is measurable in a flood of forged calls.
fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
}
