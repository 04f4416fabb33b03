use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Freshness, InboxError, Key, Record};

/// Where an inbox keeps its notifications.
///
/// An *object* is a kind and an id. Its notifications are *open* until they are settled; it is *due*
/// while it has open ones and is neither leased nor waiting to try again. All methods take batches, for
/// a commit costs the same for one as for a hundred; each batch is one commit, or fails as a whole.
/// Times are durations because a store has a clock of its own.
pub trait Store: Send + Sync + 'static {
    /// What a handler can have committed together with "done".
    type Effect: Send + 'static;

    /// Stores those that are new, and those with a [`Record::dead`] as dead letters. Returns after the
    /// commit, with one answer a record, in their order; of equal ones in a batch the first is new.
    fn put(
        &self,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Vec<Put>, InboxError>> + Send;

    /// Leases up to `count` due objects of a kind, those first that are due the longest, and gives the
    /// oldest open notification of each, by [version](super::Version), then by arrival. An object is
    /// leased to one at a time; when the lease has passed it is due again.
    ///
    /// Claiming counts as an attempt: what ends the process counts too.
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

    /// Up to `count` dead letters, the oldest first.
    fn dead(
        &self,
        count: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, InboxError>> + Send;

    /// Opens dead letters again, with their attempts uncounted. Returns how many there were.
    fn redrive(&self, keys: Vec<Key>) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Counts dead letters as skipped from now on. Returns how many there were.
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
pub enum Put {
    /// It is stored.
    New,
    /// It had been.
    Duplicate,
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
    /// How it stands to what was processed. Nothing changes that during the lease.
    pub freshness: Freshness,
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
            .field("freshness", &self.freshness)
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
    Lapsed,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Notifications that are neither done, skipped nor dead.
    pub open: u64,
    /// When the oldest of them was stored.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
}

/// A notification that was given up.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its key, to redrive or discard it with.
    pub key: Key,
    /// The name of its type.
    pub kind: String,
    /// The id of its object.
    pub object: String,
    /// Its body.
    pub body: Bytes,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error.
    pub error: String,
    /// When it was stored.
    pub received_at: Timestamp,
}

/// Without the body, which holds personal data.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
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
