//! The span of a claimed notification and the events of an inbox (feature `tracing`).

use std::error::Error;
use std::time::Duration;

use tracing::Instrument;
use tracing::field::{Empty, debug, display};

use super::decided::Decided;
use crate::error::InboxError;
use crate::key::Key;
use crate::reconciled::{LookOutcome, Reconciled};

const TARGET: &str = "inqud_inbox";

pub(super) struct Span(tracing::Span);

impl Span {
    pub(super) fn new(kind: &'static str, key: Key, attempt: u32, verdict: &'static str) -> Self {
        Self(tracing::info_span!(
            target: TARGET,
            "inqud_inbox",
            kind,
            key = display(key),
            attempt,
            verdict,
            outcome = Empty,
            elapsed_us = Empty,
        ))
    }

    pub(super) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(self.0.clone())
    }

    pub(super) fn handled(&self, elapsed: Duration) {
        let elapsed = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0.record("elapsed_us", elapsed);
    }

    pub(super) fn settled(&self, decided: &Decided, verdict: &str) {
        self.0.in_scope(|| match decided {
            Decided::Done if verdict == "amended" || verdict == "unordered" => {
                tracing::info!(target: TARGET, "processed; the verdict is amended or unordered");
            }
            Decided::Nothing | Decided::Done => {}
            Decided::Skipped => {
                tracing::info!(target: TARGET, "skipped: stale, a newer notification was processed");
            }
            Decided::Review => {
                tracing::warn!(target: TARGET, "kept for review: {}", crate::store::REVIEW_WITHOUT_TIME);
            }
            Decided::Decoded => {
                tracing::info!(target: TARGET, "undecodable body can be decoded now; requeued");
            }
            Decided::Retry(error, after) => {
                let retry_in = debug(after);
                tracing::warn!(target: TARGET, error, retry_in, "attempt failed; will retry");
            }
            Decided::Dead(error) => {
                tracing::error!(target: TARGET, error, "gave up; the notification is a dead letter");
            }
        });
    }

    pub(super) fn failed_after_commit(&self, error: &str) {
        let message =
            "attempt failed after its transaction had completed the notification; it is done";
        self.0.in_scope(|| tracing::warn!(target: TARGET, error, "{message}"));
    }

    pub(super) fn lease_expired(&self) {
        let message =
            "lease expired and another runner claimed the notification; nothing was committed";
        self.0.in_scope(|| tracing::warn!(target: TARGET, "{message}"));
    }

    pub(super) fn ended(&self, outcome: &'static str) {
        self.0.record("outcome", outcome);
    }
}

pub(super) fn review_on_receipt(kind: &'static str) {
    tracing::warn!(target: TARGET, kind, "kept for review: {}", crate::store::REVIEW_REPEATED);
}

pub(super) fn unclaimed(kind: &str) {
    tracing::warn!(target: TARGET, kind, "no runner processes this kind, and notifications are waiting");
}

pub(super) fn refused(kind: &'static str, error: &InboxError) {
    let reason = error.kind().as_str();
    let source = error.source().map(display);
    let message = "not stored; Inqud will send it again";
    tracing::warn!(target: TARGET, kind, reason, source, "{message}: {error}");
}

pub(super) fn failed(error: &InboxError) {
    let reason = error.kind().as_str();
    let source = error.source().map(display);
    tracing::warn!(target: TARGET, reason, source, "store failed; the runner continues: {error}");
}

pub(super) fn looked(kind: &'static str, reconciled: &Reconciled) {
    let Reconciled { tenant, id, outcome, status, reason, .. } = reconciled;
    let (object, tenant, status) = (&**id, tenant.as_deref(), status.as_deref());
    let (outcome, reason) = (outcome.as_str(), reason.as_deref());
    match reconciled.outcome {
        LookOutcome::Recovered => {
            tracing::warn!(target: TARGET, kind, object, tenant, outcome, status, "recovered: no webhook brought this state of the object");
        }
        LookOutcome::Missing => {
            tracing::warn!(target: TARGET, kind, object, tenant, outcome, "the API does not know the object");
        }
        LookOutcome::Later => {
            tracing::info!(target: TARGET, kind, object, tenant, outcome, reason, "will look at the object later");
        }
        LookOutcome::Agreed | LookOutcome::Ahead => {
            tracing::debug!(target: TARGET, kind, object, tenant, outcome, status, "looked at the object");
        }
    }
}
