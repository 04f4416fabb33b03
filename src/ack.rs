use std::borrow::Cow;

use http::{Response, StatusCode};

use crate::contract;

/// A handler's answer to Inqud: done, retry, or discard.
///
/// Only status 200 stops Inqud's retries (confirmed), so everything that is not a failure has to be
/// answered with 200. With feature `axum` an `Ack` is a response; without it, `Response::from(ack)`
/// makes one. The `Ack` stays in the extensions of the response, where an outer layer can log it.
///
/// # Example
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_inqud::Ack;
///
/// assert_eq!(Ack::Done.status(), StatusCode::OK);
/// assert_eq!(Ack::Retry.status(), StatusCode::SERVICE_UNAVAILABLE);
///
/// // For what you will never need. After a 404, Inqud would send it ten more times.
/// let response: Response<String> = Ack::Discard("unknown order".into()).into();
/// assert_eq!(response.status(), StatusCode::OK);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ack {
    /// Answers 200: the webhook was handled, or stored for later.
    Done,
    /// Answers 503: the webhook could not be handled now. Inqud sends it again, up to
    /// [ten times](contract::MAX_RETRIES) in all.
    Retry,
    /// Answers 200: the webhook will never be handled. The reason is for your log and is not sent.
    Discard(Cow<'static, str>),
}

impl Ack {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Done | Self::Discard(_) => contract::ACKNOWLEDGED,
            Self::Retry => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl<B: Default> From<Ack> for Response<B> {
    fn from(ack: Ack) -> Self {
        let mut response = Self::default();
        *response.status_mut() = ack.status();
        response.extensions_mut().insert(ack);
        response
    }
}

/// Changes any 2xx to 200, the only status that stops Inqud's retries.
pub(crate) fn acknowledge<B>(mut response: Response<B>) -> Response<B> {
    if response.status().is_success() {
        *response.status_mut() = contract::ACKNOWLEDGED;
    }
    response
}
