use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::erase::{Erase, ErasedObject, Of};
use crate::error::InboxError;
use crate::key::Key;
use crate::rejection::LoggedRejection;
use crate::sealed::Sealed;
use crate::sweep::{Sweep, SweptBatch};

/// What an operator does with an inbox: look at it, and redrive, discard or prune what it holds.
///
/// Every [`Store`](crate::Store) implements it, and so does [`Attached`](crate::Attached), which opens
/// the file of a running server. Write your tools over `impl Admin`, and they work with all of them.
/// In the process that owns the inbox you need no trait: [`Inbox`](crate::Inbox#operations) has these
/// methods itself. It also sets the gauges and wakes its runners.
///
/// The trait is sealed: only types of this crate implement it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use inqud_inbox::{Admin, InboxError};
///
/// /// Requeues the dead letters of one kind, and deletes bodies that are older than 30 days.
/// async fn nightly(inbox: &impl Admin) -> Result<usize, InboxError> {
///     let dead = inbox.dead(1000).await?;
///     let requests = dead.iter().filter(|entry| entry.kind == "request");
///     let redriven = inbox.redrive(requests.map(|entry| entry.key)).await?;
///     inbox.prune(Duration::from_secs(30 * 24 * 3600), 10_000).await?;
///     Ok(redriven)
/// }
/// # let inbox = inqud_inbox::Inbox::memory();
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # assert_eq!(runtime.block_on(nightly(inbox.store())).unwrap(), 0);
/// ```
///
/// # Errors
///
/// Each method fails with [`Closed`](crate::InboxErrorKind::Closed) after the inbox was closed, and with
/// [`Store`](crate::InboxErrorKind::Store) if the store fails.
pub trait Admin: Sealed {
    /// Counts the notifications of each kind by their state.
    fn stats(&self) -> impl Future<Output = Result<Stats, InboxError>> + Send;

    /// Lists the kinds that have a backlog, and that no runner of any process has claimed for `since`.
    fn unclaimed(
        &self,
        since: Duration,
    ) -> impl Future<Output = Result<Vec<String>, InboxError>> + Send;

    /// Lists up to `limit` notifications, the oldest first.
    fn list(
        &self,
        list: List,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send;

    /// Lists up to `limit` dead letters, the oldest first.
    fn dead(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        self.list(List::Dead, limit)
    }

    /// Lists up to `limit` notifications that are kept for [review](tower_inqud::Verdict::Review), the oldest first.
    fn review(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        self.list(List::Review, limit)
    }

    /// Requeues dead letters and reviews, and resets their attempt counts. Returns how many it found.
    ///
    /// See [`Inbox::redrive`](crate::Inbox::redrive) for what becomes of them.
    fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Marks dead letters and reviews as skipped, so that they are never processed. Returns how many it
    /// found.
    ///
    /// This cannot be undone. Their keys stay, and [`prune`](Self::prune) deletes their bodies.
    fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Deletes the bodies of up to `limit` notifications that were processed or skipped more than `age`
    /// ago. Returns how many it deleted: call it again until that is less than `limit`.
    ///
    /// Their keys stay, because duplicates are detected by them.
    fn prune(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Deletes the bodies, errors and order ids of all notifications about an object or an order. Returns how many
    /// notifications it found.
    ///
    /// See [`Inbox::erase`](crate::Inbox::erase).
    fn erase(&self, erase: Erase) -> impl Future<Output = Result<usize, InboxError>> + Send
    where
        Self: Sync,
    {
        erase_all(self, erase)
    }

    /// Lists the objects of which a notification has this order id.
    #[doc(hidden)]
    fn objects_of_order(
        &self,
        order_id: String,
    ) -> impl Future<Output = Result<Vec<ErasedObject>, InboxError>> + Send;

    /// Erases one object.
    #[doc(hidden)]
    fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Lists up to `limit` rejected calls of a [`RejectionLog`](crate::RejectionLog), the newest first.
    fn rejections(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LoggedRejection>, InboxError>> + Send;

    /// A part of a [`Retention`](crate::Retention), in one commit.
    #[doc(hidden)]
    fn sweep_batch(
        &self,
        sweep: Sweep,
        limit: usize,
    ) -> impl Future<Output = Result<SweptBatch, InboxError>> + Send;
}

/// Erases object by object.
async fn erase_all(
    inbox: &(impl Admin + Sync + ?Sized),
    erase: Erase,
) -> Result<usize, InboxError> {
    let objects = match erase.of {
        Of::Object(object) => vec![object],
        Of::Order(order_id) => inbox.objects_of_order(order_id).await?,
    };
    let mut count = 0_usize;
    for object in objects {
        let erased = inbox.erase_object(object, erase.is_forced).await?;
        count = count.saturating_add(erased);
    }
    Ok(count)
}

/// The number of notifications in each state, by kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// One entry for each kind that has any notification to count, sorted by name.
    pub kinds: Vec<KindStats>,
}

/// The number of notifications of one kind in each state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct KindStats {
    /// The [name of the type](crate::Storable::KIND).
    pub kind: String,
    /// Notifications that are not settled yet.
    pub backlog: u64,
    /// When the oldest notification of the backlog was stored.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
    /// Notifications that are kept for [review](tower_inqud::Verdict::Review).
    pub review: u64,
    /// Notifications that were skipped because they were stale, or discarded.
    pub skipped: u64,
}

impl KindStats {
    pub(crate) fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

impl Stats {
    /// Notifications of all kinds that are not settled yet.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.sum(|kind| kind.backlog)
    }

