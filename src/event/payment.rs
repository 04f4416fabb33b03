use std::fmt;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::buffered::Text;
use super::id_fields::is_foreign_id;
use super::open_enum::open_enum;
use super::{Amount, EventKind, Notification, Stage, kind, lenient};

/// A payment, incoming or outgoing. Its webhook is sent at each change of status, and for payments to
/// static addresses too (confirmed).
///
/// The fields, their names and their JSON types are confirmed by Inqud's documentation, unless a field
/// says otherwise. Unknown fields are ignored. Every field except `id` and `status` may be missing or
/// `null`, and both read as `None`. A value of another JSON type is rejected in `clientOrderId`, `amount`,
/// `currency` and `orderType`. Elsewhere it reads as `None`, and so does a time that is not an instant:
/// see [the rule](crate#fields).
///
/// # The old form
///
/// An older sample of Inqud's has `paymentId` instead of `id`, and a [`user_id`](Self::user_id) and a
/// [`timestamp`](Self::timestamp). This form is accepted too. Without an `id`, both other fields must be
/// present, and no id that a payment does not have, such as a `refundId`. Otherwise a refund that names
/// its payment could be mistaken for the payment. A payment serializes to the form and the spelling that
/// it was read from.
///
/// # Order
///
/// No published sample has the time of the last change. `lastUpdatedAt` is read in case Inqud sends it.
/// Without it, `NEW` and `PENDING` never follow another status, `PARTIAL_SUCCESS` never follows `SUCCESS`,
/// and all others are ordered by arrival.
///
/// Inqud's support can turn a `SUCCESS` into a `FAILED` and back (confirmed). Nothing tells whether the
/// status that arrived last is the latest, so its [verdict](crate::Verdict) is `Unordered`: read the
/// payment through Inqud's API before you undo anything. A `SUCCESS` that is repeated after a `FAILED` may
/// have come back or be a late duplicate, so it is kept for review.
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
    /// `externalId`: an id whose meaning is not public.
    pub external_id: Option<String>,
    /// The amount, in [`currency`](Self::currency).
    pub amount: Option<Amount>,
    /// The currency of [`amount`](Self::amount), such as `USD`.
    pub currency: Option<String>,
    /// The method of payment: `CRYPTOCOIN`, `CC_VISAMC`, or another.
    pub method: Option<String>,
    /// Whether the payment is incoming or outgoing.
    pub order_type: Option<OrderType>,
    /// The type of transaction: `DEBIT`, or another.
    pub transaction_type: Option<String>,
    /// `h2H`: whether the payment was made host to host (inferred from the name).
    pub h2h: Option<bool>,
    /// The status of the payment. Never missing (confirmed).
    pub status: PaymentStatus,
    /// When the payment was created.
    pub created_at: Option<Timestamp>,
    /// When the payment last changed. Inferred from the other kinds, and not in Inqud's published samples.
    pub last_updated_at: Option<Timestamp>,
    /// `userId`, in the old form only.
    pub user_id: Option<String>,
    /// `timestamp`, in the old form only. Its meaning is not public, so it does not order notifications.
    pub timestamp: Option<Timestamp>,
    spelling: Spelling,
}

/// The spelling of the original, where two spellings are read as the same.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spelling {
    payment_id: bool,
    cancelled: bool,
}

impl Payment {
    /// Whether you received money: the payment succeeded in full and is a pay-in.
    ///
    /// A payment without an [`order_type`](Self::order_type) counts as a pay-in. One with an unknown type does
    /// not, because it may be money that you sent.
    #[must_use]
    pub fn is_incoming_paid(&self) -> bool {
        self.status.is_successful() && matches!(self.order_type, None | Some(OrderType::PayIn))
    }

    /// Whether you [received](Self::is_incoming_paid) at least this amount in this currency.
    ///
    /// `false` if [`amount`](Self::amount) or [`currency`](Self::currency) is unknown.
    #[must_use]
    pub fn is_paid_for(&self, amount: &Amount, currency: &str) -> bool {
        self.is_incoming_paid()
            && Amount::covers(self.amount.as_ref(), self.currency.as_deref(), amount, currency)
    }

    /// Whether the payment succeeded in full, incoming or outgoing: see [`PaymentStatus::is_successful`].
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

    fn order_id(&self) -> Option<&str> {
        self.client_order_id.as_deref().or(self.order_id.as_deref())
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
    /// `PENDING`, `FAILED` and `SUCCESS` are documented for crypto payments (confirmed). The others are
    /// documented for the payment webhook (confirmed).
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
        /// `FAILED`, or `CANCELLED`, which Inqud says to treat as failed (confirmed).
        Failed = "FAILED" | "CANCELLED",
        /// `EXPIRED`
        Expired = "EXPIRED",
    }
}

impl PaymentStatus {
    /// Whether the payment succeeded in full. Only [`Success`](Self::Success) did. If a pay-out succeeded,
    /// the money left you.
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected.
    ///
    /// What follows a [`PartialSuccess`](Self::PartialSuccess) is not public, so it does not count as final.
    /// Inqud's support can still change a final status (confirmed), so do not ignore what follows.
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
    /// Whether a payment is incoming or outgoing.
    pub enum OrderType {
        /// `PAYIN`: incoming, to you.
        PayIn = "PAYIN",
        /// `PAYOUT`: outgoing, from you.
        PayOut = "PAYOUT",
    }
}

/// A payment exactly as it is sent.
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
    // The outer `Option` is whether the field is present at all, which identifies the old form.
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
    /// A status that keeps the one spelling that [`PaymentStatus`] does not.
    enum StatusWord {
        /// Read as [`PaymentStatus::Failed`].
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

/// An object, and whether a field that no payment has was seen in it: an id of something else.
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
    /// `None` if it does not have the id of a payment.
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
        // The merchant may have changed the status since.
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
