//! The telemetry of one notification: from a receiver's call to the commit, and from a claim to its outcome.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::decided::Decided;
use super::{log, meter};
use crate::error::InboxError;
use crate::inserted::Inserted;
use crate::reconciled::Reconciled;
use crate::stats::{KindStats, Stats};
use crate::store::{Claimed, Outcome};

pub(crate) fn describe() {
    meter::describe();
}

/// A call of a receiver in progress. Records `disconnected` if it is dropped before it ends.
pub(crate) struct Receipt {
    kind: &'static str,
    began: Instant,
    is_undecodable: bool,
    has_ended: bool,
}

impl Receipt {
    pub(crate) fn begin(kind: &'static str) -> Self {
        Self { kind, began: Instant::now(), is_undecodable: false, has_ended: false }
    }

    pub(crate) fn undecodable(&mut self) {
        self.is_undecodable = true;
    }

    pub(crate) fn stored(mut self, inserted: Inserted) {
        meter::committed(self.kind, self.began.elapsed());
        self.end(match inserted {
            Inserted::New if self.is_undecodable => "undecodable",
            Inserted::New => "new",
            Inserted::Duplicate => "duplicate",
            Inserted::DuplicateDiffers => "duplicate_differs",
            Inserted::Review => {
                log::review_on_receipt(self.kind);
                "review"
            }
        });
    }

    pub(crate) fn refused(mut self, error: &InboxError) {
        log::refused(self.kind, error);
        self.end(error.kind().as_str());
    }

    /// The request carried no notification, because a layer is missing. Records nothing.
    pub(crate) fn without_notification(mut self) {
        self.has_ended = true;
    }

    fn end(&mut self, outcome: &'static str) {
        self.has_ended = true;
        meter::received(self.kind, outcome);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end("disconnected");
        }
    }
}

/// A claimed notification. Records `dropped` if it is dropped before it is settled.
pub(crate) struct Attempt {
    kind: &'static str,
    received_at: Timestamp,
    verdict: &'static str,
    span: log::Span,
    handling: Option<Instant>,
    decided: Decided,
    has_ended: bool,
}

impl Attempt {
    pub(crate) fn begin(kind: &'static str, claimed: &Claimed) -> Self {
        let verdict = claimed.ticket.verdict.as_str();
        Self {
            kind,
            received_at: claimed.received_at,
            verdict,
            span: log::Span::new(kind, claimed.key, claimed.attempt(), verdict),
            handling: None,
            decided: Decided::Nothing,
            has_ended: false,
        }
    }

    /// Wraps the future of a handler in the span.
    pub(crate) fn handling<F: Future>(
        &mut self,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.handling = Some(Instant::now());
        self.span.around(work)
    }

    pub(crate) fn handled(&mut self) {
        if let Some(began) = self.handling.take() {
            let elapsed = began.elapsed();
            self.span.handled(elapsed);
            meter::handled(self.kind, elapsed);
        }
    }

    pub(crate) fn decide<E>(&mut self, outcome: &Outcome<E>) {
        self.decided = match outcome {
            Outcome::Done(_) => Decided::Done,
            Outcome::Skipped => Decided::Skipped,
            Outcome::Review => Decided::Review,
            Outcome::Decoded(_) => Decided::Decoded,
            Outcome::Retry { after, error } => Decided::Retry(error.clone(), *after),
            Outcome::Dead { error } => Decided::Dead(error.clone()),
        };
    }

    /// Records that the store has committed what was decided.
    pub(crate) fn settled(mut self) {
        self.span.settled(&self.decided, self.verdict);
        let outcome = match self.decided {
            Decided::Nothing => return,
            Decided::Done => {
                let age = Timestamp::now().duration_since(self.received_at);
                meter::done(self.kind, Duration::try_from(age).unwrap_or_default());
                "done"
            }
            Decided::Skipped => "skipped",
            Decided::Review => "review",
            Decided::Decoded => "requeued",
            Decided::Retry(..) => "retry",
            Decided::Dead(_) => "dead",
        };
        self.end(outcome);
    }

    /// Records that a transaction of the handler's own has settled the notification as done, whatever was decided.
    pub(crate) fn completed(mut self) {
        let decided = std::mem::replace(&mut self.decided, Decided::Done);
        if let Decided::Retry(error, _) | Decided::Dead(error) = decided {
            self.span.failed_after_commit(&error);
        }
        self.settled();
    }

    /// Records that another runner has claimed the notification in the meantime.
    pub(crate) fn lease_expired(mut self) {
        self.span.lease_expired();
        self.end("lease_expired");
    }

    /// Records that the runner gave up to settle the notification, because the store fails and it shuts down.
    pub(crate) fn unsettled(mut self) {
        self.end("unsettled");
    }

    fn end(&mut self, outcome: &'static str) {
        self.has_ended = true;
        self.span.ended(outcome);
        meter::processed(self.kind, outcome, self.verdict);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end("dropped");
        }
    }
}

pub(crate) fn failed(error: &InboxError) {
    log::failed(error);
}

pub(crate) fn rejection(outcome: &'static str, count: usize) {
    meter::rejection(outcome, count);
}

pub(crate) fn deleted(what: &'static str, count: usize) {
    meter::deleted(what, count);
}

/// Records what a look at an object has found.
pub(crate) fn looked(kind: &'static str, reconciled: &Reconciled) {
    log::looked(kind, reconciled);
    meter::looked(kind, reconciled.outcome.as_str());
}

pub(crate) fn unclaimed(kind: &str) {
    log::unclaimed(kind);
}

pub(crate) fn record_stats(stats: &Stats, empty: Vec<KindStats>, unclaimed: &[String]) {
    meter::record_stats(stats, empty, unclaimed);
}

pub(crate) fn open_objects(kind: &'static str, count: u64) {
    meter::open_objects(kind, count);
}
