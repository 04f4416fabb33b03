//! Buffers the members of a JSON object until its kind is known, and replays them.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

/// A key and its value, which is only scanned for its end and not parsed.
pub(super) type Member<'de> = (Cow<'de, str>, &'de RawValue);

/// The next member of an object. `None` at its end.
pub(super) fn next<'de, A: MapAccess<'de>>(
    object: &mut A,
) -> Result<Option<Member<'de>>, A::Error> {
    match object.next_entry::<Text<'de>, &RawValue>()? {
        Some((Text(key), json)) => Ok(Some((key, json))),
        None => Ok(None),
    }
}

/// A JSON string, borrowed if it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The text of a value, if it is a JSON string.
pub(super) fn text<'de>(json: &'de RawValue) -> Option<Cow<'de, str>> {
    serde_json::from_str::<Text<'de>>(json.get()).ok().map(|text| text.0)
}

/// Replays the whole object: the buffered members, then those that are not read yet.
pub(super) struct Object<'de, A> {
    buffered: std::vec::IntoIter<Member<'de>>,
    value: Option<Member<'de>>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Object<'de, A> {
    pub(super) fn read<T: Deserialize<'de>>(
        buffered: Vec<Member<'de>>,
        rest: A,
    ) -> Result<T, A::Error> {
        let object = Self { buffered: buffered.into_iter(), value: None, rest };
        T::deserialize(MapAccessDeserializer::new(object))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Object<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some((key, json)) = self.buffered.next() else {
            return self.rest.next_key_seed(seed);
        };
        self.value = Some((key.clone(), json));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let Some((key, json)) = self.value.take() else {
            return self.rest.next_value_seed(seed);
        };
        let mut json = serde_json::Deserializer::from_str(json.get());
        let mut track = serde_path_to_error::Track::new();
        let json = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        seed.deserialize(json).map_err(|error| {
            let below = track.path();
            let path = match below.iter().next() {
                None => key.into_owned(),
                Some(Segment::Seq { .. }) => format!("{key}{below}"),
                Some(_) => format!("{key}.{below}"),
            };
            fail_at(path, error)
        })
    }
}

/// All members of an object.
pub(super) struct Members<'de>(pub(super) Vec<Member<'de>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = next(&mut object)? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, json)| (key, json)))
    }
}

/// An error with the path of the failed member in its text. `serde_path_to_error` cannot see the path
/// inside a buffered member, because it follows only what is read from the input directly.
pub(super) fn fail_at<E: Error>(path: impl fmt::Display, error: impl fmt::Display) -> E {
    E::custom(format_args!("{path}: {error}"))
}
