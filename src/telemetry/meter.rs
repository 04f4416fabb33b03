//! Counters and histograms (feature `metrics`).

use std::sync::Arc;

use metrics::{SharedString, Unit};

use super::end::End;

const TOTAL: &str = "inqud_webhook_requests_total";
const DURATION: &str = "inqud_webhook_duration_seconds";
const BODY: &str = "inqud_webhook_body_bytes";

/// Describes each metric to the recorder, if one is installed.
pub(crate) fn describe() {
    metrics::describe_counter!(
        TOTAL,
        Unit::Count,
        "Webhook calls by outcome, reason and label of the secret."
    );
    metrics::describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time from the request head to the response."
    );
    metrics::describe_histogram!(BODY, Unit::Bytes, "Sizes of bodies that arrived completely.");
}

pub(super) fn received(bytes: usize) {
    // An `f64` holds any `u32` exactly, and bodies are smaller than that.
    metrics::histogram!(BODY).record(u32::try_from(bytes).unwrap_or(u32::MAX));
}

pub(super) fn ended(end: &End, secret: Option<&Arc<str>>) {
    let secret = secret.map_or(SharedString::const_str(""), |it| it.clone().into());
    let reason = SharedString::from(end.reason.clone());
    metrics::counter!(TOTAL, "outcome" => end.outcome, "reason" => reason, "secret_label" => secret)
        .increment(1);
    metrics::histogram!(DURATION, "outcome" => end.outcome).record(end.elapsed);
}
