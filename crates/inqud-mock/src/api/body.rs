use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a response of a [`MockApi`](crate::MockApi).
pub struct ApiBody {
    data: Bytes,
    then: Then,
    /// Whether the server has had a chance to send the data before the error.
    sent: bool,
}

/// What follows the data.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Then {
    End,
    /// An error: a connection that breaks.
    Break,
    /// Nothing, for ever.
    Stall,
    /// The same data again and again.
    Repeat,
}

impl ApiBody {
    pub(super) fn new(data: impl Into<Bytes>) -> Self {
        Self::then(data, Then::End)
    }

    pub(super) fn then(data: impl Into<Bytes>, then: Then) -> Self {
        Self { data: data.into(), then, sent: false }
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.then == Then::Repeat {
            return Poll::Ready(Some(Ok(Frame::data(self.data.clone()))));
        }
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.then {
            // Nothing wakes it: whoever waits has to give up.
            Then::Stall => Poll::Pending,
            Then::Break if !self.sent => {
                // A server that sees the error immediately sends nothing, not even the head.
                self.sent = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Then::Break => {
                self.then = Then::End;
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "broken on purpose");
                Poll::Ready(Some(Err(error)))
            }
            Then::End | Then::Repeat => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.then == Then::End && self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.then {
            Then::End => SizeHint::with_exact(u64::try_from(self.data.len()).unwrap_or(u64::MAX)),
            _ => SizeHint::new(),
        }
    }
}

impl fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBody").field("len", &self.data.len()).finish_non_exhaustive()
    }
}
