//! The sender plays Inqud.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod deliveries;
mod lifecycles;
