use http::{HeaderMap, HeaderValue};
use tower_inqud::{Algorithm, ConfigError, Digest, Secret};

/// What a request to the API must prove.
pub(super) struct Auth {
    id: Digest,
    token_secret: Digest,
    key: Secret,
}

impl Auth {
    pub(super) fn new(id: &str, secret: &[u8]) -> Result<Self, ConfigError> {
        let key = Secret::new(secret)?;
        Ok(Self { id: fixed_len(&key, id.as_bytes()), token_secret: fixed_len(&key, secret), key })
    }

    /// Whether a request without a body comes from the owner of the token. Compares in constant time.
    pub(super) fn accepts(&self, headers: &HeaderMap) -> bool {
        let only = |name| only_value(headers, name);
        let Some(id) = only("x-token-api-id") else { return false };
        let is_known = fixed_len(&self.key, id) == self.id;
        let proof = ["x-token-api-secret", "x-hmac-sha256-signature"];
        let proven = match proof.map(|name| headers.contains_key(name)) {
            [true, false] => only("x-token-api-secret")
                .is_some_and(|secret| fixed_len(&self.key, secret) == self.token_secret),
            [false, true] => {
                let (signature, salt) = (only("x-hmac-sha256-signature"), only("x-salt"));
                signature.zip(salt).is_some_and(|(signature, salt)| self.signed(signature, salt))
            }
            // Whether Inqud accepts both at once is not known.
            _ => false,
        };
        is_known && proven
    }

    fn signed(&self, signature: &[u8], salt: &[u8]) -> bool {
        // The body of a GET is empty, so the salt is all that is signed (confirmed).
        let expected = Algorithm::HmacSha256.sign(&self.key, salt).to_string();
        !salt.is_empty()
            && fixed_len(&self.key, &signature.to_ascii_lowercase())
                == fixed_len(&self.key, expected.as_bytes())
    }
}

/// Hashes a value with the key, because digests compare in constant time and values of any length do not.
fn fixed_len(key: &Secret, value: &[u8]) -> Digest {
    Algorithm::HmacSha256.sign(key, value)
}

/// The value of a header that occurs exactly once.
fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values.next().filter(|_| values.next().is_none())
}
