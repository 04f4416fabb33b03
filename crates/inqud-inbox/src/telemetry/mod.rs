//! Telemetry: a span and events (feature `tracing`), and counters, histograms and gauges (feature
//! `metrics`). Without both features nothing is recorded.

#[cfg(any(feature = "metrics", feature = "tracing"))]
mod call;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod decided;
#[cfg(feature = "tracing")]
mod log;
#[cfg(feature = "metrics")]
mod meter;
#[cfg(not(all(feature = "metrics", feature = "tracing")))]
mod noop;

#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) use self::call::{
    Attempt, Receipt, deleted, describe, failed, looked, open_objects, record_stats, rejection,
    unclaimed,
};
#[cfg(all(feature = "metrics", not(feature = "tracing")))]
use self::noop as log;
#[cfg(all(feature = "tracing", not(feature = "metrics")))]
use self::noop as meter;
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::noop::{
    Attempt, Receipt, deleted, describe, failed, looked, open_objects, record_stats, rejection,
    unclaimed,
};
