//! What is the merchant's: it may panic, also where it is only shown or dropped.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does no harm where it is dropped.
pub(super) struct CatchDrop<T>(Option<T>);

impl<T> CatchDrop<T> {
    pub(super) fn new(it: T) -> Self {
        Self(Some(it))
    }

    /// `None` after [`take`](Self::take).
    pub(super) fn as_ref(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for CatchDrop<T> {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}

/// `None` if it panicked.
pub(super) fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.map_err(|payload| {
        // So may what it panicked with.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(forget);
    })
    .ok()
}
