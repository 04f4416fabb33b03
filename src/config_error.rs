use std::error::Error;
use std::fmt;

/// A configuration that would verify nothing, or never match. Found when it is built, not at the
/// first request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The secret is empty: anyone could sign with it.
    SecretEmpty,
    /// The secret consists of zero bytes. HMAC fills a short key up with them, so that it would sign like
    /// the empty one.
    SecretAllZeros,
    /// The secret begins or ends with white space, a byte order mark or a NUL, which is nearly always
    /// a copying accident.
    SurroundingWhitespace,
    /// There is no secret in the list.
    NoSecrets,
    /// A path that no request has: it has to begin with `/`, to be percent-encoded, and to have no query,
    /// no pattern and no segment `.` or `..` in it.
    InvalidPath(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::SecretEmpty => {
                "the webhook secret is empty: set the one that Inqud shows beside the webhook's link"
            }
            Self::SecretAllZeros => {
                "the webhook secret has only zero bytes, and anyone could sign with it: perhaps a \
                 buffer was never filled; set the secret that Inqud shows beside the webhook's link"
            }
            Self::SurroundingWhitespace => {
                "the webhook secret begins or ends with white space, a byte order mark or a NUL, \
                 perhaps a newline from a file: \
                 trim it, or use Secret::verbatim if it belongs to the secret"
            }
            Self::NoSecrets => "there is no webhook secret to verify with: give at least one",
            Self::InvalidPath(path) => {
                return write!(
                    f,
                    "invalid path {path:?}: give it as it stands in the webhook's link, from the first `/` \
                     after the host, percent-encoded as clients send it, without a query, a pattern, `.` or `..`"
                );
            }
        };
        f.write_str(text)
    }
}

impl Error for ConfigError {}
