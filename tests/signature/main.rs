//! Secrets, digests, and why a digest does not match.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod diagnosis;
mod digests;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
