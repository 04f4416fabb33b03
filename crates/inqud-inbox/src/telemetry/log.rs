//! The span of a notification, and the events of an inbox (feature `tracing`).

use std::error::Error;
use std::time::Duration;

use tracing::Instrument;
use tracing::field::{Empty, debug, display};

use super::decided::Decided;
use crate::error::InboxError;
use crate::key::Key;

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
                tracing::info!(target: TARGET, "processed; its order is not known or its content differs");
            }
            Decided::Nothing | Decided::Done => {}
            Decided::Skipped => {
                tracing::info!(target: TARGET, "skipped: stale, older than what was processed");
            }
            Decided::Review => {
                tracing::warn!(target: TARGET, "kept for review: {}", crate::store::REVIEW_WITHOUT_TIME);
            }
            Decided::Decoded => {
                tracing::info!(target: TARGET, "can be decoded by now; stored as what it is");
            }
            Decided::Retry(error, after) => {
                let retry_in = debug(after);
                tracing::warn!(target: TARGET, error, retry_in, "failed; to be retried");
            }
            Decided::Dead(error) => {
                tracing::error!(target: TARGET, error, "given up: a dead letter");
            }
        });
    }

    pub(super) fn lease_expired(&self) {
        let message = "the lease has passed, and another claimed it; nothing of it was kept";
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
    tracing::warn!(target: TARGET, kind, "has open notifications, and no runner processes this kind");
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
    tracing::warn!(target: TARGET, reason, source, "a runner goes on after a failure: {error}");
}
