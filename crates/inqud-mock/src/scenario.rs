use std::fmt;

/// A sequence of statuses that an object can go through, for a [`Lifecycle`](super::Lifecycle).
///
/// The first seven scenarios are about a Request and three are about a payment. The others follow an object of
/// another kind to its usual end. The order of the statuses is inferred unless marked as confirmed.
///
/// # Order
///
/// Notifications about a Request, a checkout, an on-ramp checkout or an invoice carry the time of the change,
/// so every order of arrival ends in the same state. The same holds for [`Payment`](Self::Payment), because
/// `NEW` and `PENDING` never follow `SUCCESS`.
///
/// The other scenarios contain notifications that are ordered only by arrival:
/// [`ReversedPayment`](Self::ReversedPayment), [`PartialPayment`](Self::PartialPayment),
/// [`Subscription`](Self::Subscription), [`Renewal`](Self::Renewal), [`Authorization`](Self::Authorization),
/// and the second `SUCCESS` of [`Amended`](Self::Amended).
/// [`MockInqud::any_order`](super::MockInqud::any_order) keeps them in the order of the lifecycle.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Scenario {
    /// A Request that is paid in full.
    Success,
    /// A Request that is overpaid, which Inqud allows (confirmed).
    Overpaid,
    /// A Request that is underpaid and ends in `CONFLICT` (confirmed).
    Conflict,
    /// A Request whose conflict Inqud's support resolves.
    ///
    /// It ends in `SUCCESS` with half of the amount paid: a final status can change, and a success need not be
    /// paid in full.
    ResolvedConflict,
    /// A Request that is paid in full, and that Inqud's support then changes to `CONFLICT` without a reason.
    Reversed,
    /// A Request that is paid in full, then amended. The amendment has the same status and last update, and a
    /// higher paid amount.
    Amended,
    /// A Request that nobody pays.
    Expired,
    /// A checkout that is paid.
    Checkout,
    /// A payment that arrives.
    Payment,
    /// A payment that arrives, and that Inqud's support then changes to `FAILED`. Support can do
    /// this (confirmed).
    ReversedPayment,
    /// A payment that arrives in parts: 40 % of the amount, then 90 %, then all of it.
    PartialPayment,
    /// An on-ramp checkout that is paid. Only its first status is confirmed.
    OnRamp,
    /// A subscription that starts and is cancelled.
    Subscription,
    /// A subscription that is renewed: `ACTIVE` twice, with different times of the next write-off.
    Renewal,
    /// An invoice that is paid.
    Invoice,
    /// An authorization that is granted and revoked.
    Authorization,
}

/// The template that a body is made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Request,
    Checkout,
    Payment,
    OnRamp,
    Subscription,
    Invoice,
    Authorization,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: &[Self] = &[
        Self::Success,
        Self::Overpaid,
        Self::Conflict,
        Self::ResolvedConflict,
        Self::Reversed,
        Self::Amended,
        Self::Expired,
        Self::Checkout,
        Self::Payment,
        Self::ReversedPayment,
        Self::PartialPayment,
        Self::OnRamp,
        Self::Subscription,
        Self::Renewal,
        Self::Invoice,
        Self::Authorization,
    ];

    /// Returns the name in kebab case, such as `success` or `on-ramp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Overpaid => "overpaid",
            Self::Conflict => "conflict",
            Self::ResolvedConflict => "resolved-conflict",
            Self::Reversed => "reversed",
            Self::Amended => "amended",
            Self::Expired => "expired",
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::ReversedPayment => "reversed-payment",
            Self::PartialPayment => "partial-payment",
            Self::OnRamp => "on-ramp",
            Self::Subscription => "subscription",
            Self::Renewal => "renewal",
            Self::Invoice => "invoice",
            Self::Authorization => "authorization",
        }
    }

    /// Returns the statuses in order, as Inqud spells them.
    #[must_use]
    pub const fn statuses(self) -> &'static [&'static str] {
        match self {
            Self::Success | Self::Overpaid => &["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"],
            Self::Conflict => &["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT"],
            Self::ResolvedConflict => {
                &["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "SUCCESS"]
            }
            Self::Reversed => &["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS", "CONFLICT"],
            Self::Amended => &["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS", "SUCCESS"],
            Self::Expired => &["WAITING_PAYMENT", "EXPIRED"],
            Self::Checkout => &["NEW", "REQUEST_CREATED", "PAYMENT_DETECTED", "SUCCESS"],
            Self::Payment | Self::Invoice => &["NEW", "PENDING", "SUCCESS"],
            Self::ReversedPayment => &["NEW", "PENDING", "SUCCESS", "FAILED"],
            Self::PartialPayment => {
                &["NEW", "PENDING", "PARTIAL_SUCCESS", "PARTIAL_SUCCESS", "SUCCESS"]
            }
            Self::OnRamp => &["PENDING", "SUCCESS"],
            Self::Subscription => &["INITIATED", "ACTIVE", "CANCELLED"],
            Self::Renewal => &["INITIATED", "ACTIVE", "ACTIVE"],
            Self::Authorization => &["GRANTED", "REVOKED_BY_MERCHANT"],
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Success
            | Self::Overpaid
            | Self::Conflict
            | Self::ResolvedConflict
            | Self::Reversed
            | Self::Amended
            | Self::Expired => Kind::Request,
            Self::Checkout => Kind::Checkout,
            Self::Payment | Self::ReversedPayment | Self::PartialPayment => Kind::Payment,
            Self::OnRamp => Kind::OnRamp,
            Self::Subscription | Self::Renewal => Kind::Subscription,
            Self::Invoice => Kind::Invoice,
            Self::Authorization => Kind::Authorization,
        }
    }
}

/// Formats the [name](Self::as_str).
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
