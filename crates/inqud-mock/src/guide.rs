//! Guides to testing with the mock.

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
