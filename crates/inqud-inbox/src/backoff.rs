use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long an object waits after a failure: twice as long each time, up to a cap, and at random
/// between half of that and all of it, so that what failed together is not tried together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) cap: Duration,
}

impl Backoff {
    /// The wait after an attempt, counted from 1.
    pub(super) fn after(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let half = self.first.saturating_mul(doubled).min(self.cap).div_f64(2.0);
        half.saturating_add(half.mul_f64(random()))
    }
}

/// From 0 up to 1. The standard library's hashers have random keys, which is random enough for this.
fn random() -> f64 {
    let random = RandomState::new().hash_one(()) >> 32;
    u32::try_from(random).map_or(0.0, f64::from) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_cap_and_is_spread() {
        let backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(30) };
        for (attempt, most) in [(1, 2), (2, 4), (4, 16), (5, 30), (u32::MAX, 30)] {
            let waits: Vec<_> = (0..50).map(|_| backoff.after(attempt)).collect();
            let most = Duration::from_secs(most);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "no two differ");
        }
    }
}
