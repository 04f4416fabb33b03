//! The span of a call, and its events (feature `tracing`).

use std::time::Duration;

use http::StatusCode;
use tracing::field::Empty;

use super::End;
use crate::rejection::Rejection;

const TARGET: &str = "tower_inqud";

pub(super) struct Span(tracing::Span);

impl Span {
    pub(super) fn new() -> Self {
        Self(tracing::info_span!(
            target: TARGET,
            "inqud_webhook",
            outcome = Empty,
            reason = Empty,
            secret = Empty,
            body_bytes = Empty,
            elapsed_us = Empty,
        ))
    }

    pub(super) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.in_scope(work)
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.record("body_bytes", bytes);
    }

    pub(super) fn refused(&self, rejection: &Rejection) {
        tracing::warn!(
            target: TARGET,
            parent: &self.0,
            reason = rejection.kind().name(),
            field = rejection.field_path(),
            diagnosis = rejection.diagnosis().map(tracing::field::display),
            "refused a web hook: {rejection}",
        );
    }

    pub(super) fn acknowledged(&self, status: StatusCode) {
        let status = status.as_u16();
        tracing::debug!(target: TARGET, parent: &self.0, status, "a success became 200");
    }

    pub(super) fn discarded(&self, reason: &str) {
        tracing::info!(target: TARGET, parent: &self.0, reason, "discarded a web hook");
    }

    pub(super) fn failed(&self, status: StatusCode) {
        let status = status.as_u16();
        tracing::info!(target: TARGET, parent: &self.0, status, "not done; Inqud will send it again");
    }

    pub(super) fn late(&self, elapsed: Duration) {
        tracing::warn!(
            target: TARGET,
            parent: &self.0,
            ?elapsed,
            "answered too late: Inqud has given up; expect a duplicate",
        );
    }

    pub(super) fn dropped(&self, is_verified: bool) {
        if is_verified {
            tracing::warn!(
                target: TARGET,
                parent: &self.0,
                "the handler was dropped before it answered; expect a duplicate",
            );
        } else {
            tracing::debug!(target: TARGET, parent: &self.0, "the sender left");
        }
    }

    pub(super) fn ended(&self, end: &End<'_>) {
        self.0.record("outcome", end.outcome);
        if !end.reason.is_empty() {
            self.0.record("reason", &*end.reason);
        }
        if let Some(secret) = end.secret {
            self.0.record("secret", &**secret);
        }
        let elapsed = u64::try_from(end.elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0.record("elapsed_us", elapsed);
    }
}
