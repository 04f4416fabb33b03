//! Signatures: secrets, digests, and the proof that a body carries the right one.

mod algorithm;
mod digest;
mod mac;
mod secret;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;

use self::mac::Mac;
use crate::rejection::{Rejection, RejectionKind};
use crate::{Webhook, contract, decode};

pub use self::algorithm::Algorithm;
pub use self::digest::Digest;
pub use self::secret::{Secret, Secrets};

/// Signs a body the way Inqud does: HMAC-SHA1.
///
/// For the tests of your own handler: the result can be a header's value as it is.
///
/// ```
/// use http::Request;
/// use tower_inqud::{Secret, contract, sign};
///
/// let secret = Secret::new("secret_value")?;
/// let body = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
/// let request = Request::post("/webhooks/inqud/request")
///     .header(contract::DIGEST_HEADER, sign(&secret, body.as_bytes()))
///     .body(body)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> Digest {
    Algorithm::HmacSha1.sign(secret, body)
}

/// How a signature is checked: against which secrets, with which algorithm, from which header.
///
/// Inqud sends `X-Payload-Digest`: 40 lowercase hexadecimal digits, the HMAC-SHA1 of the raw body
/// under the web hook's secret, and only if the merchant has set one (confirmed).
///
/// A [`Secret`] or [`Secrets`] turns into a verifier wherever the layer asks for one. It needs no
/// server, and serves a queue consumer or a test just as well:
///
/// ```
/// use tower_inqud::{PaymentRequest, Secret, Verifier, sign};
///
/// let secret = Secret::new("secret_value")?;
/// let body = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
/// let digest = sign(&secret, body.as_bytes()).to_string();
///
/// let webhook = Verifier::new(secret).verify(&digest, body)?.decode::<PaymentRequest>()?;
/// assert!(webhook.is_paid());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    secrets: Secrets,
    algorithm: Algorithm,
    header: HeaderName,
}

impl Verifier {
    /// Verifies what Inqud sends: HMAC-SHA1 in `X-Payload-Digest`.
    #[must_use]
    pub fn new(secrets: impl Into<Secrets>) -> Self {
        Self {
            secrets: secrets.into(),
            algorithm: Algorithm::default(),
            header: contract::DIGEST_HEADER,
        }
    }

    /// Expects another algorithm than [`Algorithm::HmacSha1`], Inqud's. Only digests of this one
    /// are accepted.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Expects the digest in another header than `X-Payload-Digest`, Inqud's.
    #[must_use]
    pub fn header(mut self, header: HeaderName) -> Self {
        self.header = header;
        self
    }

    /// Verifies a whole body against the text of its digest.
    ///
    /// `body` must be the bytes as received: JSON that was parsed and written again has another
    /// digest.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] of kind [`DigestMalformed`](RejectionKind::DigestMalformed) or
    /// [`DigestMismatch`](RejectionKind::DigestMismatch).
    pub fn verify(
        &self,
        digest: impl AsRef<str>,
        body: impl Into<Bytes>,
    ) -> Result<Verified, Rejection> {
        let body = body.into();
        let mut claim = self.claim(digest.as_ref().as_bytes()).map_err(Rejection::new)?;
        claim.update(&body);
        claim.verify(body).map_err(Rejection::new)
    }

    /// Hides every digest header from `Debug`, and claims the digest if there is just one.
    pub(crate) fn claim_from(&self, headers: &mut HeaderMap) -> Result<Claim, RejectionKind> {
        // An entry of its own would make room in the map, for a header that is not there.
        if !headers.contains_key(&self.header) {
            return Err(RejectionKind::DigestMissing);
        }
        let Entry::Occupied(mut entry) = headers.entry(&self.header) else {
            return Err(RejectionKind::DigestMissing);
        };
        entry.iter_mut().for_each(|value| value.set_sensitive(true));
        if entry.iter().nth(1).is_some() {
            return Err(RejectionKind::DigestDuplicated);
        }
        self.claim(entry.get().as_bytes())
    }

    fn claim(&self, digest: &[u8]) -> Result<Claim, RejectionKind> {
        let digest =
            Digest::from_hex(self.algorithm, digest).ok_or(RejectionKind::DigestMalformed)?;
        let secrets = self.secrets.snapshot();
        let mac = secrets.first().ok_or(RejectionKind::DigestMismatch)?.mac(self.algorithm);
        Ok(Claim { digest, secrets, mac })
    }
}

/// A digest that a request claims, not yet checked, and the check as far as it has come.
pub(crate) struct Claim {
    digest: Digest,
    secrets: Arc<[Secret]>,
    /// Of the first secret, fed while the body arrives.
    mac: Mac,
}

impl Claim {
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.mac.update(data);
    }

    /// `body` must be all that [`update`](Self::update) was given.
    pub(crate) fn verify(self, body: Bytes) -> Result<Verified, RejectionKind> {
        let Self { digest, secrets, mac } = self;
        let mut secrets = secrets.iter();
        let first = secrets.next().filter(|_| mac.verify(&digest));
        let matching = first.or_else(|| {
            secrets.find(|secret| {
                let mut mac = secret.mac(digest.algorithm());
                mac.update(&body);
                mac.verify(&digest)
            })
        });
        match matching {
            Some(secret) => Ok(Verified { body, digest, secret_label: secret.name().cloned() }),
            None => Err(RejectionKind::DigestMismatch),
        }
    }
}

/// A body whose digest was right. Only a [`Verifier`] makes one.
#[derive(Clone)]
pub struct Verified {
    body: Bytes,
    digest: Digest,
    secret_label: Option<Arc<str>>,
}

impl Verified {
    /// Reads the body as one JSON object.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] of kind [`NotJson`](RejectionKind::NotJson) or
    /// [`UnexpectedShape`](RejectionKind::UnexpectedShape).
    pub fn decode<T: DeserializeOwned>(self) -> Result<Webhook<T>, Rejection> {
        let event = decode::from_json(&self.body)?;
        Ok(Webhook::new(event, self))
    }

    /// The body, byte for byte as it was received.
    #[must_use]
    pub fn raw_body(&self) -> &Bytes {
        &self.body
    }

    /// The digest of the body.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The label of the secret that matched, if it has one.
    #[must_use]
    pub fn secret_label(&self) -> Option<&str> {
        self.secret_label.as_deref()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("body_len", &self.body.len())
            .field("secret_label", &self.secret_label)
            .finish_non_exhaustive()
    }
}
