use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The body of a request that a [`MockInqud`](super::MockInqud) sends.
///
/// It fails only if it is [truncated](super::Fault::Truncated).
pub struct SentBody {
    frames: VecDeque<Bytes>,
    /// Remaining bytes according to the `Content-Length`. `None` for a chunked body.
    remaining: Option<u64>,
    cut: bool,
    /// Whether the client has had a chance to send the data before the cut.
    sent: bool,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl SentBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            remaining: Some(len(&bytes)),
            frames: VecDeque::from([bytes]),
            cut: false,
            sent: false,
            pause: Duration::ZERO,
            sleep: None,
        }
    }

    /// Splits the body into frames of `size` bytes, without a known length.
    pub(super) fn in_chunks(mut bytes: Bytes, size: usize) -> Self {
        let mut frames = VecDeque::new();
        while !bytes.is_empty() {
            frames.push_back(bytes.split_to(size.clamp(1, bytes.len())));
        }
        Self { frames, remaining: None, ..Self::whole(Bytes::new()) }
    }

    /// Keeps the first half, and fails afterwards.
    pub(super) fn cut(mut self) -> Self {
        let sent = self.frames.iter().map(Bytes::len).fold(0, usize::saturating_add) / 2;
        let mut room = sent;
        for frame in &mut self.frames {
            frame.truncate(room);
            room = room.saturating_sub(frame.len());
        }
        self.frames.retain(|frame| !frame.is_empty());
        self.cut = true;
        self
    }

    pub(super) fn frame_delay(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The time that the pauses take together.
    pub(super) fn duration(&self) -> Duration {
        self.pause.saturating_mul(u32::try_from(self.frames.len()).unwrap_or(u32::MAX))
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.pause.is_zero() && !self.frames.is_empty() {
            let pause = self.pause;
            let waiting = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(waiting.as_mut().poll(cx));
            self.sleep = None;
        }
        if self.cut && self.frames.is_empty() && !self.sent {
            // A client that sees the error immediately sends nothing, not even the head.
            self.sent = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.frames.pop_front() {
            Some(frame) => {
                self.remaining = self.remaining.map(|rest| rest.saturating_sub(len(&frame)));
                Some(Ok(Frame::data(frame)))
            }
            None if self.cut => {
                self.cut = false;
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "truncated on purpose")))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl fmt::Debug for SentBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentBody").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

fn len(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
