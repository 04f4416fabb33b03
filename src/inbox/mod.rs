//! A durable inbox: a notification is stored before it is answered 200, and processed afterwards
//! (feature `inbox`; in a SQLite file with feature `inbox-sqlite`, in a Postgres database with feature
//! `inbox-postgres`).
//!
//! After the 200 Inqud does not send it again (confirmed), so whatever dies with the process then is
//! lost. Inqud's own advice is to store at once, and to process afterwards (confirmed).
//!
//! # Example
//!
#![cfg_attr(all(feature = "axum", feature = "inbox-sqlite"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "axum", feature = "inbox-sqlite")), doc = "```ignore")]
//! use axum::{Router, routing::post_service};
//! use tower_inqud::inbox::{Cx, Inbox, Notified, Sqlite, rusqlite::Connection};
//! use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
//!
//! type BoxError = Box<dyn std::error::Error + Send + Sync>;
//!
//! const TABLES: &str = "
//!     CREATE TABLE IF NOT EXISTS orders (id TEXT UNIQUE, amount TEXT, currency TEXT, shipped INT);
//!     CREATE TABLE IF NOT EXISTS told_again (order_id TEXT, object TEXT, payment TEXT);";
//!
//! async fn run(shutdown: impl Future<Output = ()>) -> Result<(), BoxError> {
//!     let inbox = Inbox::sqlite("inqud-inbox.db")?;
//!     inbox.write(|db| db.execute_batch(TABLES)).await?;
//!
//!     // Receive: 200 once it is stored.
//!     let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?);
//!     let receiver = inbox.receiver::<PaymentRequest>();
//!     let app: Router = Router::new().route("/inqud/request", post_service(receiver).layer(webhooks));
//! #   drop(app);
//!
//!     // Process, beside the server.
//!     Ok(inbox.process(on_request).run_until(shutdown).await?)
//! }
//!
//! async fn on_request(request: Notified<PaymentRequest>, cx: Cx<Sqlite>) -> Result<(), BoxError> {
//!     if request.status.is_successful() {
//!         let order = request.client_order_id.clone().ok_or("a Request without our order's id")?;
//!         let payment = request.payment_id.clone().unwrap_or_default();
//!         let told = [order.clone(), request.id.clone(), payment];
//!         cx.once(
//!             format!("ship:{order}"),
//!             move |db| ship(db, &order, &request),
//!             // Another payment, or the same one again: amended, or told by another webhook.
//!             move |db, _| Ok(db.execute("INSERT INTO told_again VALUES (?1, ?2, ?3)", told.each_ref())?),
//!         );
//!     }
//!     Ok(())
//! }
//!
//! /// Committed with "done". An error rolls it back, and the notification is retried. A payment that is
//! /// still short or unknown after the last attempt is a dead letter: alert on those.
//! fn ship(db: &Connection, order: &str, request: &PaymentRequest) -> Result<(), BoxError> {
//!     let price = "SELECT amount, currency FROM orders WHERE id = ?1";
//!     let (amount, currency): (String, String) =
//!         db.query_row(price, [order], |row| Ok((row.get(0)?, row.get(1)?)))?;
//!     if !request.is_paid_for(&amount.parse()?, &currency) {
//!         return Err("paid, but not what the order costs".into());
//!     }
//!     db.execute("UPDATE orders SET shipped = 1 WHERE id = ?1", [order])?;
//!     Ok(())
//! }
//! ```
//!
//! # Receiving
//!
//! [`Inbox::receiver`] is a tower service for behind a [`WebhookLayer`](crate::WebhookLayer) of the
//! same type.
//!
//! 1. It answers 200 after the commit, to a new notification and to a duplicate alike. A duplicate, which is
//!    told by its [`Version`](crate::Version), is stored once; one whose bytes differ is counted apart.
//! 2. It answers 503 with `Retry-After`, and so gets it again, when the queue in front of the store is
//!    full, the store fails, or 8 s have passed. The [`InboxError`] rides in the extensions of the
//!    response.
//! 3. While the queue is full it is not ready, for 8 s at most. It takes no place in it before it is
//!    called, so that layers that shed load, buffer or limit may be put around it.
//! 4. Once it was called, the notification is stored even if the sender leaves. If the runtime that it
//!    was called in ends meanwhile, the next to call in another has it stored. A runtime that lives on has to be driven: while one
//!    stands still amid a commit, all wait for it.
//! 5. It takes a [`Webhook<T>`](crate::Webhook) only: what came without
//!    [proof](crate::danger::unsigned) it does not store.
//! 6. An authentic body that cannot be decoded is refused by the layer in front. With
//!    [`hand_on_undecodable`](crate::WebhookLayer::hand_on_undecodable) it is stored as a dead letter,
//!    once, and answered 200. When it is [redriven](Inbox::redrive) and can be decoded, by a new release
//!    of yours, it becomes what it is, keeps its place among what arrived, and is processed once.
//!
//! # Processing
//!
//! [`Inbox::process`] calls a handler, an async closure or, with [`Inbox::process_with`], any tower
//! service, so that timeouts, limits and traces can be put around it.
//!
//! 1. Each notification is handled at least once. What a handler passes to `cx.effect` (memory, SQLite) or
//!    writes in `cx.transaction` (Postgres) commits together with "done", exactly once. What must happen once
//!    per order needs `cx.once`, with a key of your own.
//! 2. Notifications about one object (the same kind and [`id`](crate::Notification::id)) are handled one at a
//!    time, by their [`position`](crate::Version::position) and then by their arrival. Different objects are
//!    handled concurrently.
//! 3. [`Cx::verdict`] tells how a notification stands to the one of its object that was handled last. One that is
//!    [`Older`](crate::Verdict::Older) is skipped, and kept; or handled, with [`Runner::handle_older`]. One
//!    that is for [`Review`](crate::Verdict::Review) is kept as a dead letter is, and not handled until it is
//!    [redriven](Inbox::redrive). A handler that fails half-way has processed nothing.
//! 4. If the handler returns an error, panics or takes too long, or an effect fails, it is tried again,
//!    later each time. Its object waits meanwhile. After [20 attempts](Runner::attempts) it is a dead
//!    letter, and its object goes on.
//! 5. When the process dies, what it had begun is begun again.
//!
//! # Operations
//!
//! [`Inbox::stats`] tells how much there is to do, by kind. [`Inbox::list`] lists dead letters, what is kept for
//! review, and what was skipped or handled as amended or unordered. [`Inbox::redrive`] has dead letters and
//! reviews handled after all, [`Inbox::discard`] marks them as skipped, and [`Inbox::prune`] deletes old
//! bodies. So does, beside the process that has the inbox open, the command `inqud-webhook inbox`
//! (feature `cli`, and `inbox-sqlite` or `inbox-postgres`). It shows no body unless it is asked for, but
//! it does show the errors of handlers.
//!
//! # Telemetry
//!
//! With feature `tracing` each notification that is claimed has a span `inqud_inbox` at INFO, in which
//! its handler is called too, with the fields `kind` ([`Storable::KIND`]), `key`, `attempt`, `verdict`,
//! `outcome` and, if there was a handler, `elapsed_us`. With the target `tower_inqud` there are:
//!
//! | level | message | when |
//! | --- | --- | --- |
//! | ERROR | given up: a dead letter | with the `error` |
//! | WARN | failed; to be tried again | with the `error`, and `after` how long |
//! | WARN | the lease has passed, and another claimed it; nothing of it was kept | |
//! | INFO | can be decoded by now; stored as what it is | a redriven dead letter |
//! | WARN | kept for review | with why: by a receiver, or when it was claimed |
//! | WARN | has open notifications, and no runner processes this `kind` | a runner or [`Inbox::stats`] found it, and nobody has claimed the kind for three minutes |
//! | INFO | skipped: older than what was processed | |
//! | INFO | processed; its order is not known or its content differs | the `verdict` is `unordered` or `amended` |
//! | WARN | a runner goes on after a failure | of the store, with `reason`; see [`Runner::on_error`] |
//! | WARN | not stored; Inqud will send it again | a receiver answered 503, with `kind` and `reason` |
//!
//! With feature `metrics` there are, beside [those of the layer](crate::WebhookLayer#telemetry):
//!
//! | metric | kind | labels |
//! | --- | --- | --- |
//! | `inqud_inbox_received_total` | counter of calls of a receiver | `kind`, `result` |
//! | `inqud_inbox_commit_duration_seconds` | histogram, from the call to the commit | `kind` |
//! | `inqud_inbox_processed_total` | counter of claims | `kind`, `outcome`, `verdict` |
//! | `inqud_inbox_handler_duration_seconds` | histogram | `kind` |
//! | `inqud_inbox_age_seconds` | histogram, from being stored to being done | `kind` |
//! | `inqud_inbox_open` | gauge, set by [`Inbox::stats`] | `kind` |
//! | `inqud_inbox_oldest_age_seconds` | gauge, set by it too; 0 if nothing is open | `kind` |
//! | `inqud_inbox_dead` | gauge, set by it too | `kind` |
//! | `inqud_inbox_review` | gauge, set by it too | `kind` |
//! | `inqud_inbox_skipped` | gauge, set by it too | `kind` |
//!
//! - `result` is `new`, `duplicate`, `duplicate_differs` (in bytes, but not in what is material), `review`,
//!   `undecodable` (kept as a dead letter), the
//!   [name of the kind](InboxErrorKind::name) of what was answered 503, or `left`, if the sender did not
//!   wait for the answer.
//! - `outcome` is `done`, `skipped` (older), `review`, `requeued` (stored as what it is), `retry`, `dead`, `lapsed`,
//!   `unsettled` (the store failed; it is handled again when its lease has passed) or `dropped` (the
//!   runner was).
//!
//! Neither shows anything of a body, but for what a handler writes into its errors, which are told as
//! they are. The gauges are as old as the last look: call `stats` every 15 s, say.
//!
//! # Keys and bodies
//!
//! Rows are kept, because duplicates are detected by them: about 300 bytes each without the body, in Postgres
//! 400. [`Inbox::prune`] deletes old bodies.

