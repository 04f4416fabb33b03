//! The fields of each kind of webhook, for `--set`.

use tower_inqud::EventKind;

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Text,
    Number,
    Boolean,
    Time,
    /// An object or array whose content is not public.
    Json,
    Object(&'static [(&'static str, Self)]),
}

type Fields = &'static [(&'static str, Type)];

use Type::{Boolean, Json, Number, Object, Text, Time};

pub(super) fn fields(kind: EventKind) -> Fields {
    match kind {
        EventKind::Request => REQUEST,
        EventKind::Checkout => CHECKOUT,
        EventKind::Payment => PAYMENT,
        EventKind::OnRampCheckout => ON_RAMP,
        EventKind::Subscription => SUBSCRIPTION,
        EventKind::Invoice => INVOICE,
        EventKind::Authorization => AUTHORIZATION,
        _ => &[],
    }
}

const REQUEST: Fields = &[
    ("id", Text),
    ("orderId", Text),
    ("clientOrderId", Text),
    ("currency", Text),
    ("blockchain", Text),
    ("status", Text),
    ("reason", Text),
    ("cryptoAcquiringProjectId", Text),
    ("cryptoAcquiringProjectName", Text),
    ("checkoutId", Text),
    ("address", Text),
    ("paymentWindowEndsAt", Time),
    ("expiresAt", Time),
    ("createdAt", Time),
    ("lastUpdatedAt", Time),
    ("paymentStatus", Text),
    ("paymentId", Text),
    ("payment", Json),
    ("txHash", Text),
    ("requestAmount", Number),
    ("requestAmountIn", Text),
    ("requestAmountConverted", Number),
    ("convertPair", Text),
    ("convertRate", Number),
    ("payAmount", Number),
    ("payerPlatformFee", Number),
    ("payerFixedPlatformFee", Number),
    ("payerPercentPlatformFee", Number),
    ("merchantPlatformFee", Number),
    ("merchantFixedPlatformFee", Number),
    ("merchantPercentPlatformFee", Number),
    ("processingAmount", Number),
    ("paidAmount", Number),
    ("overpaid", Boolean),
    ("minLimit", Number),
    ("maxLimit", Number),
];

const CHECKOUT: Fields = &[
    ("id", Text),
    ("projectId", Text),
    ("projectName", Text),
    ("merchantDomain", Text),
    ("clientOrderId", Text),
    ("status", Text),
    ("reason", Text),
    ("name", Text),
    ("type", Text),
    ("fixedAmount", Object(&[("currency", Text), ("amount", Number)])),
    ("suggestedAmounts", Json),
    ("cryptoCurrencies", Json),
    ("cryptoCurrenciesByBlockchain", Json),
    ("cryptoCurrencyDetails", Json),
    ("estimatedPayAmounts", Json),
    ("minLimits", Json),
    ("maxLimits", Json),
    ("merchantFixedPlatformFees", Json),
    ("merchantPercentPlatformFees", Json),
    ("payerFixedPlatformFees", Json),
    ("payerPercentPlatformFees", Json),
    ("request", Object(REQUEST)),
    ("returnUrl", Text),
    ("acquiringUrl", Text),
    ("createdAt", Time),
    ("lastUpdatedAt", Time),
    ("expiresAt", Time),
];

const PAYMENT: Fields = &[
    ("id", Text),
    ("orderId", Text),
    ("clientOrderId", Text),
    ("externalId", Text),
    ("amount", Number),
    ("currency", Text),
    ("method", Text),
    ("orderType", Text),
    ("transactionType", Text),
    ("h2H", Boolean),
    ("status", Text),
    ("createdAt", Time),
];

const ON_RAMP: Fields = &[
    ("id", Text),
    ("onRampUrl", Text),
    ("orderId", Text),
    ("projectId", Text),
    ("projectName", Text),
    ("sourceAmount", Number),
    ("sourceCurrency", Text),
    ("targetAmount", Number),
    ("targetCurrency", Text),
    ("status", Text),
    ("type", Text),
    ("name", Text),
    ("clientOrderId", Text),
    ("returnUrl", Text),
    ("endUserId", Json),
    ("deposit", Json),
    ("exchange", Json),
    ("transfer", Json),
    ("createdAt", Time),
    ("modifiedAt", Time),
    ("expiresAt", Time),
];

const SUBSCRIPTION: Fields = &[
    ("id", Text),
    ("planId", Text),
    ("planName", Text),
    ("status", Text),
    ("subStatus", Text),
    ("clientOrderId", Text),
    ("nextWriteOffAt", Time),
    ("nextWriteOfAt", Time),
    ("createdAt", Time),
];

const INVOICE: Fields = &[
    ("id", Text),
    ("authorizationId", Text),
    ("planId", Text),
    ("planName", Text),
    ("clientOrderId", Text),
    ("status", Text),
    ("currency", Text),
    ("amount", Number),
    ("paymentIntents", Json),
    ("createdAt", Time),
    ("modifiedAt", Time),
];

const AUTHORIZATION: Fields = &[
    ("id", Text),
    ("wallet", Text),
    ("cryptoCurrency", Text),
    ("status", Text),
    ("subscriptionId", Text),
    ("initApprovalTx", Text),
    ("planId", Text),
];
