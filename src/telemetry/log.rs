//! The span of a call, and its events (feature `tracing`).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tracing::field::{Empty, debug};

use super::end::End;
use crate::rejection::Rejection;

const TARGET: &str = "tower_inqud";

/// Events are recorded inside the span and not with an explicit parent. If the span is filtered
/// out, they still belong to the span around the layer.
pub(super) struct Span(tracing::Span);

impl Span {
    pub(super) fn new() -> Self {
        Self(tracing::info_span!(
            target: TARGET,
            "inqud_webhook",
            outcome = Empty,
            reason = Empty,
            secret_label = Empty,
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

    pub(super) fn verified(&self, secret: Option<&Arc<str>>) {
        if let Some(secret) = secret {
            self.0.record("secret_label", &**secret);
        }
    }

    pub(super) fn refused(&self, rejection: &Rejection) {
        let reason = rejection.kind().as_str();
        let field = rejection.field_path();
        self.within(|| match rejection.diagnosis() {
            None => {
                tracing::warn!(target: TARGET, reason, field, "rejected a webhook: {rejection}")
            }
            Some(diagnosis) => tracing::warn!(
                target: TARGET,
                reason,
                diagnosis = diagnosis.as_str(),
                "rejected a webhook: {rejection}; {diagnosis}",
            ),
        });
    }

    pub(super) fn undecodable(&self, rejection: &Rejection) {
        let (reason, field) = (rejection.kind().as_str(), rejection.field_path());
        let message = "forwarded a webhook that could not be decoded";
        self.within(|| tracing::warn!(target: TARGET, reason, field, "{message}: {rejection}"));
    }

    pub(super) fn acknowledged(&self, status: StatusCode) {
        let status = status.as_u16();
        self.within(|| tracing::debug!(target: TARGET, status, "changed a 2xx to 200"));
    }

    pub(super) fn discarded(&self, reason: &str) {
        self.within(|| tracing::info!(target: TARGET, reason, "discarded a webhook"));
    }

    pub(super) fn failed(&self, status: StatusCode) {
        let status = status.as_u16();
        self.within(|| {
            tracing::warn!(target: TARGET, status, "not acknowledged; Inqud will send it again");
        });
    }

    pub(super) fn late(&self, elapsed: Duration) {
        let elapsed = debug(elapsed);
        self.within(|| {
            tracing::warn!(
                target: TARGET,
                elapsed,
                "answered too late: Inqud has given up; expect a duplicate",
            );
        });
    }

    pub(super) fn dropped(&self) {
        let message = "the handler was dropped before it answered; expect a duplicate";
        self.within(|| tracing::warn!(target: TARGET, "{message}"));
    }

    pub(super) fn disconnected(&self) {
        self.within(|| tracing::debug!(target: TARGET, "the sender disconnected"));
    }

    pub(super) fn inner_error(&self) {
        self.within(|| tracing::warn!(target: TARGET, "the inner service failed"));
    }

    pub(super) fn panicked(&self) {
        self.within(|| tracing::error!(target: TARGET, "a call panicked"));
    }

    pub(super) fn ended(&self, end: &End) {
        self.0.record("outcome", end.outcome);
        if !end.reason.is_empty() {
            self.0.record("reason", &*end.reason);
        }
        let elapsed = u64::try_from(end.elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0.record("elapsed_us", elapsed);
    }
}
