use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, Notification, PaymentStatus, RequestPayment, Stage, kind, lenient};

/// A Request, Inqud's demand for one crypto payment. Inqud sends its webhook whenever its status changes.
///
/// The fields, their names and their JSON types are confirmed by Inqud's documentation, unless a field
/// says otherwise. Inqud says that its samples are shortened, so unknown fields are ignored. Every
/// field except `id` and `status` may be missing or `null`; both read as `None`.
///
/// # Values of another type
///
/// A value of another JSON type is rejected if the field identifies your order, states a currency
/// or an amount, or orders the notifications: `lastUpdatedAt`, `clientOrderId`, `currency`, `requestAmount`,
/// `requestAmountIn`, `requestAmountConverted`, `payAmount`, `processingAmount` and `paidAmount`. Any other
/// field reads as `None`, because a malformed name or fee must not cost you a payment. The same applies to
/// a time that is not an instant, or is too late to be represented (after 9999-12-30T22:00Z).
/// See [the rule](crate#fields).
///
/// # Serializing
///
/// A Request serializes to the JSON that Inqud sends: the same keys in the same order, `null` for `None`,
/// and amounts as numbers with the same digits (but a `serde_json::Value` rounds them: see [`Amount`]).
/// Some differences are lost: `COMPLETED` becomes `SUCCESS`, times lose trailing zeros, and unknown fields
/// are left out. [`Webhook::raw_body`](crate::Webhook::raw_body) has the original.
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
    /// Your own id of the order. May be missing (inferred).
    pub client_order_id: Option<String>,
    /// The currency to pay in, such as `USDT`.
    pub currency: Option<String>,
    /// The blockchain to pay on, such as `ETHEREUM`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub blockchain: Option<String>,
    /// The status of the Request. Never missing (confirmed).
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
    /// `CCO-` and a UUID: the checkout. `None` if the Request was made through the API (confirmed).
    #[serde(default, deserialize_with = "lenient::text")]
    pub checkout_id: Option<String>,
    /// The address that the payer sends to.
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
    /// When the Request last changed. `None` in its first state (confirmed).
    pub last_updated_at: Option<Timestamp>,
    /// The status of the payment.
    #[serde(default, deserialize_with = "lenient::text")]
    pub payment_status: Option<PaymentStatus>,
    /// `PMT-` and a UUID: the payment.
    #[serde(default, deserialize_with = "lenient::text")]
    pub payment_id: Option<String>,
    /// The payment itself. A Request has at most one (confirmed).
    pub payment: Option<RequestPayment>,
    /// The hash of the payer's transaction.
    #[serde(default, deserialize_with = "lenient::text")]
    pub tx_hash: Option<String>,
    /// The amount that you asked for, in [`request_amount_in`](Self::request_amount_in).
    pub request_amount: Option<Amount>,
    /// The currency of [`request_amount`](Self::request_amount), such as `USD`.
    pub request_amount_in: Option<String>,
    /// The amount that you asked for, converted to [`currency`](Self::currency).
    pub request_amount_converted: Option<Amount>,
    /// The currency pair of the conversion, such as `USDTUSD`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub convert_pair: Option<String>,
    /// The rate of the conversion.
    #[serde(default, deserialize_with = "lenient::amount")]
    pub convert_rate: Option<Amount>,
    /// The amount that the payer must send. Less ends in [`RequestStatus::Conflict`] with
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
    /// The amount that is left for you after fees (inferred from the numbers in Inqud's sample).
    pub processing_amount: Option<Amount>,
    /// The amount that the payer has sent.
    pub paid_amount: Option<Amount>,
    /// Whether the payer sent more than [`pay_amount`](Self::pay_amount), which is allowed
    /// (confirmed).
    #[serde(default, deserialize_with = "lenient::flag")]
    pub overpaid: Option<bool>,
    /// The minimum amount, if the Request has no fixed price (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub min_limit: Option<Amount>,
    /// The maximum amount, if the Request has no fixed price (confirmed).
    #[serde(default, deserialize_with = "lenient::amount")]
    pub max_limit: Option<Amount>,
}

impl PaymentRequest {
    /// Whether the Request is paid in full, as far as is known.
    ///
    /// True if its status is [`RequestStatus::Success`] and neither its [`reason`](Self::reason) nor its
    /// [amounts](Self::compare_paid) say that it is underpaid. `SUCCESS` alone is not enough. If Inqud's
    /// support settles a conflict, the Request ends in `SUCCESS` with whatever was paid, which can be 50 of
    /// 100 (inferred from the rule that support can change a final status).
    ///
    /// This does not say how much was paid. Before you ship, compare the Request with your order:
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

