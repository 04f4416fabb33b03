//! Secrets, digests, and the diagnosis of a mismatch.
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
