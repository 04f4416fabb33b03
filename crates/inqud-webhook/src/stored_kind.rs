//! The kinds under which an inbox stores notifications.

use clap::ValueEnum;
use inqud_inbox::Record;
use tower_inqud::{
    Authorization, Checkout, Event, EventKind, Invoice, OnRampCheckout, Payment, PaymentRequest,
    Rejection, Subscription,
};

/// As in `Storable::KIND`.
#[derive(Clone, Copy, Eq, Hash, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    Authorization,
    Checkout,
    Event,
    Invoice,
    OnRampCheckout,
    Payment,
    Request,
    Subscription,
}

impl Kind {
    /// The kind of object. `None` for [`Event`](Self::Event), which is any.
    pub(crate) fn of_object(self) -> Option<EventKind> {
        Some(match self {
            Self::Authorization => EventKind::Authorization,
            Self::Checkout => EventKind::Checkout,
            Self::Event => return None,
            Self::Invoice => EventKind::Invoice,
            Self::OnRampCheckout => EventKind::OnRampCheckout,
            Self::Payment => EventKind::Payment,
            Self::Request => EventKind::Request,
            Self::Subscription => EventKind::Subscription,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.of_object().map_or("event", EventKind::as_str)
    }

    pub(crate) fn record(self, body: Vec<u8>) -> Result<Record, Rejection> {
        match self {
            Self::Authorization => Record::decode::<Authorization>(body),
            Self::Checkout => Record::decode::<Checkout>(body),
            Self::Event => Record::decode::<Event>(body),
            Self::Invoice => Record::decode::<Invoice>(body),
            Self::OnRampCheckout => Record::decode::<OnRampCheckout>(body),
            Self::Payment => Record::decode::<Payment>(body),
            Self::Request => Record::decode::<PaymentRequest>(body),
            Self::Subscription => Record::decode::<Subscription>(body),
        }
    }
}
