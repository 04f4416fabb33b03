use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The kind of object that a notification is about.
///
/// Its order has no meaning. It exists so that kinds can be sorted and be the keys of a map.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum EventKind {
    /// A Request: [`PaymentRequest`](crate::PaymentRequest).
    Request,
    /// A crypto checkout: [`Checkout`](crate::Checkout).
    Checkout,
    /// A payment: [`Payment`](crate::Payment).
    Payment,
    /// An on-ramp checkout: [`OnRampCheckout`](crate::OnRampCheckout).
    OnRampCheckout,
    /// A subscription: [`Subscription`](crate::Subscription).
    Subscription,
    /// An invoice: [`Invoice`](crate::Invoice).
    Invoice,
    /// An authorization: [`Authorization`](crate::Authorization).
    Authorization,
    /// An unknown kind: [`OtherEvent`](crate::OtherEvent).
    Other,
}

impl EventKind {
    /// The prefix of the ids of this kind: `CAPD-`, `CCO-`, `PMT-`, `ORCO-`, `SUB-` or `AGR-` (confirmed).
    ///
    /// `None` for [`Invoice`](Self::Invoice), whose prefix is not public, and for [`Other`](Self::Other).
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

    /// A short name, stable across versions: `request`, `checkout`, `payment`, `on_ramp_checkout`,
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

    /// The kind that this field is specific to, among the kinds whose ids may have no prefix.
    pub(super) fn of_field(name: &str) -> Option<Self> {
        match name {
            "authorizationId" | "paymentIntents" => Some(Self::Invoice),
            "nextWriteOfAt" | "nextWriteOffAt" | "subStatus" => Some(Self::Subscription),
            _ => None,
        }
    }
}

impl EventKind {
    /// The kind that the prefix of an id names, if it is a known kind and not this one.
    pub(crate) fn not_of(self, id: &str) -> Option<Self> {
        // The fast path: nearly every id is of the expected kind.
        if self.id_prefix().is_some_and(|prefix| id.starts_with(prefix)) {
            return None;
        }
        Self::of_id(id).filter(|kind| *kind != self)
    }
}

/// A type of this crate for objects of one kind.
pub(super) trait OfKind {
    const KIND: EventKind;
}

/// Reads the id of a `T`. Fails if it has the prefix of another known kind.
pub(super) fn id<'de, D, T>(deserializer: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
    T: OfKind,
{
    let id = String::deserialize(deserializer)?;
    check::<D::Error, T>(&id).map(|()| id)
}

/// Does the same for an id that may be missing or `null`.
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
