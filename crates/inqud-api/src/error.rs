use std::error::Error;
use std::fmt;

use tower_inqud::EventKind;

/// An invalid configuration of the client.
///
/// It is returned when the client is built, not at the first request. It never contains the secret.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The id of the token is empty, or has characters other than visible ASCII.
    InvalidTokenId,
    /// The secret of the token is empty, or consists of zero bytes only.
    SecretEmpty,
    /// The secret of the token starts or ends with white space, which is nearly always a copying accident.
    SurroundingWhitespace,
    /// The secret of the token cannot be sent in a header, because it has characters other than visible ASCII.
    InvalidSecret,
    /// The base URL is not an absolute URL with the scheme `https` or `http`, or has a user name, a query or a
    /// fragment.
    InvalidBaseUrl,
    /// The base URL is unencrypted, and its host is not this machine. Holds the host.
    Unencrypted(String),
    /// A path that no object of this kind can be requested with.
    InvalidPath(EventKind, String),
    /// The id of a project that cannot be a part of a path.
    InvalidProject(String),
    /// A limit is zero, which would end all requests. Holds the name of the setting.
    ZeroLimit(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTokenId => f.write_str(
                "invalid id of the API token: must be visible ASCII, such as \"TKN-…\" from the API tokens in \
                 Inqud's back office",
            ),
            Self::SecretEmpty => f.write_str(
                "the secret of the API token is empty: pass the one that Inqud showed when the token was created",
            ),
            Self::SurroundingWhitespace => f.write_str(
                "the secret of the API token starts or ends with white space, perhaps a newline from a file: \
                 trim it",
            ),
            Self::InvalidSecret => f.write_str(
                "the secret of the API token cannot be sent in a header: must be visible ASCII, or use \
                 `Credentials::signed`",
            ),
            Self::InvalidBaseUrl => f.write_str(
                "invalid base URL: must be like \"https://api.inqud.com\", without a user name, a query or a \
                 fragment",
            ),
            Self::Unencrypted(host) => write!(
                f,
                "the base URL of {host:?} is unencrypted, and a signature that is seen may authorise any \
                 request: use https, or call `allow_unencrypted` if the network is your own"
            ),
            Self::InvalidPath(kind, path) => write!(
                f,
                "invalid path {path:?} of a `{kind}`: must start with \"/\", contain \"{{id}}\" once, be \
                 percent-encoded, and contain no fragment and no \".\" or \"..\" segment"
            ),
            Self::InvalidProject(id) => write!(
                f,
                "invalid id of a project {id:?}: must consist of letters, digits and \"-\", such as \"CAP-…\""
            ),
            Self::ZeroLimit(name) => {
                write!(f, "`{name}` is zero, which would end all requests: must be at least 1")
            }
        }
    }
}

impl Error for ConfigError {}
