//! The kinds under which an inbox stores notifications.

use clap::ValueEnum;
use inqud_inbox::Record;
use tower_inqud::{
    Authorization, Checkout, Event, Invoice, OnRampCheckout, Payment, PaymentRequest, Rejection,
    Subscription,
};

/// As in `Storable::KIND`.
#[derive(Clone, Copy, ValueEnum)]
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
