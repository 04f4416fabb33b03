//! The watch list: which objects a [`Reconciler`](crate::Reconciler) looks at, and when.
//!
//! Notifications do not enrol their objects when they are stored, because every put would pay for it, also in an inbox
//! without a reconciler. The reconciler reads what has arrived since its last turn instead. That is early enough: the
//! first look comes minutes later.
//!
//! All times are in microseconds since 1970, by the store's clock.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tower_inqud::{OrderKey, Processed, Verdict};

use crate::error::InboxError;
use crate::key::Key;
use crate::record::Record;
use crate::sealed::Sealed;

/// A store with a watch list: [`Memory`](crate::Memory), `Sqlite` and `Postgres`.
///
/// You need it as a bound, for code that reconciles any inbox. The trait is sealed, and its methods are not part of
/// the API.
pub trait WatchList: Sealed + Send + Sync + 'static {
    /// Adds objects of which nothing needs to have arrived.
    #[doc(hidden)]
    fn expect(
        &self,
        expected: Vec<Expected>,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Reads notifications of a kind that have arrived since the last [`schedule`](Self::schedule). The first call
    /// leaves out those that arrived earlier than `horizon` ago.
    #[doc(hidden)]
    fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> impl Future<Output = Result<Arrived, InboxError>> + Send;

    /// Adds or moves the looks at objects, and records that all notifications up to `arrived` are read.
    #[doc(hidden)]
    fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Leases objects whose look is due, those that have been due the longest first.
    #[doc(hidden)]
    fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Look>, InboxError>> + Send;

    /// Ends looks. One whose lease has expired, or whose object has got a webhook meanwhile, changes nothing.
    #[doc(hidden)]
    fn end_looks(
        &self,
        ended: Vec<(Look, Next)>,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Makes objects due now, unless they are leased, wait for the API, or were looked at less than `pause` ago.
    #[doc(hidden)]
    fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Reads what is stored of an object.
    #[doc(hidden)]
    fn known(
        &self,
        kind: &'static str,
        object: &str,
    ) -> impl Future<Output = Result<Known, InboxError>> + Send;

    /// Stores a fetched notification under its key, and returns its number. Returns `None` if its object has got another
    /// notification since `extent`.
    #[doc(hidden)]
    fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> impl Future<Output = Result<Option<i64>, InboxError>> + Send;
}

/// An object to look at, although nothing may have arrived about it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Expected {
    /// Its kind.
    pub kind: &'static str,
    /// Its id, with its tenant.
    pub object: String,
    /// What its schedule counts from. `None` means now.
    pub since: Option<i64>,
}

impl Expected {
    pub(crate) fn new(kind: &'static str, object: String, since: Option<i64>) -> Self {
        Self { kind, object, since }
    }
}

/// Up to which notification the arrivals of a kind were read, and are read now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reach {
    /// The last one that was read before.
    pub from: i64,
    /// The last one that is read now.
    pub to: i64,
}

/// Notifications that have arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arrived {
    /// Which were read.
    pub reach: Reach,
    /// Whether more can be read at once.
    pub has_more: bool,
    /// Whether some cannot be read yet, because transactions are under way.
    pub is_behind: bool,
    /// In their order of arrival.
    pub arrivals: Vec<Arrival>,
}

impl Arrived {
    pub(crate) fn new(reach: Reach, has_more: bool, arrivals: Vec<Arrival>) -> Self {
        Self { reach, has_more, is_behind: false, arrivals }
    }
}

impl Reach {
    /// From one number, which was read already, to another.
    #[must_use]
    pub fn new(from: i64, to: i64) -> Self {
        Self { from, to }
    }
}

