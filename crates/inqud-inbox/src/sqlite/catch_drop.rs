//! Guards against panics in merchant code.
//!
//! Effects, their captures and their errors are merchant code. They can panic when they are called, but
//! also when they are dropped or formatted. On the writer thread such a panic would stop the inbox.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A value whose panic on drop is contained.
pub(super) struct CatchDrop<T>(Option<T>);

impl<T> CatchDrop<T> {
    pub(super) fn new(it: T) -> Self {
        Self(Some(it))
    }

    /// Returns `None` after [`take`](Self::take).
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

/// Calls `work`, and returns `None` if it panicked.
pub(super) fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.map_err(|payload| {
        // The payload of a panic can panic on drop too, and so can the payload of that panic. The last one
        // is leaked.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(forget);
    })
    .ok()
}
