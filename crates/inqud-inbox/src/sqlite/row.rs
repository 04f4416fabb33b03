//! How values are written in rows.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

pub(super) use crate::state::State;
use tower_inqud::{OrderKey, Verdict};

pub(super) fn code(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Amended => 1,
        Verdict::Unordered => 2,
        Verdict::Stale => 3,
        Verdict::Review => 4,
        _ => 0,
    }
}

pub(super) fn verdict(code: i64) -> Verdict {
    match code {
        1 => Verdict::Amended,
        2 => Verdict::Unordered,
        3 => Verdict::Stale,
        4 => Verdict::Review,
        _ => Verdict::Newer,
    }
}

/// Decodes a stored order key. Bytes that this crate did not write become an order key that matches nothing.
pub(super) fn order_key(bytes: &[u8]) -> OrderKey {
    OrderKey::from_bytes(bytes).unwrap_or_else(|| OrderKey::of_undecodable(bytes))
}

pub(super) fn body(bytes: Option<Vec<u8>>) -> Bytes {
    bytes.unwrap_or_default().into()
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
