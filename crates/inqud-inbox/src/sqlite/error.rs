use crate::error::{BoxError, InboxError, InboxErrorKind};

pub(super) fn engine(error: rusqlite::Error) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}

pub(super) fn failed(error: impl Into<BoxError>) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}
