//! Tests of inqud-mock.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod deliveries;
mod lifecycles;
