use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, PaymentStatus, RequestPayment, Stage, kind, lenient};

/// A Request, Inqud's demand for one crypto payment, as its webhook shows it at each change of
/// status.
///
/// The fields, their names and JSON types are confirmed by Inqud's documentation unless a field
/// says otherwise. Inqud declares its samples to be shortened: so unknown fields are ignored, and
/// every field but `id` and `status` may be missing or `null`, which both read as `None`.
///
/// A value of another JSON type is refused where it would say who pays, how much, or in which order:
/// in `lastUpdatedAt`, `clientOrderId`, `currency`, `requestAmount`, `requestAmountIn`,
/// `requestAmountConverted`, `payAmount`, `processingAmount` and `paidAmount`. Any other field then
/// reads as `None`, because a name or a fee is not worth a payment. See [the rule](crate#fields). The
/// same holds for a time that is no instant, or one that cannot be held (the year 9999 ends a day
/// early).
///
/// Serialized to JSON text it has Inqud's own form again: the same keys in the same order, `null` for
/// `None`, and amounts as numbers with the same digits (a `serde_json::Value` would round them, see
/// [`Amount`]). What is read as the same is written as the same: `COMPLETED` as `SUCCESS`, a time
/// without the zeros at its end, unknown fields not at all. For the original, there is
/// [`Webhook::raw_body`](crate::Webhook::raw_body).
///
/// # Example
///
/// ```
/// use tower_inqud::{ConflictReason, PaymentRequest, RequestStatus};
///
/// let request: PaymentRequest = serde_json::from_str(
///     r#"{"id":"CAPD-1","status":"CONFLICT","reason":"UNDERPAID","payAmount":99.46291}"#,
/// )?;
/// assert_eq!(request.status, RequestStatus::Conflict);
/// assert_eq!(request.reason, Some(ConflictReason::Underpaid));
/// assert_eq!(request.pay_amount, Some("99.46291".parse()?));
/// assert!(!request.is_paid());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequest {
    /// `CAPD-` and a UUID. Never missing (confirmed).
    #[serde(deserialize_with = "kind::id::<_, PaymentRequest>")]
    pub id: String,
    /// `ORD-` and a UUID: Inqud's id of the order.
    #[serde(default, deserialize_with = "lenient::text")]
    pub order_id: Option<String>,
    /// Your own id of the order. That it may be missing is inferred.
    pub client_order_id: Option<String>,
    /// The currency to be paid in, such as `USDT`.
    pub currency: Option<String>,
    /// The blockchain to be paid on, such as `ETHEREUM`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub blockchain: Option<String>,
    /// Where the Request stands. Never missing (confirmed).
    pub status: RequestStatus,
    /// Why the Request is in conflict.
    #[serde(default, deserialize_with = "lenient::text")]
    pub reason: Option<ConflictReason>,
    /// `CAP-` and a UUID: the Crypto Widget, Inqud's word for a project.
    #[serde(default, deserialize_with = "lenient::text")]
    pub crypto_acquiring_project_id: Option<String>,
    /// The Crypto Widget's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub crypto_acquiring_project_name: Option<String>,
    /// `CCO-` and a UUID; none if the Request was made through the API (confirmed).
    #[serde(default, deserialize_with = "lenient::text")]
    pub checkout_id: Option<String>,
    /// Where the payer sends to.
    #[serde(default, deserialize_with = "lenient::text")]
    pub address: Option<String>,
    /// When the payment window ends.
    #[serde(default, deserialize_with = "lenient::time")]
    pub payment_window_ends_at: Option<Timestamp>,
    /// When the Request expires.
    #[serde(default, deserialize_with = "lenient::time")]
    pub expires_at: Option<Timestamp>,
    /// When the Request was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the Request last changed; none in its first state (confirmed).
    pub last_updated_at: Option<Timestamp>,
    /// The status of the payment.
    #[serde(default, deserialize_with = "lenient::text")]
    pub payment_status: Option<PaymentStatus>,
    /// `PMT-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub payment_id: Option<String>,
    /// The payment itself. A Request has one at most (confirmed).
    pub payment: Option<RequestPayment>,
    /// The hash of the payer's transaction.
    #[serde(default, deserialize_with = "lenient::text")]
    pub tx_hash: Option<String>,
    /// What you asked for, in [`request_amount_in`](Self::request_amount_in).
    pub request_amount: Option<Amount>,
    /// The currency of [`request_amount`](Self::request_amount), such as `USD`.
    pub request_amount_in: Option<String>,
    /// What you asked for, in [`currency`](Self::currency).
    pub request_amount_converted: Option<Amount>,
    /// The pair of the conversion, such as `USDTUSD`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub convert_pair: Option<String>,
    /// The rate of the conversion.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub convert_rate: Option<Amount>,
    /// What the payer must send. Less ends in [`RequestStatus::Conflict`] with
    /// [`ConflictReason::Underpaid`] (confirmed).
    pub pay_amount: Option<Amount>,
    /// The payer's share of the fee.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub payer_platform_fee: Option<Amount>,
    /// The fixed part of the payer's fee.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub payer_fixed_platform_fee: Option<Amount>,
    /// The payer's fee in percent: 5 means 5 % (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub payer_percent_platform_fee: Option<Amount>,
    /// Your share of the fee.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub merchant_platform_fee: Option<Amount>,
    /// The fixed part of your fee.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub merchant_fixed_platform_fee: Option<Amount>,
    /// Your fee in percent: 5 means 5 % (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub merchant_percent_platform_fee: Option<Amount>,
    /// What is left for you after the fees (inferred, from the numbers of Inqud's sample).
    pub processing_amount: Option<Amount>,
    /// What the payer has sent.
    pub paid_amount: Option<Amount>,
    /// Whether the payer sent more than [`pay_amount`](Self::pay_amount), which is allowed
    /// (confirmed).
    #[serde(default, deserialize_with = "lenient::flag")]
    pub overpaid: Option<bool>,
    /// The least that may be paid, if the Request has no fixed price (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub min_limit: Option<Amount>,
    /// The most that may be paid, if the Request has no fixed price (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub max_limit: Option<Amount>,
}

