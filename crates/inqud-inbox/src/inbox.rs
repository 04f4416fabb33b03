use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use jiff::Timestamp;
use tower_service::Service;

use crate::admin::{Entry, List, Stats};
use crate::error::{BoxError, InboxError};
use crate::fetch::Fetch;
use crate::fetcher::Fetcher;
use crate::handler::{Context, HandlerFn, Stored};
use crate::key::Key;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::reconciler::Reconciler;
use crate::record::Storable;
use crate::runner::{Runner, UNCLAIMED};
use crate::store::Store;
use crate::telemetry;
use crate::tenant;
use crate::watch::{Expected, WatchList};
use crate::webhooks::Webhooks;

/// A durable inbox over a store. A clone is cheap, and the same inbox. See the [crate](crate).
///
/// # Operations
///
/// [`stats`](Self::stats), [`list`](Self::list), [`dead`](Self::dead), [`review`](Self::review),
/// [`unclaimed`](Self::unclaimed), [`redrive`](Self::redrive), [`discard`](Self::discard) and
/// [`prune`](Self::prune) are what an operator does with it. For a tool that opens the inbox beside the
/// running server, see [`Admin`](crate::Admin).
pub struct Inbox<S> {
    queue: Arc<Queue<S>>,
}

impl Inbox<Memory> {
    /// Opens an inbox in memory, for tests: nothing outlives the process.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Memory::default())
    }
}

impl<S: Store> Inbox<S> {
    /// Makes an inbox over a store that is already open.
    #[must_use]
    pub fn new(store: S) -> Self {
        telemetry::describe();
        Self { queue: Arc::new(Queue::new(Arc::new(store), 1024)) }
    }

