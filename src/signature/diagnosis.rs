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
    /// There is no digest. Inqud sends none for a web hook that has no secret (confirmed).
    NotSigned,
    /// The request is signed the way that calls *to* Inqud's API are, with
    /// `X-HMAC-SHA256-Signature` and `X-Salt` (confirmed). Web hooks are not.
    ApiSigning,
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
    SecretIsHex,
    /// The digest is right for the bytes that the secret's base64 stands for.
    SecretIsBase64,
    /// The digest is right for the hexadecimal text of the secret: it was decoded, and must not be.
    SecretWasHex,
    /// The digest is right for the base64 text of the secret: it was decoded, and must not be.
    SecretWasBase64,
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

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSigned => {
                "not signed: either no secret is set beside the web hook's link at Inqud, or \
                 someone else sent this"
            }
            Self::ApiSigning => {
                "signed like a call to Inqud's API (`X-HMAC-SHA256-Signature`), and not like a web \
                 hook"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha256) => {
                "the digest is as long as one of SHA-256, with which calls to Inqud's API are \
                 signed: Inqud's web hooks carry an HMAC-SHA1"
            }
            Self::DigestOfAnotherAlgorithm(Algorithm::HmacSha512) => {
                "the digest is as long as one of SHA-512: Inqud's web hooks carry an HMAC-SHA1"
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
            Self::SecretIsHex => {
                "right for the bytes that the configured secret's hexadecimal digits stand for: \
                 decode it first"
            }
            Self::SecretIsBase64 => {
                "right for the bytes that the configured secret's base64 stands for: decode it first"
            }
            Self::SecretWasHex => {
                "right for the hexadecimal text of the configured secret: do not decode it"
            }
            Self::SecretWasBase64 => {
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
                "none of the usual mistakes: is it the secret of this very web hook?"
            }
        })
    }
}
