//! Identity and order: which deliveries are the same notification, and which of two comes later.
//!
//! This is the one place where that is decided. The inbox's stores, its runner and [`History`](crate::History) all ask
//! here.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::content::{Content, milliseconds};
use super::{Notification, Stage};

/// How a notification stands to the latest one of its object that was handled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is later, or the first of its object. Handle it.
    Newer,
    /// It has the same status and the same time as the one that was handled, and other content: a
    /// larger `paidAmount`, say. Handle it; what must happen once per order has happened already.
    Amended,
    /// Nothing proves which of the two is later, as with `SUCCESS` and then `FAILED` of a payment
    /// without times. Handle it, and read the object through Inqud's API before you undo anything.
    Unordered,
    /// It is earlier than what was handled. Do not handle it.
    Stale,
    /// It may be a late duplicate, or a status that came back. A person or Inqud's API has to tell. Do
    /// not handle it, and do not lose it.
    Review,
    /// It is the same notification as one that arrived before. Do nothing.
    Duplicate,
}

impl Verdict {
    /// Whether the notification is to be handled: [`Newer`](Self::Newer), [`Amended`](Self::Amended) or
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

/// What tells a notification from others about the same object, and orders it among them: its status,
/// its last update and its [content](Content).
///
/// Compare order keys of the same object only.
///
/// - A delivery is a **duplicate** of another if status, last update and content are equal. Times are
///   floored to the millisecond, and also equal if they are one millisecond apart, because a retry may
///   render them with fewer digits.
/// - The **order** is that of the last update, then that of
///   [`status_rank`](Notification::status_rank). Without last updates it is that of the
///   [`Stage`], and then that of arrival. See [`Verdict`].
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

/// A longer status is cut, and its hash kept with it.
const STATUS_LEN: usize = 64;

/// What times may differ by, in milliseconds: half of those that are rounded to one do.
const TOLERANCE: u64 = 1;

impl OrderKey {
    /// The order key of a notification, and the body that it was read from.
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

    /// The order key of a body of which nothing is known.
    #[must_use]
    pub fn of_undecodable(body: &[u8]) -> Self {
        let content = Content::of_bytes(body);
        let (status, stage) = (String::new(), Stage::Settled);
        Self { status, last_update: None, rank: 0, stage, recurs: false, content }
    }

    /// Whether both are deliveries of the same notification.
    #[must_use]
    pub fn is_duplicate_of(&self, other: &Self) -> bool {
        let is_same_time = match (self.last_update, other.last_update) {
            (Some(one), Some(other)) => one.abs_diff(other) <= TOLERANCE,
            (one, other) => one == other,
        };
        is_same_time && self.status == other.status && self.says_the_same_as(other)
    }

    /// Whether this changes the state of the object if it arrives after `other` was handled.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        !self.is_duplicate_of(other)
            && self.verdict(1, false, Some(&Processed::new(other, 0))).should_handle()
    }

    /// What to sort by what waits to be handled, before the arrival: those without a last update first, then
    /// by last update, then by rank.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.last_update.map_or(i64::MIN, |time| {
            // A year fits into a tenth of what an `i64` has left.
            time.saturating_mul(256).saturating_add(i64::from(self.rank))
        })
    }

    /// How this stands to the latest order key of its object that was handled.
    ///
    /// `arrival` is a number that grows with each notification of the object that is stored, and stays.
    /// `is_reviewed` says that a [`Review`](Verdict::Review) is over: it is not asked for again.
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

    /// What becomes of a delivery with this order key, where `stored` are those of its object, in the order of
    /// their arrival.
    #[must_use]
    pub fn dedup<'v>(&self, stored: impl IntoIterator<Item = &'v Self>) -> Dedup {
        let (mut is_known, mut has_times) = (false, false);
        let mut last_settled: Option<&Self> = None;
        for order_key in stored {
            is_known |= self.is_duplicate_of(order_key);
            has_times |= order_key.last_update.is_some();
            // A part that arrives after the whole is no news, so nothing came in between.
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

    /// Whether a repetition of this is a duplicate whatever came in between.
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

    /// The status. A long one is cut, and has a hash at its end.
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

    /// As a store keeps it: a format of this crate's, at most 400 bytes long.
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

    /// What [`to_bytes`](Self::to_bytes) made; `None` for anything else.
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

/// Its [bytes](OrderKey::to_bytes) in hexadecimal digits.
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
        order_key.ok_or_else(|| de::Error::custom("not the digits of an order key"))
    }
}

/// The order key of an object that was handled last.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Processed {
    order_key: OrderKey,
    arrival: i64,
}

impl Processed {
    fn new(order_key: &OrderKey, arrival: i64) -> Self {
        Self { order_key: order_key.clone(), arrival }
    }

    /// What it becomes when `order_key` is handled. An order key without a last update leaves the time as it
    /// was, so that what is earlier than that stays so.
    #[must_use]
    pub fn after(processed: Option<&Self>, order_key: &OrderKey, arrival: i64) -> Self {
        let mut next = Self::new(order_key, arrival);
        let last_update = processed.and_then(|latest| latest.order_key.last_update);
        next.order_key.last_update = next.order_key.last_update.or(last_update);
        next
    }

    /// As a store keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.arrival.to_be_bytes()[..], &self.order_key.to_bytes()].concat()
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (arrival, order_key) = bytes.split_first_chunk()?;
        let arrival = i64::from_be_bytes(*arrival);
        Some(Self { order_key: OrderKey::from_bytes(order_key)?, arrival })
    }
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Dedup {
    /// It is not known yet.
    New,
    /// It is a notification that is known.
    Duplicate,
    /// It says what was said before, and came back, as the `ACTIVE` of a subscription does.
    Recurrence,
    /// It says what was said before, and something else was said since. Whether it came back or is a late
    /// duplicate cannot be told.
    Review,
}