    /// Dead letters of all kinds.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.sum(|kind| kind.dead)
    }

    /// Notifications of all kinds that are kept for review.
    #[must_use]
    pub fn review(&self) -> u64 {
        self.sum(|kind| kind.review)
    }

    /// Notifications of all kinds that were skipped or discarded.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.sum(|kind| kind.skipped)
    }

    /// When the oldest notification of the backlog was stored.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.kinds.iter().filter_map(|kind| kind.oldest).min()
    }

    /// The counts of a kind, which are added if they are missing.
    pub(crate) fn kind(&mut self, kind: &str) -> &mut KindStats {
        let at = self.kinds.iter().position(|it| it.kind == kind).unwrap_or_else(|| {
            self.kinds.push(KindStats::new(kind));
            self.kinds.len().saturating_sub(1)
        });
        #[allow(clippy::indexing_slicing, reason = "it was found or added")]
        &mut self.kinds[at]
    }

    fn sum(&self, count: impl Fn(&KindStats) -> u64) -> u64 {
        self.kinds.iter().map(count).fold(0, u64::saturating_add)
    }
}

/// The notifications that [`Inbox::list`](crate::Inbox::list) can list.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum List {
    /// Dead letters.
    Dead,
    /// Notifications that are kept for [review](tower_inqud::Verdict::Review).
    Review,
    /// Notifications that were skipped or discarded.
    Skipped,
    /// Notifications that were processed as [amended](tower_inqud::Verdict::Amended).
    Amended,
    /// Notifications that were processed as [unordered](tower_inqud::Verdict::Unordered).
    Unordered,
}

/// A notification in a [list](crate::Inbox::list).
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// Its key, for [`Inbox::redrive`](crate::Inbox::redrive) and
    /// [`Inbox::discard`](crate::Inbox::discard).
    pub key: Key,
    /// Its kind: the [name of its type](crate::Storable::KIND).
    pub kind: String,
    /// The [tenant](tower_inqud::Verifier::tenant) that it was received for, if any.
    pub tenant: Option<String>,
    /// The id of its object.
    pub object: String,
    /// Its body. Empty if it was [pruned](crate::Inbox::prune).
    pub body: Bytes,
    /// How many attempts were made.
    pub attempts: u32,
    /// The error of the last attempt, or the reason why it is kept for review.
    pub error: String,
    /// When it was stored.
    pub received_at: Timestamp,
}

/// Leaves out the body, which holds personal data.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("tenant", &self.tenant)
            .field("object", &self.object)
            .field("body_len", &self.body.len())
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .field("received_at", &self.received_at)
            .finish()
    }
}
