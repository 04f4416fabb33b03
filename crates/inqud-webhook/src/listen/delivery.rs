use bytes::Bytes;
use http::request::Parts;
use tower_inqud::Rejection;

use super::forward::AppAnswer;
use crate::summary::Summary;

/// A request that has been answered.
pub(super) struct Delivery {
    pub(super) head: Parts,
    /// What has arrived of the body. `None` if it was too large to keep.
    pub(super) body: Option<Bytes>,
    /// Whether all of the body has arrived.
    pub(super) is_complete: bool,
    pub(super) verdict: Verdict,
    pub(super) status: http::StatusCode,
    /// `None` if it was not forwarded.
    pub(super) app: Option<AppAnswer>,
}

pub(super) enum Verdict {
    Verified,
    /// No secret is set.
    Unverified,
    Rejected(Rejection),
}

impl Delivery {
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }

    /// What it is about. `None` if it was rejected, or cannot be read.
    pub(super) fn summary(&self) -> Option<Summary> {
        let body = self.body.as_ref().filter(|_| self.is_complete)?;
        match self.verdict {
            Verdict::Rejected(_) => None,
            _ => Summary::of(body),
        }
    }
}
