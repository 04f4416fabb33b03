use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::{Backoff, spread};
use crate::watch::{Look, Next};

/// When a [`Reconciler`](crate::Reconciler) looks at an object.
#[derive(Clone)]
pub(crate) struct Schedule {
    offsets: Arc<[Duration]>,
    confirm: Duration,
    jitter: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How long after it was added an object may be missing in the API.
const MISSING: Duration = HOUR;

/// How long to wait if the API could not answer, unless it says so.
const FAILED: Backoff = Backoff { first: MINUTE, cap: HOUR };

/// The least and the most that the API can make a look wait.
const AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(6 * 3600)];

/// The latest time of a look, counted from its claim. An object can expire as late as it likes.
const HORIZON: Duration = Duration::from_secs(400 * 24 * 3600);

impl Default for Schedule {
    fn default() -> Self {
        let offsets =
            [MINUTE.saturating_mul(15), HOUR, HOUR.saturating_mul(6), HOUR.saturating_mul(24)];
        let last = HOUR.saturating_mul(72);
        Self {
            offsets: offsets.into_iter().chain([last]).collect(),
            confirm: HOUR.saturating_mul(24),
            jitter: MINUTE.saturating_mul(5),
        }
    }
}

impl Schedule {
    /// Sets when to look, counted from the last webhook or from when the object expires.
    pub(crate) fn offsets(&mut self, offsets: impl IntoIterator<Item = Duration>) {
        let mut offsets: Vec<_> = offsets.into_iter().collect();
        offsets.sort_unstable();
        offsets.dedup();
        if offsets.is_empty() {
            offsets.push(Duration::ZERO);
        }
        self.offsets = offsets.into();
    }

    pub(crate) fn confirm(&mut self, after: Duration) {
        self.confirm = after;
    }

    /// For how long an object is looked at.
    pub(crate) fn length(&self) -> Duration {
        self.offsets.last().copied().unwrap_or_default().max(self.confirm)
    }

    /// How old a notification can be that a new reconciler still reads.
    pub(crate) fn horizon(&self) -> Duration {
        self.length().saturating_add(HOUR)
    }

    /// When to look at an object of which a notification has arrived, and what that counts from. `of` is the object and
    /// the notification.
    pub(crate) fn arrived(
        &self,
        of: impl Hash,
        received_at: i64,
        is_open: bool,
        quiet_until: Option<i64>,
    ) -> [i64; 2] {
        let offset = if is_open { self.first() } else { self.confirm };
        let since = received_at.max(quiet_until.filter(|_| is_open).unwrap_or(i64::MIN));
        let since = since.min(received_at.saturating_add(micros(HORIZON)));
        [since, since.saturating_add(micros(self.jittered(offset, of)))]
    }

    /// Schedules the first look at an object that was only expected.
    pub(crate) fn expected(&self, look: &Look) -> Next {
        let since = look.since.min(look.now.saturating_add(micros(HORIZON)));
        let look_at = since.saturating_add(micros(self.jittered(self.first(), this(look))));
        Next::At { look_at, looks: 0, failures: 0, stored: None }
    }

    /// What comes after a look that the API has answered. `is_settled` says that the state was known before and is
    /// final, and `is_open` that it is expected to change.
    pub(crate) fn answered(&self, look: &Look, is_settled: bool, is_open: bool) -> Next {
        let looks = look.looks.unwrap_or_default().saturating_add(1);
        let has_room = usize::try_from(looks).is_ok_and(|looks| looks < self.offsets.len());
        if is_settled || !has_room {
            return Next::Done;
        }
        let look_at = if is_open {
            let at = |offset: &Duration| look.since.saturating_add(micros(*offset));
            // Those that are past are left out, because one look finds all.
            let Some(offset) = self.offsets.iter().find(|offset| at(offset) > look.now) else {
                return Next::Done;
            };
            look.since.saturating_add(micros(self.jittered(*offset, this(look))))
        } else {
            look.now.saturating_add(micros(self.jittered(self.confirm, this(look))))
        };
        Next::At { look_at, looks, failures: 0, stored: None }
    }

    /// What comes after a look that the API could not answer.
    pub(crate) fn failed(&self, look: &Look, after: Option<Duration>) -> Next {
        let failures = look.failures.saturating_add(1);
        let [least, most] = AFTER;
        let wait = after
            .map_or_else(|| FAILED.after(failures, spread(this(look))), |it| it.clamp(least, most));
        let given_up = look.since.saturating_add(micros(self.length().saturating_mul(2)));
        if look.now > given_up.saturating_add(micros(HOUR)) {
            return Next::Done;
        }
        let look_at = look.now.saturating_add(micros(wait));
        Next::At { look_at, looks: look.looks.unwrap_or_default(), failures, stored: None }
    }

