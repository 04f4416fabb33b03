//! What Inqud's web hooks say.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

mod amount;
mod notification;
mod open;
mod payment;
mod request;

pub use self::amount::{Amount, AmountError};
pub use self::notification::{DeliveryKey, Notification};
pub use self::open::UnknownWord;
pub use self::payment::{PaymentStatus, PaymentView, RequestPayment};
pub use self::request::{ConflictReason, PaymentRequest, RequestStatus};

/// For a time that nothing depends on: any text is accepted, and `None` unless it is an instant.
fn lenient_timestamp<'de, D>(deserializer: D) -> Result<Option<Timestamp>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