    /// Whether the Request [is paid](Self::is_paid) and covers an order of this amount in this currency.
    ///
    /// - If `currency` is the [`currency`](Self::currency) of the payment, [`paid_amount`](Self::paid_amount)
    ///   must be at least `amount`.
    /// - Otherwise, you must have asked for at least `amount`
    ///   ([`request_amount`](Self::request_amount) in [`request_amount_in`](Self::request_amount_in)), and
    ///   the payer must not have sent [less](Self::compare_paid) than that came to.
    ///
    /// `false` if any of these is unknown. Currencies are case-sensitive.
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

    /// Compares what was paid with what the payer had to pay: `Less` is underpaid, `Greater` is overpaid.
    ///
    /// Compares [`paid_amount`](Self::paid_amount) with [`pay_amount`](Self::pay_amount), or with
    /// [`request_amount_converted`](Self::request_amount_converted) if that is missing. `None` if either side
    /// is unknown.
    #[must_use]
    pub fn compare_paid(&self) -> Option<Ordering> {
        let asked = self.pay_amount.as_ref().or(self.request_amount_converted.as_ref())?;
        Some(self.paid_amount.as_ref()?.cmp(asked))
    }

    /// Whether it is known that no less was paid than what the payer had to pay.
    pub(super) fn is_known_to_be_whole(&self) -> bool {
        self.compare_paid().is_some_and(Ordering::is_ge)
    }

    /// Whether at least this much was sent, or was asked for and sent in full.
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

/// Rates, limits and names. Whether they stay the same from delivery to delivery is not public.
const IGNORED_FIELDS: &[&str] =
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
        IGNORED_FIELDS
    }
}

open_enum! {
    /// The status of a Request.
    ///
    /// The expected order is `WAITING_PAYMENT`, `PENDING_PAYMENT`, then `SUCCESS` or `CONFLICT`. Or it is
    /// `WAITING_PAYMENT`, then `EXPIRED`. Deliveries can be lost, so any step may be missing.
    pub enum RequestStatus {
        /// `WAITING_PAYMENT`: created, and no transaction has been seen yet (confirmed).
        WaitingPayment = "WAITING_PAYMENT",
        /// `PENDING_PAYMENT`: a transaction has been seen and is being processed (confirmed).
        PendingPayment = "PENDING_PAYMENT",
        /// `CONFLICT`: a transaction was processed, but something is wrong (confirmed). See
        /// [`PaymentRequest::reason`].
        Conflict = "CONFLICT",
        /// `SUCCESS`: paid, but not always in full. See [`PaymentRequest::is_paid`].
        ///
        /// The spelling is inferred from the other kinds, which all have `SUCCESS`. One integration has
        /// `COMPLETED`, so this is read as `Success` too, and serializes as `SUCCESS`.
        ///
        /// A conflict that Inqud's support settles ends in `SUCCESS` too, with whatever was paid
        /// (inferred).
        Success = "SUCCESS" | "COMPLETED",
        /// `EXPIRED`: nothing was paid in time (inferred).
        Expired = "EXPIRED",
        /// `CANCELLED`: not in Inqud's documentation, but seen in one integration.
        Cancelled = "CANCELLED",
    }
}

impl RequestStatus {
    /// Whether the status is [`Success`](Self::Success). This does not mean that the Request is paid in
    /// full: see [`PaymentRequest::is_paid`].
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected.
    ///
    /// Inqud's support can still change a final status (confirmed for payments, inferred for Requests).
    /// Do not ignore later notifications: act on their [verdicts](crate::Verdict).
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Conflict | Self::Success | Self::Expired | Self::Cancelled)
    }

    /// Matters only between two notifications without a time.
    fn stage(&self) -> Stage {
        match self {
            Self::WaitingPayment | Self::PendingPayment => Stage::Early,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    /// Matters only if the times do not decide.
    fn rank(&self) -> u8 {
        match self {
            Self::WaitingPayment => 0,
            Self::PendingPayment => 1,
            Self::Other(_) => 2,
            Self::Cancelled | Self::Expired => 3,
            Self::Conflict => 4,
            // Support settles conflicts, and is not known to cause any.
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
