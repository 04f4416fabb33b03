use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, PriceType, RawJson, Stage, kind, lenient};

/// An on-ramp checkout, where a payer buys crypto with money, as its webhook shows it.
///
/// The fields and their names are confirmed by Inqud's documentation; the JSON types too, unless a
/// field says otherwise. Unknown fields are ignored, and every field but `id` and `status` may be
/// missing or `null`, which both read as `None`.
///
/// It is ordered by `modifiedAt`, where a Request has `lastUpdatedAt` (confirmed). A value of another
/// JSON type, or a time that is no instant, is refused there, in the two amounts and in their
/// currencies, and reads as `None` elsewhere: see [the rule](crate#fields).
///
/// # Example
///
/// ```
/// use tower_inqud::{Notification, OnRampCheckout, OnRampStatus};
///
/// let checkout: OnRampCheckout = serde_json::from_str(
///     r#"{"id":"ORCO-1","status":"PENDING","modifiedAt":"2026-11-22T10:00:00Z"}"#,
/// )?;
/// assert_eq!(checkout.status, OnRampStatus::Pending);
/// assert_eq!(checkout.last_update(), checkout.modified_at);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct OnRampCheckout {
    /// `ORCO-` and a UUID. Never missing (confirmed).
    #[serde(deserialize_with = "kind::id::<_, OnRampCheckout>")]
    pub id: String,
    /// Where the checkout is.
    #[serde(default, deserialize_with = "lenient::text")]
    pub on_ramp_url: Option<String>,
    /// `ORD-` and a UUID: Inqud's id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub order_id: Option<String>,
    /// `ORP-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_id: Option<String>,
    /// The project's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_name: Option<String>,
    /// What the payer pays, in [`source_currency`](Self::source_currency).
    pub source_amount: Option<Amount>,
    /// The currency of [`source_amount`](Self::source_amount), such as `EUR`.
    pub source_currency: Option<String>,
    /// What is bought, in [`target_currency`](Self::target_currency).
    pub target_amount: Option<Amount>,
    /// The currency of [`target_amount`](Self::target_amount), such as `USDC`.
    pub target_currency: Option<String>,
    /// Where the checkout stands. Never missing (confirmed).
    pub status: OnRampStatus,
    /// Who sets the price; `FIXED_PRICE` was shown, the other words are inferred from a
    /// [`Checkout`](crate::Checkout)'s.
    #[serde(rename = "type")]
    #[serde(default, deserialize_with = "lenient::text")]
    pub price_type: Option<PriceType>,
    /// What the payer is shown as its name (the type is inferred from a checkout's).
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Your own id of the order (the type is inferred from a checkout's).
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    /// Where the payer is sent to in the end (the type is inferred from a checkout's).
    #[serde(default, deserialize_with = "lenient::text")]
    pub return_url: Option<String>,
    /// Who pays. Only `null` was ever shown, as of the next three.
    pub end_user_id: Option<RawJson>,
    /// The payer's money coming in.
    pub deposit: Option<RawJson>,
    /// Its exchange.
    pub exchange: Option<RawJson>,
    /// The crypto going out.
    pub transfer: Option<RawJson>,
    /// When the checkout was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the checkout last changed; when it was created, in its first state.
    pub modified_at: Option<Timestamp>,
    /// When the checkout expires.
    #[serde(default, deserialize_with = "lenient::time")]
    pub expires_at: Option<Timestamp>,
}

impl Notification for OnRampCheckout {
    fn id(&self) -> &str {
        &self.id
    }

    fn status_text(&self) -> &str {
        self.status.as_str()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.modified_at
    }

    fn status_rank(&self) -> u8 {
        u8::from(self.status != OnRampStatus::Pending)
    }

    fn stage(&self) -> Stage {
        if self.status == OnRampStatus::Pending { Stage::Early } else { Stage::Settled }
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["name", "projectName", "status"]
    }
}

open_enum! {
    /// The status of an on-ramp checkout.
    ///
    /// Only `PENDING` is public. So whether one is paid or final cannot be told by this version:
    /// look at [`as_str`](Self::as_str), and at what Inqud tells you.
    pub enum OnRampStatus {
        /// `PENDING` (confirmed).
        Pending = "PENDING",
    }
}
