//! Guides.

#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/inbox.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "How to run the inbox in production: see `docs/inbox.md`."
)]
pub mod inbox {}

#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/drivers.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "How to use any Postgres driver in a handler: see `docs/drivers.md`."
)]
pub mod drivers {}
#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/privacy.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "What is personal data in an inbox, and how to protect and delete it: see `docs/privacy.md`."
)]
pub mod privacy {}
#[cfg_attr(any(doc, all(doctest, feature = "postgres", feature = "sqlite")), doc = include_str!("../docs/reconcile.md"))]
#[cfg_attr(
    not(any(doc, all(doctest, feature = "postgres", feature = "sqlite"))),
    doc = "How to find and heal what no webhook brought: see `docs/reconcile.md`."
)]
pub mod reconcile {}
