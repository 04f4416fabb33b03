use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::error::InboxError;
use crate::key::Key;
use crate::record::Record;
use tower_inqud::{OrderKey, Processed, Verdict};

/// Where an inbox keeps its notifications.
///
/// An *object* is a kind and an id. Its notifications are *open* until they are settled; it is *due*
/// while it has open ones and is neither leased nor waiting to try again. All methods take batches, for
/// a commit costs the same for one as for a hundred; each batch is one commit, or fails as a whole.
/// Times are durations because a store has a clock of its own.
pub trait Store: Send + Sync + 'static {
    /// What a handler can have committed together with "done".
    type Effect: Send + 'static;

    /// Stores those that are new, in their order, and those with a [`Record::dead`] as dead letters. Returns
    /// after the commit, with one answer for each record.
    ///
    /// What becomes of a record that says what was said before is [`OrderKey::dedup`]'s to decide, over all
    /// that is stored of its object; then its key is [`Record::key_after`] the last of them.
    ///
    /// Records that say what was said before may be in a second commit, after the others. If that fails, so
    /// does the call, and what was stored is a duplicate when it is delivered again.
    ///
    /// [`OrderKey::dedup`]: tower_inqud::OrderKey::dedup
    fn insert(
        &self,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Vec<Inserted>, InboxError>> + Send;

    /// Leases up to `count` due objects of a kind, those first that are due the longest, and gives the
    /// first open notification of each, by [position](tower_inqud::OrderKey::position), then by arrival. An object
    /// is leased to one at a time; when the lease has passed it is due again.
    ///
    /// Claiming counts as an attempt: what ends the process counts too. It also says that there is a runner
    /// for the kind: see [`unclaimed`](Self::unclaimed).
    fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Claimed>, InboxError>> + Send;

    /// Settles what was claimed, one answer each, in their order. Each is on its own: what fails in one
    /// leaves nothing behind and spoils no other.
    fn settle(
        &self,
        settlements: Vec<Settlement<Self::Effect>>,
    ) -> impl Future<Output = Result<Vec<Settled>, InboxError>> + Send;

    /// How much there is to do.
    fn stats(&self) -> impl Future<Output = Result<Stats, InboxError>> + Send;

    /// Kinds that have open notifications, and that no runner has claimed for as long as `since`.
    fn unclaimed(
        &self,
        since: Duration,
    ) -> impl Future<Output = Result<Vec<String>, InboxError>> + Send;

    /// Up to `count` notifications of a list, the oldest first.
    fn list(
        &self,
        list: List,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send;

    /// Opens dead letters and what is kept for review again, with their attempts uncounted. Returns how
    /// many there were. For those of the second, the review is over.
    fn redrive(&self, keys: Vec<Key>) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Counts dead letters and what is kept for review as skipped from now on. Returns how many there were.
    fn discard(&self, keys: Vec<Key>) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Deletes the bodies of up to `count` notifications that were done or skipped before `age`. Their
    /// keys stay. Returns how many there were.
    fn prune(
        &self,
        age: Duration,
        count: usize,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Inserted {
    /// It is stored.
    New,
    /// It had been, byte for byte, or its body is deleted by now.
    Duplicate,
    /// It had been, and the bodies differ in what is not material: see
    /// [`Notification::ignored_fields`](tower_inqud::Notification::ignored_fields).
    DuplicateDiffers,
    /// It is stored for [review](Verdict::Review), and not processed.
    Review,
}

/// A notification to process, and the lease of its object.
#[derive(Clone)]
pub struct Claimed {
    /// What to settle it with.
    pub ticket: Ticket,
    /// Its key.
    pub key: Key,
    /// Its body.
    pub body: Bytes,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When it was stored, by the store's clock.
    pub received_at: Timestamp,
}

/// Without the body, which holds personal data.
impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("ticket", &self.ticket)
            .field("key", &self.key)
            .field("body_len", &self.body.len())
            .field("attempt", &self.attempt)
            .field("received_at", &self.received_at)
            .finish()
    }
}

/// Names one claim. Worthless once the object has been claimed again.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Ticket {
    /// The notification.
    pub seq: i64,
    /// The kind of its object.
    pub kind: &'static str,
    /// The id of its object.
    pub object: Arc<str>,
    /// Which claim of the object it is.
    pub claim: i64,
    /// How it stands to what was processed. Nothing changes that during the lease.
    pub verdict: Verdict,
    /// What was processed of the object, once this was. `None` leaves it as it is.
    pub processed: Option<Processed>,
}

