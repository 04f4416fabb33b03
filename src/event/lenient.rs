//! Fields that no decision about money or order needs: whatever their JSON is, it never refuses a
//! notification. What is of another type than expected, or cannot be held, reads as `None`.
//!
//! Each reads the JSON text of the value, so that nothing in it, such as half a surrogate pair or a
//! number of any size, can be an error.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserializer;

use super::{Amount, json};

/// A text, or a word of an open enum.
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

/// What a JSON string says; nearly all have no escapes.
fn string(json: &str) -> Option<Cow<'_, str>> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        return serde_json::from_str::<String>(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(text))
}
