//! Records the telemetry of one call, from its head to its response.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;

use http::{Response, StatusCode};
use tokio::time::Instant;

use super::end::End;
use super::{log, meter};
use crate::ack::Ack;
use crate::contract;
use crate::rejection::Rejection;

/// The telemetry of a call in flight. Dropping it before the end records why the call did not end.
pub(crate) struct Call {
    began: Instant,
    span: log::Span,
    secret: Option<Arc<str>>,
    progress: Progress,
    /// Whether a poll is running. A call that is dropped during a poll has panicked.
    at_work: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Progress {
    Begun,
    Forwarded,
    Ended,
}

impl Call {
    /// Begins a call, which is at work until [`rest`](Self::rest).
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            span: log::Span::new(),
            secret: None,
            progress: Progress::Begun,
            at_work: true,
        }
    }

    /// Runs `work` in the span.
    pub(crate) fn within<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.span.within(work)
    }

    /// Polls in the span. The call stays at work if the result is ready.
    pub(crate) fn poll<R>(&mut self, work: impl FnOnce() -> Poll<R>) -> Poll<R> {
        self.at_work = true;
        let polled = self.span.within(work);
        self.at_work = polled.is_ready();
        polled
    }

    pub(crate) fn rest(&mut self) {
        self.at_work = false;
    }

    pub(crate) fn resume(&mut self) {
        self.at_work = true;
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.span.received(bytes);
        meter::received(bytes);
    }

    pub(crate) fn verified(&mut self, secret: Option<&Arc<str>>) {
        self.secret = secret.cloned();
        self.span.verified(secret);
    }

    /// An authentic body is forwarded although it could not be decoded.
    pub(crate) fn undecodable(&mut self, rejection: &Rejection) {
        self.span.undecodable(rejection);
    }

    pub(crate) fn forwarded(&mut self) {
        self.progress = Progress::Forwarded;
    }

    pub(crate) fn refused(&mut self, rejection: &Rejection) {
        self.span.refused(rejection);
        self.end("rejected", rejection.kind().as_str().into());
    }

    /// `status` is the status before [`acknowledge`](crate::ack::acknowledge) changed it.
    pub(crate) fn answered<B>(&mut self, status: StatusCode, response: &Response<B>) {
        if status != response.status() {
            self.span.acknowledged(status);
        }
        if let Some(Ack::Discard(reason)) = response.extensions().get() {
            self.span.discarded(reason);
        }
        if response.status() != contract::ACKNOWLEDGED {
            self.span.failed(response.status());
            self.end("failed", response.status().as_str().to_owned().into());
        } else if self.began.elapsed() > contract::RESPONSE_TIMEOUT {
            self.span.late(self.began.elapsed());
            self.end("accepted", "late".into());
        } else {
            self.end("accepted", "".into());
        }
    }

    /// The inner service returned an error instead of a response.
    pub(crate) fn inner_error(&mut self) {
        self.span.inner_error();
        self.end("error", "".into());
    }

    fn end(&mut self, outcome: &'static str, reason: Cow<'static, str>) {
        self.progress = Progress::Ended;
        let elapsed = self.began.elapsed();
        let end = End { outcome, reason, elapsed };
        self.span.ended(&end);
        meter::ended(&end, self.secret.as_ref());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        match (self.progress, self.at_work) {
            (Progress::Ended, _) => {}
            (_, true) => {
                self.span.panicked();
                self.end("panicked", "".into());
            }
            (Progress::Forwarded, false) => {
                self.span.dropped();
                self.end("dropped", "".into());
            }
            (Progress::Begun, false) => {
                self.span.disconnected();
                self.end("disconnected", "".into());
            }
        }
    }
}
