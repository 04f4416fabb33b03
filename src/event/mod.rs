//! What Inqud's web hooks say.

mod amount;
mod any;
mod authorization;
mod checkout;
mod held;
mod invoice;
mod json;
mod kind;
mod notification;
mod on_ramp;
mod open;
mod other;
mod payment;
mod request;
mod request_payment;
mod side;
mod subscription;
mod told;

pub use self::amount::{Amount, AmountError};
pub use self::any::Event;
pub use self::authorization::{Authorization, AuthorizationStatus};
pub use self::checkout::{Checkout, CheckoutStatus, Price, PriceType};
pub use self::invoice::{Invoice, InvoiceStatus};
pub use self::json::RawJson;
pub use self::kind::EventKind;
pub use self::notification::{DeliveryKey, Notification};
pub use self::on_ramp::{OnRampCheckout, OnRampStatus};
pub use self::open::UnknownWord;
pub use self::other::OtherEvent;
pub use self::payment::{OrderType, Payment, PaymentStatus};
pub use self::request::{ConflictReason, PaymentRequest, RequestStatus};
pub use self::request_payment::{PaymentView, RequestPayment};
pub use self::subscription::{Subscription, SubscriptionStatus, SubscriptionSubStatus};
pub(crate) use self::told::kind_of;
