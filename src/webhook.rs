//! The types that a handler receives: a verified event, an unverified event, an undecodable body.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::signature::{Digest, Verified};
use crate::{EventKind, Rejection, decode};

/// An authentic webhook: an event whose body carried the right digest.
///
/// The layer puts it into the extensions of the request. With feature `axum` it is an extractor.
/// Elsewhere, take it with `request.extensions().get::<Webhook<T>>()`. Only a verified body becomes
/// a `Webhook`, in the layer or with [`Verified::decode`].
///
/// It dereferences to the event. Cloning is cheap and does not require `T: Clone`.
///
/// # Duplicates and replays
///
/// An authentic webhook is not necessarily new. Inqud sends a notification again until it is
/// answered 200, and nothing in the signed body distinguishes a retry from a replay. Detect
/// duplicates with a [`History`](crate::History) of the object or with an inbox. Use
/// [`digest`](Self::digest) for byte-identical repeats only, because whether Inqud's retries are
/// byte-identical is not public.
///
/// # Memory
///
/// A webhook holds the event and the body. The layer copies a body of up to 16 KiB and a body that
/// came in several frames. A larger body in a single frame is a slice of the server's read buffer
/// and keeps all of it alive, up to 400 KiB with hyper. If you keep webhooks after the call, keep
/// the event instead.
pub struct Webhook<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    event: T,
    verified: Verified,
}

impl<T> Webhook<T> {
    pub(crate) fn new(event: T, verified: Verified) -> Self {
        Self { inner: Arc::new(Inner { event, verified }) }
    }

    /// The body, exactly as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        self.inner.verified.raw_body()
    }

    /// The digest of the body.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.inner.verified.digest()
    }

    /// The label of the secret that matched, if it has one.
    ///
    /// It shows when a rotation is finished.
    #[must_use]
    pub fn secret_label(&self) -> Option<&str> {
        self.inner.verified.secret_label()
    }

    /// The [tenant](crate::Verifier::tenant) of the verifier, if it has one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.inner.verified.tenant()
    }
}

impl<T> Deref for Webhook<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner.event
    }
}

impl<T> Clone for Webhook<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Webhook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("event", &**self)
            .field("secret_label", &self.secret_label())
            .finish_non_exhaustive()
    }
}

impl Verified {
    /// Decodes the body, which must be one JSON object.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] of kind [`NotJson`](crate::RejectionKind::NotJson),
    /// [`WrongKind`](crate::RejectionKind::WrongKind) or
    /// [`UnexpectedShape`](crate::RejectionKind::UnexpectedShape).
    pub fn decode<T: DeserializeOwned + 'static>(self) -> Result<Webhook<T>, Rejection> {
        self.decode_kind(None)
    }

    pub(crate) fn decode_kind<T: DeserializeOwned + 'static>(
        self,
        expected: Option<EventKind>,
    ) -> Result<Webhook<T>, Rejection> {
        let body = self.raw_body().clone();
        decode::of_kind(&body, expected, |event| Webhook::new(event, self))
    }
}

/// An event that came without proof, behind [`danger::unsigned`](crate::danger::unsigned). Anyone
/// may have sent it.
///
/// It does not dereference to the event, so the code that reads it has to call
/// [`unverified`](Self::unverified). Cloning is cheap.
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

    /// The unproven event.
    #[must_use]
    pub fn unverified(&self) -> &T {
        &self.inner.0
    }

    /// The body, exactly as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.inner.1
    }
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

/// An authentic body that could not be decoded into `T`.
///
/// With [`WebhookLayer::forward_undecodable`](crate::WebhookLayer::forward_undecodable), the layer
/// puts it into the extensions of the request in place of a [`Webhook<T>`](crate::Webhook). Only a
/// verified body becomes one. `Debug` shows nothing of the body.
pub struct Undecodable<T> {
    body: Bytes,
    tenant: Option<Arc<str>>,
    rejection: Rejection,
    event: PhantomData<fn() -> T>,
}

impl<T> Undecodable<T> {
    /// The body must have been verified.
    pub(crate) fn new(body: Bytes, tenant: Option<Arc<str>>, rejection: Rejection) -> Self {
        Self { body, tenant, rejection, event: PhantomData }
    }

    /// The [tenant](crate::Verifier::tenant) of the verifier, if it has one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The body, exactly as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// Why the body could not be decoded.
    ///
    /// The kind is [`NotJson`](crate::RejectionKind::NotJson),
    /// [`WrongKind`](crate::RejectionKind::WrongKind) or
    /// [`UnexpectedShape`](crate::RejectionKind::UnexpectedShape). Its source may quote values of
    /// the body.
    #[must_use]
    pub fn rejection(&self) -> &Rejection {
        &self.rejection
    }
}

impl<T> Clone for Undecodable<T> {
    fn clone(&self) -> Self {
        Self::new(self.body.clone(), self.tenant.clone(), self.rejection.clone())
    }
}

impl<T> fmt::Debug for Undecodable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecodable").field("kind", &self.rejection.kind()).finish_non_exhaustive()
    }
}
