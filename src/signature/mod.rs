//! Signatures: secrets, digests, and the proof that a body carries the right one.

mod algorithm;
mod digest;
mod doctor;
mod mac;
mod secret;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use http::request::Parts;
use serde::de::DeserializeOwned;

use self::mac::Mac;
use crate::rejection::{Rejection, RejectionKind};
use crate::{EventKind, Webhook, contract, decode};

pub use self::algorithm::Algorithm;
pub use self::digest::Digest;
pub use self::doctor::Diagnosis;
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
    diagnoses: bool,
}

impl Verifier {
    /// Verifies what Inqud sends: HMAC-SHA1 in `X-Payload-Digest`.
    #[must_use]
    pub fn new(secrets: impl Into<Secrets>) -> Self {
        Self {
            secrets: secrets.into(),
            algorithm: Algorithm::default(),
            header: contract::DIGEST_HEADER,
            diagnoses: true,
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

    /// Whether to look for the likely reason of a wrong digest, [`Rejection::diagnosis`]. True unless
    /// set.
    ///
    /// A look at a mismatch costs up to 15 HMACs of the body for each secret. So there is one in 10 s
    /// at most, at the first four secrets, and none at a body of more than 64 KiB. Mismatches in
    /// between have no diagnosis.
    #[must_use]
    pub fn diagnose(mut self, diagnose: bool) -> Self {
        self.diagnoses = diagnose;
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
        let text = digest.as_ref().as_bytes();
        let digest = self.read_digest(text).map_err(|kind| {
            let diagnosis = || doctor::of_text(self.algorithm, text);
            Rejection::new(kind).diagnosed(self.diagnoses.then(diagnosis).flatten())
        })?;
        self.claim(digest).verify(body.into())
    }

    /// What the head of a refused request says about the reason, unless that is known already.
    #[cold]
    pub(crate) fn explain(&self, rejection: Rejection, head: &Parts) -> Rejection {
        if !self.diagnoses {
            return rejection;
        }
        let diagnosis = match rejection.kind() {
            RejectionKind::DigestMissing => Some(doctor::of_missing(head)),
            RejectionKind::DigestMalformed => {
                let text = head.headers.get(&self.header);
                text.and_then(|text| doctor::of_text(self.algorithm, text.as_bytes()))
            }
            _ => match rejection.diagnosis() {
                Some(Diagnosis::Unexplained) if doctor::is_without_length(head) => {
                    Some(Diagnosis::BodyDecompressed)
                }
                known => known,
            },
        };
        rejection.diagnosed(diagnosis)
    }

    pub(crate) fn is_digest_header(&self, name: &HeaderName) -> bool {
        *name == self.header
    }

    pub(crate) fn read_digest(&self, text: &[u8]) -> Result<Digest, RejectionKind> {
        Digest::from_hex(self.algorithm, text).ok_or(RejectionKind::DigestMalformed)
    }

    pub(crate) fn claim(&self, digest: Digest) -> Claim {
        let secrets = self.secrets.snapshot();
        Claim { digest, secrets, mac: None, diagnoses: self.diagnoses }
    }
}

/// How much of a body is hashed at once while it arrives. Less is hashed at its end: most bodies are
/// smaller, and need no state that is kept in between.
const STRIDE: usize = 8 * 1024;

/// A digest that a request claims, not yet checked, and the check as far as it has come.
pub(crate) struct Claim {
    digest: Digest,
    /// Those of the moment in which the call began.
    secrets: Arc<[Secret]>,
    /// Of the first secret, with the length of what it was fed.
    mac: Option<(Box<Mac>, usize)>,
    diagnoses: bool,
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
            Some(secret) => Ok(Verified { body, digest, secret_label: secret.name().cloned() }),
            None => {
                let rejection = Rejection::new(RejectionKind::DigestMismatch);
                let diagnosis = || doctor::of_mismatch(&secrets, &digest, &body);
                Err(rejection.diagnosed(diagnoses.then(diagnosis).flatten()))
            }
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
    /// A [`Rejection`] of kind [`NotJson`](RejectionKind::NotJson),
    /// [`WrongKind`](RejectionKind::WrongKind) or
    /// [`UnexpectedShape`](RejectionKind::UnexpectedShape).
    pub fn decode<T: DeserializeOwned + 'static>(self) -> Result<Webhook<T>, Rejection> {
        self.decode_kind(None)
    }

    pub(crate) fn decode_kind<T: DeserializeOwned + 'static>(
        self,
        expected: Option<EventKind>,
    ) -> Result<Webhook<T>, Rejection> {
        let body = self.body.clone();
        decode::of_kind(&body, expected, |event| Webhook::new(event, self))
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

    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.secret_label.as_ref()
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
