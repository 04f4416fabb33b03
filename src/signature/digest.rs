use std::fmt;
use std::hash::{Hash, Hasher};

use http::HeaderValue;
use subtle::ConstantTimeEq;

use super::Algorithm;

/// The longest digest there is, HMAC-SHA512.
const MAX_LEN: usize = 64;

/// A digest of a body: what [`sign`](super::sign) makes and `X-Payload-Digest` carries.
///
/// - `Display` is the text Inqud sends: lowercase hexadecimal, no prefix.
/// - `Debug` does not show it: whoever has the digest of a body can send that body.
/// - `==` takes the same time wherever two digests differ.
///
/// # Example
///
/// ```
/// use tower_inqud::{Secret, sign};
///
/// let digest = sign(&Secret::new("secret_value")?, br#"{"field":"value"}"#);
/// assert_eq!(digest.to_string(), "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46");
/// assert_eq!(format!("{digest:?}"), "Digest(..)");
/// # Ok::<_, tower_inqud::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Digest {
    bytes: [u8; MAX_LEN],
    algorithm: Algorithm,
}

impl Digest {
    pub(super) fn new(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; MAX_LEN];
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = *from;
        }
        Self { bytes, algorithm }
    }

    /// Reads exactly the digits of one digest, upper or lower case; `None` for anything else.
    pub(super) fn from_hex(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_LEN];
        let room = bytes.get_mut(..algorithm.digest_len())?;
        // `decode` takes shorter texts too, so the length is compared first.
        if text.len() != base16ct::encoded_len(room) {
            return None;
        }
        base16ct::mixed::decode(text, room).ok()?;
        Some(Self { bytes, algorithm })
    }

    /// The raw bytes: 20 for HMAC-SHA1.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.algorithm.digest_len()).0
    }

    /// The algorithm that the digest belongs to.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 2 * MAX_LEN];
        f.write_str(base16ct::lower::encode_str(self.as_bytes(), &mut text)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && bool::from(self.as_bytes().ct_eq(other.as_bytes()))
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// The value of `X-Payload-Digest`, marked sensitive, so that `Debug` of a header map hides it.
impl From<Digest> for HeaderValue {
    fn from(digest: Digest) -> Self {
        let mut text = [0; 2 * MAX_LEN];
        let hex = base16ct::lower::encode(digest.as_bytes(), &mut text).unwrap_or_default();
        let mut value = Self::from_bytes(hex).unwrap_or_else(|_| Self::from_static(""));
        value.set_sensitive(true);
        value
    }
}
