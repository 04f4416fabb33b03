//! A value that is replaced while others use it.

use crate::sync::{PoisonError, RwLock};

/// A value that all threads share, and that any of them can replace.
pub(super) struct Current<T>(RwLock<T>);

impl<T: Clone> Current<T> {
    pub(super) fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// Replaces the value. Each snapshot that is taken after this returns is of the new one.
    pub(super) fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(super) fn snapshot(&self) -> T {
        // Nothing can panic while the lock is held, so it is never poisoned.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
