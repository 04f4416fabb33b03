use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::claim::Claim;
use super::{Algorithm, Diagnosis, Digest, Secret, Secrets, Verified, guess};
use crate::contract;
use crate::rejection::{Rejection, RejectionKind};

/// Verifies signatures: holds the secrets, the algorithm and the name of the digest header.
///
/// Inqud sends `X-Payload-Digest` with 40 lowercase hexadecimal digits: the HMAC-SHA1 of the raw
/// body, keyed with the webhook's secret. It sends the header only if the merchant has set a secret
/// (confirmed).
///
/// [`WebhookLayer::new`](crate::WebhookLayer::new) takes a verifier. A [`Secret`] and [`Secrets`]
/// convert into one. A verifier also works without a server, for example in a queue consumer or a
/// test:
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
    tenant: Option<Arc<str>>,
    diagnoses: bool,
}

impl Verifier {
    /// Creates a verifier for what Inqud sends: HMAC-SHA1 in `X-Payload-Digest`.
    #[must_use]
    pub fn new(secrets: impl Into<Secrets>) -> Self {
        Self {
            secrets: secrets.into(),
            algorithm: Algorithm::default(),
            header: contract::DIGEST_HEADER,
            tenant: None,
            diagnoses: true,
        }
    }

    /// Sets the algorithm. Only its digests are accepted. Defaults to [`Algorithm::HmacSha1`],
    /// which Inqud uses.
    ///
    /// Change it for a relay of your own that signs with another algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets the name of the digest header. Defaults to `X-Payload-Digest`, which Inqud uses.
    ///
    /// Change it for a relay of your own that sends the digest in another header.
    #[must_use]
    pub fn header(mut self, header: HeaderName) -> Self {
        self.header = header;
        self
    }

    /// Names the tenant whose webhooks this verifier accepts. Defaults to none.
    ///
    /// Set it in a program that receives webhooks for several merchants, each with secrets of their
    /// own. [`Webhook::tenant`](crate::Webhook::tenant) has the name, and an inbox keeps the objects
    /// of tenants apart. Do not rename a tenant while an inbox has notifications of it: a later one
    /// would be about another object.
    #[must_use]
    pub fn tenant(mut self, name: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(name.into());
        self
    }

    /// Sets whether to look for the likely cause of a wrong digest, [`Rejection::diagnosis`].
    /// Defaults to true.
    ///
    /// Turn it off if you do not read the diagnosis. The diagnosis of a mismatch costs up to 15
    /// HMACs of the body for each secret. At most one mismatch in 10 s is therefore diagnosed, with
    /// the first four secrets, and none with a body of more than 64 KiB. The others have no
    /// diagnosis.
    #[must_use]
    pub fn diagnose(mut self, diagnose: bool) -> Self {
        self.diagnoses = diagnose;
        self
    }

    /// Verifies a whole body against the text of its digest.
    ///
    /// `body` must be the bytes as received. JSON that was parsed and serialized again has another
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
        self.verify_text(digest.as_ref().as_bytes(), body.into())
    }

    /// Verifies a whole body against the digest in the headers of its request.
    ///
    /// Use it in servers that are not tower services. It applies the layer's rules for the digest
    /// header: there must be exactly one, and its value must be the digits alone. The rest is up to
    /// you: limit the body, respond with [`Rejection::status`] to a rejected call, and with 200
    /// otherwise.
    ///
    /// `body` must be the bytes as received, not decompressed, because the digest covers the bytes
    /// as sent.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] of kind [`DigestMissing`](RejectionKind::DigestMissing),
    /// [`DigestDuplicated`](RejectionKind::DigestDuplicated),
    /// [`DigestMalformed`](RejectionKind::DigestMalformed) or
    /// [`DigestMismatch`](RejectionKind::DigestMismatch).
    ///
    /// # Example
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue};
    /// use tower_inqud::{PaymentRequest, RejectionKind, Secret, Verifier, contract, sign};
    ///
    /// let secret = Secret::new("secret_value")?;
    /// let body = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    /// let digest = HeaderValue::from(sign(&secret, body.as_bytes()));
    /// let verifier = Verifier::new(secret);
    ///
    /// let mut headers = HeaderMap::new();
    /// let rejection = verifier.verify_headers(&headers, body).unwrap_err();
    /// assert_eq!(rejection.kind(), RejectionKind::DigestMissing);
    ///
    /// headers.append(contract::DIGEST_HEADER, digest.clone());
    /// let webhook = verifier.verify_headers(&headers, body)?.decode::<PaymentRequest>()?;
    /// assert_eq!(webhook.id, "CAPD-1");
    ///
    /// headers.append(contract::DIGEST_HEADER, digest);
    /// let rejection = verifier.verify_headers(&headers, body).unwrap_err();
    /// assert_eq!(rejection.kind(), RejectionKind::DigestDuplicated);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_headers(
        &self,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Verified, Rejection> {
        let mut digests = headers.get_all(&self.header).iter();
        match (digests.next(), digests.next()) {
            (Some(digest), None) => self.verify_text(digest.as_bytes(), body.into()),
            (Some(_), Some(_)) => Err(Rejection::new(RejectionKind::DigestDuplicated)),
            (None, _) => {
                let diagnosis = self.diagnoses.then(|| guess::diagnose_missing(headers));
                Err(Rejection::new(RejectionKind::DigestMissing).diagnosed(diagnosis))
            }
        }
    }

    fn verify_text(&self, text: &[u8], body: Bytes) -> Result<Verified, Rejection> {
        let digest = self.read_digest(text).map_err(|kind| {
            let diagnosis = || guess::diagnose_text(self.algorithm, text);
            Rejection::new(kind).diagnosed(self.diagnoses.then(diagnosis).flatten())
        })?;
        self.claim(digest).verify(body)
    }

    /// Adds a diagnosis that depends on the request head, unless the rejection has a better one.
    #[cold]
    pub(crate) fn explain(&self, rejection: Rejection, head: &Parts) -> Rejection {
        if !self.diagnoses {
            return rejection;
        }
        let diagnosis = match rejection.kind() {
            RejectionKind::DigestMissing => Some(guess::diagnose_missing(&head.headers)),
            RejectionKind::DigestMalformed => {
                let text = head.headers.get(&self.header);
                text.and_then(|text| guess::diagnose_text(self.algorithm, text.as_bytes()))
            }
            _ => match rejection.diagnosis() {
                Some(Diagnosis::Unexplained) if guess::is_without_length(head) => {
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
        let tenant = self.tenant.clone();
        Claim { digest, secrets, tenant, mac: None, diagnoses: self.diagnoses }
    }
}

impl From<Secret> for Verifier {
    fn from(secret: Secret) -> Self {
        Self::new(secret)
    }
}

impl From<Secrets> for Verifier {
    fn from(secrets: Secrets) -> Self {
        Self::new(secrets)
    }
}
