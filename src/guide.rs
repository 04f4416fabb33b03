//! Guides to using this crate.

#[cfg_attr(any(doc, all(doctest, feature = "axum")), doc = include_str!("../docs/servers.md"))]
#[cfg_attr(not(any(doc, all(doctest, feature = "axum"))), doc = "Servers: see `docs/servers.md`.")]
pub mod servers {}

#[cfg_attr(any(doc, all(doctest, feature = "axum")), doc = include_str!("../docs/mismatch.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "axum"))),
    doc = "Mismatches: see `docs/mismatch.md`."
)]
pub mod mismatch {}

#[cfg_attr(any(doc, all(doctest, feature = "axum")), doc = include_str!("../docs/order.md"))]
#[cfg_attr(not(any(doc, all(doctest, feature = "axum"))), doc = "Order: see `docs/order.md`.")]
pub mod order {}

#[doc = include_str!("../docs/production.md")]
pub mod production {}
