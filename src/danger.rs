//! Everything that weakens a check, in one module. Search your code for `danger` in a review.

use serde::de::DeserializeOwned;

use crate::layer::{Trust, WebhookLayer};
use crate::{Rejection, decode};

pub use crate::webhook::Unverified;

/// Creates a layer that accepts webhooks without any proof that Inqud sent them.
///
/// It is for merchants without a webhook secret, to whom Inqud sends no digest (confirmed). Set a
/// secret instead: it is a field beside the webhook's link.
///
/// The layer does everything else as usual, but handlers get an [`Unverified<T>`], never a
/// [`Webhook<T>`](crate::Webhook).
///
/// # Security
///
/// Anyone who finds the URL can report any payment as paid. Treat each call as a hint only, and
/// read the object from Inqud's API before you act on it.
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

/// Decodes a body without any proof, the way the layer decodes a verified one.
///
/// Use it for bodies that were verified before they were stored, such as those that a consumer
/// takes from your own queue. For bodies from the network, use the layer, or a
/// [`Verifier`](crate::Verifier) and [`Verified::decode`](crate::Verified::decode).
///
/// The types of this crate check their kind. For a type of your own this checks none, even if the layer
/// [does](crate::WebhookLayer::kind).
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
