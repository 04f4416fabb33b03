use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::admin::Admin;
use crate::error::InboxError;
use crate::inserted::Inserted;
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::source::Source;
use tower_inqud::{OrderKey, Processed, Verdict};

/// Where an inbox keeps its notifications: [`Memory`](crate::Memory), `Sqlite` or `Postgres`.
///
/// You need it as a bound, for code that works with any inbox: `fn serve<S: Store>(inbox: &Inbox<S>)`.
/// [`Receiver`](crate::Receiver) and [`Runner`](crate::Runner) call its methods, and so can a test of
/// yours.
///
/// An *object* is a kind and an id. Its notifications are *open* until they are settled. An object is
/// *due* while it has open notifications, and is neither leased nor waiting for a retry. Times are durations,
/// because a store has its own clock.
///
/// The trait is sealed: only types of this crate implement it. A hidden module lets its own tests implement stores
/// that fail. It is not part of the API, and changes without notice.
///
/// ```compile_fail,E0277
/// use std::time::Duration;
///
/// use inqud_inbox::{
///     Admin, ErasedObject, Filter, InboxError, Inserted, Key, LoggedRejection, Page, Record, Replayed, Stats, Sweep,
///     SweptBatch,
/// };
///
/// struct Mine;
///
/// impl Admin for Mine {
///     async fn stats(&self) -> Result<Stats, InboxError> { std::future::pending().await }
///     async fn unclaimed(&self, _: Duration) -> Result<Vec<String>, InboxError> { std::future::pending().await }
///     async fn list(&self, _: impl Into<Filter> + Send, _: usize) -> Result<Page, InboxError> { std::future::pending().await }
///     async fn redrive(&self, _: impl IntoIterator<Item = Key> + Send) -> Result<usize, InboxError> { std::future::pending().await }
///     async fn discard(&self, _: impl IntoIterator<Item = Key> + Send) -> Result<usize, InboxError> { std::future::pending().await }
///     async fn prune(&self, _: Duration, _: usize) -> Result<usize, InboxError> { std::future::pending().await }
///     async fn replay(&self, _: Vec<i64>, _: bool) -> Result<Replayed, InboxError> { std::future::pending().await }
///     async fn import(&self, _: Vec<Record>) -> Result<Vec<Inserted>, InboxError> { std::future::pending().await }
///     async fn objects_of_order(&self, _: String) -> Result<Vec<ErasedObject>, InboxError> { std::future::pending().await }
///     async fn erase_object(&self, _: ErasedObject, _: bool) -> Result<usize, InboxError> { std::future::pending().await }
///     async fn rejections(&self, _: usize) -> Result<Vec<LoggedRejection>, InboxError> { std::future::pending().await }
///     async fn sweep_batch(&self, _: Sweep, _: usize) -> Result<SweptBatch, InboxError> { std::future::pending().await }
/// }
/// ```
pub trait Store: Admin + Send + Sync + 'static {
    /// What a handler can commit together with "done".
    type Effect: Send + 'static;

    /// Stores new notifications, in their order, and those with a [`Record::dead`] as dead letters. Returns
    /// one answer for each record, after the commit.
    ///
    /// [`OrderKey::dedup`] decides, over everything that is stored of the object, what becomes of a record
    /// that repeats an earlier one. If such a record is stored, its key is [`Record::key_after`] the last
    /// one.
    ///
    /// Repeated records may be stored in a second commit, after the others. If that fails, the call fails.
    /// What the first commit stored is a duplicate when it is delivered again.
    ///
    /// [`OrderKey::dedup`]: tower_inqud::OrderKey::dedup
    fn insert(
        &self,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Vec<Inserted>, InboxError>> + Send;

    /// Leases due objects of a kind, and returns one open notification of each: the first by
    /// [position](tower_inqud::OrderKey::position), then by arrival, or the last with [`Claim::newest_first`].
    ///
    /// Objects that have been due the longest come first. An object has one lease at a time. If the notification
    /// waits for a retry, its object is not claimed before that. If fewer than asked for are returned, no more are due,
    /// except after a suspect.
    ///
    /// A claim that ends without a settlement, because the process ended or lost the database, makes the object a
    /// *suspect* when its lease expires: see [`Claim::with_suspect`].
    ///
    /// A claim also records that the kind has a runner: see [`Admin::unclaimed`].
    fn claim(&self, claim: Claim) -> impl Future<Output = Result<Vec<Claimed>, InboxError>> + Send;

    /// Tells whether a suspect of a kind is due: see [`Claim::with_suspect`].
    fn has_suspect(
        &self,
        kind: &'static str,
    ) -> impl Future<Output = Result<bool, InboxError>> + Send;

    /// Settles a claim, in one commit with its effects.
    ///
    /// It is called from the task of each handler. A store commits calls together where its engine gains from
    /// that, and one that fails does not affect the others.
    ///
    /// # Errors
    ///
    /// If the store fails. Then the settlement is as it was: call this again with it.
    fn settle(
        &self,
        settlement: &mut Settlement<Self::Effect>,
    ) -> impl Future<Output = Result<Settled, InboxError>> + Send;

    /// Changes when another process may have stored something that is due, if the store learns of it. It is only
    /// a hint: [`Runner`](crate::Runner) polls the store in any case.
    #[doc(hidden)]
    fn arrivals(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// Adds calls to the log of rejected ones, and keeps the newest `keep` of each reason.
    #[doc(hidden)]
    fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Commits effects without a claim, as the notification with this key: for
    /// [`TestContext`](crate::testing::TestContext).
    #[doc(hidden)]
    fn commit(
        &self,
        key: Key,
        effects: Vec<Self::Effect>,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Closes the store. See [`Inbox::close`](crate::Inbox::close).
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What to [claim](Store::claim).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Claim {
    /// The kind of the objects.
    pub kind: &'static str,
    /// The most objects to lease.
    pub count: usize,
    /// How long the leases last.
    pub lease: Duration,
    /// Whether to take the last open notification of each object, and not the first.
    pub newest_first: bool,
    /// Whether to look for a suspect first: an object of which an earlier claim ended without a settlement. If one
    /// is due, it is all that is claimed. The runner handles it alone, to find out whether it is what ends the
    /// process.
    pub with_suspect: bool,
}

impl Claim {
    /// Claims the first notifications of up to `count` objects of a kind, and no suspects.
    #[must_use]
    pub fn new(kind: &'static str, count: usize, lease: Duration) -> Self {
        Self { kind, count, lease, newest_first: false, with_suspect: false }
    }

    /// Takes the last open notification of each object, and not the first.
    #[must_use]
    pub fn newest_first(mut self, newest_first: bool) -> Self {
        self.newest_first = newest_first;
        self
    }

    /// Takes a suspect and nothing else, if one is due.
    #[must_use]
    pub fn with_suspect(mut self, with_suspect: bool) -> Self {
        self.with_suspect = with_suspect;
        self
    }
}

/// A claimed notification, and the lease of its object.
#[derive(Clone)]
pub struct Claimed {
    /// Identifies the claim when it is settled.
    pub ticket: Ticket,
    /// The key of the notification.
    pub key: Key,
    /// The body of the notification.
    pub body: Bytes,
    /// How many earlier attempts failed.
    pub failures: u32,
    /// How many earlier claims of the object ended without a settlement, since the last one that was settled.
    pub crashes: u32,
    /// When the notification was stored, by the store's clock.
    pub received_at: Timestamp,
    /// How the body got here.
    pub source: Source,
}

impl Claimed {
    /// Returns the number of this attempt, starting at 1. Earlier claims that ended without a settlement count,
    /// because their handlers may have run.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.failures.saturating_add(self.crashes).saturating_add(1)
    }
}

/// Leaves out the body, which holds personal data.
impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("ticket", &self.ticket)
            .field("key", &self.key)
            .field("body_len", &self.body.len())
            .field("failures", &self.failures)
            .field("crashes", &self.crashes)
            .field("received_at", &self.received_at)
            .field("source", &self.source)
            .finish()
    }
}

