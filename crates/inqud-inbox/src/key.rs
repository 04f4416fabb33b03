use std::fmt;

use sha2::{Digest, Sha256};

use tower_inqud::OrderKey;

/// The key of a notification in an inbox. `Display` shows 32 hexadecimal digits.
///
/// It is a hash of the kind, the object's id and the [`OrderKey`], by which duplicates are detected.
///
/// Two notifications about one object have different keys, even if one amends the other. If something must
/// happen once per order, do not use this key as its idempotency key. Use `once` of
/// [`Context`](crate::Context) with a key of your own instead.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key([u8; 16]);

impl Key {
    /// Creates the key of a notification of the given [kind](crate::Storable::KIND) about the object with
    /// this id.
    #[must_use]
    pub fn new(kind: &str, id: &str, order_key: &OrderKey) -> Self {
        Self::following(kind, id, order_key, None)
    }

    /// Creates the key of a notification that repeats an earlier one about the same object.
    ///
    /// `last` is the key of the notification that was stored last for the object. It is `None` if the
    /// notification repeats nothing.
    ///
    /// The first half of the key is a hash of the content. The second half is a hash of the content,
    /// the times and `last`. Notifications that differ only in their times are therefore adjacent in an index
    /// by key, and one range scan finds them all: see [`range`](Self::range).
    pub(super) fn following(
        kind: &str,
        id: &str,
        order_key: &OrderKey,
        last: Option<Self>,
    ) -> Self {
        let mut said = Sha256::new();
        // Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") hash differently.
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

    /// Returns the lowest and the highest key that a notification with the same content can have.
    pub(super) fn range(self) -> [Self; 2] {
        [0, u8::MAX].map(|rest| {
            let mut key = self.0;
            key.iter_mut().skip(8).for_each(|byte| *byte = rest);
            Self(key)
        })
    }

    /// Creates the key of a body that could not be decoded as the given kind.
    ///
    /// It differs from the key of every other body and of every decoded notification.
    #[must_use]
    pub fn of_undecodable(kind: &str, body: &[u8]) -> Self {
        Self::hash([
            format!("tower-inqud inbox 1/undecodable/{}/{kind}/", kind.len()).as_bytes(),
            body,
        ])
    }

    /// Creates a key from the bytes that a store kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for a store to keep.
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
