use std::fmt;

use bytes::Bytes;

/// One notification: a body, and a label for reports.
#[derive(Clone, Eq, PartialEq)]
pub struct Message {
    label: String,
    body: Bytes,
}

impl Message {
    /// A body of your own, sent as it is. The label is for reports; the status is a good one.
    #[must_use]
    pub fn new(label: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { label: label.into(), body: body.into() }
    }

    /// What reports call it. For those of a [`Lifecycle`](super::Lifecycle), the status.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("label", &self.label)
            .field("body_len", &self.body.len())
            .finish()
    }
}
