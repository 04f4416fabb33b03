use std::fmt;
use std::hash::{Hash, Hasher};

use ctutils::CtEq;
use http::HeaderValue;

use super::Algorithm;

/// The length of the longest digest, HMAC-SHA512.
const MAX_LEN: usize = 64;

/// The digest of a body, as returned by [`sign`](super::sign) and carried by `X-Payload-Digest`.
///
/// - `Display` writes the text that Inqud sends: lowercase hexadecimal digits without a prefix.
/// - `Debug` hides it, because anyone who has the digest of a body can send that body.
/// - `==` compares the bytes in constant time.
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

    /// Parses the hexadecimal digits of one digest, in upper or lower case. Returns `None` for
    /// anything else.
    ///
    /// This does not run in constant time and does not have to, because the sender of the text
    /// knows it.
    pub(super) fn from_hex(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_LEN];
        let room = bytes.get_mut(..algorithm.digest_len())?;
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        if pairs.len() != room.len() {
            return None;
        }
        let mut worths = 0;
        for (byte, [high, low]) in room.iter_mut().zip(pairs) {
            let (high, low) = (nibble(*high), nibble(*low));
            worths |= high | low;
            *byte = (high << 4) | low;
        }
        (worths <= 0xf).then_some(Self { bytes, algorithm })
    }

    /// The raw bytes: 20 for HMAC-SHA1.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.algorithm.digest_len()).0
    }

    /// The algorithm that the digest was made with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// The value of a hexadecimal digit, or more than 15 for any other byte.
///
/// There is no branch for each digit: digits and letters occur at random, and a processor would
/// predict half of the branches wrong.
fn nibble(digit: u8) -> u8 {
    let decimal = digit.wrapping_sub(b'0');
    let letter = digit.to_ascii_lowercase().wrapping_sub(b'a');
    match (decimal, letter) {
        (0..=9, _) => decimal,
        (_, 0..=5) => letter.wrapping_add(10),
        _ => u8::MAX,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.as_bytes().ct_eq(other.as_bytes()).to_bool()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Makes the value of `X-Payload-Digest`. It is marked sensitive, so `Debug` of a header map hides
/// it.
impl From<Digest> for HeaderValue {
    fn from(digest: Digest) -> Self {
        let mut value = Self::try_from(digest.to_string()).expect("digits can be a header's value");
        value.set_sensitive(true);
        value
    }
}
