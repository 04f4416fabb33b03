use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_service::Service;

use crate::error::{BoxError, InboxError};
use crate::handler::{Context, HandlerFn, Stored};
use crate::key::Key;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::record::Storable;
use crate::runner::{Runner, UNCLAIMED};
use crate::store::{Entry, List, Stats, Store};
use crate::telemetry;

/// A durable inbox over a store. Cheap to clone; clones share the inbox. See the [crate](crate).
pub struct Inbox<S> {
    queue: Arc<Queue<S>>,
}

impl Inbox<Memory> {
    /// Creates an inbox in memory, for tests. It is lost when the process ends.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Memory::default())
    }
}

impl<S: Store> Inbox<S> {
    /// Creates an inbox over a store of your own.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::over(Arc::new(store), 1024)
    }

    fn over(store: Arc<S>, capacity: usize) -> Self {
        telemetry::describe();
        Self { queue: Arc::new(Queue::new(store, capacity)) }
    }

    /// Sets how many notifications can wait for the store at once.
    ///
    /// Defaults to 1,024. The minimum is 1. A full queue makes receivers respond with 503. Together with the
    /// [body limit](tower_inqud::WebhookLayer::body_limit) it bounds the memory: lower it if memory is short.
    ///
    /// Set it before you create receivers and runners. Those that exist already keep their queue.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self::over(Arc::clone(&self.queue.store), capacity)
    }

    /// Creates the service that stores notifications of one type.
    ///
    /// Put it behind a [`WebhookLayer<T>`](tower_inqud::WebhookLayer). Calls need a Tokio runtime with its
    /// timers enabled.
    #[must_use]
    pub fn receiver<T: Storable>(&self) -> Receiver<S, T> {
        Receiver::new(Arc::clone(&self.queue))
    }

    /// Creates a runner that calls a closure for each notification of one type. See
    /// [the crate](crate#processing).
    ///
    /// The closure is called many times, so it cannot move what it captures into the future. Clone it for
    /// each call: `move |n, cx| { let shop = shop.clone(); async move { .. } }`.
    pub fn process<T, F, Fut, E>(&self, handler: F) -> Runner<S, T, HandlerFn<F>>
    where
        T: Storable,
        F: Fn(Stored<T>, Context<S>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Into<BoxError> + Send,
    {
        self.process_with(HandlerFn::new(handler))
    }

    /// Creates a runner that calls a tower service for each notification of one type. Each call uses its own
    /// clone of the service, once that is ready.
    pub fn process_with<T, H>(&self, handler: H) -> Runner<S, T, H>
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Clone + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        Runner::new(Arc::clone(&self.queue), handler)
    }

    /// Returns how many notifications are waiting, dead, kept for review or skipped, by kind.
    ///
    /// With feature `metrics` it sets [the gauges](crate#telemetry). With feature `tracing` it logs a warning
    /// for each kind that has open notifications and that no runner has claimed for three minutes.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn stats(&self) -> Result<Stats, InboxError> {
        let stats = self.store().stats().await?;
        telemetry::record_stats(&stats, self.queue.emptied(&stats));
        for kind in self.unclaimed(UNCLAIMED).await? {
            telemetry::unclaimed(&kind);
        }
        Ok(stats)
    }

    /// Returns the kinds with open notifications that no runner, in any process, has claimed for at least
    /// `since`.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.store().unclaimed(since).await
    }

    /// Returns up to `count` notifications of a list, oldest first.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.store().list(list, count).await
    }

    /// Returns up to `count` dead letters, oldest first.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn dead(&self, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.list(List::Dead, count).await
    }

    /// Requeues dead letters and notifications kept for review, and resets their attempt counts. Returns how
    /// many it requeued.
    ///
    /// - A dead letter is skipped as stale if a newer notification of its object was processed in the
    ///   meantime, unless the runner [handles stale ones](Runner::handle_stale).
    /// - A body that still cannot be decoded becomes a dead letter again.
    /// - A notification kept for review is handled, unless a settled notification of its object that arrived
    ///   later was processed in the meantime.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn redrive(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        let redriven = self.store().redrive(keys.into_iter().collect()).await;
        self.queue.stored.notify_waiters();
        redriven
    }

    /// Marks dead letters and notifications kept for review as skipped. Returns how many it marked.
    ///
    /// This cannot be undone. They are never processed. Their keys are kept, and [`Inbox::prune`] deletes
    /// their bodies.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn discard(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        self.store().discard(keys.into_iter().collect()).await
    }

    /// Deletes the bodies of up to `count` notifications that were processed or skipped more than `age` ago,
    /// in one commit. Their keys are kept. Returns how many it deleted.
    ///
    /// Call it again until it returns less than `count`.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.store().prune(age, count).await
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.queue.store
    }
}

impl<S> Clone for Inbox<S> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue) }
    }
}

impl<S: fmt::Debug> fmt::Debug for Inbox<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("store", &self.queue.store).finish_non_exhaustive()
    }
}
