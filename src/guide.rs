//! Pages about the use of this crate.

#[doc = include_str!("../docs/servers.md")]
pub mod servers {}
