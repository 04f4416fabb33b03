//! Pages about the use of this crate.

#[doc = include_str!("../docs/servers.md")]
pub mod servers {}

#[cfg(all(feature = "inbox-postgres", feature = "inbox-sqlite"))]
#[doc = include_str!("../docs/inbox.md")]
pub mod inbox {}

#[doc = include_str!("../docs/mismatch.md")]
pub mod mismatch {}

#[doc = include_str!("../docs/order.md")]
pub mod order {}

#[cfg(feature = "sender")]
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
