//! Everything that weakens a check, gathered for reviewers: search your code for `danger`.

use crate::layer::{Trust, WebhookLayer};

pub use crate::webhook::Unverified;

/// Accepts web hooks without any proof that Inqud sent them.
///
/// For a merchant who has set no secret: Inqud then sends no digest (confirmed). Set one instead;
/// it is a field beside the web hook's link.
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