    /// Whether it is too early to say that the API does not know an object.
    pub(crate) fn may_be_missing(look: &Look) -> bool {
        look.now.saturating_sub(look.added_at) < micros(MISSING)
    }

    fn first(&self) -> Duration {
        self.offsets.first().copied().unwrap_or_default()
    }

    /// Adds up to a tenth, so that objects that arrived together are not all looked at together.
    fn jittered(&self, offset: Duration, of: impl Hash) -> Duration {
        let most = offset.div_f64(10.0).min(self.jitter);
        offset.saturating_add(most.mul_f64(spread(of)))
    }
}

/// What the jitter of a look depends on.
fn this(look: &Look) -> impl Hash {
    (&*look.object, look.claim)
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("offsets", &self.offsets)
            .field("confirm", &self.confirm)
            .finish_non_exhaustive()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: i64 = 3_600_000_000;

    fn look(now: i64, looks: u32) -> Look {
        let mut look = Look::new(("request", Arc::from("CAPD-1")), 1, now);
        (look.since, look.added_at, look.looks) = (0, 0, Some(looks));
        look
    }

    /// When the next look is, at the earliest and the latest.
    fn window(next: &Next, from: i64, to: i64) -> bool {
        matches!(next, Next::At { look_at, .. } if (from..=to).contains(look_at))
    }

    #[test]
    fn quiet_object_costs_five_looks() {
        let schedule = Schedule::default();
        let [since, mut at] = schedule.arrived(1, 0, true, None);
        assert_eq!(since, 0);
        let mut looked_at = Vec::new();
        let mut looks = 0;
        loop {
            looked_at.push(at / HOURS);
            let next = schedule.answered(&look(at, looks), false, true);
            let Next::At { look_at, looks: so_far, .. } = next else { break };
            (at, looks) = (look_at, so_far);
        }
        assert_eq!(looked_at, [0, 1, 6, 24, 72]);
    }

    #[test]
    fn waits_until_the_object_expires() {
        let schedule = Schedule::default();
        let [since, look_at] = schedule.arrived(1, 0, true, Some(10 * HOURS));
        assert_eq!((since, look_at / HOURS), (10 * HOURS, 10));
        assert_eq!(schedule.arrived(1, 0, true, Some(-HOURS))[0], 0, "it has expired");
        assert_eq!(schedule.arrived(1, 0, false, Some(10 * HOURS))[0], 0, "it is final");
        let [since, look_at] = schedule.arrived(1, 0, true, Some(i64::MAX));
        let limit = 400 * 24 * HOURS;
        assert_eq!(since, limit, "the year 9999 is too late");
        assert!((limit..limit + HOURS).contains(&look_at), "{look_at}");
    }

    #[test]
    fn confirms_a_final_status_once() {
        let schedule = Schedule::default();
        let [_, look_at] = schedule.arrived(1, 0, false, None);
        assert_eq!(look_at / HOURS, 24);
        assert_eq!(schedule.answered(&look(look_at, 0), true, false), Next::Done);
        // It was recovered, so that nothing has confirmed it yet.
        let next = schedule.answered(&look(HOURS, 1), false, false);
        assert!(window(&next, 25 * HOURS, 26 * HOURS), "{next:?}");
        assert_eq!(schedule.answered(&look(72 * HOURS, 4), false, false), Next::Done);
    }

    #[test]
    fn leaves_out_looks_that_are_past() {
        let next = Schedule::default().answered(&look(30 * HOURS, 0), false, true);
        assert!(window(&next, 72 * HOURS, 73 * HOURS), "{next:?}");
        assert_eq!(Schedule::default().answered(&look(99 * HOURS, 0), false, true), Next::Done);
    }

    #[test]
    fn bounds_what_the_api_asks_for() {
        let schedule = Schedule::default();
        let after = |after| schedule.failed(&look(0, 0), after);
        assert!(window(&after(None), HOURS / 120, HOURS / 60));
        assert!(window(&after(Some(Duration::MAX)), 6 * HOURS, 6 * HOURS));
        assert!(window(&after(Some(Duration::ZERO)), 1_000_000, 1_000_000));
        assert_eq!(schedule.failed(&look(200 * HOURS, 0), None), Next::Done);
    }

    #[test]
    fn objects_are_not_all_looked_at_together() {
        let schedule = Schedule::default();
        let first = |nth| schedule.arrived(nth, 0, true, None)[1];
        let all: Vec<_> = (0..50).map(first).collect();
        assert!(all.iter().all(|it| (HOURS / 4..HOURS).contains(it)), "{all:?}");
        assert!(all.iter().any(|it| it != &all[0]));
    }
}
