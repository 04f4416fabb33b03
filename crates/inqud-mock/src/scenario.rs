use std::fmt;

/// What happens in a [`Lifecycle`](super::Lifecycle): one of the ways that an object of Inqud's can go.
///
/// The first seven are about a Request, and three are about a payment. The others follow an object of
/// another kind to its usual end. That these statuses come in this order is inferred, except where it
/// says confirmed.
///
/// # Order
///
/// What is sent about a Request, a checkout, an on-ramp checkout or an invoice says when it changed, so its
/// end is the same in any order. So is that of [`Payment`](Self::Payment), because `NEW` and `PENDING` never
/// follow `SUCCESS`.
///
/// In the others something follows that nothing but its arrival puts behind the one before:
/// [`ReversedPayment`](Self::ReversedPayment), [`PartialPayment`](Self::PartialPayment),
/// [`Subscription`](Self::Subscription), [`Renewal`](Self::Renewal), [`Authorization`](Self::Authorization),
/// and the second `SUCCESS` of [`Amended`](Self::Amended). There
/// [`MockInqud::any_order`](super::MockInqud::any_order) keeps to the order of the lifecycle.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Scenario {
    /// A Request that is paid in full.
    Success,
    /// A Request that is paid with more than was asked for, which is allowed (confirmed).
    Overpaid,
    /// A Request that is paid with less, and ends in a conflict (confirmed).
    Conflict,
    /// A Request in conflict that Inqud's support then settles. It ends in `SUCCESS` with half of the
    /// amount paid: a final status that changes, and a success that is not paid in full.
    ResolvedConflict,
    /// A Request that is paid in full, and that Inqud's support then turns into a conflict. Why is not
    /// said.
    Reversed,
    /// A Request that is paid in full, and then amended: the same status and last update again, and more
    /// is paid.
    Amended,
    /// A Request that nobody pays.
    Expired,
    /// A checkout that is paid.
    Checkout,
    /// A payment that arrives.
    Payment,
    /// A payment that arrives, and that Inqud's support then turns into a failed one (that it can is
    /// confirmed).
    ReversedPayment,
    /// A payment that arrives in parts. Its amount is 40 % of the whole, then 90 %, then all of it.
    PartialPayment,
    /// An on-ramp checkout that is paid. Only its first status is confirmed.
    OnRamp,
    /// A subscription that is taken up and cancelled.
    Subscription,
    /// A subscription that is renewed: twice the same status, and another next write-off.
    Renewal,
    /// An invoice that is paid.
    Invoice,
    /// An authorization that is granted and revoked.
    Authorization,
}

/// Which template a body is made from.
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
    /// All scenarios that this version knows.
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

    /// Its name in lower case, such as `success` or `on-ramp`.
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

    /// Inqud's words for the statuses, in their order.
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

/// Its [name](Self::as_str).
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
