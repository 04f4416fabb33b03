//! A durable inbox: it stores a notification before the webhook is answered with 200, and processes it
//! afterwards. It uses a SQLite file (feature `sqlite`) or a Postgres database (feature `postgres`).
//!
//! Inqud does not send a webhook again after a 200 (confirmed), so whatever your process has not finished by then
//! is lost when it dies. Inqud's own advice is to store at once, and to process later (confirmed).
//!
//! # Example
//!
#![cfg_attr(feature = "sqlite", doc = "```no_run")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use axum::{Router, routing::post_service};
//! use inqud_inbox::{Context, Inbox, Sqlite, Stored, rusqlite::Connection};
//! use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
//!
//! type BoxError = Box<dyn std::error::Error + Send + Sync>;
//!
//! const TABLES: &str = "
//!     CREATE TABLE IF NOT EXISTS orders (id TEXT UNIQUE, amount TEXT, currency TEXT, shipped INT);
//!     CREATE TABLE IF NOT EXISTS repeats (order_id TEXT, object TEXT, payment TEXT);";
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
//! async fn on_request(request: Stored<PaymentRequest>, cx: Context<Sqlite>) -> Result<(), BoxError> {
//!     if request.status.is_successful() {
//!         let order = request.client_order_id.clone().ok_or("a Request without our order's id")?;
//!         let payment = request.payment_id.clone().unwrap_or_default();
//!         let repeat = [order.clone(), request.id.clone(), payment];
//!         cx.once(
//!             format!("ship:{order}"),
//!             move |db| ship(db, &order, &request),
//!             // Another payment, or the same one again: amended, or reported by another webhook.
//!             move |db, _| Ok(db.execute("INSERT INTO repeats VALUES (?1, ?2, ?3)", repeat.each_ref())?),
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
//! [`Inbox::receiver`] is a tower service. Put it behind a [`WebhookLayer`](tower_inqud::WebhookLayer) of the
//! same type.
//!
//! 1. It answers 200 after the commit, to a new notification and to a duplicate alike. A duplicate is detected by
//!    its [`OrderKey`](tower_inqud::OrderKey), and is not stored again. One whose bytes differ is counted
//!    separately.
//! 2. It answers 503 with `Retry-After` if the queue in front of the store stays full, if the store fails, or
//!    after 8 s. Inqud then sends the webhook again. The [`InboxError`] is in the extensions of the response.
//! 3. It is always ready. While the [queue is full](Inbox::capacity), its calls wait for room, each with its body:
//!    limit how many requests your server handles at once.
//! 4. Once there was room, the notification is stored, even if the sender disconnects.
//! 5. It takes a [`Webhook<T>`](tower_inqud::Webhook) only. It does not store a webhook that came
//!    [without proof](tower_inqud::danger::unsigned).
//! 6. The layer in front rejects an authentic body that cannot be decoded. With
//!    [`forward_undecodable`](tower_inqud::WebhookLayer::forward_undecodable) the inbox stores it once, as a dead
//!    letter, and answers 200. [Redrive](Inbox::redrive) it when a new release of yours can decode it: it
//!    keeps its place in the order of arrival, and is processed once.
//!
//! # Processing
//!
//! [`Inbox::process`] calls a handler, which is an async closure. [`Inbox::process_with`] takes any tower
//! service, so you can put timeouts, limits and traces around it.
//!
//! 1. Each notification is handled at least once. What a handler passes to `cx.effect` (memory, SQLite), or
//!    writes in `cx.transaction` (Postgres), is committed together with "done", exactly once.
//!    [Any Postgres driver](guide::drivers) can do the same in a transaction of its own. If something
//!    must happen once per order, use `cx.once` with an idempotency key of your own.
//! 2. Notifications about one object (the same kind and [`id`](tower_inqud::Notification::id)) are handled one
//!    at a time, by their [`position`](tower_inqud::OrderKey::position) and then by arrival. Different objects are
//!    handled concurrently.
//! 3. [`Context::verdict`] tells how a notification compares with the one of its object that was handled last. A
//!    [`Stale`](tower_inqud::Verdict::Stale) one is skipped, and kept; with [`Runner::handle_stale`] it is handled.
//!    One for [`Review`](tower_inqud::Verdict::Review) is kept like a dead letter, and is handled only after you
//!    [redrive](Inbox::redrive) it. A handler that fails half-way has processed nothing.
//! 4. If the handler returns an error, panics or times out, or if an effect fails, the notification is retried with
//!    backoff. Its object waits meanwhile, unless the runner handles the [newest only](Runner::newest_only). After
//!    [300 attempts](Runner::max_attempts), in more than a day, the notification becomes a dead letter, and its object
//!    goes on.
//! 5. If the process dies, what it was handling is handled again: one after the other, while no other handler runs in
//!    the process. The end of the process does not count as a failed attempt. If it ends more than 150 times in a
//!    row during one notification, that becomes a dead letter.
//! 6. If the store fails to commit an outcome, the outcome is kept and committed later. The handler is not called
//!    again for that.
//!
//! # Reconciling
//!
//! After about ten attempts Inqud gives up. [`Inbox::reconcile`] reads the objects of which a webhook may be lost through
//! Inqud's API, and stores what no webhook brought. Tell it with [`Inbox::expect`] what you wait for. See
//! [the guide](guide::reconcile) for its costs.
//!
//! # Runtime
//!
//! All calls of an inbox belong to one Tokio runtime, with its timers enabled. The first notification starts the task
//! that stores them on the runtime of its caller. When that runtime ends, notifications that wait get a 503.
//!
//! # Testing
//!
//! [`testing`] has what a unit test of a handler needs. [`Runner::run_until_idle`] processes everything that is
//! due, and returns. [`Inbox::memory`] needs no database, and the crate `inqud-mock` delivers what Inqud would.
//!
//! # Operations
//!
//! [`Inbox::stats`] counts the backlog, dead letters, reviews and skipped notifications, by kind.
//! [`Inbox::list`] lists each of these except the backlog, and notifications handled as amended or unordered.
//! [`Inbox::redrive`] requeues dead letters and reviews, [`Inbox::discard`] marks them as skipped, and
//! [`Inbox::prune`] deletes old bodies, and a [`Retention`] lets a runner delete them and old rows. [`Inbox::erase`] deletes
//! what belongs to one object. [`Inbox::rejection_log`] keeps the calls that were rejected.
//!
//! The command `inqud-webhook inbox` does the same next to the running process (the crate `inqud-webhook`, with
//! feature `sqlite` or `postgres`). It shows no body unless you ask for it, but it does show the errors
//! of handlers. To write such a tool yourself, see [`Admin`].
//!
//! # Telemetry
//!
//! With feature `tracing` each claimed notification has a span, in which its handler runs. With feature `metrics`
//! there are counters, histograms and gauges. [The guide](guide::inbox#metrics-and-logs) lists all of them, with every
//! label. [`Inbox::stats`] sets the gauges: call it every 15 s, for example.
//!
//! Neither shows anything of a body, except what a handler writes into its errors, which are logged as they are.
//!
//! # Keys and bodies
//!
//! Everything is kept, because duplicates are detected by it: about 300 bytes each without the body, 400 in
//! Postgres. Set a [`Retention`] to delete what is old. [A page](guide::privacy) says what is personal data in an inbox.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod admin;
mod ask;
mod attempt;
mod backoff;
mod catch_unwind;
mod confirm;
mod entry;
mod erase;
mod error;
mod fetch;
mod fetcher;
mod filter;
pub mod guide;
mod handler;
mod inbox;
mod inserted;
mod key;
mod known;
mod memory;
mod order_id;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod receiver;
mod reconciled;
mod reconciler;
mod record;
mod rejection;
mod rejection_log;
mod replay;
mod report;
mod retention;
mod runner;
mod schedule;
mod sealed;
mod source;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;
mod stats;
mod store;
mod sweep;
#[cfg(feature = "postgres")]
mod sync;
mod telemetry;
mod tenant;
pub mod testing;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod walk;
mod watch;
mod webhooks;

