use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::Rejection;

/// An authentic body that is no `T`: its digest was right, and it could not be
/// decoded.
///
/// [`WebhookLayer::hand_on_undecodable`](crate::WebhookLayer::hand_on_undecodable) puts it into the
/// extensions of the request, instead of a [`Webhook<T>`](crate::Webhook). Only a verified body becomes
/// one. `Debug` shows nothing of the body.
pub struct Undecodable<T> {
    body: Bytes,
    rejection: Rejection,
    event: PhantomData<fn() -> T>,
}

impl<T> Undecodable<T> {
    /// The body must have been verified.
    pub(crate) fn new(body: Bytes, rejection: Rejection) -> Self {
        Self { body, rejection, event: PhantomData }
    }

    /// The body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// What was wrong with it: [`NotJson`](crate::RejectionKind::NotJson),
    /// [`WrongKind`](crate::RejectionKind::WrongKind) or
    /// [`UnexpectedShape`](crate::RejectionKind::UnexpectedShape). Its source may quote values of the
    /// body.
    #[must_use]
    pub fn rejection(&self) -> &Rejection {
        &self.rejection
    }
}

impl<T> Clone for Undecodable<T> {
    fn clone(&self) -> Self {
        Self::new(self.body.clone(), self.rejection.clone())
    }
}

impl<T> fmt::Debug for Undecodable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecodable").field("kind", &self.rejection.kind()).finish_non_exhaustive()
    }
}