mod backoff;
mod error;
mod handler;
mod key;
mod memory;
#[cfg(feature = "inbox-postgres")]
mod postgres;
mod queue;
mod receiver;
mod record;
mod runner;
#[cfg(feature = "inbox-sqlite")]
mod sqlite;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "inbox-sqlite")]
pub use rusqlite;
#[cfg(feature = "inbox-postgres")]
pub use tokio_postgres;
use tower_service::Service;

pub use self::error::{InboxError, InboxErrorKind};
pub use self::handler::{Cx, HandlerFn, Notified};
pub use self::key::Key;
pub use self::memory::{Memory, MemoryEffect};
#[cfg(feature = "inbox-postgres")]
pub use self::postgres::{Once, Postgres, PostgresEffect, PostgresTransaction};
pub use self::receiver::Receiver;
pub use self::record::{Record, Storable};
pub use self::runner::Runner;
#[cfg(feature = "inbox-sqlite")]
pub use self::sqlite::{Attached, Sqlite, SqliteEffect};
pub use self::store::{
    Claimed, Entry, KindStats, List, Outcome, Put, Settled, Settlement, Stats, Store, Ticket,
};

use self::queue::Queue;
use self::runner::UNCLAIMED;
#[cfg(feature = "tracing")]
pub(crate) use self::store::{RETURNED, WITHOUT_TIME};
use crate::rejection::BoxError;
use crate::telemetry;

