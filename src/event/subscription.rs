use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Notification, RawJson, Stage, kind, lenient};

/// A subscription. Its webhook is sent at changes of its status.
///
/// `id`, `status`, `subStatus` and the next write-off are confirmed. The other fields are inferred from
/// Inqud's published sample. Unknown fields are ignored. Every field except `id` and `status` may be
/// missing or `null`, and both read as `None`. So do a value of another JSON type and a time that is not
/// an instant: see [the rule](crate#fields).
///
/// # Order
///
/// No published sample has the time of the last change. `lastUpdatedAt` is read in case Inqud sends it.
/// Without it, `INITIATED` never follows another status, and all others are ordered by arrival. The
/// statuses of a subscription recur: `ACTIVE`, `RENEWING`, `ACTIVE`. So a notification that repeats an
/// earlier one, with another in between, is not a duplicate and is handled. All of this is inferred.
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
    /// `PLAN-` and a UUID: the plan.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// The plan's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_name: Option<String>,
    /// The status of the subscription. Never missing (confirmed).
    pub status: SubscriptionStatus,
    /// Details of the status.
    #[serde(default, deserialize_with = "lenient::text")]
    pub sub_status: Option<SubscriptionSubStatus>,
    /// Your own id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    // Inqud's documentation has the spelling with one f, its SDK the one with two.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_write_of_at: Option<RawJson>,
    next_write_off_at: Option<RawJson>,
    /// When the subscription was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the subscription last changed. Inferred from the other kinds, and not in Inqud's published
    /// samples.
    #[serde(default, deserialize_with = "lenient::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Timestamp>,
}

impl Subscription {
    /// When the subscriber is charged next.
    ///
    /// Reads `nextWriteOffAt`, as Inqud's SDK spells it, or `nextWriteOfAt`, as Inqud's documentation does
    /// (both confirmed). `None` if it is missing or is not an instant.
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

    fn order_id(&self) -> Option<&str> {
        self.client_order_id.as_deref()
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
    /// The status of a subscription. The words are confirmed; their meanings are inferred.
    pub enum SubscriptionStatus {
        /// `INITIATED`: the user has subscribed, and the first payment has not succeeded yet.
        Initiated = "INITIATED",
        /// `ACTIVE`: paid for, and renewed when due.
        Active = "ACTIVE",
        /// `CANCELLED`: ended, by you or because it was not paid.
        Cancelled = "CANCELLED",
        /// `EXPIRED`
        Expired = "EXPIRED",
    }
}

impl SubscriptionStatus {
    /// Whether the subscription has ended, so that no further change is expected (inferred).
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
    /// Details of the status of a subscription. The field is confirmed; the words are inferred from Inqud's
    /// public documentation and SDK.
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
