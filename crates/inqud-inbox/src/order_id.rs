//! How a store keeps the id of an order: bounded, because the text comes from elsewhere.

use crate::key::Key;

/// The most bytes that are kept. An index row has room for them.
const LEN: usize = 255;

/// Returns the stored form of an order id. `None` if it is empty.
///
/// A longer one is its start and a hash of all of it, so that two of them stay different. NUL is replaced, because
/// Postgres cannot store it.
pub(crate) fn stored(id: &str) -> Option<String> {
    let id = id.replace('\0', "\u{fffd}");
    if id.len() <= LEN {
        return (!id.is_empty()).then_some(id);
    }
    let start: String = id.chars().take(LEN / 4 - 12).collect();
    Some(format!("{start}...{}", Key::hash([id.as_bytes()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ids() {
        let long = |last: char| format!("{}{last}", "\u{10ffff}".repeat(5_000));
        assert_eq!(stored("order-17").as_deref(), Some("order-17"));
        assert_eq!(stored(""), None);
        assert_eq!(stored("a\0b").as_deref(), Some("a\u{fffd}b"));
        assert_eq!(stored(&"1".repeat(LEN)), Some("1".repeat(LEN)));
        assert!(stored(&long('1')).is_some_and(|it| it.len() <= LEN));
        assert_ne!(stored(&long('1')), stored(&long('2')));
    }
}
