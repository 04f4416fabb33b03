use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tower_service::Service;

use crate::key::Key;
use crate::store::{Claimed, Store};
use tower_inqud::Verdict;

/// An event from the inbox. It was authentic when it was stored.
/// `Debug` shows the event, as that of a [`Webhook`](tower_inqud::Webhook) does, and not the body.
#[derive(Clone)]
pub struct Stored<T> {
    event: T,
    body: Bytes,
}

impl<T> Stored<T> {
    pub(super) fn new(event: T, body: Bytes) -> Self {
        Self { event, body }
    }

    /// The body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// The event alone.
    #[must_use]
    pub fn into_event(self) -> T {
        self.event
    }
}

impl<T> Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.event
    }
}

impl<T: fmt::Debug> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("event", &self.event).finish_non_exhaustive()
    }
}

/// What a handler gets beside the event: its key, verdict and attempt, and a way to commit writes together
/// with "done": `effect` and `once`, or in Postgres `transaction` and `once`.
pub struct Context<S: Store> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: Store> {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "for its transactions"))]
    store: Arc<S>,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "for its transactions"))]
    handler_timeout: Duration,
    key: Key,
    verdict: Verdict,
    attempt: u32,
    received_at: Timestamp,
    effects: Mutex<Vec<S::Effect>>,
}

impl<S: Store> Context<S> {
    pub(super) fn new(claimed: &Claimed, store: Arc<S>, handler_timeout: Duration) -> Self {
        let Claimed { key, attempt, received_at, .. } = *claimed;
        let (verdict, effects) = (claimed.ticket.verdict, Mutex::default());
        let shared = Shared { store, handler_timeout, key, verdict, attempt, received_at, effects };
        Self { shared: Arc::new(shared) }
    }

    /// The same for each attempt at this notification, and for no other. Another notification about the same
    /// object has another one, also one that is [amended](Verdict::Amended): what must happen once per order
    /// needs a key of your own.
    #[must_use]
    pub fn key(&self) -> Key {
        self.shared.key
    }

    /// How it compares with the notification of its object that was handled last.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.shared.verdict
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }

    /// When the notification was stored.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.shared.received_at
    }

    #[cfg(feature = "postgres")]
    pub(super) fn store(&self) -> &S {
        &self.shared.store
    }

    #[cfg(feature = "postgres")]
    pub(super) fn handler_timeout(&self) -> Duration {
        self.shared.handler_timeout
    }

    pub(super) fn push(&self, effect: S::Effect) {
        self.effects().push(effect);
    }

    /// What was asked for until now; what comes later is lost.
    pub(super) fn take(&self) -> Vec<S::Effect> {
        std::mem::take(&mut *self.effects())
    }

    pub(super) fn effects(&self) -> std::sync::MutexGuard<'_, Vec<S::Effect>> {
        self.shared.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Clone for Context<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Store> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("key", &self.key())
            .field("verdict", &self.verdict())
            .field("attempt", &self.attempt())
            .field("received_at", &self.received_at())
            .finish_non_exhaustive()
    }
}

/// A closure as the service that a [`Runner`](crate::Runner) calls; made by
/// [`Inbox::process`](crate::Inbox::process).
#[derive(Clone)]
pub struct HandlerFn<F>(F);

impl<F> HandlerFn<F> {
    pub(super) fn new(handler: F) -> Self {
        Self(handler)
    }
}

impl<F, T, C, Fut, E> Service<(Stored<T>, C)> for HandlerFn<F>
where
    F: Fn(Stored<T>, C) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    type Response = ();
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (stored, cx): (Stored<T>, C)) -> Fut {
        (self.0)(stored, cx)
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}
