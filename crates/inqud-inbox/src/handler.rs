use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tower_service::Service;

use crate::key::Key;
use crate::source::Source;
use crate::store::{Claimed, Store, Ticket};
use crate::tenant;
use tower_inqud::Verdict;

/// An event that a [`Runner`](crate::Runner) read from the inbox, and its body.
///
/// The event was authentic when it was stored, unless its [`source`](Self::source) is `Fetched`. `Stored` dereferences to it. As with a
/// [`Webhook`](tower_inqud::Webhook), `Debug` shows the event and leaves out the body. Use
/// [`testing::stored`](crate::testing::stored) to create one in a test.
#[derive(Clone)]
pub struct Stored<T> {
    event: T,
    body: Bytes,
    source: Source,
}

impl<T> Stored<T> {
    pub(super) fn new(event: T, body: Bytes, source: Source) -> Self {
        Self { event, body, source }
    }

    /// Returns the body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// Returns how the notification got into the inbox.
    ///
    /// A [fetched](Source::Fetched) one was never delivered by a webhook, so no digest proves it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns the event, without the body.
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
        f.debug_struct("Stored")
            .field("event", &self.event)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The context that a handler receives with each event.
///
/// It has the key, verdict and attempt of the notification, and a way to commit writes together with "done".
///
/// | store | write with "done" | write once for an idempotency key |
/// | --- | --- | --- |
/// | [`Memory`](crate::Memory), `Sqlite` | `cx.effect(closure)` | `cx.once(key, closure, otherwise)` |
/// | `Postgres` | `cx.transaction().await` | `cx.once(key).await` |
/// | `Postgres`, with a driver of your own | `cx.completion()` | a unique constraint of yours |
///
/// Clones are cheap and share one context. Use [`TestContext`](crate::testing::TestContext) to create one in a
/// test.
pub struct Context<S: Store> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: Store> {
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "Postgres opens transactions with it")
    )]
    store: Arc<S>,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "Postgres limits statements with it")
    )]
    handler_timeout: Duration,
    attempt: Attempt,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "Postgres makes completions of it")
    )]
    ticket: Option<Ticket>,
    effects: Mutex<Vec<S::Effect>>,
    completion_is_taken: AtomicBool,
}

/// The part of a [`Context`] that describes the attempt.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) verdict: Verdict,
    pub(super) number: u32,
    pub(super) is_replay: bool,
    pub(super) received_at: Timestamp,
}

impl<S: Store> Context<S> {
    pub(super) fn new(claimed: &Claimed, store: Arc<S>, handler_timeout: Duration) -> Self {
        let Claimed { key, received_at, .. } = *claimed;
        let (verdict, number) = (claimed.ticket.verdict, claimed.attempt());
        let tenant = tenant::split(&claimed.ticket.object).0.map(Arc::from);
        let is_replay = claimed.ticket.is_replay;
        let attempt = Attempt { key, tenant, verdict, number, is_replay, received_at };
        Self::with(attempt, store, handler_timeout, Some(claimed.ticket.clone()))
    }

    pub(super) fn of(attempt: Attempt, store: Arc<S>, handler_timeout: Duration) -> Self {
        Self::with(attempt, store, handler_timeout, None)
    }

    fn with(
        attempt: Attempt,
        store: Arc<S>,
        handler_timeout: Duration,
        ticket: Option<Ticket>,
    ) -> Self {
        let (effects, completion_is_taken) = (Mutex::default(), AtomicBool::new(false));
        let shared =
            Shared { store, handler_timeout, attempt, ticket, effects, completion_is_taken };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the key of the notification, which is the same for each attempt.
    ///
    /// Another notification about the same object has another key, even if it only
    /// [amends](Verdict::Amended) this one. If something must happen once per order, pass an idempotency key of
    /// your own to `once`, such as `ship:order-17`.
    #[must_use]
    pub fn key(&self) -> Key {
        self.shared.attempt.key
    }

    /// Returns the [tenant](tower_inqud::Verifier::tenant) that the notification was received for, if any. Objects of
    /// different tenants can have the same id.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.shared.attempt.tenant.as_deref()
    }

    /// Returns how the notification compares with the last one that was handled for its object.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.shared.attempt.verdict
    }

    /// Returns the number of this attempt, starting at 1. Attempts that the end of the process cut short count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.attempt.number
    }

    /// Whether the notification was processed before, and an operator [reprocesses](crate::Inbox::reprocess) it.
    ///
    /// The [`verdict`](Self::verdict) is that of the first time. Effects with `once` that took place do not take place
    /// again. If nothing of the handler may run twice, set [`Runner::skip_replays`](crate::Runner::skip_replays).
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.shared.attempt.is_replay
    }

    /// Returns when the notification was stored.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.shared.attempt.received_at
    }

    #[cfg(feature = "postgres")]
    pub(super) fn store(&self) -> &S {
        &self.shared.store
    }

    #[cfg(feature = "postgres")]
    pub(super) fn handler_timeout(&self) -> Duration {
        self.shared.handler_timeout
    }

    /// Returns the claim, unless the context was made for a test.
    #[cfg(feature = "postgres")]
    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.shared.ticket.as_ref()
    }

    #[cfg(feature = "postgres")]
    pub(super) fn take_completion(&self) {
        self.shared.completion_is_taken.store(true, Ordering::Relaxed);
    }

    /// Whether the handler may have settled the notification itself.
    pub(super) fn completion_is_taken(&self) -> bool {
        self.shared.completion_is_taken.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, effect: S::Effect) {
        self.effects().push(effect);
    }

    /// Takes the effects added so far. Effects added later are lost.
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
            .field("is_replay", &self.is_replay())
            .field("received_at", &self.received_at())
            .finish_non_exhaustive()
    }
}

/// A service that calls a closure.
///
/// [`Inbox::process`](crate::Inbox::process) wraps your handler in it for the [`Runner`](crate::Runner).
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
