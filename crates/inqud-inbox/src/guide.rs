//! Guides.

#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/inbox.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "How to run the inbox in production: see `docs/inbox.md`."
)]
pub mod inbox {}

#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/reconcile.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "How to find and heal what no webhook brought: see `docs/reconcile.md`."
)]
pub mod reconcile {}
