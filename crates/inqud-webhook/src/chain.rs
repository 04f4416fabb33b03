use std::error::Error;

use inqud_inbox::InboxError;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Formats an error and its causes in one line.
pub(crate) fn error_chain(error: &InboxError) -> String {
    let first: &dyn Error = error;
    let causes = std::iter::successors(Some(first), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Makes an error of the [chain](error_chain).
pub(crate) fn chained(error: InboxError) -> BoxError {
    error_chain(&error).into()
}