/// A notification that has arrived.
#[non_exhaustive]
pub struct Arrival {
    /// Its number.
    pub seq: i64,
    /// The id of its object, with its tenant.
    pub object: String,
    /// What orders it.
    pub order_key: OrderKey,
    /// When it was stored.
    pub received_at: i64,
    /// Its body, unless that is deleted.
    pub body: Bytes,
    /// Whether it was fetched.
    pub is_fetched: bool,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("seq", &self.seq)
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Arrival {
    pub(crate) fn new(
        seq: i64,
        object: String,
        order_key: OrderKey,
        received_at: i64,
        body: Bytes,
    ) -> Self {
        Self { seq, object, order_key, received_at, body, is_fetched: false }
    }

    pub(crate) fn fetched(self, is_fetched: bool) -> Self {
        Self { is_fetched, ..self }
    }
}

/// When to look at an object because of a notification that has arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Scheduled {
    /// The id of the object, with its tenant.
    pub object: String,
    /// The position and the number of the notification. One before them changes nothing.
    pub position: (i64, i64),
    /// What the schedule counts from.
    pub since: i64,
    /// When to look.
    pub look_at: i64,
    /// Whether the notification was fetched. Then it adds the object, but does not move the look at one that is on the
    /// list, because it may be read before the look that has stored it ends.
    pub is_fetched: bool,
}

impl Scheduled {
    /// Schedules a look.
    #[must_use]
    pub fn new(object: String, position: (i64, i64), since: i64, look_at: i64) -> Self {
        Self { object, position, since, look_at, is_fetched: false }
    }

    pub(crate) fn fetched(self, is_fetched: bool) -> Self {
        Self { is_fetched, ..self }
    }

    /// Orders the notifications of a batch, so that the first one of an object decides: a pushed one, the newest.
    pub(crate) fn rank(&self) -> (bool, Reverse<(i64, i64)>) {
        (self.is_fetched, Reverse(self.position))
    }
}

/// A look at an object that is due, and its lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Look {
    /// The kind of the object.
    pub kind: &'static str,
    /// The id of the object, with its tenant.
    pub object: Arc<str>,
    /// The number of this claim since the object was added.
    pub claim: i64,
    /// When the object was added. If it leaves the list and comes back, claims are counted from the start.
    pub added_at: i64,
    /// What the schedule counts from.
    pub since: i64,
    /// How many looks the API has answered since then. `None` if the first look is not scheduled yet.
    pub looks: Option<u32>,
    /// How many times in a row the API could not answer.
    pub failures: u32,
    /// The time of the claim.
    pub now: i64,
}

impl Look {
    pub(crate) fn new((kind, object): (&'static str, Arc<str>), claim: i64, now: i64) -> Self {
        Self { kind, object, claim, added_at: now, since: now, looks: None, failures: 0, now }
    }
}

/// What comes after a look.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Next {
    /// Another one.
    At {
        /// When.
        look_at: i64,
        /// See [`Look::looks`].
        looks: u32,
        /// See [`Look::failures`].
        failures: u32,
        /// The position and the number of the fetched notification, if one was stored.
        stored: Option<(i64, i64)>,
    },
    /// The object leaves the list.
    Done,
}

/// The time of a look that never comes. The row stays until the notification that was fetched for it is read, so that
/// this does not enrol the object again.
pub(crate) const NEVER: i64 = i64::MAX;

/// Which notifications of an object are stored. The count tells that one arrived whose number is lower than that of the
/// last: its body could not be decoded when it was stored, and now it could.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Extent {
    /// The number of the one that arrived last.
    pub last: Option<i64>,
    /// How many there are.
    pub count: i64,
}

impl Extent {
    pub(crate) fn of(last: Option<i64>, count: usize) -> Self {
        Self { last, count: i64::try_from(count).unwrap_or(i64::MAX) }
    }
}

/// What is stored of an object.
#[non_exhaustive]
pub struct Known {
    /// Its notifications, in their order of arrival.
    pub rows: Vec<KnownRow>,
    /// The body of the one in whose state the object ends when all are handled.
    pub body: Bytes,
    extent: Extent,
}

/// A stored notification of an object.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KnownRow {
    /// Its number.
    pub seq: i64,
    /// Its key.
    pub key: Key,
    /// What orders it.
    pub order_key: OrderKey,
    /// Whether it is never for review again: it was fetched, or redriven after a review.
    pub is_reviewed: bool,
    /// Whether it is kept for review.
    pub is_in_review: bool,
    /// Whether it was skipped as stale, or is a review that was discarded.
    pub is_skipped: bool,
    /// Whether it is a dead letter, or was discarded, and was never processed: nothing was done about it.
    pub is_given_up: bool,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl KnownRow {
    pub(crate) fn new(seq: i64, key: Key, order_key: OrderKey, is_reviewed: bool) -> Self {
        let (is_in_review, is_skipped, is_given_up) = (false, false, false);
        Self { seq, key, order_key, is_reviewed, is_in_review, is_skipped, is_given_up }
    }

    pub(crate) fn in_review(mut self, is_in_review: bool) -> Self {
        self.is_in_review = is_in_review;
        self
    }

    pub(crate) fn skipped(mut self, is_skipped: bool) -> Self {
        self.is_skipped = is_skipped;
        self
    }

    pub(crate) fn given_up(mut self, is_given_up: bool) -> Self {
        self.is_given_up = is_given_up;
        self
    }
}

