//! Receive: reads the body within a limit and a timeout, and hashes it as it arrives.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_http::timeout::TimeoutError;

use super::admit::Admitted;
use super::body::into_bytes;
use crate::rejection::{BoxError, Rejection, RejectionKind};
use crate::signature::{Claim, Verified};

/// The number of frames after which a poll yields to other tasks. A body can consist of empty
/// frames that are always ready.
const FRAMES_PER_POLL: u32 = 64;

/// The largest frame that is copied.
///
/// A frame is a slice of the server's read buffer and keeps all of it alive. For a small body, that
/// is many times its size. The copy costs up to 8 % of an in-process call of 1 KB with glibc, which
/// is slow from 1 KiB on, and 3 % of a call of 256 bytes. Copying a larger frame would cost more
/// than it saves.
const COPIED: usize = 16 * 1024;

/// The largest announced body for which the buffer is reserved at once, if the body comes in
/// several frames. The buffer of a larger one grows as bytes arrive.
const RESERVED: usize = 2 * 1024;

/// A complete body whose digest has not been compared yet.
pub(super) struct Received {
    body: Bytes,
    claim: Option<Claim>,
}

/// A body that may be decoded: verified, or unsigned by configuration.
pub(super) enum Accepted {
    Verified(Verified),
    /// Only behind [`danger::unsigned`](crate::danger::unsigned).
    Unsigned(Bytes),
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    pub(super) fn verify(self) -> Result<Accepted, Rejection> {
        Ok(match self.claim {
            Some(claim) => Accepted::Verified(claim.verify(self.body)?),
            None => Accepted::Unsigned(self.body),
        })
    }
}

pin_project! {
    /// Reads a body to its end.
    pub(super) struct Receive<B> {
        #[pin]
        body: B,
        limit: usize,
        timeout: Duration,
        // Created when the body has to be waited for: most bodies are there at once, and a timer
        // costs half as much as the HMAC.
        timer: Option<Pin<Box<Sleep>>>,
        claim: Option<Claim>,
        // The first frame, as long as nothing had to be waited for: it can be the whole body.
        frame: Bytes,
        buffer: Vec<u8>,
    }
}

