//! Identity and order: which deliveries are the same notification, and which of two notifications is later.
//!
//! Only this module decides that. The inbox's stores, its runner and [`History`](crate::History) call it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::content::{Content, milliseconds};
use super::{Notification, Stage};

/// How a notification compares with the last one that was handled about the same object.
///
/// [`guide::order`](crate::guide::order) has the rules.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is later, or the first one about its object. Handle it.
    Newer,
    /// It has the same status and the same time, or neither has a time, but other content, such as a larger
    /// `paidAmount`. Handle it, but do not repeat what must happen once per order.
    Amended,
    /// Nothing tells which of the two is later, as with `SUCCESS` and then `FAILED` of a payment
    /// without times. Handle it, and read the object through Inqud's API before you undo anything.
    Unordered,
    /// It is earlier than what was handled. Skip it.
    Stale,
    /// It is either a late delivery or a real change, and nothing tells which. Do not handle it, but keep
    /// it, and read the object through Inqud's API.
    Review,
    /// It is the same notification as one that arrived before. Acknowledge it and do nothing.
    Duplicate,
}

impl Verdict {
    /// Whether to handle the notification: `true` for [`Newer`](Self::Newer), [`Amended`](Self::Amended) and
    /// [`Unordered`](Self::Unordered).
    #[must_use]
    pub fn should_handle(self) -> bool {
        matches!(self, Self::Newer | Self::Amended | Self::Unordered)
    }

    /// The name in logs and metrics: `newer`, `amended`, `unordered`, `stale`, `review` or `duplicate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newer => "newer",
            Self::Amended => "amended",
            Self::Unordered => "unordered",
            Self::Stale => "stale",
            Self::Review => "review",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The key that identifies and orders a notification among others about the same object: its status, its
/// last update and its [content](Content).
///
/// Compare only order keys of the same object.
///
/// - A delivery is a **duplicate** of another if status, last update and content are equal. Times are
///   floored to the millisecond, and two times that are one millisecond apart are equal, because a retry
///   may render them with fewer digits.
/// - The **order** is that of the last update, then that of [`status_rank`](Notification::status_rank).
///   Without last updates, it is that of the [`Stage`], then that of arrival. See [`Verdict`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OrderKey {
    status: String,
    /// Milliseconds since 1970.
    last_update: Option<i64>,
    rank: u8,
    stage: Stage,
    recurs: bool,
    content: Content,
}

/// The maximum length of a status. A longer one is truncated, and a hash of it is appended.
const STATUS_LEN: usize = 64;

/// The difference between equal times, in milliseconds. It covers a retry that rounds times to the
/// millisecond instead of flooring them.
const TOLERANCE: u64 = 1;

impl OrderKey {
    /// Creates the order key of a notification. `body` is the JSON that it was decoded from.
    #[must_use]
    pub fn new(notification: &(impl Notification + ?Sized), body: &[u8]) -> Self {
        Self {
            status: bounded(notification.status_text()),
            last_update: notification.last_update().map(milliseconds),
            rank: notification.status_rank(),
            stage: notification.stage(),
            recurs: notification.recurs(),
            content: notification.content(body),
        }
    }

    /// Creates the order key of a body that could not be decoded.
    #[must_use]
    pub fn of_undecodable(body: &[u8]) -> Self {
        let content = Content::of_bytes(body);
        let (status, stage) = (String::new(), Stage::Settled);
        Self { status, last_update: None, rank: 0, stage, recurs: false, content }
    }

    /// Whether both keys are of the same notification.
    #[must_use]
    pub fn is_duplicate_of(&self, other: &Self) -> bool {
        let is_same_time = match (self.last_update, other.last_update) {
            (Some(one), Some(other)) => one.abs_diff(other) <= TOLERANCE,
            (one, other) => one == other,
        };
        is_same_time && self.status == other.status && self.says_the_same_as(other)
    }