/// Identifies a claim. It is void once the object is claimed again.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Ticket {
    /// The number of the notification.
    pub seq: i64,
    /// The kind of its object.
    pub kind: &'static str,
    /// The id of its object.
    pub object: Arc<str>,
    /// The number of this claim among those of the object.
    pub claim: i64,
    /// How the notification compares with what was processed of its object. It cannot change during the
    /// lease.
    pub verdict: Verdict,
    /// What counts as processed of the object once this notification is done. `None` leaves it unchanged.
    pub processed: Option<Processed>,
    /// Whether the last open notification of the object is claimed next, and not the first.
    pub newest_first: bool,
    /// Whether the handler has taken the completion, so that a transaction of its own may have settled the claim.
    pub completion_is_taken: bool,
    /// Whether the notification was processed before, and is processed again.
    pub is_replay: bool,
}

impl Ticket {
    /// `order_key` and `is_reviewed` are the notification's, and `processed` is its object's.
    pub(crate) fn new(
        seq: i64,
        (kind, object): (&'static str, Arc<str>),
        claim: i64,
        (order_key, is_reviewed): (&OrderKey, bool),
        processed: Option<&Processed>,
        newest_first: bool,
    ) -> Self {
        let verdict = order_key.verdict(seq, is_reviewed, processed);
        let processed =
            verdict.should_handle().then(|| Processed::after(processed, order_key, seq));
        Self {
            seq,
            kind,
            object,
            claim,
            verdict,
            processed,
            newest_first,
            completion_is_taken: false,
            is_replay: false,
        }
    }

    /// Makes this the claim of a notification that was processed before, with this verdict. What counts as processed of
    /// its object does not change.
    pub(crate) fn replay_of(self, verdict: Verdict) -> Self {
        Self { verdict, processed: None, is_replay: true, ..self }
    }
}

/// A claim, and how it ended.
#[derive(Debug)]
pub struct Settlement<E> {
    /// The claim.
    pub ticket: Ticket,
    /// How it ended.
    pub outcome: Outcome<E>,
}

/// What becomes of a claimed notification.
#[derive(Debug)]
pub enum Outcome<E> {
    /// Processed. The effects are committed with it, in their order.
    Done(Vec<E>),
    /// Never to be processed, because it is stale. Or it is a replay, and its handler is not run again.
    Skipped,
    /// Kept for review, and not processed. Its object goes on with the next notification.
    Review,
    /// A body that could not be decoded when it was received can be decoded now. Its row becomes this
    /// record's, and keeps its place in the order of arrival.
    Decoded(Record),
    /// To be retried.
    Retry {
        /// How long the object waits.
        after: Duration,
        /// The error of this attempt.
        error: String,
    },
    /// A dead letter. Its object goes on with the next notification.
    Dead {
        /// The error of the last attempt.
        error: String,
    },
}

impl<E> Outcome<E> {
    /// Lets a retry wait at least for so long.
    pub(crate) fn no_sooner_than(mut self, least: Option<Duration>) -> Self {
        const MOST: Duration = Duration::from_secs(3600);
        if let Self::Retry { after, .. } = &mut self {
            *after = least.unwrap_or_default().min(MOST).max(*after);
        }
        self
    }
}

/// The answer to a settlement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It is committed.
    Done {
        /// Whether the object can be claimed again now.
        next_is_due: bool,
    },
    /// A transaction of the handler's own had settled it as done, whatever the outcome is.
    Completed {
        /// Whether the object can be claimed again now.
        next_is_due: bool,
    },
    /// An effect failed with this error. No effect was committed, and the claim stands.
    EffectFailed(String),
    /// An effect did what no effect may do, such as ending the transaction. No effect was committed, and the claim
    /// stands. Another attempt would do the same.
    EffectRefused(String),
    /// The lease expired, and the object was claimed again. Nothing was committed.
    LeaseExpired,
}

/// How long an object waits after its claim has ended without a settlement for the given number of times, before it
/// is claimed again. A store in which leases expire waits for that instead.
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "only a file knows that its last process ended")
)]
pub(crate) fn crash_backoff(crashes: u32) -> Duration {
    const MOST: Duration = Duration::from_secs(600);
    match crashes.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_secs(2_u64.saturating_pow(doublings)).min(MOST),
    }
}

/// Why a notification of an object without times is kept for review.
pub(crate) const REVIEW_REPEATED: &str = "says what was said before, with something else in between: it came \
     back, or is a late duplicate. Look at the object in Inqud's API";

/// Why a notification without a time is kept for review.
pub(crate) const REVIEW_WITHOUT_TIME: &str =
    "is further along than what was processed, but has no time. Look at the object in Inqud's API";

/// Why a replay is skipped.
pub(crate) const SKIPPED_REPLAY: &str = "was processed before, and its handler is not run again";

/// Why an undecodable body that can be decoded is skipped.
pub(crate) const SKIPPED_DUPLICATE: &str = "is a duplicate of what was stored meanwhile";