impl Ticket {
    /// Of a claim: the notification's number, its object, which claim of that, the notification's order key and
    /// whether it was reviewed, and what was processed of its object.
    #[must_use]
    pub fn new(
        seq: i64,
        (kind, object): (&'static str, Arc<str>),
        claim: i64,
        (order_key, is_reviewed): (&OrderKey, bool),
        processed: Option<&Processed>,
    ) -> Self {
        let verdict = order_key.verdict(seq, is_reviewed, processed);
        let processed =
            verdict.should_handle().then(|| Processed::after(processed, order_key, seq));
        Self { seq, kind, object, claim, verdict, processed }
    }
}

/// How a claim ended.
#[derive(Debug)]
pub struct Settlement<E> {
    /// Which claim.
    pub ticket: Ticket,
    /// How.
    pub outcome: Outcome<E>,
}

/// What became of a notification that was claimed.
#[derive(Debug)]
pub enum Outcome<E> {
    /// Processed. The effects are committed with it, in their order.
    Done(Vec<E>),
    /// Not processed, and never to be: it is older than what was.
    Skipped,
    /// Not processed, and kept for review. The object goes on with its next.
    Review,
    /// A body that could not be decoded when it came can be by now: its row becomes this record's, and keeps
    /// its place among what arrived.
    Decoded(Record),
    /// To be tried again.
    Retry {
        /// How long to wait with the object.
        after: Duration,
        /// Why.
        error: String,
    },
    /// Given up. The object goes on with its next.
    Dead {
        /// Why.
        error: String,
    },
}

/// The answer to a settlement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settled {
    /// Committed.
    Done,
    /// An effect failed, with this error. None of the effects was kept; the claim stands.
    EffectFailed(String),
    /// The lease passed and the object was claimed again. Nothing was kept.
    LeaseExpired,
}

/// Why a notification of an object without times is kept for review.
pub(crate) const REVIEW_REPEATED: &str = "says what was said before, with something else in between: it came \
     back, or is a late duplicate. Look at the object in Inqud's API";

/// Why a notification without a time is kept for review.
pub(crate) const REVIEW_WITHOUT_TIME: &str =
    "is further along than what was processed, but has no time. Look at the object in Inqud's API";

/// Why an undecodable body that can be decoded is skipped.
pub(crate) const SKIPPED_DUPLICATE: &str = "is a duplicate of what was stored meanwhile";

/// How much there is to do, by kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// One for each kind that has anything, by name.
    pub kinds: Vec<KindStats>,
}

/// How much there is to do of one kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct KindStats {
    /// The [name of the type](crate::Storable::KIND).
    pub kind: String,
    /// Notifications that are still to be processed.
    pub backlog: u64,
    /// When the oldest of them was stored.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
    /// Those that are kept for review.
    pub review: u64,
    /// Those that were skipped, because they were older than what was processed, or discarded.
    pub skipped: u64,
}

impl KindStats {
    /// Nothing of a kind.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

impl Stats {
    /// Notifications that are still to be processed.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.sum(|kind| kind.backlog)
    }

    /// Dead letters.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.sum(|kind| kind.dead)
    }

    /// Those that are kept for review.
    #[must_use]
    pub fn review(&self) -> u64 {
        self.sum(|kind| kind.review)
    }

    /// Those that were skipped.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.sum(|kind| kind.skipped)
    }

    /// When the oldest of those that are to be processed was stored.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.kinds.iter().filter_map(|kind| kind.oldest).min()
    }

    /// The statistics of a kind, which are added if there are none.
    pub fn kind(&mut self, kind: &str) -> &mut KindStats {
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

/// Which notifications to list.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum List {
    /// Dead letters.
    Dead,
    /// Those that are kept for [review](Verdict::Review).
    Review,
    /// Those that were skipped.
    Skipped,
    /// Those that were processed as [amended](Verdict::Amended).
    Amended,
    /// Those that were processed as [unordered](Verdict::Unordered).
    Unordered,
}

/// A notification as it is [listed](crate::Inbox::list).
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// Its key, to redrive or discard it with.
    pub key: Key,
    /// The name of its type.
    pub kind: String,
    /// The id of its object.
    pub object: String,
    /// Its body; empty if that was deleted.
    pub body: Bytes,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error, or why it is kept.
    pub error: String,
    /// When it was stored.
    pub received_at: Timestamp,
}

/// Without the body, which holds personal data.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("object", &self.object)
            .field("body_len", &self.body.len())
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .field("received_at", &self.received_at)
            .finish()
    }
}
