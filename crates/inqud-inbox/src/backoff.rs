use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::time::Duration;

/// Exponential backoff with jitter.
///
/// Each wait is twice the one before, up to a cap. The actual wait is between half of that and all of it, so that
/// notifications that failed together are not all retried together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) cap: Duration,
}

impl Backoff {
    /// Returns the wait after the given attempt. Attempts count from 1. `jitter` is from 0 to 1.
    pub(super) fn after(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let half = self.first.saturating_mul(doubled).min(self.cap).div_f64(2.0);
        half.saturating_add(half.mul_f64(jitter))
    }
}

/// Returns a number from 0 to 1 that is always the same for the same value. It spreads what failed together as well as a
/// random number does, and a simulation can repeat it.
pub(super) fn spread(of: impl Hash) -> f64 {
    fraction(BuildHasherDefault::<DefaultHasher>::default().hash_one(of))
}

fn fraction(hash: u64) -> f64 {
    u32::try_from(hash >> 32).map_or(0.0, f64::from) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_with_jitter() {
        let backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(30) };
        for (attempt, most) in [(1, 2), (2, 4), (4, 16), (5, 30), (u32::MAX, 30)] {
            let waits: Vec<_> = (0..50).map(|it| backoff.after(attempt, spread(it))).collect();
            let most = Duration::from_secs(most);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "no two differ");
        }
    }
}