impl PaymentRequest {
    /// Whether it is paid in whole, as far as is known: [`RequestStatus::Success`], and not known to be
    /// short, neither by its [`reason`](Self::reason) nor as [compared](Self::compare_paid).
    ///
    /// `SUCCESS` alone does not say it: if Inqud's support settles a conflict, it ends in `SUCCESS` with
    /// what was paid, which can be 50 of 100. [`status`](Self::status) keeps Inqud's word.
    ///
    /// It does not say how much that is. Before you ship, compare with your order:
    /// [`is_paid_for`](Self::is_paid_for).
    ///
    /// # Example
    ///
    /// ```
    /// use std::cmp::Ordering;
    /// use tower_inqud::PaymentRequest;
    ///
    /// let json = r#"{"id":"CAPD-1","status":"SUCCESS","payAmount":100,"paidAmount":50}"#;
    /// let settled: PaymentRequest = serde_json::from_str(json)?;
    /// assert!(settled.status.is_successful() && !settled.is_paid());
    /// assert_eq!(settled.compare_paid(), Some(Ordering::Less));
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.is_successful()
            && self.reason != Some(ConflictReason::Underpaid)
            && self.compare_paid() != Some(Ordering::Less)
    }

    /// Whether it [is paid](Self::is_paid), and pays for an order of yours of this amount in this
    /// currency.
    ///
    /// In the [`currency`](Self::currency) that it was paid in, [`paid_amount`](Self::paid_amount) has to be at
    /// least that much. In another one, you have to have asked for at least that much
    /// ([`request_amount`](Self::request_amount) in [`request_amount_in`](Self::request_amount_in)), and what
    /// was paid must not be [less](Self::compare_paid) than what that came to. It is false if any of this is
    /// unknown. The case of a currency matters.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_inqud::PaymentRequest;
    ///
    /// let request: PaymentRequest = serde_json::from_str(
    ///     r#"{"id":"CAPD-1","status":"SUCCESS","requestAmount":100,"requestAmountIn":"USD",
    ///         "currency":"USDT","payAmount":99.46291,"paidAmount":99.46291}"#,
    /// )?;
    /// assert!(request.is_paid_for(&"100".parse()?, "USD"));
    /// assert!(request.is_paid_for(&"99".parse()?, "USDT"));
    /// assert!(!request.is_paid_for(&"200".parse()?, "USD")); // another order's price
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_paid_for(&self, amount: &Amount, currency: &str) -> bool {
        self.is_paid() && self.covers(amount, currency)
    }

    /// How [`paid_amount`](Self::paid_amount) compares with [`pay_amount`](Self::pay_amount), or without
    /// that with [`request_amount_converted`](Self::request_amount_converted): less is underpaid, greater is
    /// overpaid. `None` if either side is unknown.
    #[must_use]
    pub fn compare_paid(&self) -> Option<Ordering> {
        let asked = self.pay_amount.as_ref().or(self.request_amount_converted.as_ref())?;
        Some(self.paid_amount.as_ref()?.cmp(asked))
    }

    /// Whether it is known that no less was paid than what was asked for.
    pub(super) fn is_known_to_be_whole(&self) -> bool {
        self.compare_paid().is_some_and(Ordering::is_ge)
    }

    /// Whether at least this was sent, or was asked for and sent.
    pub(super) fn covers(&self, amount: &Amount, currency: &str) -> bool {
        match &self.paid_amount {
            Some(paid) if self.currency.as_deref() == Some(currency) => paid >= amount,
            _ => {
                let asked = (self.request_amount.as_ref(), self.request_amount_in.as_deref());
                Amount::covers(asked.0, asked.1, amount, currency) && self.is_known_to_be_whole()
            }
        }
    }

    /// Whether no further change is expected: see [`RequestStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }
}

