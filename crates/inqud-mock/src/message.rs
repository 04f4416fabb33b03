use std::fmt;

use bytes::Bytes;

/// The body of one notification, with a label for reports.
#[derive(Clone, Eq, PartialEq)]
pub struct Message {
    label: String,
    body: Bytes,
}

impl Message {
    /// Creates a message with a body of your own, which is sent unchanged. Reports show the label, so the
    /// status is a good choice.
    #[must_use]
    pub fn new(label: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { label: label.into(), body: body.into() }
    }

    /// The label shown in reports. Messages of a [`Lifecycle`](super::Lifecycle) have their status.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The bytes that are signed and sent.
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
