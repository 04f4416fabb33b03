use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, PriceType, RawJson, Stage, kind, lenient};

/// An on-ramp checkout, where a payer buys crypto with fiat money.
///
/// The fields and their names are confirmed by Inqud's documentation. So are the JSON types, unless a
/// field says otherwise. Unknown fields are ignored. Every field except `id` and `status` may be missing
/// or `null`, and both read as `None`.
///
/// Notifications are ordered by `modifiedAt`, which on-ramp checkouts have instead of `lastUpdatedAt`
/// (confirmed). A value of another JSON type, or a time that is not an instant, is rejected in
/// `modifiedAt`, in the two amounts and in their currencies. Elsewhere it reads as `None`: see
/// [the rule](crate#fields).
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
    /// The URL of the checkout.
    #[serde(default, deserialize_with = "lenient::text")]
    pub on_ramp_url: Option<String>,
    /// `ORD-` and a UUID: Inqud's id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub order_id: Option<String>,
    /// `ORP-` and a UUID: the project.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_id: Option<String>,
    /// The project's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_name: Option<String>,
    /// The amount that the payer pays, in [`source_currency`](Self::source_currency).
    pub source_amount: Option<Amount>,
    /// The currency of [`source_amount`](Self::source_amount), such as `EUR`.
    pub source_currency: Option<String>,
    /// The amount that is bought, in [`target_currency`](Self::target_currency).
    pub target_amount: Option<Amount>,
    /// The currency of [`target_amount`](Self::target_amount), such as `USDC`.
    pub target_currency: Option<String>,
    /// The status of the checkout. Never missing (confirmed).
    pub status: OnRampStatus,
    /// Who sets the price. A sample shows `FIXED_PRICE`; the other words are inferred from those of a
    /// [`Checkout`](crate::Checkout).
    #[serde(rename = "type")]
    #[serde(default, deserialize_with = "lenient::text")]
    pub price_type: Option<PriceType>,
    /// The name that the payer sees. Its type is inferred from a crypto checkout's.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Your own id of the order. Its type is inferred from a crypto checkout's.
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    /// Where the payer is redirected afterwards. Its type is inferred from a crypto checkout's.
    #[serde(default, deserialize_with = "lenient::text")]
    pub return_url: Option<String>,
    /// The payer. Samples show only `null`.
    pub end_user_id: Option<RawJson>,
    /// The payer's incoming money. Samples show only `null`.
    pub deposit: Option<RawJson>,
    /// The exchange of the money for crypto. Samples show only `null`.
    pub exchange: Option<RawJson>,
    /// The transfer of the crypto. Samples show only `null`.
    pub transfer: Option<RawJson>,
    /// When the checkout was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the checkout last changed. In its first state, this is when it was created (confirmed by Inqud's
    /// sample).
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

    fn order_id(&self) -> Option<&str> {
        self.client_order_id.as_deref().or(self.order_id.as_deref())
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
    /// Only `PENDING` is public, so this version cannot tell whether an on-ramp checkout is paid or final.
    /// Ask Inqud for the other words, and compare them with [`as_str`](Self::as_str).
    pub enum OnRampStatus {
        /// `PENDING` (confirmed).
        Pending = "PENDING",
    }
}
