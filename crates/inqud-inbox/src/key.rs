use std::fmt;

use sha2::{Digest, Sha256};

use tower_inqud::OrderKey;

/// Identifies a notification in an inbox. `Display` is 32 hexadecimal digits.
///
/// It is made of the kind, the id of the object, and what makes two deliveries the same notification: see
/// [`OrderKey`]. Two notifications about the same object have different keys, also amendments of each
/// other. So it is no key for what must happen once per order: for that, see `once` of each store's
/// [`Context`](crate::Context).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a notification of a [kind](crate::Storable::KIND) about the object with this id.
    #[must_use]
    pub fn new(kind: &str, id: &str, order_key: &OrderKey) -> Self {
        Self::following(kind, id, order_key, None)
    }

    /// The key of a notification that says what was said before: `last` is the last one that was stored.
    ///
    /// The first half is of what is said, and the second of when: notifications that differ in their times
    /// only lie next to each other.
    pub(super) fn following(
        kind: &str,
        id: &str,
        order_key: &OrderKey,
        last: Option<Self>,
    ) -> Self {
        let mut said = Sha256::new();
        // The length is in front of each, so that none runs into the next.
        for part in [kind, id, order_key.status()] {
            said.update(part.len().to_be_bytes());
            said.update(part);
        }
        said.update(order_key.content().hash());
        let said: [u8; 32] = said.finalize().into();
        let mut when = Sha256::new();
        when.update(said);
        when.update(order_key.last_update().unwrap_or(i64::MIN).to_be_bytes());
        order_key.content().times().iter().for_each(|time| when.update(time.to_be_bytes()));
        last.iter().for_each(|key| when.update(key.0));
        let when: [u8; 32] = when.finalize().into();
        let halves = said.iter().take(8).chain(when.iter().take(8));
        let mut key = [0; 16];
        key.iter_mut().zip(halves).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// The first and the last key that a notification with the same content can have.
    pub(super) fn range(self) -> [Self; 2] {
        [0, u8::MAX].map(|rest| {
            let mut key = self.0;
            key.iter_mut().skip(8).for_each(|byte| *byte = rest);
            Self(key)
        })
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
