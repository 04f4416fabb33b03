use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::random::Random;

const HOUR: Duration = Duration::from_secs(60 * 60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that the API did not ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How many requests may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The size of the bucket.
    pub(crate) burst: u32,
    /// The time after which the bucket gets another token.
    pub(crate) interval: Duration,
    pub(crate) per_hour: usize,
    /// The longest wait for a token.
    pub(crate) max_wait: Duration,
    /// The longest pause.
    pub(crate) max_pause: Duration,
}

/// Decides when a request may be sent: a token bucket, a cap per hour, and pauses after failures.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: Limits,
    state: Mutex<State>,
    random: Random,
}

#[derive(Debug, Default)]
struct State {
    /// When the bucket will be full again.
    full_at: Option<Instant>,
    /// The requests of the last hour, oldest first, and those that wait for a token.
    sent: VecDeque<Instant>,
    paused_until: Option<Instant>,
    failures: u32,
    failed_at: Option<Instant>,
}

/// Why a request may not be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Held {
    Paused,
    HourlyCap,
    Rate,
}

impl Pace {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), random: Random::default() }
    }

    /// Waits for a token. Returns when the request starts, or why it must not, and for how long.
    pub(crate) async fn admit(&self) -> Result<Instant, (Held, Duration)> {
        let slot = self.reserve(Instant::now())?;
        sleep_until(slot).await;
        let now = Instant::now();
        // Requests that waited may not make a failing API worse.
        self.state().paused(now).map_or(Ok(now), |left| Err((Held::Paused, left)))
    }

    fn reserve(&self, now: Instant) -> Result<Instant, (Held, Duration)> {
        let limits = self.limits;
        let mut state = self.state();
        if let Some(left) = state.paused(now) {
            return Err((Held::Paused, left));
        }
        while state.sent.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            state.sent.pop_front();
        }
        if state.sent.len() >= limits.per_hour {
            let oldest = state.sent.front().copied().unwrap_or(now);
            return Err((Held::HourlyCap, later(oldest, HOUR).saturating_duration_since(now)));
        }
        let full_at = state.full_at.map_or(now, |at| at.max(now));
        let saved = limits.interval.saturating_mul(limits.burst.saturating_sub(1));
        let slot = full_at.checked_sub(saved).unwrap_or(now).max(now);
        let wait = slot.saturating_duration_since(now);
        if wait > limits.max_wait {
            return Err((Held::Rate, wait));
        }
        state.full_at = Some(later(full_at, limits.interval));
        state.sent.push_back(slot);
        Ok(slot)
    }

    /// Records that a request that started then reached a working API.
    pub(crate) fn succeeded(&self, started: Instant) {
        let mut state = self.state();
        // An answer that was on its way when the API failed says nothing about it now.
        if state.failed_at.is_none_or(|at| started > at) {
            state.failures = 0;
        }
    }

    /// Records that the API failed, and pauses all requests. Returns for how long.
    pub(crate) fn failed(&self, started: Instant, retry_after: Option<Duration>) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        // Requests that were sent together and failed together are one failure.
        if state.failed_at.is_none_or(|at| started > at) {
            state.failures = state.failures.saturating_add(1);
            state.failed_at = Some(now);
        }
        let doublings = state.failures.saturating_sub(1).min(16);
        let longest = LONGEST_PAUSE.min(self.limits.max_pause);
        let pause = FIRST_PAUSE.saturating_mul(1_u32 << doublings).min(longest);
        let asked = retry_after.unwrap_or_default().min(self.limits.max_pause);
        let until = later(now, self.jittered(pause).max(asked));
        let until = state.paused_until.map_or(until, |at| at.max(until));
        state.paused_until = Some(until);
        until.saturating_duration_since(now)
    }

    /// Between half of the pause and all of it, so that several processes do not return together.
    fn jittered(&self, pause: Duration) -> Duration {
        let half = pause.checked_div(2).unwrap_or_default();
        let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half.saturating_add(Duration::from_millis(self.random.up_to(millis)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time left of a pause.
    fn paused(&self, now: Instant) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Adds at most a day, so that the sum exists.
fn later(instant: Instant, by: Duration) -> Instant {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    instant.checked_add(by.min(DAY)).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Limits, Pace};

    const SECOND: Duration = Duration::from_secs(1);

    /// The clocks of some systems are coarse: a request can start in the instant in which another fails.
    #[tokio::test(start_paused = true)]
    async fn request_that_started_in_the_instant_of_a_failure_does_not_end_the_backoff() {
        let hour = 3600 * SECOND;
        let pace = Pace::new(Limits {
            burst: 1,
            interval: SECOND,
            per_hour: 1000,
            max_wait: SECOND,
            max_pause: hour,
        });
        for _ in 0..5 {
            advance(hour).await;
            pace.failed(Instant::now(), None);
        }
        pace.succeeded(Instant::now());
        advance(hour).await;
        assert!(pace.failed(Instant::now(), None) >= 16 * SECOND);
        advance(hour).await;
        pace.succeeded(Instant::now());
        advance(hour).await;
        assert!(pace.failed(Instant::now(), None) <= SECOND);
    }
}
