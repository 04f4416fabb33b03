use std::borrow::Cow;
use std::time::Duration;

/// How a call ended: the words that logs and metrics share.
pub(super) struct End {
    pub(super) outcome: &'static str,
    /// Why not better, if there is a word for it.
    pub(super) reason: Cow<'static, str>,
    pub(super) elapsed: Duration,
}
