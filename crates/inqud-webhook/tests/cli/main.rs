//! Tests of the command `inqud-webhook`, run as a separate process.

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "../../../inqud-inbox/tests/support/postgres.rs"]
mod postgres;

mod addresses;
mod command;
mod failures;
mod forward;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod inbox;
mod process;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod reconcile;
mod replay;
mod send;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tls;
