use std::borrow::Cow;

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::buffered::{Members, Text, fail_at};
use super::{Notification, RawJson};

/// A notification of a kind that this version does not know.
///
/// It has all of the JSON, and the fields that every kind has. If the `id` is missing or `null`, its
/// [id](Notification::id) is `sha256:` and the SHA-256 of its [`json`](OtherEvent::json). Each distinct body
/// is then an object of its own, and duplicates are still detected.
///
/// Notifications are ordered by `lastUpdatedAt`, or by `modifiedAt` if that is missing, if either is an
/// instant (inferred from the other kinds).
///
/// # Example
///
/// ```
/// use tower_inqud::{Event, Notification};
///
/// let json = r#"{"id":"NEW-1","status":"DONE","fee":0.10}"#;
/// let Event::Other(other) = serde_json::from_str(json)? else { panic!("it is known") };
/// assert_eq!((other.id(), other.status_text()), ("NEW-1", "DONE"));
/// assert_eq!(other.json(), json);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct OtherEvent {
    id: String,
    status: Option<String>,
    last_update: Option<Timestamp>,
    json: RawJson,
}

impl OtherEvent {
    /// The status, if there is one and it is a string.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// The JSON: all members as they were sent, without the white space between them.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.json()
    }
}

impl Notification for OtherEvent {
    fn id(&self) -> &str {
        &self.id
    }

    /// Empty if there is no status.
    fn status_text(&self) -> &str {
        self.status().unwrap_or_default()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.last_update
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts any object, unless it has two ids, or an id that is neither a string nor `null`.
impl<'de> Deserialize<'de> for OtherEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        let text = |key: &str| -> Option<Cow<'de, str>> {
            let (_, json) = members.0.iter().find(|member| member.0 == key)?;
            serde_json::from_str::<Text<'de>>(json.get()).ok().map(|text| text.0)
        };
        let time = |key: &str| text(key)?.parse().ok();

        let mut ids = members.0.iter().filter(|member| member.0 == "id");
        let id = ids.next().map_or("null", |(_, json)| json.get());
        if ids.next().is_some() {
            return Err(D::Error::duplicate_field("id"));
        }
        let id: Option<Text<'_>> =
            serde_json::from_str(id).map_err(|error| fail_at("id", error))?;
        let json = serde_json::value::to_raw_value(&members).map_err(D::Error::custom)?;
        Ok(Self {
            id: match id {
                Some(id) => id.0.into_owned(),
                None => format!("sha256:{}", sha256(json.get())),
            },
            status: text("status").map(Cow::into_owned),
            last_update: time("lastUpdatedAt").or_else(|| time("modifiedAt")),
            json: RawJson::new(json),
        })
    }
}

impl Serialize for OtherEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}
