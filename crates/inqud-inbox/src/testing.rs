//! Unit tests of handlers: what a handler gets, made without a receiver and a runner.
//!
//! 1. [`stored`] makes the event from a body.
//! 2. [`TestContext`] makes the [`Context`], with the verdict and the attempt that the test is about.
//! 3. Call the handler, as the function that it is.
//! 4. [`TestContext::commit`] commits what the handler asked for, as a runner would. Or let go of it, and
//!    nothing was done.
//!
//! To test receiving and processing together, let a runner process everything that is due:
//! [`Runner::run_until_idle`](crate::Runner::run_until_idle).
//!
//! # Example
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use inqud_inbox::testing::{self, TestContext};
//! use inqud_inbox::{Context, Inbox, Sqlite, Stored};
//! use tower_inqud::PaymentRequest;
//!
//! type BoxError = Box<dyn std::error::Error + Send + Sync>;
//!
//! async fn on_request(request: Stored<PaymentRequest>, cx: Context<Sqlite>) -> Result<(), BoxError> {
//!     if request.status.is_successful() {
//!         let order = request.client_order_id.clone().ok_or("no order")?;
//!         cx.once(
//!             format!("ship:{order}"),
//!             move |db| db.execute("INSERT INTO shipped VALUES (?1)", [&order]),
//!             |_, _| Ok(0),
//!         );
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("inbox.db");
//! let inbox = Inbox::sqlite(file)?; // in a temporary directory
//! inbox.write(|db| db.execute_batch("CREATE TABLE shipped (id TEXT)")).await?;
//! let paid = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17"}"#;
//!
//! for _ in 0..2 {
//!     let test = TestContext::new(&inbox);
//!     on_request(testing::stored(paid)?, test.context()).await?;
//!     assert_eq!(test.effects(), 1);
//!     test.commit().await?;
//! }
//! let shipped = |db: &inqud_inbox::rusqlite::Connection| {
//!     db.query_row("SELECT count(*) FROM shipped", [], |row| row.get::<_, u32>(0))
//! };
//! assert_eq!(inbox.write(shipped).await?, 1); // once, although it was paid twice
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tower_inqud::{Rejection, Verdict, danger};

use crate::error::InboxError;
use crate::handler::{Attempt, Context, Stored};
use crate::inbox::Inbox;
use crate::key::Key;
use crate::record::Storable;
use crate::source::Source;
use crate::store::Store;

/// Decodes a body into what a handler gets, as a runner does.
///
/// # Security
///
/// Nothing verifies the body. Use it in tests only.
///
/// # Errors
///
/// The [`Rejection`] of a body that is not JSON, is of another kind, or does not have the shape of `T`.
///
/// # Example
///
/// ```
/// use inqud_inbox::{Stored, testing};
/// use tower_inqud::PaymentRequest;
///
/// let request: Stored<PaymentRequest> = testing::stored(r#"{"id":"CAPD-1","status":"SUCCESS"}"#)?;
/// assert!(request.status.is_successful());
/// # Ok::<_, tower_inqud::Rejection>(())
/// ```
pub fn stored<T: Storable>(body: impl Into<Bytes>) -> Result<Stored<T>, Rejection> {
    let body = body.into();
    let event = danger::decode(&body)?;
    Ok(Stored::new(event, body, Source::Pushed))
}

/// Makes the [`Context`] of a handler in a test, and commits its effects.
///
/// It uses the store of the inbox for what a handler commits, and nothing else: no notification is
/// stored, claimed or settled. See the [module](self) for an example.
#[must_use = "give its context to a handler"]
pub struct TestContext<S: Store> {
    store: Arc<S>,
    attempt: Attempt,
    context: Context<S>,
}

impl<S: Store> TestContext<S> {
    /// Makes the context of a first attempt at a notification that is [newer](Verdict::Newer) than what was
    /// processed of its object, and that was stored just now. Its key is a new one.
    pub fn new(inbox: &Inbox<S>) -> Self {
        let attempt = Attempt {
            key: new_key(),
            tenant: None,
            verdict: Verdict::Newer,
            number: 1,
            is_replay: false,
            received_at: Timestamp::now(),
        };
        Self::of(inbox.shared_store(), attempt)
    }

    fn of(store: Arc<S>, attempt: Attempt) -> Self {
        let context = Context::of(attempt.clone(), Arc::clone(&store), HANDLER_TIMEOUT);
        Self { store, attempt, context }
    }

    /// Sets [`Context::key`]. Defaults to a new key for each `TestContext`. Set it to test a second attempt at
    /// the same notification.
    pub fn key(self, key: Key) -> Self {
        Self::of(self.store, Attempt { key, ..self.attempt })
    }

    /// Sets [`Context::tenant`]. Defaults to none. Call it before [`context`](Self::context).
    pub fn tenant(self, name: &str) -> Self {
        Self::of(self.store, Attempt { tenant: Some(Arc::from(name)), ..self.attempt })
    }

    /// Sets [`Context::verdict`]. Defaults to [`Verdict::Newer`]. Call it before [`context`](Self::context).
    pub fn verdict(self, verdict: Verdict) -> Self {
        Self::of(self.store, Attempt { verdict, ..self.attempt })
    }

    /// Sets [`Context::attempt`]. Defaults to 1. Call it before [`context`](Self::context).
    pub fn attempt(self, number: u32) -> Self {
        Self::of(self.store, Attempt { number, ..self.attempt })
    }

    /// Sets [`Context::is_replay`] to `true`. Call it before [`context`](Self::context).
    pub fn replay(self) -> Self {
        Self::of(self.store, Attempt { is_replay: true, ..self.attempt })
    }

    /// Sets [`Context::received_at`]. Defaults to the time at which the `TestContext` was made.
    pub fn received_at(self, received_at: Timestamp) -> Self {
        Self::of(self.store, Attempt { received_at, ..self.attempt })
    }

    /// Returns the context to call the handler with.
    #[must_use]
    pub fn context(&self) -> Context<S> {
        self.context.clone()
    }

    /// Returns how many effects the handler asked for. In Postgres, it is 1 if the handler began its
    /// transaction.
    #[must_use]
    pub fn effects(&self) -> usize {
        self.context.effects().len()
    }

    /// Commits what the handler asked for, as a runner does when the handler returns `Ok`.
    ///
    /// To test a handler that fails, drop the `TestContext` instead: nothing of it is committed.
    ///
    /// # Errors
    ///
    /// The error of an effect is the [source](std::error::Error::source) of this error. Nothing is
    /// committed then, except in [`Memory`](crate::Memory), which undoes nothing.
    pub async fn commit(self) -> Result<(), InboxError> {
        let effects = self.context.take();
        if effects.is_empty() {
            return Ok(());
        }
        self.store.commit(self.attempt.key, effects).await
    }
}

/// The default of [`Runner::handler_timeout`](crate::Runner::handler_timeout).
const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);

impl<S: Store> fmt::Debug for TestContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestContext")
            .field("attempt", &self.attempt)
            .field("effects", &self.effects())
            .finish_non_exhaustive()
    }
}

/// A key that no notification and no other call has.
fn new_key() -> Key {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let now = Timestamp::now().as_nanosecond().to_be_bytes();
    Key::hash([b"tower-inqud inbox test", &now, &count, &std::process::id().to_be_bytes()])
}
