use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::signature::{Digest, Verified};

/// An authentic web hook: an event whose body carried the right digest.
///
/// The layer puts it into the extensions of the request. With the feature `axum` it is an
/// extractor; elsewhere take it with `request.extensions().get::<Webhook<T>>()`. Only a verified
/// body becomes one: the layer's, or [`Verified::decode`]'s.
///
/// It dereferences to the event. A clone is cheap, and `T` need not be `Clone`.
///
/// # Authentic is not new
///
/// Inqud sends a notification again until it is answered 200, and nothing that it signs tells a
/// retry from a replay. A [`History`](crate::History) of the object, or an inbox, tells duplicates. Use
/// [`digest`](Self::digest) for byte-identical repeats only: whether Inqud's own retries are
/// byte-identical is not public.
///
/// # Keeping it
///
/// A webhook that is kept after its call holds the event and the body. A body of up to 16 KiB is a copy, and
/// so is one that came in several frames. A larger one in one frame is a part of the server's read buffer
/// and keeps all of that, up to 400 KiB with hyper: keep the event instead.
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

    /// The body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        self.inner.verified.raw_body()
    }

    /// The digest of the body.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.inner.verified.digest()
    }

    /// The label of the secret that matched, if it has one: tells when a rotation is finished.
    #[must_use]
    pub fn secret_label(&self) -> Option<&str> {
        self.inner.verified.secret_label()
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
