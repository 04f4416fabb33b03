use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use crate::key::Key;
use crate::source::Source;
use crate::state::State;
use tower_inqud::Verdict;

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
    /// Its state.
    pub state: State,
    /// Its verdict when it was processed. `None` if it was not.
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
    /// Its body. Empty unless it was [asked for](crate::Filter::with_bodies), or if it was pruned.
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
