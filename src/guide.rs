//! Pages about the use of this crate.

#[doc = include_str!("../docs/servers.md")]
pub mod servers {}

#[cfg(feature = "sender")]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
