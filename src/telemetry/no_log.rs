//! Feature `tracing` off.

use std::time::Duration;

use http::StatusCode;

use super::End;
use crate::rejection::Rejection;

pub(super) struct Span;

impl Span {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }

    pub(super) fn received(&self, _: usize) {}

    pub(super) fn refused(&self, _: &Rejection) {}

    pub(super) fn acknowledged(&self, _: StatusCode) {}

    pub(super) fn discarded(&self, _: &str) {}

    pub(super) fn failed(&self, _: StatusCode) {}

    pub(super) fn late(&self, _: Duration) {}

    pub(super) fn dropped(&self, _: bool) {}

    pub(super) fn ended(&self, _: &End<'_>) {}
}
