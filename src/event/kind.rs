use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// What a notification is about. Ordered only so that it can be sorted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum EventKind {
    /// [`PaymentRequest`](crate::PaymentRequest)
    Request,
    /// [`Checkout`](crate::Checkout)
    Checkout,
    /// [`Payment`](crate::Payment)
    Payment,
    /// [`OnRampCheckout`](crate::OnRampCheckout)
    OnRampCheckout,
    /// [`Subscription`](crate::Subscription)
    Subscription,
    /// [`Invoice`](crate::Invoice)
    Invoice,
    /// [`Authorization`](crate::Authorization)
    Authorization,
    /// [`OtherEvent`](crate::OtherEvent)
    Other,
}

impl EventKind {
    /// What the ids of the kind begin with (confirmed): `CAPD-`, `CCO-`, `PMT-`, `ORCO-`, `SUB-` and
    /// `AGR-`. `None` for [`Invoice`](Self::Invoice), of which it is not public, and for
    /// [`Other`](Self::Other).
    #[must_use]
    pub fn id_prefix(self) -> Option<&'static str> {
        match self {
            Self::Request => Some("CAPD-"),
            Self::Checkout => Some("CCO-"),
            Self::Payment => Some("PMT-"),
            Self::OnRampCheckout => Some("ORCO-"),
            Self::Subscription => Some("SUB-"),
            Self::Authorization => Some("AGR-"),
            Self::Invoice | Self::Other => None,
        }
    }

    /// A short name, the same in each version: `request`, `checkout`, `payment`, `on_ramp_checkout`,
    /// `subscription`, `invoice`, `authorization` or `other`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::OnRampCheckout => "on_ramp_checkout",
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
            Self::Authorization => "authorization",
            Self::Other => "other",
        }
    }

    pub(super) fn of_id(id: &str) -> Option<Self> {
        [
            Self::Request,
            Self::Checkout,
            Self::Payment,
            Self::OnRampCheckout,
            Self::Subscription,
            Self::Authorization,
        ]
        .into_iter()
        .find(|kind| kind.id_prefix().is_some_and(|prefix| id.starts_with(prefix)))
    }

    /// The one kind that is known to have this field, of those whose id may not tell.
    pub(super) fn of_field(name: &str) -> Option<Self> {
        match name {
            "authorizationId" | "paymentIntents" => Some(Self::Invoice),
            "nextWriteOfAt" | "nextWriteOffAt" | "subStatus" => Some(Self::Subscription),
            _ => None,
        }
    }
}

impl EventKind {
    /// The kind of an id that has the prefix of another known kind than this.
    pub(crate) fn not_of(self, id: &str) -> Option<Self> {
        // Nearly always it is the right one.
        if self.id_prefix().is_some_and(|prefix| id.starts_with(prefix)) {
            return None;
        }
        Self::of_id(id).filter(|kind| *kind != self)
    }
}

/// A type of this crate's that is for objects of one kind.
pub(super) trait OfKind {
    const KIND: EventKind;
}

/// Reads the id of a `T`. One with the prefix of another known kind is an error.
pub(super) fn id<'de, D, T>(deserializer: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
    T: OfKind,
{
    let id = String::deserialize(deserializer)?;
    check::<D::Error, T>(&id).map(|()| id)
}

/// The same of an id that may be missing or `null`.
pub(super) fn optional_id<'de, D, T>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
    T: OfKind,
{
    let id = Option::<String>::deserialize(deserializer)?;
    id.as_deref().map_or(Ok(()), check::<D::Error, T>).map(|()| id)
}

fn check<E: Error, T: OfKind>(id: &str) -> Result<(), E> {
    match T::KIND.not_of(id) {
        None => Ok(()),
        Some(found) => {
            Err(E::custom(format_args!("the id of a `{found}`, expected a `{}`", T::KIND)))
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
