//! Feature `tracing` off.

use std::time::Duration;

use super::Decided;
use crate::inbox::{InboxError, Key};

pub(super) struct Span;

impl Span {
    pub(super) fn new(_: &'static str, _: Key, _: u32, _: &'static str) -> Self {
        Self
    }

    pub(super) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work
    }

    pub(super) fn handled(&self, _: Duration) {}

    /// Reads what only the log tells, so that it is not unused.
    pub(super) fn settled(&self, decided: &Decided, _: &str) {
        match decided {
            Decided::Retry(error, after) => _ = (error, after),
            Decided::Dead(error) => _ = error,
            _ => {}
        }
    }

    pub(super) fn lapsed(&self) {}

    pub(super) fn ended(&self, _: &'static str) {}
}

pub(super) fn returned(_: &'static str) {}

pub(super) fn unclaimed(_: &str) {}

pub(super) fn refused(_: &'static str, _: &InboxError) {}

pub(super) fn failed(_: &InboxError) {}
