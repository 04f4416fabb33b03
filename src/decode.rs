//! Decode: reads UTF-8 bytes that hold one JSON object into `T`.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::event::{EventKind, kind_of};
use crate::rejection::{Rejection, RejectionKind};

/// Decodes a body, and passes the event to `keep`.
///
/// It is stricter than `serde_json`, which accepts invalid UTF-8 in unknown fields and reads a
/// struct from an array. The id must not be of another kind than `expected`. This crate's own types
/// check their kind themselves.
///
/// `keep` puts the event, which may be large, in its final place without another move.
pub(crate) fn of_kind<T: DeserializeOwned + 'static, K>(
    body: &[u8],
    expected: Option<EventKind>,
    keep: impl FnOnce(T) -> K,
) -> Result<K, Rejection> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(Rejection::caused_by(RejectionKind::NotJson, error)),
    };
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refuse_non_object(text));
    }
    match serde_json::from_str(text) {
        Ok(event) => {
            if let Some(expected) = expected {
                check_kind::<T>(text, expected)?;
            }
            Ok(keep(event))
        }
        Err(error) => Err(refuse::<T>(text, expected, error)),
    }
}

fn check_kind<T: 'static>(text: &str, expected: EventKind) -> Result<(), Rejection> {
    if EventKind::of_type::<T>().is_some() {
        return Ok(());
    }
    match kind_of(text) {
        Ok(Some(found)) if found != expected => Err(wrong_kind(expected, found)),
        Ok(_) => Ok(()),
        Err(error) => Err(Rejection::caused_by(RejectionKind::UnexpectedShape, error)),
    }
}

fn wrong_kind(expected: EventKind, found: EventKind) -> Rejection {
    Rejection::new(RejectionKind::WrongKind { expected, found })
}

#[cold]
fn refuse_non_object(text: &str) -> Rejection {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Rejection::new(RejectionKind::UnexpectedShape),
        Err(error) => Rejection::caused_by(RejectionKind::NotJson, error),
    }
}

/// Reads the body again to find out whether the JSON or its shape is wrong, and where.
#[cold]
fn refuse<T: DeserializeOwned + 'static>(
    text: &str,
    expected: Option<EventKind>,
    error: serde_json::Error,
) -> Rejection {
    let is_json =
        error.classify() == Category::Data && serde_json::from_str::<IgnoredAny>(text).is_ok();
    let kind = if is_json { RejectionKind::UnexpectedShape } else { RejectionKind::NotJson };

    // A wrong kind explains every other mismatch, so it takes precedence.
    if is_json
        && let Some(expected) = EventKind::of_type::<T>().or(expected)
        && let Ok(Some(found)) = kind_of(text)
        && found != expected
    {
        return wrong_kind(expected, found);
    }

    let mut json = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) if error.path().iter().next().is_some() => {
            let path = error.path().to_string();
            Rejection::at_field(kind, path, error.into_inner())
        }
        _ => Rejection::caused_by(kind, error),
    }
}
