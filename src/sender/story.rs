use std::fmt;

/// What happens in a [`Life`](super::Life): one of the ways that an object of Inqud's can go.
///
/// The first five are about a Request; the others follow an object of another kind to its usual end.
/// That these statuses come in this order is inferred, except where it says confirmed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Story {
    /// A Request that is paid in full.
    Success,
    /// A Request that is paid with more than was asked for, which is allowed (confirmed).
    Overpaid,
    /// A Request that is paid with less, and ends in a conflict (confirmed).
    Conflict,
    /// A Request in conflict that Inqud's support then settles: a final status that changes.
    Settled,
    /// A Request that nobody pays.
    Expired,
    /// A checkout that is paid.
    Checkout,
    /// A payment that arrives.
    Payment,
    /// An on-ramp checkout that is paid. Only its first status is confirmed.
    OnRamp,
    /// A subscription that is taken up and cancelled.
    Subscription,
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

impl Story {
    /// All stories that this version knows.
    pub const ALL: &[Self] = &[
        Self::Success,
        Self::Overpaid,
        Self::Conflict,
        Self::Settled,
        Self::Expired,
        Self::Checkout,
        Self::Payment,
        Self::OnRamp,
        Self::Subscription,
        Self::Invoice,
        Self::Authorization,
    ];

    /// Its name in lower case, such as `success` or `on-ramp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Overpaid => "overpaid",
            Self::Conflict => "conflict",
            Self::Settled => "settled",
            Self::Expired => "expired",
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::OnRamp => "on-ramp",
            Self::Subscription => "subscription",
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
            Self::Settled => &["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "SUCCESS"],
            Self::Expired => &["WAITING_PAYMENT", "EXPIRED"],
            Self::Checkout => &["NEW", "REQUEST_CREATED", "PAYMENT_DETECTED", "SUCCESS"],
            Self::Payment | Self::Invoice => &["NEW", "PENDING", "SUCCESS"],
            Self::OnRamp => &["PENDING", "SUCCESS"],
            Self::Subscription => &["INITIATED", "ACTIVE", "CANCELLED"],
            Self::Authorization => &["GRANTED", "REVOKED_BY_MERCHANT"],
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Success | Self::Overpaid | Self::Conflict | Self::Settled | Self::Expired => {
                Kind::Request
            }
            Self::Checkout => Kind::Checkout,
            Self::Payment => Kind::Payment,
            Self::OnRamp => Kind::OnRamp,
            Self::Subscription => Kind::Subscription,
            Self::Invoice => Kind::Invoice,
            Self::Authorization => Kind::Authorization,
        }
    }
}

/// Its [name](Self::name).
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
