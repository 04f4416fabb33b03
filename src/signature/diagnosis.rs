//! The public enum of the likely causes.

use std::fmt;

use super::Algorithm;

/// The likely cause of a wrong digest, for your log.
///
/// A diagnosis never accepts a call, and the sender does not get it. If a variant says that the
/// digest matches something, the layer has tried that and it does match. The other variants are
/// guesses.
///
/// `Display` says what is likely wrong and what to do. It quotes nothing of the call or the secret.
///
/// # Example
///
/// ```
/// use tower_inqud::{Diagnosis, Secret, Verifier, sign};
///
/// let secret = Secret::new("secret_value")?;
/// let digest = sign(&secret, br#"{"id":"CAPD-1","status":"SUCCESS"}"#).to_string();
///
/// // The same body after a JSON middleware.
/// let rewritten = r#"{"id": "CAPD-1", "status": "SUCCESS"}"#;
/// let rejection = Verifier::new(secret).verify(digest, rewritten).unwrap_err();
/// assert_eq!(rejection.diagnosis(), Some(Diagnosis::BodyRewritten));
/// # Ok::<_, tower_inqud::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Diagnosis {
    /// There is no digest. Inqud sends none for a webhook that has no secret (confirmed).
    NotSigned,
    /// The request is signed like a call *to* Inqud's API, with `X-HMAC-SHA256-Signature` and
    /// `X-Salt` (confirmed). Webhooks are signed differently.
    ApiSignature,
    /// The digest has the length of this algorithm, which is not the expected one. Calls *to*
    /// Inqud's API are signed with SHA-256 (confirmed), and the two are easily confused.
    DigestOfAnotherAlgorithm(Algorithm),
    /// The digest looks like base64. Inqud's is hexadecimal (confirmed).
    DigestIsBase64,
    /// The header value has more than the digits of the digest: a prefix such as `sha1=`, quotes or
    /// white space.
    DigestHasMoreThanDigits,
    /// The digest matches the secret without the white space around it.
    SecretHasWhitespace,
    /// The digest matches the secret with a newline after it.
    SecretLacksNewline,
    /// The digest matches the secret without the quotes around it.
    SecretHasQuotes,
    /// The digest matches the bytes that the secret encodes in hexadecimal.
    SecretNeedsHexDecoding,
    /// The digest matches the bytes that the secret encodes in base64.
    SecretNeedsBase64Decoding,
    /// The digest matches the hexadecimal text of the secret, which must not be decoded.
    SecretWasHexDecoded,
    /// The digest matches the base64 text of the secret, which must not be decoded.
    SecretWasBase64Decoded,
    /// The body is empty. Something on the way dropped it or read it.
    BodyEmpty,
    /// The digest matches the body without the byte order mark before it.
    BodyHasByteOrderMark,
    /// The digest matches the body without the newline after it.
    BodyHasNewline,
    /// The digest matches the body with a newline after it.
    BodyLacksNewline,
    /// The digest matches the same JSON without white space or needless escapes. Something on the
    /// way parsed the body and serialized it again.
    BodyRewritten,
    /// Nothing that was tried matches, and the HTTP/1 request has neither a `Content-Length` nor a
    /// `Transfer-Encoding`. An outer layer that decompresses a body removes its length, and the
    /// digest covers the bytes as sent. A call that is made in process has no length either.
    BodyDecompressed,
    /// Nothing that was tried matches. It is another secret or another body.
    Unexplained,
}

impl Diagnosis {
    /// The name of the diagnosis in logs, such as `body_rewritten`. It is stable between versions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSigned => "not_signed",
            Self::ApiSignature => "api_signature",
            Self::DigestOfAnotherAlgorithm(_) => "digest_of_another_algorithm",
            Self::DigestIsBase64 => "digest_is_base64",
            Self::DigestHasMoreThanDigits => "digest_has_more_than_digits",
            Self::SecretHasWhitespace => "secret_has_whitespace",
            Self::SecretLacksNewline => "secret_lacks_newline",
            Self::SecretHasQuotes => "secret_has_quotes",
            Self::SecretNeedsHexDecoding => "secret_needs_hex_decoding",
            Self::SecretNeedsBase64Decoding => "secret_needs_base64_decoding",
            Self::SecretWasHexDecoded => "secret_was_hex_decoded",
            Self::SecretWasBase64Decoded => "secret_was_base64_decoded",
            Self::BodyEmpty => "body_empty",
            Self::BodyHasByteOrderMark => "body_has_byte_order_mark",
            Self::BodyHasNewline => "body_has_newline",
            Self::BodyLacksNewline => "body_lacks_newline",
            Self::BodyRewritten => "body_rewritten",
            Self::BodyDecompressed => "body_decompressed",
            Self::Unexplained => "unexplained",
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSigned => {
                "not signed: either no secret is set beside the webhook's link at Inqud, or someone \
                 else sent this; set a secret there"
            }
            Self::ApiSignature => {
                "signed like a call to Inqud's API (`X-HMAC-SHA256-Signature`): sign it like a webhook"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha256) => {
                "the digest has the length of SHA-256, which signs calls to Inqud's API: Inqud's \
                 webhooks carry an HMAC-SHA1"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha512) => {
                "the digest has the length of SHA-512: Inqud's webhooks carry an HMAC-SHA1"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha1) => {
                "the digest has the length of SHA-1: the verifier is configured for another algorithm"
            }
            Self::DigestIsBase64 => "the digest looks like base64: it must be hexadecimal",
            Self::DigestHasMoreThanDigits => {
                "there is more than the digits of a digest, such as a prefix, quotes or white space: \
                 send the digits alone"
            }
            Self::SecretHasWhitespace => {
                "the digest matches the configured secret without the white space around it: remove \
                 the white space"
            }
            Self::SecretLacksNewline => {
                "the digest matches the configured secret with a newline after it: set the secret at \
                 Inqud again without the newline, or add the newline with `Secret::verbatim`"
            }
            Self::SecretHasQuotes => {
                "the digest matches the configured secret without the quotes around it: remove the \
                 quotes"
            }
            Self::SecretNeedsHexDecoding => {
                "the digest matches the bytes that the configured secret encodes in hexadecimal: \
                 decode it first"
            }
            Self::SecretNeedsBase64Decoding => {
                "the digest matches the bytes that the configured secret encodes in base64: decode it \
                 first"
            }
            Self::SecretWasHexDecoded => {
                "the digest matches the hexadecimal text of the configured secret: do not decode it"
            }
            Self::SecretWasBase64Decoded => {
                "the digest matches the base64 text of the configured secret: do not decode it"
            }
            Self::BodyEmpty => {
                "the body is empty: look for a proxy that drops it or an outer layer that reads it"
            }
            Self::BodyHasByteOrderMark => {
                "the digest matches the body without its byte order mark: look for what adds it"
            }
            Self::BodyHasNewline => {
                "the digest matches the body without the newline at its end: look for what adds it"
            }
            Self::BodyLacksNewline => {
                "the digest matches the body with a newline at its end: look for what removes it"
            }
            Self::BodyRewritten => {
                "the digest matches the same JSON in compact form: look for what parses the body and \
                 serializes it again"
            }
            Self::BodyDecompressed => {
                "none of the usual mistakes, and the body has no length: look for an outer layer that \
                 decompresses it, and check that the secret is that of this webhook"
            }
            Self::Unexplained => {
                "none of the usual mistakes: check that the secret is that of this webhook"
            }
        })
    }
}