impl Known {
    pub(crate) fn new(rows: Vec<KnownRow>) -> Self {
        let extent = Extent::of(rows.last().map(|row| row.seq), rows.len());
        Self { rows, body: Bytes::new(), extent }
    }

    /// Adds what was processed last, at its place, if its row is deleted.
    pub(crate) fn recall(mut self, kind: &str, object: &str, processed: Option<Processed>) -> Self {
        let Some(processed) = processed else { return self };
        let (seq, order_key) = (processed.arrival(), processed.order_key());
        let place = self.rows.partition_point(|row| row.seq < seq);
        if self.rows.get(place).is_none_or(|row| row.seq != seq) {
            let key = Key::new(kind, object, order_key);
            self.rows.insert(place, KnownRow::new(seq, key, order_key.clone(), true));
        }
        self
    }

    /// What is known apart from one notification.
    pub(crate) fn without(&self, seq: i64) -> Self {
        let rows = self.rows.iter().filter(|row| row.seq != seq).cloned().collect();
        Self { rows, body: Bytes::new(), extent: self.extent }
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// The number of the notification whose body belongs to this.
    pub(crate) fn end_seq(&self) -> Option<i64> {
        self.end().map(|(row, _)| row.seq)
    }

    /// Which notifications were stored when this was read.
    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// The notifications that count. Those kept for review do not, because nothing is done about them yet.
    fn counted(&self) -> impl Iterator<Item = &KnownRow> {
        self.rows.iter().filter(|row| !row.is_in_review && !row.is_skipped)
    }

    /// The notification in whose state the object ends when all are handled, and what counts as processed then.
    pub(crate) fn end(&self) -> Option<(&KnownRow, Processed)> {
        Self::end_of(self.counted())
    }

    fn end_of<'a>(rows: impl Iterator<Item = &'a KnownRow>) -> Option<(&'a KnownRow, Processed)> {
        rows.fold(None, |end, row| {
            let processed = end.as_ref().map(|(_, processed)| processed);
            if !row.order_key.verdict(row.seq, row.is_reviewed, processed).should_handle() {
                return end;
            }
            let processed = Processed::after(processed, &row.order_key, row.seq);
            Some((row, processed))
        })
    }

    /// Compares the state of the object as it was fetched with what is stored.
    ///
    /// A notification that was given up does not make the API late: its time can be forged or wrong, and nothing would be recovered any
    /// more.
    pub(crate) fn compare(&self, fetched: &OrderKey) -> Compared {
        let compared = Self::compare_with(self.end(), fetched);
        if compared != Compared::Ahead {
            return compared;
        }
        let handled = self.counted().filter(|row| !row.is_given_up);
        Self::compare_with(Self::end_of(handled), fetched)
    }

    fn compare_with(end: Option<(&KnownRow, Processed)>, fetched: &OrderKey) -> Compared {
        let Some((end, processed)) = end else { return Compared::Recovered };
        if fetched.is_duplicate_of(&end.order_key) {
            return Compared::Agreed;
        }
        // It is what is true now, so it counts as the last to arrive, and as reviewed.
        match fetched.verdict(i64::MAX, true, Some(&processed)) {
            // Not stored, because it tells nothing that a later notification does not.
            Verdict::Stale => Compared::Ahead,
            Verdict::Amended => Compared::Amended,
            _ => Compared::Recovered,
        }
    }

    /// The key to store a fetched notification under.
    pub(crate) fn key_of(&self, record: &Record) -> Key {
        let is_taken = |key: Key| self.rows.iter().any(|row| row.key == key);
        let mut key = record.key;
        if is_taken(key)
            && let Some(last) = self.rows.last()
        {
            key = record.key_after(last.key);
        }
        while is_taken(key) {
            key = record.key_after(key);
        }
        key
    }
}

