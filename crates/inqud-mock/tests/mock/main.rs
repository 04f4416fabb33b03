//! The sender plays Inqud.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod lives;
mod sender;
