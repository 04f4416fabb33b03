use std::fmt;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::buffered::Text;
use super::id_fields::is_foreign_id;
use super::open_enum::open_enum;
use super::{Amount, EventKind, Notification, Stage, kind, lenient};

/// A payment, in or out, as its webhook shows it at each change of status. Static addresses tell
/// of their payments by it too (confirmed).
///
/// The fields, their names and JSON types are confirmed by Inqud's documentation unless a field says
/// otherwise. Unknown fields are ignored, and every field but `id` and `status` may be missing or
/// `null`, which both read as `None`. A value of another JSON type is refused in `clientOrderId`,
/// `amount`, `currency` and `orderType`, and reads as `None` elsewhere, as does a time that is no
/// instant: see [the rule](crate#fields).
///
/// An old form of it, in an older sample of Inqud's, says `paymentId` for `id` and has
/// [`user_id`](Self::user_id) and [`timestamp`](Self::timestamp); it is read too. Without an `id`, both
/// of these must be there, and no id that a payment does not have, such as a `refundId`: something else
/// that names a payment must not be taken for it. Serialized, a payment has the form and the words that
/// it was read from.
///
/// # Order
///
/// No published sample says when a payment last changed; `lastUpdatedAt` is read in case one does. If
/// there is none, `NEW` and `PENDING` never follow another status, and all others are ordered by their
/// arrival: Inqud's support can turn a `SUCCESS` into a `FAILED` and back (confirmed). Nothing tells
/// whether the `FAILED` that arrived last came last. Its [verdict](crate::Verdict) is then `Unordered`:
/// read the payment through Inqud's API before you undo anything. A `SUCCESS` that is told again after a
/// `FAILED` may have come back or be a late duplicate, and is kept for review.
///
/// # Example
///
/// ```
/// use tower_inqud::{Payment, PaymentStatus};
///
/// let payment: Payment =
///     serde_json::from_str(r#"{"id":"PMT-1","status":"CANCELLED","amount":12.50}"#)?;
/// assert_eq!(payment.status, PaymentStatus::Failed); // as Inqud says to read it
/// assert_eq!(payment.amount.map(|amount| amount.to_string()).as_deref(), Some("12.50"));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(into = "Wire")]
pub struct Payment {
    /// `PMT-` and a UUID. Never missing (confirmed).
    pub id: String,
    /// `ORD-` and a UUID: Inqud's id of the order.
    pub order_id: Option<String>,
    /// Your own id of the order.
    pub client_order_id: Option<String>,
    /// `externalId`
    pub external_id: Option<String>,
    /// How much, in [`currency`](Self::currency).
    pub amount: Option<Amount>,
    /// The currency of [`amount`](Self::amount), such as `USD`.
    pub currency: Option<String>,
    /// How it is paid: `CRYPTOCOIN` or `CC_VISAMC`; there may be others.
    pub method: Option<String>,
    /// Whether it comes in or goes out.
    pub order_type: Option<OrderType>,
    /// `DEBIT`; there may be others.
    pub transaction_type: Option<String>,
    /// `h2H`: whether it was made host to host.
    pub h2h: Option<bool>,
    /// Where the payment stands. Never missing (confirmed).
    pub status: PaymentStatus,
    /// When the payment was created.
    pub created_at: Option<Timestamp>,
    /// When it last changed. Inferred from the other kinds; not in Inqud's published samples.
    pub last_updated_at: Option<Timestamp>,
    /// `userId`, in the old form only.
    pub user_id: Option<String>,
    /// `timestamp`, in the old form only. What it is the time of is not public, so nothing is
    /// ordered by it.
    pub timestamp: Option<Timestamp>,
    spelling: Spelling,
}

/// What of the original would be lost by reading it as the same.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spelling {
    payment_id: bool,
    cancelled: bool,
}

impl Payment {
    /// Whether money came to you: it succeeded in whole, and is no pay-out.
    #[must_use]
    pub fn is_incoming_paid(&self) -> bool {
        self.status.is_successful() && self.order_type != Some(OrderType::PayOut)
    }

    /// Whether money [came to you](Self::is_incoming_paid), and at least this amount in this currency. False if
    /// [`amount`](Self::amount) or [`currency`](Self::currency) is unknown.
    #[must_use]
    pub fn is_paid_for(&self, amount: &Amount, currency: &str) -> bool {
        self.is_incoming_paid()
            && Amount::covers(self.amount.as_ref(), self.currency.as_deref(), amount, currency)
    }

    /// Whether it succeeded in whole, to you or from you: see [`PaymentStatus::is_successful`].
    #[must_use]
    pub fn is_successful(&self) -> bool {
        self.status.is_successful()
    }

    /// Whether no further change is expected: see [`PaymentStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }
}

impl Notification for Payment {
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

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["status"]
    }
}

open_enum! {
    /// The status of a payment.
    ///
    /// For crypto payments `PENDING`, `FAILED` and `SUCCESS` are documented (confirmed); the others
    /// come from Inqud's payment webhook (confirmed there).
    pub enum PaymentStatus {
        /// `NEW`
        New = "NEW",
        /// `PENDING`
        Pending = "PENDING",
        /// `FROZEN`
        Frozen = "FROZEN",
        /// `PARTIAL_SUCCESS`
        PartialSuccess = "PARTIAL_SUCCESS",
        /// `SUCCESS`
        Success = "SUCCESS",
        /// `FAILED`, and `CANCELLED`, which Inqud says to read as failed (confirmed).
        Failed = "FAILED" | "CANCELLED",
        /// `EXPIRED`
        Expired = "EXPIRED",
    }
}