/// Not public: what this crate's own tests need to make stores that fail.
#[doc(hidden)]
pub mod __private {
    pub use crate::sealed::Sealed;
    pub use crate::watch::{
        Arrival, Arrived, Expected, Extent, Known, KnownRow, Look, Next, Reach, Scheduled,
    };
}

#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "postgres")]
pub use tokio_postgres;

pub use self::admin::Admin;
pub use self::entry::Entry;
pub use self::erase::Erase;
#[doc(hidden)]
pub use self::erase::ErasedObject;
pub use self::error::{InboxError, InboxErrorKind};
pub use self::fetch::{Fetch, Fetched};
pub use self::filter::{Cursor, Filter, InvalidCursor, Page};
pub use self::handler::{Context, HandlerFn, Stored};
pub use self::inbox::Inbox;
pub use self::inserted::Inserted;
pub use self::key::Key;
pub use self::memory::{Memory, MemoryEffect};
#[cfg(feature = "postgres")]
pub use self::postgres::{
    Completion, Once, Postgres, PostgresEffect, PostgresOptions, PostgresParameters,
    PostgresTransaction,
};
pub use self::receiver::Receiver;
pub use self::reconciled::{LookOutcome, ReconcileReport, Reconciled};
pub use self::reconciler::Reconciler;
pub use self::record::{Record, Storable};
pub use self::rejection::LoggedRejection;
pub use self::rejection_log::RejectionLog;
pub use self::replay::{Replayed, Reprocessed};
pub use self::report::RunReport;
pub use self::retention::Retention;
pub use self::runner::Runner;
pub use self::source::Source;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Attached, Sqlite, SqliteEffect, SqliteOptions};
pub use self::state::State;
pub use self::stats::{KindStats, Stats};
pub use self::store::{Claim, Claimed, Outcome, Settled, Settlement, Store, Ticket};
pub use self::sweep::Swept;
#[doc(hidden)]
pub use self::sweep::{Sweep, SweptBatch};
pub use self::watch::WatchList;
pub use self::webhooks::{Webhooks, WebhooksService};
