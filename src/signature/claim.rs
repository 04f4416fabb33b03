//! A digest that a request claims, checked while the body arrives.

use std::sync::Arc;

use bytes::Bytes;

use super::mac::Mac;
use super::{Digest, Secret, Verified, mismatch};
use crate::rejection::{Rejection, RejectionKind};

/// How much of a body is hashed at once while it arrives. Less is hashed at its end: most bodies are
/// smaller, and need no state that is kept in between.
const STRIDE: usize = 8 * 1024;

/// A digest that a request claims, not yet checked, and the check as far as it has come.
pub(crate) struct Claim {
    pub(super) digest: Digest,
    /// Those of the moment in which the call began.
    pub(super) secrets: Arc<[Secret]>,
    /// Of the first secret, with the length of what it was fed.
    pub(super) mac: Option<(Box<Mac>, usize)>,
    pub(super) diagnoses: bool,
}

impl Claim {
    /// `body` is all that has arrived so far.
    pub(crate) fn arrived(&mut self, body: &[u8]) {
        let fed = self.mac.as_ref().map_or(0, |(_, fed)| *fed);
        let Some(new) = body.get(fed..).filter(|new| new.len() >= STRIDE) else { return };
        let Some(first) = self.secrets.first() else { return };
        let start = || (Box::new(first.mac(self.digest.algorithm())), 0);
        let (mac, fed) = self.mac.get_or_insert_with(start);
        mac.update(new);
        *fed = body.len();
    }

    /// `body` must begin with what has [arrived](Self::arrived).
    pub(crate) fn verify(self, body: Bytes) -> Result<Verified, Rejection> {
        let Self { digest, secrets, mut mac, diagnoses } = self;
        let matching = secrets.iter().find(|secret| {
            // Fed already, if it is that of the first secret. It stays in its box, which is zeroized.
            if let Some((mut mac, fed)) = mac.take() {
                mac.update(body.get(fed..).unwrap_or_default());
                return mac.verify(&digest);
            }
            let mut mac = secret.mac(digest.algorithm());
            mac.update(&body);
            mac.verify(&digest)
        });
        match matching {
            Some(secret) => {
                Ok(Verified { body, digest, secret_label: secret.shared_label().cloned() })
            }
            None => {
                let rejection = Rejection::new(RejectionKind::DigestMismatch);
                let diagnosis = || mismatch::explain(&secrets, &digest, &body);
                Err(rejection.diagnosed(diagnoses.then(diagnosis).flatten()))
            }
        }
    }
}
