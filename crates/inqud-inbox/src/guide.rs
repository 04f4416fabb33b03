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
