use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::erase::{Erase, ErasedObject, Of};
use crate::error::InboxError;
use crate::filter::{Filter, Page};
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::{Replayed, Reprocessed};
use crate::reprocess;
use crate::sealed::Sealed;
use crate::source::Source;
use crate::state::State;
use crate::store::Inserted;
use crate::sweep::{Sweep, SweptBatch};
use tower_inqud::Verdict;

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
pub trait Admin: Sealed + Sync {
    /// Counts the notifications of each kind by their state.
    fn stats(&self) -> impl Future<Output = Result<Stats, InboxError>> + Send;

    /// Lists the kinds that have a backlog, and that no runner of any process has claimed for `since`.
    fn unclaimed(
        &self,
        since: Duration,
    ) -> impl Future<Output = Result<Vec<String>, InboxError>> + Send;

    /// Lists up to `limit` notifications that match a [`Filter`], the oldest first unless it says otherwise.
    fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> impl Future<Output = Result<Page, InboxError>> + Send;

    /// Returns a notification with its body, which holds personal data.
    ///
    /// It searches an index of all notifications, so it takes longer in a large inbox.
    fn show(&self, key: Key) -> impl Future<Output = Result<Option<Entry>, InboxError>> + Send {
        let filter = Filter::new().key(key).with_bodies();
        async move { Ok(self.list(filter, 1).await?.entries.pop()) }
    }

    /// Lists up to `limit` dead letters, the oldest first.
    fn dead(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        list_all(self, State::Dead, limit)
    }

    /// Lists up to `limit` notifications that are kept for [review](tower_inqud::Verdict::Review), the oldest first.
    fn review(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        list_all(self, State::Review, limit)
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

    /// Processes notifications again that were processed before, and those about the same objects that were processed
    /// after them.
    ///
    /// See [`Inbox::reprocess`](crate::Inbox::reprocess) for how.
    fn reprocess(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<Reprocessed, InboxError>> + Send {
        let keys: Vec<_> = keys.into_iter().collect();
        reprocess::keys(self, keys)
    }

    /// Processes all notifications again that match a filter and were processed before, each once.
    ///
    /// With `dry_run`, it only counts what it would requeue.
    fn reprocess_all(
        &self,
        filter: impl Into<Filter> + Send,
        dry_run: bool,
    ) -> impl Future<Output = Result<Reprocessed, InboxError>> + Send {
        let filter = filter.into();
        reprocess::all(self, filter, dry_run)
    }

    /// Opens what was processed with these numbers, and what was processed after it of the same objects. With `dry_run`,
    /// it changes nothing and answers the same.
    #[doc(hidden)]
    fn replay(
        &self,
        numbers: Vec<i64>,
        dry_run: bool,
    ) -> impl Future<Output = Result<Replayed, InboxError>> + Send;

    /// Stores notifications that were fetched elsewhere, as a receiver stores those that are delivered: with the same
    /// identity and order, so that one which was delivered is a duplicate. Their [`Source`](crate::Source) is `Fetched`.
    ///
    /// Make the records with [`Record::decode`].
    fn import(
        &self,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Vec<Inserted>, InboxError>> + Send;

    /// Deletes the bodies, errors and order ids of all notifications about an object or an order. Returns how many
    /// notifications it found.
    ///
    /// See [`Inbox::erase`](crate::Inbox::erase).
    fn erase(&self, erase: Erase) -> impl Future<Output = Result<usize, InboxError>> + Send {
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

/// Lists until there are enough, or no more.
async fn list_all<A: Admin + ?Sized>(
    inbox: &A,
    filter: impl Into<Filter>,
    limit: usize,
) -> Result<Vec<Entry>, InboxError> {
    let mut filter = filter.into();
    let mut entries = Vec::new();
    loop {
        let page = inbox.list(&filter, limit.saturating_sub(entries.len())).await?;
        entries.extend(page.entries);
        if page.next.is_none() || entries.len() >= limit {
            return Ok(entries);
        }
        filter = filter.after(page.next);
    }
}

/// Erases object by object.
async fn erase_all(inbox: &(impl Admin + ?Sized), erase: Erase) -> Result<usize, InboxError> {
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

/// A notification in a [list](crate::Inbox::list).
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// Its key, for [`Inbox::show`](crate::Inbox::show), [`Inbox::redrive`](crate::Inbox::redrive),
    /// [`Inbox::discard`](crate::Inbox::discard) and [`Inbox::reprocess`](crate::Inbox::reprocess).
    pub key: Key,
    /// Its number in the order of arrival.
    pub(crate) number: i64,
    /// Its kind: the [name of its type](crate::Storable::KIND).
    pub kind: String,
    /// The [tenant](tower_inqud::Verifier::tenant) that it was received for, if any.
    pub tenant: Option<String>,
    /// The id of its object.
    pub object: String,
    /// The [id of its order](tower_inqud::Notification::order_id).
    pub order_id: Option<String>,
    /// Its status. Empty if it could not be decoded.
    pub status: String,
    /// What has become of it.
    pub state: State,
    /// How it compared with what was processed of its object, when it was processed. `None` if it was not.
    pub verdict: Option<Verdict>,
    /// How it got here.
    pub source: Source,
    /// How often it was [to be processed again](crate::Inbox::reprocess).
    pub replays: u32,
    /// How many attempts failed since it was stored, redriven or reprocessed.
    pub attempts: u32,
    /// The error of the last attempt, or the reason for its state.
    pub error: String,
    /// When it was stored.
    pub received_at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// The length of its body. 0 if the body was [pruned](crate::Inbox::prune).
    pub body_len: usize,
    /// Its body. Empty unless it was [asked for](Filter::with_bodies), or if it was pruned.
    pub body: Bytes,
}

/// Leaves out the body, which holds personal data.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("tenant", &self.tenant)
            .field("object", &self.object)
            .field("order_id", &self.order_id)
            .field("status", &self.status)
            .field("state", &self.state)
            .field("verdict", &self.verdict)
            .field("source", &self.source)
            .field("replays", &self.replays)
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .field("received_at", &self.received_at)
            .field("settled_at", &self.settled_at)
            .field("body_len", &self.body_len)
            .finish()
    }
}
