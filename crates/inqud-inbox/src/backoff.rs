use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential backoff with jitter.
///
/// Each wait is twice the one before, up to a cap. The actual wait is a random value between half of
/// that and all of it, so that notifications that failed together are not all retried together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) cap: Duration,
}

impl Backoff {
    /// Returns the wait after the given attempt. Attempts count from 1.
    pub(super) fn after(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let half = self.first.saturating_mul(doubled).min(self.cap).div_f64(2.0);
        half.saturating_add(half.mul_f64(random()))
    }
}

/// Returns a random number from 0 to 1. The randomly keyed hashers of the standard library are good
/// enough for jitter.
pub(super) fn random() -> f64 {
    let random = RandomState::new().hash_one(()) >> 32;
    u32::try_from(random).map_or(0.0, f64::from) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_with_jitter() {
        let backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(30) };
        for (attempt, most) in [(1, 2), (2, 4), (4, 16), (5, 30), (u32::MAX, 30)] {
            let waits: Vec<_> = (0..50).map(|_| backoff.after(attempt)).collect();
            let most = Duration::from_secs(most);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "no two differ");
        }
    }
}
