use std::fmt;

use sha2::{Digest, Sha256};

use crate::DeliveryKey;

/// 16 bytes that are equal for all deliveries of one notification: what the inbox knows a duplicate
/// by, and what to hand to other systems as a key of idempotency. `Display` is 32 hexadecimal digits.
///
/// It is the first half of a SHA-256 of the kind and the
/// [`delivery_key`](crate::Notification::delivery_key), and the same in each version of this crate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a notification of a [kind](super::Storable::KIND).
    #[must_use]
    pub fn new(kind: &str, delivery: &DeliveryKey) -> Self {
        // No kind and delivery run into another's: the length is in front.
        Self::hash([format!("tower-inqud inbox 1/{}/{kind}/{delivery}", kind.len()).as_bytes()])
    }

    /// The key of a body that could not be decoded into a notification of a kind. No other is equal to
    /// it.
    #[must_use]
    pub fn of_undecodable(kind: &str, body: &[u8]) -> Self {
        Self::hash([
            format!("tower-inqud inbox 1/undecodable/{}/{kind}/", kind.len()).as_bytes(),
            body,
        ])
    }

    /// As it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) fn hash<const N: usize>(parts: [&[u8]; N]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash.split_at(16);
        let mut key = [0; 16];
        key.copy_from_slice(half);
        Self(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
