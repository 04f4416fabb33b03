//! Everything that weakens a check, gathered for reviewers: search your code for `danger`.

use serde::de::DeserializeOwned;

use crate::layer::{Trust, WebhookLayer};
use crate::{Rejection, decode};

pub use crate::webhook::Unverified;

/// Accepts webhooks without any proof that Inqud sent them.
///
/// For a merchant who has set no secret: Inqud then sends no digest (confirmed). Set one instead;
/// it is a field beside the webhook's link.
///
/// Everything else the layer does stays, but handlers get an [`Unverified<T>`], never a
/// [`Webhook<T>`](crate::Webhook).
///
/// # Security
///
/// Anyone who finds the URL can report any payment as paid. Treat each call as a hint only, and read
/// the object itself from Inqud's API before you act on it.
///
/// # Example
///
/// ```
/// use tower_inqud::{PaymentRequest, danger};
///
/// let webhooks = danger::unsigned::<PaymentRequest>();
/// ```
#[must_use]
pub fn unsigned<T>() -> WebhookLayer<T> {
    WebhookLayer::trusting(Trust::Unsigned)
}

/// Decodes a body without any proof, as the layer decodes an authentic one.
///
/// For a body that was verified before it was stored, such as one that a consumer takes from your own queue.
/// The layer verifies and decodes what comes from the network, and so does
/// [`Verified::decode`](crate::Verified::decode).
///
/// # Errors
///
/// A [`Rejection`] of kind [`NotJson`](crate::RejectionKind::NotJson),
/// [`WrongKind`](crate::RejectionKind::WrongKind) or
/// [`UnexpectedShape`](crate::RejectionKind::UnexpectedShape).
///
/// # Example
///
/// ```
/// use tower_inqud::{PaymentRequest, danger};
///
/// let stored = br#"{"id":"CAPD-1","status":"SUCCESS"}"#;
/// let request = danger::decode::<PaymentRequest>(stored)?;
/// assert!(request.status.is_successful());
/// # Ok::<_, tower_inqud::Rejection>(())
/// ```
pub fn decode<T>(body: &[u8]) -> Result<T, Rejection>
where
    T: DeserializeOwned + 'static,
{
    decode::of_kind(body, None, |event| event)
}
