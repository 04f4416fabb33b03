//! No-op replacements for features that are off.

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::neither::Call;
#[cfg(all(feature = "metrics", not(feature = "tracing")))]
pub(super) use self::no_tracing::Span;

#[cfg(not(feature = "metrics"))]
pub(crate) fn describe() {}

#[cfg(all(feature = "tracing", not(feature = "metrics")))]
pub(super) fn received(_: usize) {}

#[cfg(all(feature = "tracing", not(feature = "metrics")))]
pub(super) fn ended(_: &super::end::End, _: Option<&std::sync::Arc<str>>) {}

#[cfg(all(feature = "metrics", not(feature = "tracing")))]
mod no_tracing {
    use std::sync::Arc;
    use std::time::Duration;

    use http::StatusCode;

    use crate::rejection::Rejection;
    use crate::telemetry::end::End;

    pub(crate) struct Span;

    impl Span {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
            work()
        }

        pub(crate) fn received(&self, _: usize) {}

        pub(crate) fn verified(&self, _: Option<&Arc<str>>) {}

        pub(crate) fn refused(&self, _: &Rejection) {}

        pub(crate) fn undecodable(&self, _: &Rejection) {}

        pub(crate) fn acknowledged(&self, _: StatusCode) {}

        pub(crate) fn discarded(&self, _: &str) {}

        pub(crate) fn failed(&self, _: StatusCode) {}

        pub(crate) fn late(&self, _: Duration) {}

        pub(crate) fn dropped(&self) {}

        pub(crate) fn disconnected(&self) {}

        pub(crate) fn inner_error(&self) {}

        pub(crate) fn panicked(&self) {}

        pub(crate) fn ended(&self, _: &End) {}
    }
}

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod neither {
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

        pub(crate) fn undecodable(&mut self, _: &Rejection) {}

        pub(crate) fn forwarded(&mut self) {}

        pub(crate) fn refused(&mut self, _: &Rejection) {}

        pub(crate) fn answered<B>(&mut self, _: StatusCode, _: &Response<B>) {}

        pub(crate) fn inner_error(&mut self) {}
    }
}
