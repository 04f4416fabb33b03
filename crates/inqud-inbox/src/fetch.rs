use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// Fetches objects of one kind from Inqud's API.
///
/// Implement it for your own client, or for a mock in a test.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use inqud_inbox::{Fetch, Fetched};
/// use tower_inqud::PaymentRequest;
///
/// struct Mock;
///
/// impl Fetch<PaymentRequest> for Mock {
///     async fn fetch(&self, id: &str) -> Fetched {
///         Fetched::Found(Bytes::from(format!(r#"{{"id":"{id}","status":"SUCCESS"}}"#)))
///     }
/// }
/// ```
pub trait Fetch<T>: Send + Sync + 'static {
    /// Fetches the object with this id as it is now.
    ///
    /// Bound how long it takes: a call that never returns is dropped after a timeout.
    fn fetch(&self, id: &str) -> impl Future<Output = Fetched> + Send;
}

/// The result of [`Fetch::fetch`].
///
/// `Debug` omits the body, because it holds personal data.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fetched {
    /// The body of the object, in JSON like that of a webhook.
    Found(Bytes),
    /// The API has no object with this id.
    Missing,
    /// The API could not answer, for example with status 429 or 500, or after a timeout.
    Later {
        /// When to ask again at the earliest, if the API said so in `Retry-After`.
        after: Option<Duration>,
        /// Why. It is logged, so it must not contain secrets, salts or signatures.
        reason: String,
    },
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(body) => {
                f.debug_struct("Found").field("body_len", &body.len()).finish_non_exhaustive()
            }
            Self::Missing => f.write_str("Missing"),
            Self::Later { after, reason } => {
                f.debug_struct("Later").field("after", after).field("reason", reason).finish()
            }
        }
    }
}
