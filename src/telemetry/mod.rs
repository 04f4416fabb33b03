//! What a call, and a notification in an inbox, leaves for whoever runs the server: a span and events
//! (feature `tracing`), counters and histograms (feature `metrics`). Without both features a [`Call`] is
//! nothing at all.

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
#[path = "no_call.rs"]
mod call;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod call;
#[cfg(all(feature = "inbox", not(any(feature = "metrics", feature = "tracing"))))]
#[path = "no_inbox.rs"]
pub(crate) mod inbox;
#[cfg(all(feature = "inbox", any(feature = "metrics", feature = "tracing")))]
pub(crate) mod inbox;
#[cfg(feature = "tracing")]
mod log;
#[cfg(all(feature = "metrics", not(feature = "tracing")))]
#[path = "no_log.rs"]
mod log;
#[cfg(feature = "metrics")]
mod meter;
#[cfg(not(feature = "metrics"))]
#[path = "no_meter.rs"]
mod meter;

pub(crate) use self::call::Call;
pub(crate) use self::meter::describe;
