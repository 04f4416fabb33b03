use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, ConflictReason, Notification, PaymentRequest, RawJson, Stage, kind, lenient};

/// A crypto checkout, the page where a payer chooses how to pay, as its webhook shows it at each
/// change of status.
///
/// The fields and their names are confirmed by Inqud's documentation; the JSON types too, unless a
/// field is a [`RawJson`]: of those only `null`, `[]` or `{}` was ever shown. Unknown fields are
/// ignored, and every field but `id` and `status` may be missing or `null`, which both read as
/// `None`.
///
/// A value of another JSON type, or a time that is no instant, is refused in `lastUpdatedAt`,
/// `clientOrderId`, `fixedAmount` and `request`, and reads as `None` elsewhere: see
/// [the rule](crate#fields). Serialized, a checkout has Inqud's own form again, as a [`PaymentRequest`] has.
///
/// # Example
///
/// ```
/// use tower_inqud::{Checkout, CheckoutStatus};
///
/// let checkout: Checkout = serde_json::from_str(
///     r#"{"id":"CCO-1","status":"PAYMENT_DETECTED","fixedAmount":{"currency":"USD","amount":12.50},
///         "request":{"id":"CAPD-1","status":"PENDING_PAYMENT"}}"#,
/// )?;
/// assert_eq!(checkout.status, CheckoutStatus::PaymentDetected);
/// assert_eq!(checkout.fixed_amount.unwrap().amount, Some("12.50".parse().unwrap()));
/// assert_eq!(checkout.request.unwrap().id, "CAPD-1");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Checkout {
    /// `CCO-` and a UUID. Never missing (confirmed).
    #[serde(deserialize_with = "kind::id::<_, Checkout>")]
    pub id: String,
    /// `CAP-` and a UUID: the Crypto Widget, Inqud's word for a project.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_id: Option<String>,
    /// The Crypto Widget's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub project_name: Option<String>,
    /// The domain that the checkout is on.
    #[serde(default, deserialize_with = "lenient::text")]
    pub merchant_domain: Option<String>,
    /// Your own id of the order.
    pub client_order_id: Option<String>,
    /// Where the checkout stands. Never missing (confirmed).
    pub status: CheckoutStatus,
    /// Why the checkout is in conflict (inferred: the same words as a Request's).
    #[serde(default, deserialize_with = "lenient::text")]
    pub reason: Option<ConflictReason>,
    /// What the payer is shown as its name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Who sets the price.
    #[serde(default, deserialize_with = "lenient::text")]
    #[serde(rename = "type")]
    pub price_type: Option<PriceType>,
    /// The price, if it is fixed.
    pub fixed_amount: Option<Price>,
    /// The prices to choose from, of [`PriceType::SuggestedFixedPrice`].
    pub suggested_amounts: Option<RawJson>,
    /// The currencies to choose from; an array.
    pub crypto_currencies: Option<RawJson>,
    /// The same by blockchain; an object.
    pub crypto_currencies_by_blockchain: Option<RawJson>,
    /// What is known of each currency; an object.
    pub crypto_currency_details: Option<RawJson>,
    /// What would have to be paid in each currency; an object.
    pub estimated_pay_amounts: Option<RawJson>,
    /// The least that may be paid in each currency; an object.
    pub min_limits: Option<RawJson>,
    /// The most that may be paid in each currency; an object.
    pub max_limits: Option<RawJson>,
    /// The fixed part of your fee in each currency; an object.
    pub merchant_fixed_platform_fees: Option<RawJson>,
    /// Your fee in percent in each currency; an object.
    pub merchant_percent_platform_fees: Option<RawJson>,
    /// The fixed part of the payer's fee in each currency; an object.
    pub payer_fixed_platform_fees: Option<RawJson>,
    /// The payer's fee in percent in each currency; an object.
    pub payer_percent_platform_fees: Option<RawJson>,
    /// The Request; none before the payer has chosen how to pay. A checkout has one at most
    /// (confirmed).
    pub request: Option<Box<PaymentRequest>>,
    /// Where the payer is sent to in the end.
    #[serde(default, deserialize_with = "lenient::text")]
    pub return_url: Option<String>,
    /// Where the checkout is.
    #[serde(default, deserialize_with = "lenient::text")]
    pub acquiring_url: Option<String>,
    /// When the checkout was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the checkout last changed; none in its first state (confirmed).
    pub last_updated_at: Option<Timestamp>,
    /// When the checkout expires.
    #[serde(default, deserialize_with = "lenient::time")]
    pub expires_at: Option<Timestamp>,
}

