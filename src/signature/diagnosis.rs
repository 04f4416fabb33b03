//! The public word for a likely reason.

use std::fmt;

use super::Algorithm;

/// The likely reason why a digest was refused, for whoever reads the log.
///
/// A guess, and never a verdict: the call stays refused, and the sender is not told. Where it says
/// that the digest is right for something, that was tried, and is so.
///
/// `Display` says what is likely wrong and what to do; it quotes nothing of the call or the secret.
///
/// # Example
///
/// ```
/// use tower_inqud::{Diagnosis, Secret, Verifier, sign};
///
/// let secret = Secret::new("secret_value")?;
/// let digest = sign(&secret, br#"{"id":"CAPD-1","status":"SUCCESS"}"#).to_string();
///
/// // What a JSON middleware makes of it.
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
    /// The request is signed the way that calls *to* Inqud's API are, with
    /// `X-HMAC-SHA256-Signature` and `X-Salt` (confirmed). Webhooks are not.
    ApiSignature,
    /// The digest has as many digits as this algorithm makes, which is not the one expected. Calls
    /// *to* Inqud's API are signed with SHA-256 (confirmed), and the two are easily mixed up.
    DigestOfAnotherAlgorithm(Algorithm),
    /// The digest looks like base64. Inqud's is hexadecimal (confirmed).
    DigestIsBase64,
    /// There is more around the digits of the digest: a prefix such as `sha1=`, quotes, white space.
    DigestHasMoreThanDigits,
    /// The digest is right for the secret without the white space around it.
    SecretHasWhitespace,
    /// The digest is right for the secret with a newline after it.
    SecretLacksNewline,
    /// The digest is right for the secret without the quotes around it.
    SecretHasQuotes,
    /// The digest is right for the bytes that the secret's hexadecimal digits stand for.
    SecretNeedsHexDecoding,
    /// The digest is right for the bytes that the secret's base64 stands for.
    SecretNeedsBase64Decoding,
    /// The digest is right for the hexadecimal text of the secret: it was decoded, and must not be.
    SecretWasHexDecoded,
    /// The digest is right for the base64 text of the secret: it was decoded, and must not be.
    SecretWasBase64Decoded,
    /// The body is empty: it was lost, or read, on the way.
    BodyEmpty,
    /// The digest is right for the body without the byte order mark before it.
    BodyHasByteOrderMark,
    /// The digest is right for the body without the newline after it.
    BodyHasNewline,
    /// The digest is right for the body with a newline after it.
    BodyLacksNewline,
    /// The digest is right for the same JSON, written without white space and needless escapes:
    /// it was parsed and written again on the way.
    BodyRewritten,
    /// None of the above, and the request neither says how long its body is nor that it comes in
    /// chunks. A layer outside takes the length away when it decompresses, and the digest is over the
    /// bytes as sent. A call that was made in process has no length either.
    BodyDecompressed,
    /// None of the above: another secret altogether, or another body.
    Unexplained,
}

impl Diagnosis {
    /// The name in logs, such as `body_rewritten`. Stays the same between versions.
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
                "not signed: either no secret is set beside the webhook's link at Inqud, or \
                 someone else sent this"
            }
            Self::ApiSignature => {
                "signed like a call to Inqud's API (`X-HMAC-SHA256-Signature`), and not like a webhook"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha256) => {
                "the digest is as long as one of SHA-256, with which calls to Inqud's API are \
                 signed: Inqud's webhooks carry an HMAC-SHA1"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha512) => {
                "the digest is as long as one of SHA-512: Inqud's webhooks carry an HMAC-SHA1"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha1) => {
                "the digest is as long as one of SHA-1, and the verifier expects another algorithm"
            }
            Self::DigestIsBase64 => "the digest looks like base64: it has to be hexadecimal",
            Self::DigestHasMoreThanDigits => {
                "there is more than the digits of a digest: a prefix, quotes or white space"
            }
            Self::SecretHasWhitespace => {
                "right without the white space around the configured secret: remove it"
            }
            Self::SecretLacksNewline => {
                "right with a newline after the configured secret: one was saved at Inqud; set the \
                 secret there anew, or add the newline with `Secret::verbatim`"
            }
            Self::SecretHasQuotes => {
                "right without the quotes around the configured secret: remove them"
            }
            Self::SecretNeedsHexDecoding => {
                "right for the bytes that the configured secret's hexadecimal digits stand for: \
                 decode it first"
            }
            Self::SecretNeedsBase64Decoding => {
                "right for the bytes that the configured secret's base64 stands for: decode it first"
            }
            Self::SecretWasHexDecoded => {
                "right for the hexadecimal text of the configured secret: do not decode it"
            }
            Self::SecretWasBase64Decoded => {
                "right for the base64 text of the configured secret: do not decode it"
            }
            Self::BodyEmpty => {
                "the body is empty: a proxy dropped it, or a layer outside has read it"
            }
            Self::BodyHasByteOrderMark => {
                "right without the byte order mark before the body: something on the way adds it"
            }
            Self::BodyHasNewline => {
                "right without the newline after the body: something on the way adds it"
            }
            Self::BodyLacksNewline => {
                "right with a newline after the body: something on the way takes it off"
            }
            Self::BodyRewritten => {
                "right for the same JSON written compactly: something on the way parses the body \
                 and writes it again"
            }
            Self::BodyDecompressed => {
                "none of the usual mistakes, and the body comes without its length: was it \
                 decompressed by a layer outside? Else the secret is another one"
            }
            Self::Unexplained => {
                "none of the usual mistakes: is it the secret of this very webhook?"
            }
        })
    }
}
