use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Notification, RawJson, Stage, kind, lenient};

/// A subscription, as its webhook shows it.
///
/// `id`, `status`, `subStatus` and the next write-off are confirmed; the other fields are inferred
/// from Inqud's published sample. Unknown fields are ignored, and every field but `id` and `status`
/// may be missing or `null`, which both read as `None`. So do a value of another JSON type and a time
/// that is no instant: see [the rule](crate#fields).
///
/// # Order
///
/// No published sample says when a subscription last changed; `lastUpdatedAt` is read in case one does.
/// If there is none, `INITIATED` never follows another status, and all others are ordered by their
/// arrival, because a subscription comes back: `ACTIVE`, `RENEWING`, `ACTIVE`. One that says what was said
/// before, and not last, is another notification, and is handled. All of this is inferred.
///
/// # Example
///
/// ```
/// use tower_inqud::{Subscription, SubscriptionStatus};
///
/// let json = r#"{"id":"SUB-1","status":"ACTIVE","nextWriteOffAt":"2026-11-30T00:00:00Z"}"#;
/// let subscription: Subscription = serde_json::from_str(json)?;
/// assert_eq!(subscription.status, SubscriptionStatus::Active);
/// assert_eq!(subscription.next_write_off_at().unwrap().to_string(), "2026-11-30T00:00:00Z");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// `SUB-` and a UUID. Never missing (confirmed).
    #[serde(deserialize_with = "kind::id::<_, Subscription>")]
    pub id: String,
    /// `PLAN-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// The plan's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_name: Option<String>,
    /// Where the subscription stands. Never missing (confirmed).
    pub status: SubscriptionStatus,
    /// More about its status.
    #[serde(default, deserialize_with = "lenient::text")]
    pub sub_status: Option<SubscriptionSubStatus>,
    /// Your own id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    /// Inqud's documentation spells it so, its SDK with two f.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_write_of_at: Option<RawJson>,
    next_write_off_at: Option<RawJson>,
    /// When the subscription was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When it last changed. Inferred from the other kinds; not in Inqud's published samples.
    #[serde(default, deserialize_with = "lenient::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Timestamp>,
}

impl Subscription {
    /// When the subscriber is charged next: `nextWriteOffAt`, or `nextWriteOfAt`, as Inqud's SDK and
    /// Inqud's documentation spell it (both confirmed). None too if it is no instant.
    #[must_use]
    pub fn next_write_off_at(&self) -> Option<Timestamp> {
        serde_json::from_str(self.next_write_off_json()?.json()).ok()
    }

    fn next_write_off_json(&self) -> Option<&RawJson> {
        self.next_write_off_at.as_ref().or(self.next_write_of_at.as_ref())
    }

    /// Whether no further change is expected: see [`SubscriptionStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }
}

impl Notification for Subscription {
    fn id(&self) -> &str {
        &self.id
    }

    fn status_text(&self) -> &str {
        self.status.as_str()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.last_updated_at
    }

    fn status_rank(&self) -> u8 {
        self.status.rank()
    }

    fn stage(&self) -> Stage {
        self.status.stage()
    }

    fn recurs(&self) -> bool {
        true
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["planName", "status"]
    }
}

open_enum! {
    /// The status of a subscription. The words are confirmed, what they mean is inferred.
    pub enum SubscriptionStatus {
        /// `INITIATED`: the user has subscribed, the first payment is not through yet.
        Initiated = "INITIATED",
        /// `ACTIVE`: paid for, and renewed when it is time.
        Active = "ACTIVE",
        /// `CANCELLED`: ended by you, or for it was not paid.
        Cancelled = "CANCELLED",
        /// `EXPIRED`
        Expired = "EXPIRED",
    }
}

impl SubscriptionStatus {
    /// Whether it has ended: no further change is expected (inferred).
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Expired)
    }

    /// Inferred from the words.
    fn stage(&self) -> Stage {
        if *self == Self::Initiated { Stage::Early } else { Stage::Settled }
    }

    /// Inferred from the words.
    fn rank(&self) -> u8 {
        match self {
            Self::Initiated => 0,
            Self::Active => 1,
            Self::Other(_) => 2,
            Self::Expired => 3,
            Self::Cancelled => 4,
        }
    }
}

open_enum! {
    /// More about the status of a subscription. That there is such a field is confirmed; the words are
    /// inferred from Inqud's public documentation and SDK.
    pub enum SubscriptionSubStatus {
        /// `ACTIVE`
        Active = "ACTIVE",
        /// `RENEWING`: active, and being renewed.
        Renewing = "RENEWING",
        /// `UNPAID`
        Unpaid = "UNPAID",
        /// `CANCELLED_PLAN`
        CancelledPlan = "CANCELLED_PLAN",
        /// `CANCELLED_BY_MERCHANT`
        CancelledByMerchant = "CANCELLED_BY_MERCHANT",
    }
}