impl Checkout {
    /// Whether it is paid in whole, as far as is known: [`CheckoutStatus::Success`], and so is its
    /// [`request`](Self::request), if it was sent. See [`PaymentRequest::is_paid`].
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.is_successful() && self.request.as_ref().is_none_or(|it| it.is_paid())
    }

    /// Whether it [is paid](Self::is_paid), and pays for an order of yours of this amount in this
    /// currency: by what its Request says, as of [`PaymentRequest::is_paid_for`], or by its
    /// [`fixed_amount`](Self::fixed_amount), if the Request is known to be paid in whole. False if that is
    /// unknown.
    #[must_use]
    pub fn is_paid_for(&self, amount: &Amount, currency: &str) -> bool {
        let is_priced = self.fixed_amount.as_ref().is_some_and(|price| {
            Amount::covers(price.amount.as_ref(), price.currency.as_deref(), amount, currency)
        });
        let covers = |request: &PaymentRequest| {
            request.covers(amount, currency) || (is_priced && request.is_known_to_be_whole())
        };
        self.is_paid() && self.request.as_ref().is_some_and(|request| covers(request))
    }

    /// Whether no further change is expected: see [`CheckoutStatus::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.is_final()
    }
}

/// Estimates, rates, limits and names, which Inqud may compute for each delivery (inferred), here and in
/// the Request.
const IMMATERIAL: &[&str] = &[
    "cryptoCurrencies",
    "cryptoCurrenciesByBlockchain",
    "cryptoCurrencyDetails",
    "estimatedPayAmounts",
    "maxLimits",
    "merchantFixedPlatformFees",
    "merchantPercentPlatformFees",
    "minLimits",
    "name",
    "payerFixedPlatformFees",
    "payerPercentPlatformFees",
    "projectName",
    "request.convertRate",
    "request.cryptoAcquiringProjectName",
    "request.maxLimit",
    "request.minLimit",
    "status",
];

impl Notification for Checkout {
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
    /// The status of a checkout. The words are confirmed, what is said of them is inferred from the
    /// Request's.
    pub enum CheckoutStatus {
        /// `NEW`: the payer has not chosen yet.
        New = "NEW",
        /// `REQUEST_CREATED`: the payer has chosen, no transaction seen yet.
        RequestCreated = "REQUEST_CREATED",
        /// `PAYMENT_DETECTED`: a transaction was seen and is being handled.
        PaymentDetected = "PAYMENT_DETECTED",
        /// `EXPIRED`: nothing was paid in time.
        Expired = "EXPIRED",
        /// `CONFLICT`: a transaction was handled, but something is wrong; see
        /// [`Checkout::reason`] and the Request's.
        Conflict = "CONFLICT",
        /// `SUCCESS`: paid; see [`Checkout::is_paid`].
        Success = "SUCCESS",
    }
}

impl CheckoutStatus {
    /// Whether Inqud says that it succeeded: only with [`Success`](Self::Success). Whether it is paid,
    /// [`Checkout::is_paid`] says.
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected (inferred). Never ignore what follows all the same: ask
    /// its [verdict](crate::Verdict) instead.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Expired | Self::Conflict | Self::Success)
    }

    /// As of a Request.
    fn stage(&self) -> Stage {
        match self {
            Self::New | Self::RequestCreated | Self::PaymentDetected => Stage::Early,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    /// As of a Request.
    fn rank(&self) -> u8 {
        match self {
            Self::New => 0,
            Self::RequestCreated => 1,
            Self::PaymentDetected => 2,
            Self::Other(_) => 3,
            Self::Expired => 4,
            Self::Conflict => 5,
            Self::Success => 6,
        }
    }
}

open_enum! {
    /// Who sets the price of a checkout.
    pub enum PriceType {
        /// `FIXED_PRICE`: you do.
        FixedPrice = "FIXED_PRICE",
        /// `NO_PRICE`: the payer does.
        NoPrice = "NO_PRICE",
        /// `SUGGESTED_FIXED_PRICE`: the payer chooses from yours.
        SuggestedFixedPrice = "SUGGESTED_FIXED_PRICE",
    }
}

/// An amount in a currency.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Price {
    /// The currency, such as `USD`.
    pub currency: Option<String>,
    /// How much.
    pub amount: Option<Amount>,
}