/// Rates, limits and names: whether they stay from delivery to delivery is not public.
const IMMATERIAL: &[&str] =
    &["convertRate", "cryptoAcquiringProjectName", "maxLimit", "minLimit", "status"];

impl Notification for PaymentRequest {
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
        IMMATERIAL
    }
}

open_enum! {
    /// The status of a Request.
    ///
    /// Expected is `WAITING_PAYMENT`, `PENDING_PAYMENT`, then `SUCCESS` or `CONFLICT`; or
    /// `WAITING_PAYMENT`, then `EXPIRED`. Deliveries can be lost, so any step may be missing.
    pub enum RequestStatus {
        /// `WAITING_PAYMENT`: created, no transaction seen yet (confirmed).
        WaitingPayment = "WAITING_PAYMENT",
        /// `PENDING_PAYMENT`: a transaction was seen and is being handled (confirmed).
        PendingPayment = "PENDING_PAYMENT",
        /// `CONFLICT`: a transaction was handled, but something is wrong; see
        /// [`PaymentRequest::reason`] (confirmed).
        Conflict = "CONFLICT",
        /// `SUCCESS`: paid, or settled by Inqud's support with what was paid; see
        /// [`PaymentRequest::is_paid`].
        ///
        /// Inferred: every other enum of Inqud's says `SUCCESS`. One integration says `COMPLETED`,
        /// so that is read as this too, and written as `SUCCESS`.
        Success = "SUCCESS" | "COMPLETED",
        /// `EXPIRED`: nothing was paid in time (inferred).
        Expired = "EXPIRED",
        /// `CANCELLED` (unknown to Inqud's documentation; seen in one integration).
        Cancelled = "CANCELLED",
    }
}

impl RequestStatus {
    /// Whether Inqud says that it succeeded: only with [`Success`](Self::Success). Whether it is paid,
    /// [`PaymentRequest::is_paid`] says.
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected.
    ///
    /// A final status can still change, by the hand of Inqud's support (confirmed for payments).
    /// So never ignore what follows; ask its [verdict](crate::Verdict) instead.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Conflict | Self::Success | Self::Expired | Self::Cancelled)
    }

    /// Matters without a time only.
    fn stage(&self) -> Stage {
        match self {
            Self::WaitingPayment | Self::PendingPayment => Stage::Early,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    /// Only matters between two notifications of the same instant.
    fn rank(&self) -> u8 {
        match self {
            Self::WaitingPayment => 0,
            Self::PendingPayment => 1,
            Self::Other(_) => 2,
            Self::Cancelled | Self::Expired => 3,
            Self::Conflict => 4,
            // Support settles a conflict; it is not known to make one.
            Self::Success => 5,
        }
    }
}

open_enum! {
    /// Why a Request is in conflict.
    pub enum ConflictReason {
        /// `UNDERPAID`: the payer sent less than [`PaymentRequest::pay_amount`] (confirmed).
        Underpaid = "UNDERPAID",
    }
}
