//! What a call leaves for whoever runs the server: a span and events (feature `tracing`), counters
//! and histograms (feature `metrics`). Without both features a [`Call`] is nothing at all.

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod off;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod on;

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::off::{Call, describe};
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) use self::on::{Call, describe};