impl PaymentStatus {
    /// Whether the payment succeeded in whole: only with [`Success`](Self::Success). A pay-out that
    /// succeeded has left you.
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected. What follows a [`PartialSuccess`](Self::PartialSuccess)
    /// is not public, so it is not counted among them.
    ///
    /// A final status can still change, by the hand of Inqud's support (confirmed).
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Expired)
    }

    /// Inferred from the words.
    fn stage(&self) -> Stage {
        match self {
            Self::New | Self::Pending => Stage::Early,
            Self::PartialSuccess => Stage::Partial,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    /// Inferred from the words.
    fn rank(&self) -> u8 {
        match self {
            Self::New => 0,
            Self::Pending => 1,
            Self::Frozen => 2,
            Self::Other(_) => 3,
            Self::PartialSuccess => 4,
            Self::Expired => 5,
            Self::Failed => 6,
            Self::Success => 7,
        }
    }
}

open_enum! {
    /// Whether a payment comes in or goes out.
    pub enum OrderType {
        /// `PAYIN`: to you.
        PayIn = "PAYIN",
        /// `PAYOUT`: from you.
        PayOut = "PAYOUT",
    }
}

/// A payment as it is sent, word for word.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default, deserialize_with = "kind::optional_id::<_, Payment>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    order_id: Option<String>,
    client_order_id: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    external_id: Option<String>,
    amount: Option<Amount>,
    currency: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    method: Option<String>,
    order_type: Option<OrderType>,
    #[serde(default, deserialize_with = "lenient::text")]
    transaction_type: Option<String>,
    #[serde(default, deserialize_with = "lenient::flag")]
    #[serde(rename = "h2H")]
    h2h: Option<bool>,
    status: StatusWord,
    #[serde(default, deserialize_with = "lenient::time")]
    created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated_at: Option<Timestamp>,
    // Whether these two are there at all tells the old form.
    #[serde(default, deserialize_with = "sent_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "sent_time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Option<Timestamp>>,
}

fn sent_text<'de, D>(deserializer: D) -> Result<Option<Option<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    lenient::text(deserializer).map(Some)
}

fn sent_time<'de, D>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error>
where
    D: Deserializer<'de>,
{
    lenient::time(deserializer).map(Some)
}

open_enum! {
    /// The one word that would be lost as a [`PaymentStatus`].
    enum StatusWord {
        /// Reads as failed.
        Cancelled = "CANCELLED",
    }
}

impl<'de> Deserialize<'de> for Payment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Payment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Payment, A::Error> {
                let mut has_foreign_id = false;
                let object = Watched { object, has_foreign_id: &mut has_foreign_id };
                let wire = Wire::deserialize(MapAccessDeserializer::new(object))?;
                Payment::of(wire, has_foreign_id).ok_or_else(|| A::Error::missing_field("id"))
            }
        }

        deserializer.deserialize_map(Either)
    }
}

/// An object of which it is noted whether it has an id that no payment has.
struct Watched<'a, A> {
    object: A,
    has_foreign_id: &'a mut bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Watched<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(Text(key)) = self.object.next_key()? else { return Ok(None) };
        *self.has_foreign_id |= is_foreign_id(&key);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.object.next_value_seed(seed)
    }
}

impl Payment {
    /// `None` if it has no id of a payment: in the old form, that is another field.
    fn of(wire: Wire, has_foreign_id: bool) -> Option<Self> {
        let spelling = Spelling {
            payment_id: wire.id.is_none(),
            cancelled: wire.status == StatusWord::Cancelled,
        };
        let is_old = wire.user_id.is_some() && wire.timestamp.is_some() && !has_foreign_id;
        let id = wire.id.or(wire.payment_id.filter(|_| is_old));
        Some(Self {
            id: id.filter(|id| EventKind::Payment.not_of(id).is_none())?,
            order_id: wire.order_id,
            client_order_id: wire.client_order_id,
            external_id: wire.external_id,
            amount: wire.amount,
            currency: wire.currency,
            method: wire.method,
            order_type: wire.order_type,
            transaction_type: wire.transaction_type,
            h2h: wire.h2h,
            status: wire.status.as_str().into(),
            created_at: wire.created_at,
            last_updated_at: wire.last_updated_at,
            user_id: wire.user_id.flatten(),
            timestamp: wire.timestamp.flatten(),
            spelling,
        })
    }
}

impl From<Payment> for Wire {
    fn from(payment: Payment) -> Self {
        let is_old = payment.spelling.payment_id;
        let (id, payment_id) = match is_old {
            true => (None, Some(payment.id)),
            false => (Some(payment.id), None),
        };
        // The status may have been set to another since.
        let status = match payment.status {
            PaymentStatus::Failed if payment.spelling.cancelled => StatusWord::Cancelled,
            status => status.as_str().into(),
        };
        Self {
            id,
            payment_id,
            order_id: payment.order_id,
            client_order_id: payment.client_order_id,
            external_id: payment.external_id,
            amount: payment.amount,
            currency: payment.currency,
            method: payment.method,
            order_type: payment.order_type,
            transaction_type: payment.transaction_type,
            h2h: payment.h2h,
            status,
            created_at: payment.created_at,
            last_updated_at: payment.last_updated_at,
            user_id: payment.user_id.map(Some).or(is_old.then_some(None)),
            timestamp: payment.timestamp.map(Some).or(is_old.then_some(None)),
        }
    }
}
