//! Counters and histograms (feature `metrics`).

use std::sync::Arc;

use metrics::{SharedString, Unit};

use super::end::End;

const TOTAL: &str = "inqud_webhook_requests_total";
const DURATION: &str = "inqud_webhook_duration_seconds";
const BODY: &str = "inqud_webhook_body_bytes";

/// Tells the recorder, if there is one by now, what each metric is.
pub(crate) fn describe() {
    metrics::describe_counter!(
        TOTAL,
        Unit::Count,
        "Webhooks by outcome, reason and label of the secret."
    );
    metrics::describe_histogram!(DURATION, Unit::Seconds, "From the head of a call to its answer.");
    metrics::describe_histogram!(BODY, Unit::Bytes, "Bodies that were received in whole.");
}

pub(super) fn received(bytes: usize) {
    // Bodies are far smaller than what an `f64` counts exactly.
    metrics::histogram!(BODY).record(u32::try_from(bytes).unwrap_or(u32::MAX));
}

pub(super) fn ended(end: &End, secret: Option<&Arc<str>>) {
    let secret = secret.map_or(SharedString::const_str(""), |it| it.clone().into());
    let reason = SharedString::from(end.reason.clone());
    metrics::counter!(TOTAL, "outcome" => end.outcome, "reason" => reason, "secret_label" => secret)
        .increment(1);
    metrics::histogram!(DURATION, "outcome" => end.outcome).record(end.elapsed);
}
