//! Maps the types of this crate to their kinds.

use std::any::TypeId;

use super::kind::OfKind;
use super::{
    Authorization, Checkout, EventKind, Invoice, OnRampCheckout, Payment, PaymentRequest,
    Subscription,
};

macro_rules! types {
    ($($type:ident is $kind:ident,)*) => {
        $(impl OfKind for $type {
            const KIND: EventKind = EventKind::$kind;
        })*

        impl EventKind {
            /// The kind that this type is for. `None` for a merchant's own type, and for types that take any
            /// kind.
            pub(crate) fn of_type<T: 'static>() -> Option<Self> {
                let id = TypeId::of::<T>();
                $(if id == TypeId::of::<$type>() {
                    return Some(Self::$kind);
                })*
                None
            }
        }
    };
}

types! {
    PaymentRequest is Request,
    Checkout is Checkout,
    Payment is Payment,
    OnRampCheckout is OnRampCheckout,
    Subscription is Subscription,
    Invoice is Invoice,
    Authorization is Authorization,
}