    /// Sets how many notifications can wait in the queue in front of the store, at least 1. Defaults to 1,024.
    ///
    /// Calls for which there is no room wait too, outside of the queue: limit how many requests your server handles
    /// at once. That number and the [body limit](tower_inqud::WebhookLayer::body_limit) bound the memory.
    ///
    /// Set it before you create receivers and runners, because the ones created earlier keep the queue they have.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self { queue: Arc::new(self.queue.with_capacity(capacity)) }
    }

    /// Returns the tower service that stores notifications of type `T`. Put it behind a
    /// [`WebhookLayer<T>`](tower_inqud::WebhookLayer).
    ///
    /// All its calls belong to one Tokio [runtime](crate#runtime).
    #[must_use]
    pub fn receiver<T: Storable>(&self) -> Receiver<S, T> {
        Receiver::new(Arc::clone(&self.queue))
    }

    /// Creates a runner that calls an async closure for each notification of type `T`. See
    /// [processing](crate#processing).
    ///
    /// The closure is called many times, so each future needs its own handle to shared state:
    /// `move |n, cx| { let shop = shop.clone(); async move { .. } }`.
    pub fn process<T, F, Fut, E>(&self, handler: F) -> Runner<S, T, HandlerFn<F>>
    where
        T: Storable,
        F: Fn(Stored<T>, Context<S>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Into<BoxError> + Send,
    {
        self.process_with(HandlerFn::new(handler))
    }

    /// Creates a runner that calls a tower service for each notification of type `T`. Each call uses a clone
    /// that is ready.
    pub fn process_with<T, H>(&self, handler: H) -> Runner<S, T, H>
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Clone + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        Runner::new(Arc::clone(&self.queue), handler)
    }

    /// Receives and processes several kinds of webhooks: one service for all receivers, and one future for all
    /// runners.
    ///
    /// # Example
    ///
    /// ```
    /// use axum::Router;
    /// use inqud_inbox::{Context, Inbox, Memory, Stored};
    /// use tower_inqud::{Payment, PaymentRequest, Secret, WebhookLayer};
    ///
    /// # async fn run(shutdown: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Inbox::memory();
    /// let requests = WebhookLayer::new(Secret::new("secret_value")?);
    /// let payments = WebhookLayer::new(Secret::new("another_value")?);
    /// let webhooks = inbox
    ///     .webhooks()
    ///     .kind("/webhooks/inqud/request", requests, inbox.process(on_request))
    ///     .kind("/webhooks/inqud/payment", payments, inbox.process(on_payment).concurrency(4));
    ///
    /// let app: Router = Router::new().fallback_service(webhooks.service());
    /// // Serve the app, and process beside it.
    /// webhooks.run_until(shutdown).await?;
    /// # drop(app);
    /// # Ok(())
    /// # }
    ///
    /// async fn on_request(_: Stored<PaymentRequest>, _: Context<Memory>) -> Result<(), std::io::Error> {
    ///     Ok(())
    /// }
    ///
    /// async fn on_payment(_: Stored<Payment>, _: Context<Memory>) -> Result<(), std::io::Error> {
    ///     Ok(())
    /// }
    /// ```
    pub fn webhooks<B>(&self) -> Webhooks<S, B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Webhooks::new(Arc::clone(&self.queue))
    }

    /// Creates a reconciler: it fetches objects of type `T` of which a webhook may be lost, and stores what no webhook
    /// brought. See [the guide](crate::guide::reconcile).
    ///
    /// # Example
    ///
    /// ```
    /// use inqud_inbox::{Fetch, Inbox, InboxError, Store, WatchList};
    /// use tower_inqud::PaymentRequest;
    ///
    /// /// Runs beside the server and the runner.
    /// async fn reconcile<S: Store + WatchList>(
    ///     inbox: &Inbox<S>,
    ///     client: impl Fetch<PaymentRequest>,
    ///     shutdown: impl Future<Output = ()>,
    /// ) -> Result<(), InboxError> {
    ///     inbox.reconcile(client).run_until(shutdown).await
    /// }
    /// ```
    pub fn reconcile<T: Storable>(&self, fetcher: impl Fetch<T>) -> Reconciler<S, T>
    where
        S: WatchList,
    {
        let (store, stored) = (Arc::clone(&self.queue.store), Arc::clone(&self.queue.stored));
        Reconciler::new(store, stored, Fetcher::new(fetcher))
    }

    /// Does the same as [`reconcile`](Self::reconcile), for the objects of [tenants](tower_inqud::Verifier::tenant). `fetcher`
    /// is that of a tenant, and of objects without one for `None`.
    ///
    /// [`reconcile`](Self::reconcile) fetches no object of a tenant, because the credentials of one merchant do not reach
    /// the objects of another.
    pub fn reconcile_per_tenant<T: Storable, F: Fetch<T>>(
        &self,
        fetcher: impl Fn(Option<&str>) -> Option<Arc<F>> + Send + Sync + 'static,
    ) -> Reconciler<S, T>
    where
        S: WatchList,
    {
        let (store, stored) = (Arc::clone(&self.queue.store), Arc::clone(&self.queue.stored));
        Reconciler::new(store, stored, Fetcher::of_any(fetcher))
    }

    /// Makes a [`Reconciler`] look at an object of type `T` even if no webhook about it ever arrives: 15 minutes after
    /// `expires_at` at first.
    ///
    /// Call it when you create the object. If you write your order in the same database, do both in one transaction:
    /// [the guide](crate::guide::reconcile#expect) shows how.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn expect<T: Storable>(
        &self,
        id: &str,
        expires_at: Timestamp,
    ) -> Result<(), InboxError>
    where
        S: WatchList,
    {
        self.expect_object::<T>(None, id, expires_at).await
    }

    /// Does the same as [`expect`](Self::expect), for an object of a [tenant](tower_inqud::Verifier::tenant).
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn expect_of_tenant<T: Storable>(
        &self,
        tenant: &str,
        id: &str,
        expires_at: Timestamp,
    ) -> Result<(), InboxError>
    where
        S: WatchList,
    {
        self.expect_object::<T>(Some(tenant), id, expires_at).await
    }

    async fn expect_object<T: Storable>(
        &self,
        tenant: Option<&str>,
        id: &str,
        expires_at: Timestamp,
    ) -> Result<(), InboxError>
    where
        S: WatchList,
    {
        let object = tenant::qualify(tenant, id).into_owned();
        let expected = Expected::new(T::KIND, object, Some(expires_at.as_microsecond()));
        self.store().expect(vec![expected]).await
    }

    /// Counts the backlog, dead letters, reviews and skipped notifications, by kind. With feature `metrics`, this sets [the gauges](crate#telemetry). With feature
    /// `tracing`, it warns of kinds with open notifications that no runner has claimed for three minutes.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn stats(&self) -> Result<Stats, InboxError> {
        let stats = self.store().stats().await?;
        telemetry::record_stats(&stats, self.queue.emptied(&stats));
        for kind in self.unclaimed(UNCLAIMED).await? {
            telemetry::unclaimed(&kind);
        }
        Ok(stats)
    }

    /// Returns the kinds with open notifications that no runner, of any process, has claimed for as long as `since`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.store().unclaimed(since).await
    }

    /// Lists up to `limit` notifications, the oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn list(&self, list: List, limit: usize) -> Result<Vec<Entry>, InboxError> {
        self.store().list(list, limit).await
    }

    /// Lists up to `limit` dead letters, the oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn dead(&self, limit: usize) -> Result<Vec<Entry>, InboxError> {
        self.store().dead(limit).await
    }

    /// Lists up to `limit` notifications that are kept for [review](tower_inqud::Verdict::Review), the oldest
    /// first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn review(&self, limit: usize) -> Result<Vec<Entry>, InboxError> {
        self.store().review(limit).await
    }

    /// Requeues dead letters and notifications kept for review, and resets their attempt counts. Returns how
    /// many it found.
    ///
    /// A dead letter is skipped if a newer notification about its object was processed meanwhile, unless the
    /// runner [handles stale ones](Runner::handle_stale). An undecodable one becomes a dead letter again if it
    /// still cannot be decoded. A notification kept for review is handled, unless a settled one that arrived
    /// later was processed.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn redrive(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let redriven = self.store().redrive(keys).await;
        self.queue.stored.notify_waiters();
        redriven
    }

    /// Marks dead letters and notifications kept for review as skipped. They are never processed, their keys
    /// are kept, and [`Inbox::prune`] deletes their bodies. This cannot be undone. Returns how many it found.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn discard(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.store().discard(keys).await
    }

    /// Deletes the bodies of up to `limit` notifications that were processed or skipped more than `age`
    /// ago, in one commit. Returns how many it deleted: call it again until that is less than `limit`.
    ///
    /// Their keys are kept, because duplicates are detected by them.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        self.store().prune(age, limit).await
    }

    /// Closes the store, and all clones of the inbox with it.
    ///
    /// SQLite first finishes the work that it has accepted. Postgres finishes running statements, and work that
    /// waits for a connection fails.
    ///
    /// Later calls fail with [`Closed`](crate::InboxErrorKind::Closed): receivers answer 503, and runners
    /// end. Let the runners end first: what a handler does when the store is closed is done again later.
    ///
    /// You rarely need it. A store also closes soon after the last clone of its inbox is dropped.
    pub async fn close(&self) {
        self.store().close().await;
    }

    pub(super) fn shared_store(&self) -> Arc<S> {
        Arc::clone(&self.queue.store)
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
