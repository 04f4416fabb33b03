use std::error::Error;
use std::fmt;

/// A configuration that would verify nothing, or never match. Found when it is built, not at the
/// first request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The secret is empty: anyone could sign with it.
    SecretEmpty,
    /// The secret consists of zero bytes. HMAC fills a short key up with them, so that it would sign like
    /// the empty one.
    SecretAllZeros,
    /// The secret begins or ends with white space, a byte order mark or a NUL, which is nearly always
    /// a copying accident.
    SecretHasWhitespaceAround,
    /// There is no secret in the list.
    NoSecrets,
    /// A path that no request has: it has to begin with `/`, to be percent-encoded, and to have no query,
    /// no pattern and no segment `.` or `..` in it.
    PathImpossible,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretEmpty => {
                "the web hook secret is empty: set the one that Inqud shows beside the web hook's link"
            }
            Self::SecretAllZeros => {
                "the webhook secret has only zero bytes, and anyone could sign with it: perhaps a \
                 buffer was never filled; set the secret that Inqud shows beside the webhook's link"
            }
            Self::SecretHasWhitespaceAround => {
                "the web hook secret begins or ends with white space, a byte order mark or a NUL, \
                 perhaps a newline from a file: \
                 trim it, or use Secret::verbatim if it belongs to the secret"
            }
            Self::NoSecrets => "there is no web hook secret to verify with: give at least one",
            Self::PathImpossible => {
                "no request has this path: give it as it stands in the web hook's link, from the \
                 first `/` after the host, percent-encoded as clients send it, without a query, a \
                 pattern, `.` or `..`"
            }
        })
    }
}

impl Error for ConfigError {}
