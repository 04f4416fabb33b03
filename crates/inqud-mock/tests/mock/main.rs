//! Tests of inqud-mock.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod api;
mod deliveries;
mod lifecycles;
