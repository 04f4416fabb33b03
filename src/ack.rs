use std::borrow::Cow;

use http::{Response, StatusCode};

use crate::contract;

/// What a handler tells Inqud: done, try again, or done although nothing was done.
///
/// Only status 200 ends Inqud's retries (confirmed), so anything else than a failure has to be 200.
/// With the feature `axum` it is a response; elsewhere `Response::from(ack)` makes one. The `Ack`
/// rides in the response's extensions, for a layer outside to log.
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
/// // For what you will never need. With 404 Inqud would send it ten times more.
/// let response: Response<String> = Ack::Discard("unknown order".into()).into();
/// assert_eq!(response.status(), StatusCode::OK);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ack {
    /// 200: handled, or stored for later.
    Done,
    /// 503: could not be handled now; Inqud sends it again, up to
    /// [ten times](contract::MAX_RETRIES) in all.
    Retry,
    /// 200: will never be handled, and why. The reason is for your log; it is not sent.
    Discard(Cow<'static, str>),
}

impl Ack {
    /// The status that Inqud sees.
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

/// Any success becomes the one that Inqud understands.
pub(crate) fn acknowledge<B>(mut response: Response<B>) -> Response<B> {
    if response.status().is_success() {
        *response.status_mut() = contract::ACKNOWLEDGED;
    }
    response
}
