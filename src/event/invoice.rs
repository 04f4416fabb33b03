use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, RawJson, Stage, kind, lenient};

/// An invoice for a subscription or an authorization, as its webhook shows it at each change of
/// status.
///
/// That there is this webhook is confirmed, and so are the statuses; a sample of it is not public.
/// The fields are inferred from Inqud's documentation of an invoice and from Inqud's SDK, and so is
/// that every field but `id` and `status` may be missing or `null`, which both read as `None`.
/// Unknown fields are ignored; [`Webhook::raw_body`](crate::Webhook::raw_body) has them.
///
/// Because they are inferred, a value of another type than expected reads as `None` too; nothing but
/// `id` and `status` can make the notification be refused. See [the rule](crate#fields).
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
    /// Never missing (inferred from the other kinds). What it begins with is not public.
    #[serde(deserialize_with = "kind::id::<_, Invoice>")]
    pub id: String,
    /// `AGR-` and a UUID: what allows to charge it.
    #[serde(default, deserialize_with = "lenient::text")]
    pub authorization_id: Option<String>,
    /// `PLAN-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// The plan's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_name: Option<String>,
    /// Your own id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub client_order_id: Option<String>,
    /// Where the invoice stands. Never missing (inferred from the other kinds).
    pub status: InvoiceStatus,
    /// The currency of [`amount`](Self::amount), such as `USD`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub currency: Option<String>,
    /// How much is due.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub amount: Option<Amount>,
    /// The attempts to charge it: an array, of ids in the documentation and of objects in the SDK.
    pub payment_intents: Option<RawJson>,
    /// When the invoice was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the invoice last changed.
    #[serde(default, deserialize_with = "lenient::time")]
    pub modified_at: Option<Timestamp>,
}

impl Invoice {
    /// Whether it is paid: see [`InvoiceStatus::is_paid`].
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.is_paid()
    }

    /// Whether it [is paid](Self::is_paid), and is for at least this amount in this currency. False if
    /// [`amount`](Self::amount) or [`currency`](Self::currency) is unknown.
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
    /// The status of an invoice. The words are confirmed, what they mean is inferred.
    pub enum InvoiceStatus {
        /// `NEW`: due.
        New = "NEW",
        /// `PENDING`: being charged, also after an attempt that failed and will be repeated.
        Pending = "PENDING",
        /// `SUCCESS`: paid in full.
        Success = "SUCCESS",
        /// `FAILED`: the last attempt to charge it failed.
        Failed = "FAILED",
    }
}

impl InvoiceStatus {
    /// Whether the invoice is paid: only with [`Success`](Self::Success).
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
