//! What Inqud's web hooks say.

mod amount;
mod notification;
mod open;
mod payment;
mod request;
mod timestamp;

pub use self::amount::{Amount, AmountError};
pub use self::notification::{DeliveryKey, Notification};
pub use self::open::UnknownWord;
pub use self::payment::{PaymentStatus, PaymentView, RequestPayment};
pub use self::request::{ConflictReason, PaymentRequest, RequestStatus};
