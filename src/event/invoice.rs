use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, RawJson, Stage, kind, lenient};

/// An invoice for a subscription or an authorization. Its webhook is sent at each change of status.
///
/// The webhook and the statuses are confirmed, but no sample is public. The fields are inferred from
/// Inqud's documentation of an invoice and from Inqud's SDK. It is also inferred that every field except
/// `id` and `status` may be missing or `null`; both read as `None`. Unknown fields are ignored;
/// [`Webhook::raw_body`](crate::Webhook::raw_body) has them.
///
/// Because the fields are inferred, a value of another type than expected reads as `None` too. Only `id`
/// and `status` can cause a rejection: see [the rule](crate#fields).
///
/// # Example
///
/// ```
/// use tower_inqud::{Invoice, InvoiceStatus};
///
/// let invoice: Invoice =
///     serde_json::from_str(r#"{"id":"1","status":"SUCCESS","amount":9.99,"currency":"USD"}"#)?;
/// assert_eq!(invoice.status, InvoiceStatus::Success);
/// assert_eq!(invoice.amount.unwrap().to_string(), "9.99");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Invoice {
    /// The id. Never missing (inferred from the other kinds). Its prefix is not public.
    #[serde(deserialize_with = "kind::id::<_, Invoice>")]
    pub id: String,
    /// `AGR-` and a UUID: the authorization to charge the invoice.
    #[serde(default, deserialize_with = "lenient::text")]
    pub authorization_id: Option<String>,
    /// `PLAN-` and a UUID: the plan.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// The plan's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_name: Option<String>,
    /// Your own id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    /// The status of the invoice. Never missing (inferred from the other kinds).
    pub status: InvoiceStatus,
    /// The currency of [`amount`](Self::amount), such as `USD`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub currency: Option<String>,
    /// The amount due.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub amount: Option<Amount>,
    /// The attempts to charge the invoice: an array of ids in Inqud's documentation, of objects in its SDK.
    pub payment_intents: Option<RawJson>,
    /// When the invoice was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the invoice last changed.
    #[serde(default, deserialize_with = "lenient::time")]
    pub modified_at: Option<Timestamp>,
}

impl Invoice {
    /// Whether the invoice is paid: see [`InvoiceStatus::is_paid`].
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.is_paid()
    }

    /// Whether the invoice [is paid](Self::is_paid), and for at least this amount in this currency.
    ///
    /// `false` if [`amount`](Self::amount) or [`currency`](Self::currency) is unknown.
    #[must_use]
    pub fn is_paid_for(&self, amount: &Amount, currency: &str) -> bool {
        self.is_paid()
            && Amount::covers(self.amount.as_ref(), self.currency.as_deref(), amount, currency)
    }

    /// Whether no further change is expected: see [`InvoiceStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }
}

impl Notification for Invoice {
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
        self.client_order_id.as_deref()
    }

    fn status_rank(&self) -> u8 {
        self.status.rank()
    }

    fn stage(&self) -> Stage {
        self.status.stage()
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["planName", "status"]
    }
}

open_enum! {
    /// The status of an invoice. The words are confirmed; their meanings are inferred.
    pub enum InvoiceStatus {
        /// `NEW`: due.
        New = "NEW",
        /// `PENDING`: being charged, perhaps after an attempt that failed and will be retried.
        Pending = "PENDING",
        /// `SUCCESS`: paid in full.
        Success = "SUCCESS",
        /// `FAILED`: the last attempt to charge it failed.
        Failed = "FAILED",
    }
}

impl InvoiceStatus {
    /// Whether the invoice is paid. Only [`Success`](Self::Success) is.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected (inferred).
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }

    fn stage(&self) -> Stage {
        match self {
            Self::New | Self::Pending => Stage::Early,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::New => 0,
            Self::Pending => 1,
            Self::Other(_) => 2,
            Self::Failed => 3,
            Self::Success => 4,
        }
    }
}
