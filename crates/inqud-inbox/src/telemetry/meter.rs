//! Counters, histograms and gauges of an inbox (feature `metrics`).

use std::time::Duration;

use jiff::Timestamp;
use metrics::Unit;

use crate::stats::{KindStats, Stats};

const RECEIVED: &str = "inqud_inbox_received_total";
const COMMIT: &str = "inqud_inbox_commit_duration_seconds";
const PROCESSED: &str = "inqud_inbox_processed_total";
const HANDLER: &str = "inqud_inbox_handler_duration_seconds";
const AGE: &str = "inqud_inbox_latency_seconds";
const OPEN: &str = "inqud_inbox_backlog";
const OLDEST: &str = "inqud_inbox_oldest_age_seconds";
const DEAD: &str = "inqud_inbox_dead_letters";
const REVIEW: &str = "inqud_inbox_review";
const SKIPPED: &str = "inqud_inbox_skipped";
const REJECTIONS: &str = "inqud_inbox_rejections_total";
const UNCLAIMED: &str = "inqud_inbox_unclaimed";
const LAST_RECEIVED: &str = "inqud_inbox_last_received_timestamp_seconds";
const OPEN_OBJECTS: &str = "inqud_inbox_open_objects";
const DELETED: &str = "inqud_inbox_deleted_total";
const RECONCILED: &str = "inqud_inbox_reconciled_total";

/// Describes each metric to the recorder that is installed at this time, if any.
pub(crate) fn describe() {
    metrics::describe_counter!(RECEIVED, Unit::Count, "Receiver calls by kind and outcome.");
    metrics::describe_histogram!(COMMIT, Unit::Seconds, "Time from a receiver call to its commit.");
    metrics::describe_counter!(PROCESSED, Unit::Count, "Claims by kind, outcome and verdict.");
    metrics::describe_histogram!(HANDLER, Unit::Seconds, "Duration of a handler call.");
    metrics::describe_histogram!(AGE, Unit::Seconds, "Time from stored to done.");
    metrics::describe_gauge!(
        OPEN,
        Unit::Count,
        "Notifications waiting or in flight by kind, as of the last stats call."
    );
    metrics::describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "Age of the oldest notification in the backlog by kind, as of the last stats call."
    );
    metrics::describe_counter!(
        REJECTIONS,
        Unit::Count,
        "Rejected calls by what became of them in the log of rejections."
    );
    metrics::describe_gauge!(
        UNCLAIMED,
        Unit::Count,
        "1 if a kind has a backlog and no runner, as of the last stats call."
    );
    metrics::describe_gauge!(
        LAST_RECEIVED,
        Unit::Seconds,
        "When this process last stored a notification or a duplicate of one, by kind."
    );
    metrics::describe_gauge!(
        OPEN_OBJECTS,
        Unit::Count,
        "Objects that wait for a notification by kind, as the program says."
    );
    metrics::describe_counter!(DELETED, Unit::Count, "What the retention has deleted.");
    metrics::describe_gauge!(DEAD, Unit::Count, "Dead letters by kind, as of the last stats call.");
    metrics::describe_gauge!(
        REVIEW,
        Unit::Count,
        "Notifications kept for review by kind, as of the last stats call."
    );
    metrics::describe_gauge!(
        SKIPPED,
        Unit::Count,
        "Skipped notifications by kind, as of the last stats call."
    );
    metrics::describe_counter!(
        RECONCILED,
        Unit::Count,
        "Looks of a reconciler by kind and outcome."
    );
}

pub(super) fn received(kind: &'static str, outcome: &'static str) {
    metrics::counter!(RECEIVED, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(super) fn committed(kind: &'static str, elapsed: Duration) {
    metrics::histogram!(COMMIT, "kind" => kind).record(elapsed);
    let now = Timestamp::now().as_duration().as_secs_f64();
    metrics::gauge!(LAST_RECEIVED, "kind" => kind).set(now);
}

pub(super) fn processed(kind: &'static str, outcome: &'static str, verdict: &'static str) {
    let labels = [("kind", kind), ("outcome", outcome), ("verdict", verdict)];
    metrics::counter!(PROCESSED, &labels).increment(1);
}

pub(super) fn looked(kind: &'static str, outcome: &'static str) {
    metrics::counter!(RECONCILED, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(super) fn handled(kind: &'static str, elapsed: Duration) {
    metrics::histogram!(HANDLER, "kind" => kind).record(elapsed);
}

pub(super) fn done(kind: &'static str, age: Duration) {
    metrics::histogram!(AGE, "kind" => kind).record(age);
}

pub(super) fn rejection(outcome: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!(REJECTIONS, "outcome" => outcome).increment(count);
}

pub(super) fn deleted(what: &'static str, count: usize) {
    metrics::counter!(DELETED, "what" => what).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Sets the gauges. `empty` has the kinds that earlier stats contained and these do not; without it their
/// gauges would keep their last values.
pub(super) fn record_stats(stats: &Stats, empty: Vec<KindStats>, unclaimed: &[String]) {
    for stats in stats.kinds.iter().chain(&empty) {
        let age = stats.oldest.map(|oldest| Timestamp::now().duration_since(oldest).as_secs_f64());
        let gauge = |name: &'static str| metrics::gauge!(name, "kind" => stats.kind.clone());
        gauge(OPEN).set(count(stats.backlog));
        gauge(OLDEST).set(age.unwrap_or_default().max(0.0));
        gauge(DEAD).set(count(stats.dead));
        gauge(REVIEW).set(count(stats.review));
        gauge(SKIPPED).set(count(stats.skipped));
        gauge(UNCLAIMED).set(f64::from(u8::from(unclaimed.contains(&stats.kind))));
    }
}

pub(super) fn open_objects(kind: &'static str, open: u64) {
    metrics::gauge!(OPEN_OBJECTS, "kind" => kind).set(count(open));
}

/// Via `u32`, because an `f64` cannot represent every `u64`.
fn count(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