impl<B> Receive<B> {
    pub(super) fn new(admitted: Admitted, body: B, limit: usize, timeout: Duration) -> Self {
        let (claim, frame, buffer) = (admitted.claim, Bytes::new(), Vec::new());
        Self { body, limit, timeout, timer: None, claim, frame, buffer }
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
        // Copy the first frame, so that a stalled call does not keep the server's read buffer
        // alive.
        self.as_mut().copy_frame();
        let this = self.project();
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(*this.timeout)));
        // A body that is always ready can use up Tokio's cooperation budget. The timer is then
        // pending whatever the time is, and the task is woken at once. So the clock decides.
        if timer.as_mut().poll(cx).is_ready() || Instant::now() >= timer.deadline() {
            return Poll::Ready(Err(Rejection::new(RejectionKind::BodyTimeout)));
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, Rejection>> {
        let mut this = self.as_mut().project();
        for _ in 0..FRAMES_PER_POLL {
            // A body that wrongly reports its end is cut short, and its digest does not match.
            let frame = if this.body.is_end_stream() {
                None
            } else {
                ready!(this.body.as_mut().poll_frame(cx))
            };
            let Some(frame) = frame else {
                let frame = std::mem::take(this.frame);
                let body = if frame.is_empty() { compact(this.buffer) } else { frame };
                return Poll::Ready(Ok(Received { body, claim: this.claim.take() }));
            };
            let frame = frame.map_err(|error| unreadable(error.into()))?;
            // Skip trailers.
            let Ok(data) = frame.into_data() else { continue };
            let len = this.frame.len().saturating_add(this.buffer.len());
            if data.remaining() > this.limit.saturating_sub(len) {
                return Poll::Ready(Err(Rejection::new(RejectionKind::BodyTooLarge)));
            }
            if len == 0 {
                // This can be the whole body, which is then hashed in one piece at its end.
                *this.frame = if data.remaining() > COPIED { into_bytes(data) } else { copy(data) };
                continue;
            }
            if this.buffer.is_empty() {
                let arrived = len.saturating_add(data.remaining());
                let capacity = capacity(arrived, &this.body.size_hint(), *this.limit);
                this.buffer.reserve_exact(capacity);
            }
            self.as_mut().copy_frame();
            this = self.as_mut().project();
            append(this.buffer, data, *this.limit);
            if let Some(claim) = this.claim {
                claim.arrived(this.buffer);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn copy_frame(self: Pin<&mut Self>) {
        let this = self.project();
        if !this.frame.is_empty() {
            append(this.buffer, std::mem::take(this.frame), *this.limit);
        }
    }
}

/// Classifies an error of the body. The timeout of an outer layer shows up as one.
fn unreadable(error: BoxError) -> Rejection {
    let first: &(dyn Error + 'static) = &*error;
    let mut causes = std::iter::successors(Some(first), |&error| error.source());
    let kind = if causes.any(is_timeout) {
        RejectionKind::BodyTimeout
    } else {
        RejectionKind::BodyUnreadable
    };
    Rejection::caused_by(kind, error)
}

/// Recognizes the timeout of tower-http 0.7 by its type, and that of other versions, which have
/// types of their own, by its text.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.is::<TimeoutError>()
        || error.to_string() == "data was not received within the designated timeout"
}

/// The initial capacity of the buffer, given how much has arrived and how much is announced.
fn capacity(arrived: usize, rest: &SizeHint, limit: usize) -> usize {
    let rest = usize::try_from(rest.lower()).unwrap_or(usize::MAX);
    let announced = arrived.saturating_add(rest).min(limit);
    if announced <= RESERVED { announced } else { arrived }
}

/// Appends `data` to the buffer. The capacity follows what has arrived, never what was announced.
/// It doubles like that of a `Vec`, but not beyond the limit, which the caller has checked.
fn append(buffer: &mut Vec<u8>, mut data: impl Buf, limit: usize) {
    let needed = buffer.len().saturating_add(data.remaining());
    if needed > buffer.capacity() {
        let capacity = needed.max(buffer.capacity().saturating_mul(2)).min(limit);
        buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
    }
    while data.has_remaining() {
        let chunk = data.chunk();
        buffer.extend_from_slice(chunk);
        data.advance(chunk.len());
    }
}

fn copy(data: impl Buf) -> Bytes {
    let mut copy = Vec::with_capacity(data.remaining());
    append(&mut copy, data, usize::MAX);
    copy.into()
}

/// Releases the spare capacity, because a webhook may be kept for a long time.
fn compact(buffer: &mut Vec<u8>) -> Bytes {
    let mut buffer = std::mem::take(buffer);
    buffer.shrink_to_fit();
    buffer.into()
}

#[cfg(test)]
mod tests {
    use http_body::SizeHint;

    use super::{append, capacity, compact};

    #[test]
    fn reserves_memory_only_for_small_announced_bodies() {
        for (arrived, rest, limit, expected) in [
            (10, 90, 1000, 100),
            (10, 2038, 9000, 2048),
            (10, 2039, 9000, 10),
            (10, u64::MAX, 9000, 10),
            (10, u64::MAX, 1000, 1000),
        ] {
            let mut hint = SizeHint::new();
            hint.set_lower(rest);
            assert_eq!(capacity(arrived, &hint, limit), expected, "{arrived}, {rest}, {limit}");
        }
    }

    /// The buffer holds at most twice what has arrived, and never more than the limit.
    #[test]
    fn buffer_grows_with_arrived_bytes_up_to_limit() {
        for (limit, frame) in [(1000, 1), (1001, 1), (4096, 7), (100_000, 999), (100_000, 60_000)] {
            let mut buffer = Vec::new();
            while buffer.len() < limit {
                let data = vec![b'x'; frame.min(limit - buffer.len())];
                append(&mut buffer, &*data, limit);
                let arrived = buffer.len();
                let most = arrived.max(2 * (arrived - 1)).min(limit);
                assert!(buffer.capacity() <= most, "{arrived} of {limit} by {frame}");
            }
            assert_eq!(compact(&mut buffer).len(), limit);
        }
    }
}
