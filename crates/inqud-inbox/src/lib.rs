//! A durable inbox: a notification is stored before it is answered 200, and processed afterwards, in a
//! SQLite file with feature `sqlite`, in a Postgres database with feature `postgres`.
//!
//! After the 200 Inqud does not send it again (confirmed), so whatever dies with the process then is
//! lost. Inqud's own advice is to store at once, and to process afterwards (confirmed).
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
//! async fn on_request(request: Stored<PaymentRequest>, cx: Context<Sqlite>) -> Result<(), BoxError> {
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
//! [`Inbox::receiver`] is a tower service for behind a [`WebhookLayer`](tower_inqud::WebhookLayer) of the
//! same type.
//!
//! 1. It answers 200 after the commit, to a new notification and to a duplicate alike. A duplicate, which is
//!    told by its [`OrderKey`](tower_inqud::OrderKey), is stored once; one whose bytes differ is counted apart.
//! 2. It answers 503 with `Retry-After`, and so gets it again, when the queue in front of the store is
//!    full, the store fails, or 8 s have passed. The [`InboxError`] rides in the extensions of the
//!    response.
//! 3. While the queue is full it is not ready, for 8 s at most. It takes no place in it before it is
//!    called, so that layers that shed load, buffer or limit may be put around it.
//! 4. Once it was called, the notification is stored even if the sender leaves. If the runtime that it
//!    was called in ends meanwhile, the next to call in another has it stored. A runtime that lives on has to be driven: while one
//!    stands still amid a commit, all wait for it.
//! 5. It takes a [`Webhook<T>`](tower_inqud::Webhook) only: what came without
//!    [proof](tower_inqud::danger::unsigned) it does not store.
//! 6. An authentic body that cannot be decoded is refused by the layer in front. With
//!    [`forward_undecodable`](tower_inqud::WebhookLayer::forward_undecodable) it is stored as a dead letter,
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
//! 2. Notifications about one object (the same kind and [`id`](tower_inqud::Notification::id)) are handled one at a
//!    time, by their [`position`](tower_inqud::OrderKey::position) and then by their arrival. Different objects are
//!    handled concurrently.
//! 3. [`Context::verdict`] tells how a notification stands to the one of its object that was handled last. One that is
//!    [`Stale`](tower_inqud::Verdict::Stale) is skipped, and kept; or handled, with [`Runner::handle_stale`]. One
//!    that is for [`Review`](tower_inqud::Verdict::Review) is kept as a dead letter is, and not handled until it is
//!    [redriven](Inbox::redrive). A handler that fails half-way has processed nothing.
//! 4. If the handler returns an error, panics or takes too long, or an effect fails, it is tried again,
//!    later each time. Its object waits meanwhile. After [20 attempts](Runner::max_attempts) it is a dead
//!    letter, and its object goes on.
//! 5. When the process dies, what it had begun is begun again.
//!
//! # Operations
//!
//! [`Inbox::stats`] tells how much there is to do, by kind. [`Inbox::list`] lists dead letters, what is kept for
//! review, and what was skipped or handled as amended or unordered. [`Inbox::redrive`] has dead letters and
//! reviews handled after all, [`Inbox::discard`] marks them as skipped, and [`Inbox::prune`] deletes old
//! bodies. So does, beside the process that has the inbox open, the command `inqud-webhook inbox`
//! (the crate `inqud-webhook`, with feature `sqlite` or `postgres`). It shows no body unless it is asked for, but
//! it does show the errors of handlers.
//!
//! # Telemetry
//!
//! With feature `tracing` each notification that is claimed has a span `inqud_inbox` at INFO, in which
//! its handler is called too, with the fields `kind` ([`Storable::KIND`]), `key`, `attempt`, `verdict`,
//! `outcome` and, if there was a handler, `elapsed_us`. With the target `inqud_inbox` there are:
//!
//! | level | message | when |
//! | --- | --- | --- |
//! | ERROR | given up: a dead letter | with the `error` |
//! | WARN | failed; to be retried | with the `error`, and `retry_in` |
//! | WARN | the lease has passed, and another claimed it; nothing of it was kept | |
//! | INFO | can be decoded by now; stored as what it is | a redriven dead letter |
//! | WARN | kept for review | with why: by a receiver, or when it was claimed |
//! | WARN | has open notifications, and no runner processes this `kind` | a runner or [`Inbox::stats`] found it, and nobody has claimed the kind for three minutes |
//! | INFO | skipped: stale, older than what was processed | |
//! | INFO | processed; its order is not known or its content differs | the `verdict` is `unordered` or `amended` |
//! | WARN | a runner goes on after a failure | of the store, with `reason`; see [`Runner::on_error`] |
//! | WARN | not stored; Inqud will send it again | a receiver answered 503, with `kind` and `reason` |
//!
//! With feature `metrics` there are, beside [those of the layer](tower_inqud::WebhookLayer#telemetry):
//!
//! | metric | kind | labels |
//! | --- | --- | --- |
//! | `inqud_inbox_received_total` | counter of calls of a receiver | `kind`, `outcome` |
//! | `inqud_inbox_commit_duration_seconds` | histogram, from the call to the commit | `kind` |
//! | `inqud_inbox_processed_total` | counter of claims | `kind`, `outcome`, `verdict` |
//! | `inqud_inbox_handler_duration_seconds` | histogram | `kind` |
//! | `inqud_inbox_latency_seconds` | histogram, from being stored to being done | `kind` |
//! | `inqud_inbox_backlog` | gauge, set by [`Inbox::stats`] | `kind` |
//! | `inqud_inbox_oldest_age_seconds` | gauge, set by it too; 0 if nothing is open | `kind` |
//! | `inqud_inbox_dead_letters` | gauge, set by it too | `kind` |
//! | `inqud_inbox_review` | gauge, set by it too | `kind` |
//! | `inqud_inbox_skipped` | gauge, set by it too | `kind` |
//!
//! - `outcome` of what was received is `new`, `duplicate`, `duplicate_differs` (in bytes, but not in what is material), `review`,
//!   `undecodable` (kept as a dead letter), the
//!   [name of the kind](InboxErrorKind::as_str) of what was answered 503, or `disconnected`, if the sender did not
//!   wait for the answer.
//! - `outcome` of what was processed is `done`, `skipped` (older), `review`, `requeued` (stored as what it is), `retry`, `dead`, `lease_expired`,
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

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod error;
pub mod guide;
mod handler;
mod inbox;
mod key;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod receiver;
mod record;
mod runner;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod telemetry;

#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "postgres")]
pub use tokio_postgres;

pub use self::error::{InboxError, InboxErrorKind};
pub use self::handler::{Context, HandlerFn, Stored};
pub use self::inbox::Inbox;
pub use self::key::Key;
pub use self::memory::{Memory, MemoryEffect};
#[cfg(feature = "postgres")]
pub use self::postgres::{Once, Postgres, PostgresEffect, PostgresTransaction};
pub use self::receiver::Receiver;
pub use self::record::{Record, Storable};
pub use self::runner::Runner;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Attached, Sqlite, SqliteEffect};
pub use self::store::{
    Claimed, Entry, Inserted, KindStats, List, Outcome, Settled, Settlement, Stats, Store, Ticket,
};
