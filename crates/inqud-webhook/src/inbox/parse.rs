//! Arguments of the subcommands.

use std::collections::HashSet;
use std::time::Duration;

use inqud_inbox::Key;
use jiff::{Span, SpanRelativeTo};

/// Parses a key of 32 hexadecimal digits.
pub(super) fn key(text: &str) -> Result<Key, String> {
    let wrong = || "must be 32 hexadecimal digits, as listed by `inbox dead`".to_owned();
    let is_hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let key = u128::from_str_radix(text, 16).ok().filter(|_| is_hex).ok_or_else(wrong)?;
    Ok(Key::from_bytes(key.to_be_bytes()))
}

/// Parses how long ago something was, such as `30d`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let wrong = |error: jiff::Error| format!("{error}; use 30d, 2w or 36h, for example");
    let span: Span = text.parse().map_err(wrong)?;
    let age = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    Duration::try_from(age).map_err(|_| "must not be negative".to_owned())
}

pub(super) fn distinct(keys: &[Key]) -> Vec<Key> {
    keys.iter().copied().collect::<HashSet<_>>().into_iter().collect()
}