/// How a fetched state compares with what is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compared {
    /// They are the same.
    Agreed,
    /// The status and the time are the same, and the content differs.
    Amended,
    /// It was fetched, and is not stored.
    Recovered,
    /// What is stored is later.
    Ahead,
}

#[cfg(test)]
mod tests {
    use tower_inqud::{Notification, Payment, PaymentRequest};

    use super::*;

    fn order_key<T: Notification + serde::de::DeserializeOwned + 'static>(body: &str) -> OrderKey {
        let event: T = tower_inqud::danger::decode(body.as_bytes()).unwrap();
        OrderKey::new(&event, body.as_bytes())
    }

    fn known(order_keys: &[OrderKey]) -> Known {
        let row = |(seq, order_key): (i64, &OrderKey)| {
            let key = Key::new("kind", "object", order_key);
            KnownRow::new(seq, key, order_key.clone(), false)
        };
        Known::new((1..).zip(order_keys).map(row).collect())
    }

    #[test]
    fn recalls_what_was_processed_last_at_its_place() {
        let paid = order_key::<Payment>(r#"{"id":"PMT-1","status":"SUCCESS"}"#);
        for (arrival, expected) in
            [(1, &[1, 2, 4][..]), (2, &[2, 4]), (3, &[2, 3, 4]), (4, &[2, 4]), (5, &[2, 4, 5])]
        {
            let mut known = known(&[paid.clone(), paid.clone()]);
            (known.rows[0].seq, known.rows[1].seq) = (2, 4);
            let processed = Processed::after(None, &paid, arrival);
            let recalled = known.recall("payment", "PMT-1", Some(processed));
            let seqs: Vec<_> = recalled.rows.iter().map(|row| row.seq).collect();
            assert_eq!(seqs, expected, "{arrival}");
        }
    }

    #[test]
    fn compares_requests_by_their_times() {
        let at = |status, time| {
            let body = format!(r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":"{time}"}}"#);
            order_key::<PaymentRequest>(&body)
        };
        let pending = at("PENDING_PAYMENT", "2026-11-22T10:01:00.250Z");
        let paid = at("SUCCESS", "2026-11-22T10:05:00.250123Z");
        let both = known(&[paid.clone(), pending.clone()]);
        for (fetched, compared) in [
            (&paid, Compared::Agreed),
            (&at("SUCCESS", "2026-11-22T10:05:00.250Z"), Compared::Agreed),
            // Rounded, not floored.
            (&at("SUCCESS", "2026-11-22T10:05:00.251Z"), Compared::Agreed),
            (&pending, Compared::Ahead),
            (&at("CONFLICT", "2026-11-22T10:06:00Z"), Compared::Recovered),
            (&at("SUCCESS", "2026-11-22T10:06:00Z"), Compared::Recovered),
        ] {
            assert_eq!(both.compare(fetched), compared, "{fetched:?}");
        }
        assert_eq!(known(&[]).compare(&paid), Compared::Recovered);
    }

    #[test]
    fn compares_payments_by_arrival() {
        let of = |status| order_key::<Payment>(&format!(r#"{{"id":"PMT-1","status":"{status}"}}"#));
        let (pending, paid, failed) = (of("PENDING"), of("SUCCESS"), of("FAILED"));
        let both = known(&[pending.clone(), paid.clone(), failed.clone()]);
        for (fetched, compared) in [
            (&failed, Compared::Agreed),
            // Not a late duplicate, because the API says that it is so now.
            (&paid, Compared::Recovered),
            (&pending, Compared::Ahead),
        ] {
            assert_eq!(both.compare(fetched), compared, "{fetched:?}");
        }
        let mut reviewed = known(&[paid.clone(), failed, paid.clone()]);
        reviewed.rows[2].is_in_review = true;
        assert_eq!(reviewed.compare(&paid), Compared::Recovered, "a review counts for nothing");
        let amended = r#"{"id":"PMT-1","status":"SUCCESS","amount":7}"#;
        let amended = order_key::<Payment>(amended);
        assert_eq!(known(&[pending, paid]).compare(&amended), Compared::Amended);
    }
}
