//! Deserializes fields that no decision about money or order depends on. Such a field never causes a
//! rejection: a value of another type than expected, or one that cannot be represented, reads as `None`.
//!
//! Each function takes the JSON text of the value first. Nothing in it, such as half a surrogate pair or
//! a huge number, can then fail.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserializer;

use super::{Amount, json};

/// A string, or a value of an open enum.
pub(super) fn text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> From<&'a str>,
{
    let json = json::text(deserializer)?;
    Ok(string(json).map(|text| T::from(&text)))
}

pub(super) fn time<'de, D>(deserializer: D) -> Result<Option<Timestamp>, D::Error>
where
    D: Deserializer<'de>,
{
    let json = json::text(deserializer)?;
    Ok(string(json).and_then(|text| text.parse().ok()))
}

pub(super) fn amount<'de, D>(deserializer: D) -> Result<Option<Amount>, D::Error>
where
    D: Deserializer<'de>,
{
    let json = json::text(deserializer)?;
    Ok(if json == "null" { None } else { Amount::from_json(json).ok() })
}

pub(super) fn flag<'de, D>(deserializer: D) -> Result<Option<bool>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(json::text(deserializer)?.parse().ok())
}

/// The text of a JSON string. Borrowed if it has no escapes, as nearly all do.
fn string(json: &str) -> Option<Cow<'_, str>> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        return serde_json::from_str::<String>(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(text))
}
