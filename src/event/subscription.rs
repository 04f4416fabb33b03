use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open::open_enum;
use super::{DeliveryKey, Notification, timestamp};

/// A subscription, as its web hook shows it.
///
/// `id`, `status`, `subStatus` and the next write-off are confirmed; the other fields are inferred
/// from Inqud's published sample. Unknown fields are ignored, and every field but `id` and `status`
/// may be missing or `null`, which both read as `None`. A time that is no instant reads as `None`.
///
/// # Order
///
/// No field is known to say when a subscription last changed, and an active one stays `ACTIVE` from
/// renewal to renewal. So it is ordered by its status, then by its next write-off, then by its
/// sub-status; and the [key](Notification::delivery_key) holds the three of them, or one renewal
/// would be taken for a duplicate of another. All of this is inferred.
///
/// # Example
///
/// ```
/// use tower_inqud::{Notification, Subscription, SubscriptionStatus};
///
/// let json = r#"{"id":"SUB-1","status":"ACTIVE","nextWriteOffAt":"2026-11-30T00:00:00Z"}"#;
/// let november: Subscription = serde_json::from_str(json)?;
/// let december: Subscription = serde_json::from_str(&json.replace("11-30", "12-31"))?;
/// assert_eq!(december.status, SubscriptionStatus::Active);
/// assert!(december.supersedes(&november));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// `SUB-` and a UUID. Never missing (confirmed).
    pub id: String,
    /// `PLAN-` and a UUID.
    pub plan_id: Option<String>,
    /// The plan's name.
    pub plan_name: Option<String>,
    /// Where the subscription stands. Never missing (confirmed).
    pub status: SubscriptionStatus,
    /// More about its status.
    pub sub_status: Option<SubscriptionSubStatus>,
    /// Your own id of the order.
    pub client_order_id: Option<String>,
    /// Inqud's documentation spells it so, its SDK with two f.
    #[serde(default, deserialize_with = "timestamp::lenient")]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_write_of_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "timestamp::lenient")]
    next_write_off_at: Option<Timestamp>,
    /// When the subscription was created.
    #[serde(default, deserialize_with = "timestamp::lenient")]
    pub created_at: Option<Timestamp>,
}

impl Subscription {
    /// When the subscriber is charged next: `nextWriteOffAt`, or `nextWriteOfAt`, as Inqud's SDK and
    /// Inqud's documentation spell it (both confirmed).
    #[must_use]
    pub fn next_write_off_at(&self) -> Option<Timestamp> {
        self.next_write_off_at.or(self.next_write_of_at)
    }

    /// Whether no further change is expected: see [`SubscriptionStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }

    fn sub_status_text(&self) -> &str {
        self.sub_status.as_ref().map_or("", SubscriptionSubStatus::as_str)
    }
}

impl Notification for Subscription {
    fn id(&self) -> &str {
        &self.id
    }

    fn status_text(&self) -> &str {
        self.status.as_str()
    }

    /// None: not known of a subscription.
    fn last_update(&self) -> Option<Timestamp> {
        None
    }

    fn status_rank(&self) -> u8 {
        self.status.rank()
    }

    /// With the sub-status after the status, and the next write-off for a last update.
    fn delivery_key(&self) -> DeliveryKey {
        let status = format!("{}.{}", self.status_text(), self.sub_status_text());
        DeliveryKey::new(self.id.clone(), status, self.next_write_off_at())
    }

    /// Later is a status further along, then a later next write-off, then a sub-status further along.
    fn supersedes(&self, other: &Self) -> bool {
        fn age(it: &Subscription) -> (u8, Option<Timestamp>, u8, &str, &str) {
            let sub_rank = it.sub_status.as_ref().map_or(0, SubscriptionSubStatus::rank);
            let texts = (it.status_text(), it.sub_status_text());
            (it.status_rank(), it.next_write_off_at(), sub_rank, texts.0, texts.1)
        }
        self.id == other.id && age(self) > age(other)
    }
}

open_enum! {
    /// The status of a subscription (confirmed).
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

impl SubscriptionSubStatus {
    /// Inferred from the words.
    fn rank(&self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Renewing => 2,
            Self::Other(_) => 3,
            Self::Unpaid => 4,
            Self::CancelledPlan => 5,
            Self::CancelledByMerchant => 6,
        }
    }
}
