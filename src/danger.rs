//! Everything that weakens a check, gathered for reviewers: search your code for `danger`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::layer::{Trust, WebhookLayer};
use crate::{EventKind, Rejection, decode};

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

/// What came without proof, behind [`unsigned`]: anyone may have sent it.
///
/// It does not dereference to the event; the word has to be written. A clone is cheap.
pub struct Unverified<T> {
    inner: Arc<(T, Bytes)>,
}

impl<T> Unverified<T> {
    pub(crate) fn decode(body: Bytes, expected: Option<EventKind>) -> Result<Self, Rejection>
    where
        T: DeserializeOwned + 'static,
    {
        let kept = body.clone();
        decode::of_kind(&body, expected, |event| Self { inner: Arc::new((event, kept)) })
    }

    /// The event that someone claims.
    #[must_use]
    pub fn unverified(&self) -> &T {
        &self.inner.0
    }

    /// The body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.inner.1
    }
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

impl<T> Clone for Unverified<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Unverified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unverified").field(self.unverified()).finish()
    }
}
