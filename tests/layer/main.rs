//! The layer: what it accepts, what it rejects, and what it calls.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod body;
mod composition;
#[cfg(feature = "axum")]
mod extractors;
mod faults;
mod path;
mod properties;
mod readiness;
mod rejections;
#[path = "../support/mod.rs"]
mod support;
mod tenants;
#[cfg(feature = "axum")]
mod tonic_server;
mod wrong_kind;
