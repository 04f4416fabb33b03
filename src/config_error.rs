use std::error::Error;
use std::fmt;

/// An invalid configuration, which would verify nothing or never match.
///
/// It is returned when the configuration is built, not at the first request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The secret is empty. Anyone can sign with an empty secret.
    SecretEmpty,
    /// The secret consists of zero bytes only. HMAC pads a short key with zeros, so this secret
    /// signs like an empty one.
    SecretAllZeros,
    /// The secret starts or ends with white space, a byte order mark or a NUL, which is nearly
    /// always a copying accident.
    SurroundingWhitespace,
    /// The list of secrets is empty.
    NoSecrets,
    /// No request has this path. A path must start with `/`, be percent-encoded, and contain no
    /// query, no pattern and no `.` or `..` segment.
    InvalidPath(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::SecretEmpty => {
                "the webhook secret is empty: pass the secret that is set beside the webhook's link at \
                 Inqud"
            }
            Self::SecretAllZeros => {
                "the webhook secret consists of zero bytes only, so anyone could sign with it: pass the \
                 secret that is set beside the webhook's link at Inqud, and check that its buffer was \
                 filled"
            }
            Self::SurroundingWhitespace => {
                "the webhook secret starts or ends with white space, a byte order mark or a NUL, \
                 perhaps a newline from a file: trim it, or use `Secret::verbatim` if it belongs to \
                 the secret"
            }
            Self::NoSecrets => "the list of webhook secrets is empty: pass at least one secret",
            Self::InvalidPath(path) => {
                return write!(
                    f,
                    "invalid path {path:?}: must start with \"/\", be percent-encoded as in the \
                     webhook's link, and contain no query, no pattern and no \".\" or \"..\" segment"
                );
            }
        };
        f.write_str(text)
    }
}

impl Error for ConfigError {}
