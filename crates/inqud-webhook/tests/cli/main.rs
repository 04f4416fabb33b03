//! The command `inqud-webhook`, as a process of its own.

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "../../../inqud-inbox/tests/support/postgres.rs"]
mod postgres;

mod command;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod inbox;
