use std::borrow::Cow;
use std::time::Duration;

/// How a call ended, in the words that logs and metrics share.
pub(super) struct End {
    pub(super) outcome: &'static str,
    /// The reason of the outcome, or empty.
    pub(super) reason: Cow<'static, str>,
    pub(super) elapsed: Duration,
}
