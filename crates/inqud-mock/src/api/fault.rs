use std::time::Duration;

use http::{StatusCode, Uri};

/// A fault in a response of a [`MockApi`](crate::MockApi).
///
/// A request that does not prove who sent it gets a 401 instead.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ApiFault {
    /// This status, with an empty body.
    Status(StatusCode),
    /// This status, and any text in `Retry-After`: seconds, a date, or nonsense.
    RetryAfter(StatusCode, String),
    /// A redirect to another address.
    Redirect(Uri),
    /// No response.
    Hang,
    /// Half of the object, and then nothing.
    Stalled,
    /// Half of the object, and then a broken connection.
    Truncated,
    /// The object, and then an endless body.
    Endless,
    /// Status 200 with a page in HTML.
    NotJson,
    /// Status 200 with another object.
    WrongId,
}

impl ApiFault {
    /// Status 404, as if the object did not exist.
    #[must_use]
    pub const fn not_found() -> Self {
        Self::Status(StatusCode::NOT_FOUND)
    }

    /// Status 500.
    #[must_use]
    pub const fn server_error() -> Self {
        Self::Status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Status 429, with this time in whole seconds in `Retry-After`.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        Self::RetryAfter(StatusCode::TOO_MANY_REQUESTS, retry_after.as_secs().to_string())
    }
}
