use std::borrow::Cow;

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::held::{Members, Text, fail_at};
use super::{Notification, RawJson};

/// A notification of a kind that this version does not know: all of its JSON, and what every kind
/// has.
///
/// It is ordered by `lastUpdatedAt` or, without one, by `modifiedAt`, if either is an instant
/// (inferred from the other kinds).
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
    /// Its status, if it has one and it is a text.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Its JSON: all the members as they were sent, without the white space between them.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.json()
    }
}

impl Notification for OtherEvent {
    fn id(&self) -> &str {
        &self.id
    }

    /// Empty if it has none.
    fn status_text(&self) -> &str {
        self.status().unwrap_or_default()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.last_update
    }
}

/// Any object that has one `id`, and that a text.
impl<'de> Deserialize<'de> for OtherEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        let text = |key: &str| -> Option<Cow<'de, str>> {
            let (_, json) = members.0.iter().find(|member| member.0 == key)?;
            serde_json::from_str::<Text<'de>>(json.get()).ok().map(|text| text.0)
        };
        let time = |key: &str| text(key)?.parse().ok();

        let mut ids = members.0.iter().filter(|member| member.0 == "id");
        let (_, id) = ids.next().ok_or_else(|| D::Error::missing_field("id"))?;
        if ids.next().is_some() {
            return Err(D::Error::duplicate_field("id"));
        }
        let id: Text<'_> = serde_json::from_str(id.get()).map_err(|error| fail_at("id", error))?;
        let json = serde_json::value::to_raw_value(&members).map_err(D::Error::custom)?;
        Ok(Self {
            id: id.0.into_owned(),
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
