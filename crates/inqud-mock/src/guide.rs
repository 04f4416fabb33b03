//! A page about the use of this crate.

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
