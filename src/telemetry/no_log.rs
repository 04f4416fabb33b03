//! Feature `tracing` off.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::call::End;
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

    pub(super) fn verified(&self, _: Option<&Arc<str>>) {}

    pub(super) fn refused(&self, _: &Rejection) {}

    #[cfg(feature = "inbox")]
    pub(super) fn undecodable(&self, _: &Rejection) {}

    pub(super) fn acknowledged(&self, _: StatusCode) {}

    pub(super) fn discarded(&self, _: &str) {}

    pub(super) fn failed(&self, _: StatusCode) {}

    pub(super) fn late(&self, _: Duration) {}

    pub(super) fn dropped(&self) {}

    pub(super) fn left(&self) {}

    pub(super) fn broke(&self) {}

    pub(super) fn panicked(&self) {}

    pub(super) fn ended(&self, _: &End) {}
}
