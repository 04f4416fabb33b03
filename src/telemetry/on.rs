//! One call from its head to its answer, and what there is to say of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::Instant;

use crate::ack::Ack;
use crate::contract;
use crate::rejection::Rejection;

#[cfg(feature = "tracing")]
#[path = "log.rs"]
mod log;
#[cfg(not(feature = "tracing"))]
#[path = "no_log.rs"]
mod log;
#[cfg(feature = "metrics")]
#[path = "meter.rs"]
mod meter;
#[cfg(not(feature = "metrics"))]
#[path = "no_meter.rs"]
mod meter;

pub(crate) use self::meter::describe;

/// A call that has begun. Says that it was dropped if it is, before it was answered.
pub(crate) struct Call {
    began: Instant,
    span: log::Span,
    secret: Option<Arc<str>>,
    progress: Progress,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Progress {
    Begun,
    Verified,
    Ended,
}

/// How a call ended: the words that logs and metrics share.
struct End<'a> {
    outcome: &'static str,
    /// The kind of a refusal, or the status that stopped an accepted call from being done.
    reason: Cow<'static, str>,
    secret: Option<&'a Arc<str>>,
    elapsed: Duration,
}

impl Call {
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            span: log::Span::new(),
            secret: None,
            progress: Progress::Begun,
        }
    }

    /// Does `work` in the span.
    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        self.span.within(work)
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.span.received(bytes);
        meter::received(bytes);
    }

    pub(crate) fn verified(&mut self, secret: Option<&Arc<str>>) {
        self.secret = secret.cloned();
        self.progress = Progress::Verified;
    }

    pub(crate) fn refused(&mut self, rejection: &Rejection) {
        self.span.refused(rejection);
        self.end("refused", rejection.kind().name().into());
    }

    /// `status` is the one before [`acknowledge`](crate::ack::acknowledge) changed it.
    pub(crate) fn answered<B>(&mut self, status: StatusCode, response: &Response<B>) {
        if status != response.status() {
            self.span.acknowledged(status);
        }
        if let Some(Ack::Discard(reason)) = response.extensions().get() {
            self.span.discarded(reason);
        }
        if response.status() == contract::ACKNOWLEDGED {
            self.end("accepted", Cow::Borrowed(""));
        } else {
            self.span.failed(response.status());
            self.end("failed", response.status().as_str().to_owned().into());
        }
    }

    /// The inner service had an error instead of an answer.
    pub(crate) fn broke(&mut self) {
        self.end("error", Cow::Borrowed(""));
    }

    fn end(&mut self, outcome: &'static str, reason: Cow<'static, str>) {
        let progress = std::mem::replace(&mut self.progress, Progress::Ended);
        let elapsed = self.began.elapsed();
        let end = End { outcome, reason, secret: self.secret.as_ref(), elapsed };
        self.span.ended(&end);
        meter::ended(&end);
        if progress == Progress::Verified && elapsed > contract::PATIENCE {
            self.span.late(elapsed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.progress == Progress::Ended {
            return;
        }
        self.span.dropped(self.progress == Progress::Verified);
        self.end("dropped", Cow::Borrowed(""));
    }
}
