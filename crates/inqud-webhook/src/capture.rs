//! Copies of request bodies, kept to show them. Their total size is bounded, because anyone can call.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Maximum bytes held by the copies of all calls together.
const MOST: usize = 16 * 1024 * 1024;

/// Counts the bytes that the copies of all calls hold.
#[derive(Clone, Default)]
pub(crate) struct CaptureBudget(Arc<AtomicUsize>);

/// The bytes of one body that have arrived so far.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Mutex<Captured>>);

struct Captured {
    bytes: Vec<u8>,
    /// How many bytes this copy has taken from `budget`.
    counted: usize,
    budget: CaptureBudget,
    is_given_up: bool,
    is_complete: bool,
}

impl Capture {
    pub(crate) fn new(budget: &CaptureBudget) -> Self {
        let (bytes, budget) = (Vec::new(), budget.clone());
        let (is_given_up, is_complete) = (false, false);
        let captured = Captured { bytes, counted: 0, budget, is_given_up, is_complete };
        Self(Arc::new(Mutex::new(captured)))
    }

    /// Whether the body has arrived to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_complete
    }

    /// Takes the bytes. Returns `None` if the budget was exhausted and the copy was dropped.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut copy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!copy.is_given_up).then(|| std::mem::take(&mut copy.bytes))
    }

    fn complete(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_complete = true;
    }

    fn push(&self, data: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(data);
    }
}

impl Captured {
    fn push(&mut self, data: &[u8]) {
        if self.is_given_up {
            return;
        }
        let needed = self.bytes.len().saturating_add(data.len());
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.capacity().saturating_mul(2));
            if !self.count(capacity) {
                self.is_given_up = true;
                self.bytes = Vec::new();
                self.count(0);
                return;
            }
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(data);
    }

    /// Sets this copy's share of the budget to `bytes`. Returns `false` if that exceeds the budget.
    fn count(&mut self, bytes: usize) -> bool {
        let counted = std::mem::replace(&mut self.counted, bytes);
        let all = self.budget.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.budget.0.fetch_sub(counted, Ordering::Relaxed);
        all.saturating_sub(counted) <= MOST
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.count(0);
    }
}

/// A body that copies what is read from it. The copy of a rejected body ends where the layer stopped reading.
pub(crate) struct CapturedBody {
    body: Incoming,
    copy: Capture,
}

impl CapturedBody {
    pub(crate) fn new(body: Incoming, copy: Capture) -> Self {
        if body.is_end_stream() {
            copy.complete();
        }
        Self { body, copy }
    }
}

impl Body for CapturedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.copy.push(data);
        }
        if frame.is_none() {
            self.copy.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let is_end = self.body.is_end_stream();
        // The layer does not poll a body that says so.
        if is_end {
            self.copy.complete();
        }
        is_end
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{Capture, CaptureBudget, MOST};
    use std::sync::atomic::Ordering;

    /// A copy that grows too large drops its own bytes and leaves the others alone.
    #[test]
    fn all_copies_together_are_bounded() {
        let budget = CaptureBudget::default();
        let (first, second) = (Capture::new(&budget), Capture::new(&budget));
        first.push(b"kept");
        assert_eq!(budget.0.load(Ordering::Relaxed), 4);
        for _ in 0..2 * MOST / 4096 {
            second.push(&[b'x'; 4096]);
            assert!(budget.0.load(Ordering::Relaxed) <= MOST);
        }
        assert_eq!(second.take(), None);
        let third = Capture::new(&budget);
        third.push(b"kept too");
        assert_eq!(first.take().unwrap(), b"kept");
        assert_eq!(third.take().unwrap(), b"kept too");
        drop((first, second, third));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn holds_64_bodies_of_256_kib() {
        let budget = CaptureBudget::default();
        let copies = [(); 65].map(|()| Capture::new(&budget));
        for copy in &copies {
            (0..4).for_each(|_| copy.push(&[b'x'; 64 * 1024]));
        }
        assert_eq!(copies.iter().filter(|copy| copy.take().is_some()).count(), 64);
    }
}
