use crate::store::Outcome;

/// What became of the notifications that [`Runner::run_until_idle`](crate::Runner::run_until_idle) processed.
///
/// It counts outcomes: a notification that succeeds at the third attempt counts twice as `retried` and once as
/// `done`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// Handled, and committed with their effects.
    pub done: u64,
    /// Skipped, because they are [stale](tower_inqud::Verdict::Stale).
    pub skipped: u64,
    /// Kept for [review](tower_inqud::Verdict::Review).
    pub review: u64,
    /// Undecodable when they were received, and stored as what they are now.
    pub requeued: u64,
    /// Failed, and to be retried.
    pub retried: u64,
    /// Failed at the last attempt, or still undecodable: dead letters.
    pub dead: u64,
    /// Not settled: their lease expired and another runner claimed them, or the store failed. Nothing was committed.
    pub lease_expired: u64,
}

impl RunReport {
    /// One notification with this outcome.
    pub(crate) fn of<E>(outcome: &Outcome<E>) -> Self {
        let mut report = Self::default();
        let count = match outcome {
            Outcome::Done(_) => &mut report.done,
            Outcome::Skipped => &mut report.skipped,
            Outcome::Review => &mut report.review,
            Outcome::Decoded(_) => &mut report.requeued,
            Outcome::Retry { .. } => &mut report.retried,
            Outcome::Dead { .. } => &mut report.dead,
        };
        *count = 1;
        report
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            done: self.done.saturating_add(other.done),
            skipped: self.skipped.saturating_add(other.skipped),
            review: self.review.saturating_add(other.review),
            requeued: self.requeued.saturating_add(other.requeued),
            retried: self.retried.saturating_add(other.retried),
            dead: self.dead.saturating_add(other.dead),
            lease_expired: self.lease_expired.saturating_add(other.lease_expired),
        }
    }
}
