use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use jiff::Timestamp;
use tower_service::Service;

use crate::entry::Entry;
use crate::erase::Erase;
use crate::error::{BoxError, InboxError};
use crate::fetch::Fetch;
use crate::fetcher::Fetcher;
use crate::filter::{Filter, Page};
use crate::handler::{Context, HandlerFn, Stored};
use crate::inserted::Inserted;
use crate::key::Key;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::reconciler::Reconciler;
use crate::record::{Record, Storable};
use crate::rejection::LoggedRejection;
use crate::rejection_log::RejectionLog;
use crate::replay::Reprocessed;
use crate::retention::Retention;
use crate::runner::{Runner, UNCLAIMED};
use crate::stats::Stats;
use crate::store::Store;
use crate::sweep::Swept;
use crate::telemetry;
use crate::tenant;
use crate::watch::{Expected, WatchList};
use crate::webhooks::Webhooks;

/// A durable inbox over a store. A clone is cheap, and the same inbox. See the [crate](crate).
///
/// # Operations
///
/// [`stats`](Self::stats), [`list`](Self::list), [`show`](Self::show), [`dead`](Self::dead),
/// [`review`](Self::review), [`unclaimed`](Self::unclaimed), [`redrive`](Self::redrive),
/// [`discard`](Self::discard), [`reprocess`](Self::reprocess), [`import`](Self::import),
/// [`prune`](Self::prune), [`sweep`](Self::sweep) and [`erase`](Self::erase) are what an operator does with it. For a
/// tool that opens the inbox beside the
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

    /// Sets how long to keep what is settled. Defaults to keeping everything.
    ///
    /// A runner of this inbox deletes what is older, soon after it starts and then once a minute, in small commits with
    /// pauses. If the inbox has several runners, one of them does.
    ///
    /// Set it before you create receivers and runners, because the ones created earlier keep the setting they have.
    #[must_use]
    pub fn retention(self, retention: Retention) -> Self {
        Self { queue: Arc::new(self.queue.with_retention(retention)) }
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
        let unclaimed = self.unclaimed(UNCLAIMED).await?;
        telemetry::record_stats(&stats, self.queue.emptied(&stats), &unclaimed);
        unclaimed.iter().for_each(|kind| telemetry::unclaimed(kind));
        Ok(stats)
    }

    /// Sets the gauge `inqud_inbox_open_objects` of a kind (feature `metrics`): how many orders you have for which a webhook
    /// must still come.
    ///
    /// Only your own tables have that number, because an inbox knows nothing of an object before its first notification. Count
    /// them every 15 s or so. The alert on silence uses it: orders are open, and nothing comes.
    pub fn set_open_objects<T: Storable>(&self, count: u64) {
        telemetry::open_objects(T::KIND, count);
    }

    /// Returns the kinds with open notifications that no runner, of any process, has claimed for as long as `since`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.store().unclaimed(since).await
    }

    /// Lists up to `limit` notifications that match a [`Filter`], the oldest first unless it says otherwise.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        self.store().list(filter, limit).await
    }

    /// Returns a notification with its body, which holds personal data.
    ///
    /// It searches an index of all notifications, so it takes longer in a large inbox.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn show(&self, key: Key) -> Result<Option<Entry>, InboxError> {
        self.store().show(key).await
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

    /// Processes notifications again that were processed before: after a bug in a handler is fixed, for example.
    ///
    /// - Of each object, it requeues the earliest of the chosen ones and all that were processed after it, up to the
    ///   newest. They are handled in the order in which they were processed, so that your state cannot end at an older
    ///   one because only that was chosen.
    /// - The handler is told with [`Context::is_replay`]. [`Context::verdict`] is that of the first time.
    ///   [`Runner::skip_replays`] skips them instead.
    /// - Notifications that arrive meanwhile are handled after them. What counts as processed of the object does not
    ///   change, so a late one is stale as before.
    /// - The idempotency keys of `once` keep their effect: what took place does not take place again.
    /// - They are retried, and become dead letters, like others. A dead letter of them that is
    ///   [redriven](Self::redrive) is reprocessed, with those after it.
    /// - An object that is being handled is left as it is: see [`Reprocessed::busy`]. Notifications whose bodies are
    ///   pruned cannot be processed again, and neither can those before them: see [`Reprocessed::pruned`].
    /// - Dead letters, reviews and skipped notifications that were never processed stay as they are.
    ///
    /// # Errors
    ///
    /// If the store fails. What was requeued before stays requeued.
    pub async fn reprocess(
        &self,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<Reprocessed, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let reprocessed = self.store().reprocess(keys).await;
        self.queue.stored.notify_waiters();
        reprocessed
    }

    /// [Reprocesses](Self::reprocess) all processed notifications that match a filter, each once. With `dry_run`, it
    /// changes nothing, and tells what it would do.
    ///
    /// # Errors
    ///
    /// If the store fails. What was requeued before stays requeued.
    pub async fn reprocess_all(
        &self,
        filter: impl Into<Filter> + Send,
        dry_run: bool,
    ) -> Result<Reprocessed, InboxError> {
        let reprocessed = self.store().reprocess_all(filter, dry_run).await;
        self.queue.stored.notify_waiters();
        reprocessed
    }

    /// Stores notifications that were fetched elsewhere, as a receiver stores those that are delivered. Make the records
    /// with [`Record::decode`].
    ///
    /// They have the same identity and order, so one that was delivered is a
    /// [duplicate](crate::Inserted::Duplicate), and one that is delivered later is, too. The handler is told with
    /// [`Stored::source`] that no digest proves them.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let imported = self.store().import(records).await;
        self.queue.stored.notify_waiters();
        imported
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

    /// Deletes what is older than a [`Retention`] allows, in small commits with pauses. Returns how much it was.
    ///
    /// Runners do that by themselves if you set [`Inbox::retention`].
    ///
    /// # Errors
    ///
    /// If the store fails. What was committed before that stays deleted.
    pub async fn sweep(&self, retention: &Retention) -> Result<Swept, InboxError> {
        retention.sweep(self.store()).await
    }

    /// Deletes the bodies, errors and order ids of all notifications about an object or an order, also of dead letters.
    /// Returns how many notifications it found. It cannot be undone.
    ///
    /// Dead letters and notifications kept for review are skipped from then on. Keys, statuses and the id of the object are
    /// kept, because duplicates are detected by them: what was erased is not stored again when it is repeated. A later,
    /// different notification about the object is stored. See [the page on privacy](crate::guide::privacy) for what remains
    /// on the disk.
    ///
    /// # Errors
    ///
    /// [`NotSettled`](crate::InboxErrorKind::NotSettled) if some of them are not settled and it is not
    /// [forced](Erase::force). Then nothing of that object is erased.
    pub async fn erase(&self, of: Erase) -> Result<usize, InboxError> {
        self.store().erase(of).await
    }

    /// Makes a log of the calls that layers reject, in the store.
    pub fn rejection_log(&self) -> RejectionLog<S> {
        RejectionLog::new(self.shared_store())
    }

    /// Lists up to `limit` calls of the [log](Self::rejection_log) of rejected ones, the newest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.store().rejections(limit).await
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
