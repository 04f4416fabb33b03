//! Tests of the command `inqud-webhook`, run as a separate process.

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "../../../inqud-inbox/tests/support/postgres.rs"]
mod postgres;

mod command;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod inbox;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod reconcile;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tls;
