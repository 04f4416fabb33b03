//! Tests of inqud-api, most of them over real sockets against the mock of Inqud's API.

#[path = "../../../../tests/support/log.rs"]
mod log;
mod support;

mod config;
mod limits;
mod results;
mod secrets;
