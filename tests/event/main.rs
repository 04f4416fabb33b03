//! What a body is decoded into.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod contract;
mod json;
mod kinds;
mod order;
mod paid;
mod statuses;
#[path = "../support/mod.rs"]
mod support;
