use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Digest;

/// A body whose digest matched. Only a [`Verifier`](crate::Verifier) makes one.
#[derive(Clone)]
pub struct Verified {
    pub(super) body: Bytes,
    pub(super) digest: Digest,
    pub(super) secret_label: Option<Arc<str>>,
    pub(super) tenant: Option<Arc<str>>,
}

impl Verified {
    /// The body, exactly as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// The digest of the body.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.secret_label.as_ref()
    }

    /// The label of the secret that matched, if it has one.
    #[must_use]
    pub fn secret_label(&self) -> Option<&str> {
        self.secret_label.as_deref()
    }

    pub(crate) fn shared_tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// The [tenant](crate::Verifier::tenant) of the verifier, if it has one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("body_len", &self.body.len())
            .field("secret_label", &self.secret_label)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}
