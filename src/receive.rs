//! Frames to [`Received`]: hashed as they arrive, under a limit and a deadline.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_http::timeout::TimeoutError;

use crate::admit::Admitted;
use crate::body::into_bytes;
use crate::rejection::{BoxError, Rejection, RejectionKind};
use crate::signature::{Claim, Verified};

/// After this many frames in one poll other tasks get their turn; a body could consist of nothing
/// but empty frames that are always ready.
const FRAMES_PER_POLL: u32 = 64;

/// A whole body, its digest not yet compared.
pub(crate) struct Received {
    body: Bytes,
    claim: Option<Claim>,
}

/// A body that may be decoded, with or without proof.
pub(crate) enum Accepted {
    Verified(Verified),
    /// Only behind [`danger::unsigned`](crate::danger::unsigned).
    Unsigned(Bytes),
}

impl Received {
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn verify(self) -> Result<Accepted, Rejection> {
        Ok(match self.claim {
            Some(claim) => Accepted::Verified(claim.verify(self.body)?),
            None => Accepted::Unsigned(self.body),
        })
    }
}

pin_project! {
    /// Reads a body to its end.
    pub(crate) struct Receive<B> {
        #[pin]
        body: B,
        limit: usize,
        deadline: Duration,
        // Made when the body has first to be waited for: most are there at once, and a timer costs as
        // much as half the HMAC.
        timer: Option<Pin<Box<Sleep>>>,
        claim: Option<Claim>,
        buffer: Buffer,
    }
}

impl<B> Receive<B> {
    pub(crate) fn new(admitted: Admitted, body: B, limit: usize, deadline: Duration) -> Self {
        let (claim, buffer) = (admitted.claim, Buffer::Empty);
        Self { body, limit, deadline, timer: None, claim, buffer }
    }
}

impl<B> Future for Receive<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<Received, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(received) = self.as_mut().poll_frames(cx) {
            return Poll::Ready(received);
        }
        let this = self.project();
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(*this.deadline)));
        // A body that is always ready can use up the budget that Tokio gives a task. A timer is then
        // pending whatever the time is, and the task is woken at once: the clock decides.
        if timer.as_mut().poll(cx).is_ready() || Instant::now() >= timer.deadline() {
            return Poll::Ready(Err(Rejection::new(RejectionKind::BodyTooSlow)));
        }
        Poll::Pending
    }
}

impl<B> Receive<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    fn poll_frames(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, Rejection>> {
        let mut this = self.project();
        for _ in 0..FRAMES_PER_POLL {
            // A body that wrongly says it has ended is cut short, and its digest will not match.
            let frame = if this.body.is_end_stream() {
                None
            } else {
                ready!(this.body.as_mut().poll_frame(cx))
            };
            let Some(frame) = frame else {
                let body = std::mem::replace(this.buffer, Buffer::Empty).into_bytes();
                return Poll::Ready(Ok(Received { body, claim: this.claim.take() }));
            };
            let frame = frame.map_err(|error| unreadable(error.into()))?;
            // Trailers are passed over.
            let Ok(data) = frame.into_data() else { continue };
            if data.remaining() > this.limit.saturating_sub(this.buffer.len()) {
                return Poll::Ready(Err(Rejection::new(RejectionKind::BodyTooLarge)));
            }
            this.buffer.push(into_bytes(data), *this.limit, this.claim.as_mut());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A timeout of a layer outside shows up as an error of the body.
fn unreadable(error: BoxError) -> Rejection {
    let first: &(dyn Error + 'static) = &*error;
    let mut causes = std::iter::successors(Some(first), |&error| error.source());
    let kind = if causes.any(is_timeout) {
        RejectionKind::BodyTooSlow
    } else {
        RejectionKind::BodyUnreadable
    };
    Rejection::caused_by(kind, error)
}

/// Of tower-http 0.7 by its type. Other versions have a type of their own and the same text.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.is::<TimeoutError>()
        || error.to_string() == "data was not received within the designated timeout"
}

/// What has arrived. A body of one frame is never copied, and hashed in one go when it has ended;
/// more of them are hashed as they arrive.
enum Buffer {
    Empty,
    One(Bytes),
    Many(Vec<u8>),
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    /// Grows by what has arrived, never by what was announced, and never beyond the limit, which
    /// the caller has checked.
    fn push(&mut self, data: Bytes, limit: usize, claim: Option<&mut Claim>) {
        if data.is_empty() {
            return;
        }
        match self {
            Self::Empty => *self = Self::One(data),
            Self::One(first) => {
                if let Some(claim) = claim {
                    claim.update(first);
                    claim.update(&data);
                }
                let mut bytes = Vec::with_capacity(first.len().saturating_add(data.len()));
                append(&mut bytes, first, limit);
                append(&mut bytes, &data, limit);
                *self = Self::Many(bytes);
            }
            Self::Many(bytes) => {
                if let Some(claim) = claim {
                    claim.update(&data);
                }
                append(bytes, &data, limit);
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.into(),
        }
    }
}

/// Doubles like a `Vec`, but no further than the limit.
fn append(bytes: &mut Vec<u8>, data: &[u8], limit: usize) {
    let needed = bytes.len().saturating_add(data.len());
    if needed > bytes.capacity() {
        let capacity = needed.max(bytes.capacity().saturating_mul(2)).min(limit);
        bytes.reserve_exact(capacity.saturating_sub(bytes.len()));
    }
    bytes.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::{Buffer, Bytes};

    /// No more is held than twice what has arrived, nor more than the limit.
    #[test]
    fn a_buffer_grows_with_what_arrives_and_never_beyond_the_limit() {
        for (limit, frame) in [(1000, 1), (1001, 1), (4096, 7), (100_000, 999), (100_000, 60_000)] {
            let mut buffer = Buffer::Empty;
            while buffer.len() < limit {
                let data = Bytes::from(vec![b'x'; frame.min(limit - buffer.len())]);
                buffer.push(data, limit, None);
                if let Buffer::Many(bytes) = &buffer {
                    let arrived = bytes.len();
                    let most = arrived.max(2 * (arrived - 1)).min(limit);
                    assert!(bytes.capacity() <= most, "{arrived} of {limit} by {frame}");
                }
            }
            assert_eq!(buffer.into_bytes().len(), limit);
        }
    }
}
