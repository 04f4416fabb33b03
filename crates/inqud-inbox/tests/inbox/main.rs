//! Tests of what an inbox guarantees, with each store.

#[path = "../support/crash.rs"]
mod crash;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../../../../tests/support/mod.rs"]
mod support;

mod any_order;
mod handlers;
mod order;
mod promises;
mod undecodable;
mod verdicts;
