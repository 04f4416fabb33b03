//! A claimed digest, which is checked while the body arrives.

use std::sync::Arc;

use bytes::Bytes;

use super::mac::Mac;
use super::{Digest, Secret, Verified, mismatch};
use crate::rejection::{Rejection, RejectionKind};

/// The least number of bytes that is hashed at once while the body arrives. The rest is hashed at
/// the end. Most bodies are smaller than this and need no HMAC state in between.
const STRIDE: usize = 8 * 1024;

/// A digest that a request claims, and the progress of its verification.
pub(crate) struct Claim {
    pub(super) digest: Digest,
    /// The secrets at the time when the call began.
    pub(super) secrets: Arc<[Secret]>,
    pub(super) tenant: Option<Arc<str>>,
    /// The HMAC with the first secret, and the number of bytes it was fed.
    pub(super) mac: Option<(Box<Mac>, usize)>,
    pub(super) diagnoses: bool,
}

impl Claim {
    /// Feeds new bytes to the HMAC. `body` is everything that has arrived so far.
    pub(crate) fn arrived(&mut self, body: &[u8]) {
        let fed = self.mac.as_ref().map_or(0, |(_, fed)| *fed);
        let Some(new) = body.get(fed..).filter(|new| new.len() >= STRIDE) else { return };
        let Some(first) = self.secrets.first() else { return };
        let start = || (Box::new(first.mac(self.digest.algorithm())), 0);
        let (mac, fed) = self.mac.get_or_insert_with(start);
        mac.update(new);
        *fed = body.len();
    }

    /// Compares the digest. `body` must begin with what has [arrived](Self::arrived).
    pub(crate) fn verify(self, body: Bytes) -> Result<Verified, Rejection> {
        let Self { digest, secrets, tenant, mut mac, diagnoses } = self;
        let matching = secrets.iter().find(|secret| {
            // The HMAC with the first secret may have been fed already. It stays in its box, which
            // is zeroized.
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
                let secret_label = secret.shared_label().cloned();
                Ok(Verified { body, digest, secret_label, tenant })
            }
            None => {
                let rejection = Rejection::new(RejectionKind::DigestMismatch);
                let diagnosis = || mismatch::explain(&secrets, &digest, &body);
                Err(rejection.diagnosed(diagnoses.then(diagnosis).flatten()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state in between costs an allocation, which a small body does not need.
    #[test]
    fn hashes_while_a_large_body_arrives() {
        let body = vec![b'x'; 3 * STRIDE];
        let secret = Secret::new("secret_value").unwrap();
        let digest: Digest = crate::sign(&secret, &body);
        let secrets = Arc::from([secret]);
        let mut claim = Claim { digest, secrets, tenant: None, mac: None, diagnoses: false };
        let fed = |claim: &Claim| claim.mac.as_ref().map(|(_, fed)| *fed);
        for (arrived, expected) in [
            (8 * 1024 - 1, None),
            (8 * 1024, Some(8 * 1024)),
            (16 * 1024 - 1, Some(8 * 1024)),
            (16 * 1024, Some(16 * 1024)),
        ] {
            claim.arrived(&body[..arrived]);
            assert_eq!(fed(&claim), expected, "{arrived} bytes");
        }
        claim.verify(body.into()).unwrap();
    }
}