/// A durable inbox over a store. A clone is cheap, and the same inbox. See the [module](self).
pub struct Inbox<S> {
    queue: Arc<Queue<S>>,
}

impl Inbox<Memory> {
    /// An inbox that forgets all when the process ends, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Memory::default())
    }
}

impl<S: Store> Inbox<S> {
    /// An inbox over a store of your own.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::over(Arc::new(store), 1024)
    }

    fn over(store: Arc<S>, capacity: usize) -> Self {
        telemetry::inbox::describe();
        Self { queue: Arc::new(Queue::new(store, capacity)) }
    }

    /// The same store behind a queue for so many notifications, at least 1. 1,024 unless set. With the
    /// [limit of a body](crate::WebhookLayer::body_limit) it bounds the memory.
    ///
    /// Set it before you make receivers and runners: those of before have another queue.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self::over(Arc::clone(&self.queue.store), capacity)
    }

    /// The service that stores notifications of a type, for behind a
    /// [`WebhookLayer<T>`](crate::WebhookLayer). Calls need a Tokio runtime with its timers enabled.
    #[must_use]
    pub fn receiver<T: Storable>(&self) -> Receiver<S, T> {
        Receiver::new(Arc::clone(&self.queue))
    }

    /// Has a closure called for each notification of a type; see [the module](self#processing).
    ///
    /// It is called again and again, so what it owns it has to lend to each future: as an `Arc` that is
    /// cloned, in `move |n, cx| { let shop = shop.clone(); async move { .. } }`.
    pub fn process<T, F, Fut, E>(&self, handler: F) -> Runner<S, T, HandlerFn<F>>
    where
        T: Storable,
        F: Fn(Notified<T>, Cx<S>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: Into<BoxError> + Send,
    {
        self.process_with(HandlerFn::new(handler))
    }

    /// Has a tower service called for each notification of a type. Each call is to a clone of its own,
    /// when that is ready.
    pub fn process_with<T, H>(&self, handler: H) -> Runner<S, T, H>
    where
        T: Storable,
        H: Service<(Notified<T>, Cx<S>), Response = ()> + Clone + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        Runner::new(Arc::clone(&self.queue), handler)
    }

    /// How much there is to do. With feature `metrics`, this sets [the gauges](self#telemetry). With feature
    /// `tracing`, it warns of kinds with open notifications that no runner has claimed for three minutes.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn stats(&self) -> Result<Stats, InboxError> {
        let stats = self.store().stats().await?;
        telemetry::inbox::looked(&stats, self.queue.emptied(&stats));
        for kind in self.unclaimed(UNCLAIMED).await? {
            telemetry::inbox::unclaimed(&kind);
        }
        Ok(stats)
    }

    /// Kinds with open notifications that no runner, of any process, has claimed for as long as `since`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.store().unclaimed(since).await
    }

    /// Up to `count` notifications of a list, the oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.store().list(list, count).await
    }

    /// Up to `count` dead letters, the oldest first.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn dead(&self, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.list(List::Dead, count).await
    }

    /// Requeues dead letters and what is kept for review, and resets their attempt counts. Returns how many
    /// there were.
    ///
    /// A dead letter that is older by now than what was processed of its object is skipped, unless
    /// [asked for](Runner::handle_older). One that could not be decoded is dead again if it still cannot.
    /// What was kept for review is handled, unless a settled notification that arrived later was processed.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn redrive(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        let redriven = self.store().redrive(keys.into_iter().collect()).await;
        self.queue.stored.notify_waiters();
        redriven
    }

    /// Marks dead letters and what is kept for review as skipped: they are never processed, their keys stay,
    /// and [`Inbox::prune`] deletes their bodies. This cannot be undone. Returns how many there were.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn discard(&self, keys: impl IntoIterator<Item = Key>) -> Result<usize, InboxError> {
        self.store().discard(keys.into_iter().collect()).await
    }

    /// Deletes the bodies of notifications that were processed or skipped more than `age` ago, up to
    /// `count` in one commit. Their keys stay. Returns how many there were: call it again until that
    /// is less.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.store().prune(age, count).await
    }

    /// The store itself.
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
