use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Amount, ConflictReason, Notification, PaymentRequest, RawJson, Stage, kind, lenient};

/// A crypto checkout, the page where a payer chooses how to pay. Its webhook is sent at each change of
/// status.
///
/// The fields and their names are confirmed by Inqud's documentation. So are the JSON types, except for
/// fields of type [`RawJson`]: samples show only `null`, `[]` or `{}` there. Unknown fields are ignored.
/// Every field except `id` and `status` may be missing or `null`, and both read as `None`.
///
/// A value of another JSON type, or a time that is not an instant, is rejected in `lastUpdatedAt`,
/// `clientOrderId`, `fixedAmount` and `request`. Elsewhere it reads as `None`: see
/// [the rule](crate#fields). A checkout serializes to the form that Inqud sends, as a [`PaymentRequest`]
/// does.
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
    /// The domain of the checkout.
    #[serde(default, deserialize_with = "lenient::text")]
    pub merchant_domain: Option<String>,
    /// Your own id of the order.
    pub client_order_id: Option<String>,
    /// The status of the checkout. Never missing (confirmed).
    pub status: CheckoutStatus,
    /// Why the checkout is in conflict. That the words are those of a Request is inferred.
    #[serde(default, deserialize_with = "lenient::text")]
    pub reason: Option<ConflictReason>,
    /// The name that the payer sees.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// Who sets the price.
    #[serde(default, deserialize_with = "lenient::text")]
    #[serde(rename = "type")]
    pub price_type: Option<PriceType>,
    /// The price, if it is fixed.
    pub fixed_amount: Option<Price>,
    /// The prices to choose from, for [`PriceType::SuggestedFixedPrice`].
    pub suggested_amounts: Option<RawJson>,
    /// The currencies to choose from: an array.
    pub crypto_currencies: Option<RawJson>,
    /// The currencies to choose from, by blockchain: an object.
    pub crypto_currencies_by_blockchain: Option<RawJson>,
    /// Details of each currency: an object.
    pub crypto_currency_details: Option<RawJson>,
    /// The estimated amount to pay in each currency: an object.
    pub estimated_pay_amounts: Option<RawJson>,
    /// The minimum amount in each currency: an object.
    pub min_limits: Option<RawJson>,
    /// The maximum amount in each currency: an object.
    pub max_limits: Option<RawJson>,
    /// The fixed part of your fee in each currency: an object.
    pub merchant_fixed_platform_fees: Option<RawJson>,
    /// Your fee in percent in each currency: an object.
    pub merchant_percent_platform_fees: Option<RawJson>,
    /// The fixed part of the payer's fee in each currency: an object.
    pub payer_fixed_platform_fees: Option<RawJson>,
    /// The payer's fee in percent in each currency: an object.
    pub payer_percent_platform_fees: Option<RawJson>,
    /// The Request. `None` until the payer has chosen how to pay. A checkout has at most one
    /// (confirmed).
    pub request: Option<Box<PaymentRequest>>,
    /// Where the payer is redirected afterwards.
    #[serde(default, deserialize_with = "lenient::text")]
    pub return_url: Option<String>,
    /// The URL of the checkout.
    #[serde(default, deserialize_with = "lenient::text")]
    pub acquiring_url: Option<String>,
    /// When the checkout was created.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When the checkout last changed. `None` in its first state (confirmed).
    pub last_updated_at: Option<Timestamp>,
    /// When the checkout expires.
    #[serde(default, deserialize_with = "lenient::time")]
    pub expires_at: Option<Timestamp>,
}

impl Checkout {
    /// Whether the checkout is paid in full, as far as is known.
    ///
    /// True if its status is [`CheckoutStatus::Success`] and its [`request`](Self::request), if there is
    /// one, [is paid](PaymentRequest::is_paid).
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.is_successful() && self.request.as_ref().is_none_or(|it| it.is_paid())
    }

    /// Whether the checkout [is paid](Self::is_paid) and covers an order of this amount in this currency.
    ///
    /// Either its Request covers the order, as [`PaymentRequest::is_paid_for`] describes. Or its
    /// [`fixed_amount`](Self::fixed_amount) does, and the Request is known to be paid in full. `false` if
    /// neither is known, so always without a Request.
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

/// Estimates, rates, limits and names of the checkout and its Request. Inqud may compute them for each
/// delivery (inferred).
const IGNORED_FIELDS: &[&str] = &[
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
        IGNORED_FIELDS
    }
}

open_enum! {
    /// The status of a checkout. The words are confirmed; their meanings are inferred from those of a
    /// Request.
    pub enum CheckoutStatus {
        /// `NEW`: the payer has not chosen yet.
        New = "NEW",
        /// `REQUEST_CREATED`: the payer has chosen, and no transaction was seen yet.
        RequestCreated = "REQUEST_CREATED",
        /// `PAYMENT_DETECTED`: a transaction was seen and is being processed.
        PaymentDetected = "PAYMENT_DETECTED",
        /// `EXPIRED`: nothing was paid in time.
        Expired = "EXPIRED",
        /// `CONFLICT`: a transaction was processed, but something is wrong. See [`Checkout::reason`] and
        /// [`PaymentRequest::reason`].
        Conflict = "CONFLICT",
        /// `SUCCESS`: paid, perhaps not in full. See [`Checkout::is_paid`].
        Success = "SUCCESS",
    }
}

impl CheckoutStatus {
    /// Whether the status is [`Success`](Self::Success). This does not mean that the checkout is paid in
    /// full: see [`Checkout::is_paid`].
    #[must_use]
    pub fn is_successful(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether no further change is expected (inferred).
    ///
    /// Do not ignore what follows a final status: act on its [verdict](crate::Verdict) instead.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Expired | Self::Conflict | Self::Success)
    }

    /// Inferred from the statuses of a Request.
    fn stage(&self) -> Stage {
        match self {
            Self::New | Self::RequestCreated | Self::PaymentDetected => Stage::Early,
            Self::Success => Stage::Success,
            _ => Stage::Settled,
        }
    }

    /// Inferred from the statuses of a Request.
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

/// A price: an amount in a currency.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Price {
    /// The currency, such as `USD`.
    pub currency: Option<String>,
    /// The amount.
    pub amount: Option<Amount>,
}
