//! Pages about the use of this crate.

#[doc = include_str!("../docs/servers.md")]
pub mod servers {}

#[doc = include_str!("../docs/mismatch.md")]
pub mod mismatch {}

#[cfg(feature = "sender")]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
