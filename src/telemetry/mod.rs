//! Telemetry of a call: a span and events (feature `tracing`), counters and histograms (feature
//! `metrics`). Without both features, [`Call`] is empty and does nothing.

#[cfg(any(feature = "metrics", feature = "tracing"))]
mod call;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod end;
#[cfg(feature = "tracing")]
mod log;
#[cfg(feature = "metrics")]
mod meter;
#[cfg(not(all(feature = "metrics", feature = "tracing")))]
mod noop;

#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) use self::call::Call;
#[cfg(feature = "metrics")]
pub(crate) use self::meter::describe;
#[cfg(all(feature = "metrics", not(feature = "tracing")))]
use self::noop as log;
#[cfg(all(feature = "tracing", not(feature = "metrics")))]
use self::noop as meter;
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::noop::Call;
#[cfg(not(feature = "metrics"))]
pub(crate) use self::noop::describe;