    /// Whether this notification should be handled if it arrives after `other` was handled.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        !self.is_duplicate_of(other)
            && self.verdict(1, false, Some(&Processed::new(other, 0))).should_handle()
    }

    /// The position in the order in which a backlog is handled. Where it is equal, the order of arrival
    /// decides.
    ///
    /// Notifications without a last update come first, the others by last update, then by rank.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.last_update.map_or(i64::MIN / 2, |time| {
            // A `Timestamp` in milliseconds takes 49 bits with its sign, so this does not saturate.
            time.saturating_mul(256).saturating_add(i64::from(self.rank))
        })
    }

    /// Compares this notification with the last one that was handled about its object.
    ///
    /// `arrival` is a number that grows with each stored notification of the object. It never changes
    /// afterwards, not even if the notification is redriven. `is_reviewed` says that a
    /// [`Review`](Verdict::Review) has ended, so the result is not `Review` again.
    #[must_use]
    pub fn verdict(
        &self,
        arrival: i64,
        is_reviewed: bool,
        processed: Option<&Processed>,
    ) -> Verdict {
        let Some(Processed { order_key: latest, arrival: latest_arrival }) = processed else {
            return Verdict::Newer;
        };
        let is_later_arrival = arrival > *latest_arrival;
        match (self.last_update, latest.last_update) {
            (Some(_), None) => return Verdict::Newer,
            (None, Some(_)) if is_reviewed && (is_later_arrival || !latest.is_settled()) => {
                return Verdict::Unordered;
            }
            (None, Some(_)) if !is_reviewed && self.rank > latest.rank => return Verdict::Review,
            (None, Some(_)) => return Verdict::Stale,
            (Some(mine), Some(its)) if (mine, self.rank) < (its, latest.rank) => {
                return Verdict::Stale;
            }
            (Some(mine), Some(its)) if (mine, self.rank) > (its, latest.rank) => {
                return Verdict::Newer;
            }
            (Some(_), Some(_)) => {}
            (None, None) => match (self.is_settled(), latest.is_settled()) {
                (false, true) => return Verdict::Stale,
                (true, false) => return Verdict::Newer,
                (false, false) if self.rank < latest.rank => return Verdict::Stale,
                (false, false) if self.rank > latest.rank => return Verdict::Newer,
                (true, true) if self.is_part_of(latest) => return Verdict::Stale,
                // Whenever the two arrived: otherwise a success that is redriven after a part of it would be lost.
                (true, true) if latest.is_part_of(self) => return Verdict::Unordered,
                _ => {}
            },
        }
        if !is_later_arrival {
            Verdict::Stale
        } else if self.status == latest.status && !self.says_the_same_as(latest) {
            Verdict::Amended
        } else {
            Verdict::Unordered
        }
    }

    /// Decides whether a delivery with this order key is a duplicate.
    ///
    /// `stored` are the order keys of its object that are stored already, in order of arrival.
    #[must_use]
    pub fn dedup<'v>(&self, stored: impl IntoIterator<Item = &'v Self>) -> Dedup {
        let (mut is_known, mut has_times) = (false, false);
        let mut last_settled: Option<&Self> = None;
        for order_key in stored {
            is_known |= self.is_duplicate_of(order_key);
            has_times |= order_key.last_update.is_some();
            // A `PARTIAL_SUCCESS` that arrives after its `SUCCESS` is stale. It does not count as a change.
            let is_news = last_settled.is_none_or(|last| !order_key.is_part_of(last));
            if order_key.is_settled() && is_news {
                last_settled = Some(order_key);
            }
        }
        if !is_known {
            return Dedup::New;
        }
        let is_last =
            last_settled.is_none_or(|last| self.is_duplicate_of(last) || self.is_part_of(last));
        if self.repeat_is_duplicate() || has_times || is_last {
            Dedup::Duplicate
        } else if self.recurs {
            Dedup::Recurrence
        } else {
            Dedup::Review
        }
    }

    /// Whether a repeat of this notification is a duplicate, whatever arrived in between.
    #[must_use]
    pub fn repeat_is_duplicate(&self) -> bool {
        self.last_update.is_some() || !self.is_settled()
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        self.content.is_same_within(&other.content, TOLERANCE)
    }

    fn is_settled(&self) -> bool {
        self.stage != Stage::Early
    }

    fn is_part_of(&self, other: &Self) -> bool {
        self.stage == Stage::Partial && other.stage == Stage::Success
    }

    /// The status. If it is longer than 64 bytes, its start and a hash.
    #[must_use]
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The last update, in milliseconds since 1970.
    #[must_use]
    pub fn last_update(&self) -> Option<i64> {
        self.last_update
    }

    /// The content.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Encodes the key for a store, in at most 400 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::Early => 0,
            Stage::Partial => 1,
            Stage::Success => 2,
            Stage::Settled => 3,
        };
        let recurs = u8::from(self.recurs) << 2;
        let has_time = u8::from(self.last_update.is_some()) << 3;
        let mut bytes = vec![stage | recurs | has_time, self.rank];
        bytes.extend(self.last_update.unwrap_or_default().to_be_bytes());
        bytes.extend(self.content.hash);
        bytes.push(u8::try_from(self.status.len()).unwrap_or(u8::MAX));
        bytes.extend(self.status.as_bytes());
        self.content.times.iter().for_each(|time| bytes.extend(time.to_be_bytes()));
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) encoded. `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([flags, rank], bytes) = bytes.split_first_chunk()?;
        let (time, bytes) = bytes.split_first_chunk()?;
        let (hash, bytes) = bytes.split_first_chunk()?;
        let (status_len, bytes) = bytes.split_first()?;
        let (status, times) = bytes.split_at_checked(usize::from(*status_len))?;
        let (times, rest) = times.as_chunks();
        (flags & !0b1111 == 0 && rest.is_empty()).then(|| {
            let times = times.iter().map(|time| i64::from_be_bytes(*time)).collect();
            Some(Self {
                status: String::from_utf8(status.to_owned()).ok()?,
                last_update: (flags & 8 != 0).then(|| i64::from_be_bytes(*time)),
                rank: *rank,
                stage: match flags & 3 {
                    0 => Stage::Early,
                    1 => Stage::Partial,
                    2 => Stage::Success,
                    _ => Stage::Settled,
                },
                recurs: flags & 4 != 0,
                content: Content { hash: *hash, times },
            })
        })?
    }
}

fn bounded(status: &str) -> String {
    if status.len() <= STATUS_LEN {
        return status.to_owned();
    }
    let hash: String = Content::of_bytes(status.as_bytes())
        .hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let start: String = status.chars().take(STATUS_LEN / 8).collect();
    format!("{start}...{hash}")
}

/// Serializes as the hexadecimal digits of its [bytes](OrderKey::to_bytes).
impl Serialize for OrderKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for OrderKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let order_key = bytes.filter(|_| rest.is_empty()).and_then(|it| Self::from_bytes(&it));
        order_key.ok_or_else(|| de::Error::custom("not a serialized order key; store it unchanged"))
    }
}

/// The last notification that was handled about an object: its order key and its arrival number.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Processed {
    order_key: OrderKey,
    arrival: i64,
}

impl Processed {
    fn new(order_key: &OrderKey, arrival: i64) -> Self {
        Self { order_key: order_key.clone(), arrival }
    }

    /// The next value, after a notification with this `order_key` was handled.
    ///
    /// If `order_key` has no last update, the last update of `processed` is kept, so that what was earlier
    /// than that stays stale.
    #[must_use]
    pub fn after(processed: Option<&Self>, order_key: &OrderKey, arrival: i64) -> Self {
        let mut next = Self::new(order_key, arrival);
        let last_update = processed.and_then(|latest| latest.order_key.last_update);
        next.order_key.last_update = next.order_key.last_update.or(last_update);
        next
    }

    /// The order key of the notification. Its last update can be that of an earlier one: see [`after`](Self::after).
    #[must_use]
    pub fn order_key(&self) -> &OrderKey {
        &self.order_key
    }

    /// The arrival number of the notification.
    #[must_use]
    pub fn arrival(&self) -> i64 {
        self.arrival
    }

    /// Encodes the value for a store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.arrival.to_be_bytes()[..], &self.order_key.to_bytes()].concat()
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) encoded. `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (arrival, order_key) = bytes.split_first_chunk()?;
        let arrival = i64::from_be_bytes(*arrival);
        Some(Self { order_key: OrderKey::from_bytes(order_key)?, arrival })
    }
}

/// Whether a delivery is new or a duplicate, as [`OrderKey::dedup`] decides.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Dedup {
    /// It is a new notification.
    New,
    /// It repeats a stored notification.
    Duplicate,
    /// It repeats a stored notification with another one in between, and its status [can
    /// recur](Notification::recurs), as the `ACTIVE` of a subscription does. It is handled as a new one.
    Recurrence,
    /// It repeats a stored notification with another one in between. Nothing tells whether the status came
    /// back or this is a late duplicate.
    Review,
}
