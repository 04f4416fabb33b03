//! Both features off: the same names, and no work.

use std::sync::Arc;
use std::task::Poll;

use http::{Response, StatusCode};

use crate::rejection::Rejection;

pub(crate) struct Call;

impl Call {
    pub(crate) fn begin() -> Self {
        Self
    }

    pub(crate) fn within<R>(&mut self, work: impl FnOnce() -> R) -> R {
        work()
    }

    pub(crate) fn poll<R>(&mut self, work: impl FnOnce() -> Poll<R>) -> Poll<R> {
        work()
    }

    pub(crate) fn rest(&mut self) {}

    pub(crate) fn resume(&mut self) {}

    pub(crate) fn received(&mut self, _: usize) {}

    pub(crate) fn verified(&mut self, _: Option<&Arc<str>>) {}

    #[cfg(feature = "inbox")]
    pub(crate) fn undecodable(&mut self, _: &Rejection) {}

    pub(crate) fn handed_on(&mut self) {}

    pub(crate) fn refused(&mut self, _: &Rejection) {}

    pub(crate) fn answered<B>(&mut self, _: StatusCode, _: &Response<B>) {}

    pub(crate) fn broke(&mut self) {}
}
