use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Random numbers from a key that the operating system chose.
///
/// Each is the keyed hash of a counter, so none repeats by design, and none can be told from the others.
#[derive(Debug, Default)]
pub(crate) struct Random {
    key: RandomState,
    count: AtomicU64,
}

impl Random {
    pub(crate) fn next(&self) -> u64 {
        self.key.hash_one(self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A number from 0 to `limit`.
    pub(crate) fn up_to(&self, limit: u64) -> u64 {
        // The bias is negligible, because limits are far below 2^64.
        limit
            .checked_add(1)
            .map_or_else(|| self.next(), |end| self.next().checked_rem(end).unwrap_or(0))
    }

    /// 64 hexadecimal digits, as in Inqud's example of a salt (confirmed).
    pub(crate) fn salt(&self) -> String {
        let mut salt = String::with_capacity(64);
        for _ in 0..4 {
            _ = write!(salt, "{:016x}", self.next());
        }
        salt
    }
}
