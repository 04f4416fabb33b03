//! Detects the kind of an object by its id.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::EventKind;
use super::buffered::{self, Member};

/// The kind of an object, by its id. `None` if the id does not have the prefix of a kind.
///
/// # Errors
///
/// If the JSON is not an object, or has two ids.
pub(crate) fn kind_of(json: &str) -> serde_json::Result<Option<EventKind>> {
    serde_json::from_str::<IdFields<'_>>(json).map(|ids| ids.kind())
}

/// The members of an object that its kind can be detected by.
#[derive(Default)]
pub(super) struct IdFields<'de> {
    id: Option<&'de RawValue>,
    payment_id: Option<&'de RawValue>,
    has_user_id: bool,
    has_timestamp: bool,
    has_foreign_id: bool,
}

impl<'de> IdFields<'de> {
    pub(super) fn of(members: &[Member<'de>]) -> Self {
        let mut ids = Self::default();
        members.iter().for_each(|member| ids.note(member));
        ids
    }

    fn note(&mut self, (key, json): &Member<'de>) {
        match &**key {
            "id" => self.id = Some(json),
            "paymentId" => self.payment_id = Some(json),
            "userId" => self.has_user_id = true,
            "timestamp" => self.has_timestamp = true,
            _ => self.has_foreign_id |= is_foreign_id(key),
        }
    }

    /// The id, if it is a string.
    pub(super) fn id(&self) -> Option<Cow<'de, str>> {
        self.id.and_then(buffered::text)
    }

    fn kind(&self) -> Option<EventKind> {
        match self.id() {
            Some(id) => EventKind::of_id(&id),
            None => self.kind_of_old_payment(),
        }
    }

    /// The kind of an object in the old form of a payment, which has its id in `paymentId`. Other objects
    /// name a payment there too, such as a Request or a refund, so the other fields have to fit.
    pub(super) fn kind_of_old_payment(&self) -> Option<EventKind> {
        let is_old = self.has_user_id && self.has_timestamp && !self.has_foreign_id;
        let id = self.payment_id.filter(|_| is_old).and_then(buffered::text)?;
        EventKind::of_id(&id)
    }
}

impl<'de> Deserialize<'de> for IdFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ids;

        impl<'de> Visitor<'de> for Ids {
            type Value = IdFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut object: A,
            ) -> Result<IdFields<'de>, A::Error> {
                let mut ids = IdFields::default();
                while let Some(member) = buffered::next(&mut object)? {
                    if member.0 == "id" && ids.id.is_some() {
                        return Err(A::Error::duplicate_field("id"));
                    }
                    ids.note(&member);
                }
                Ok(ids)
            }
        }

        deserializer.deserialize_map(Ids)
    }
}

/// Whether this field is an id that a payment in the old form does not have.
pub(super) fn is_foreign_id(name: &str) -> bool {
    const OWN: [&str; 5] = ["paymentId", "orderId", "clientOrderId", "externalId", "userId"];
    name.ends_with("Id") && !OWN.contains(&name)
}
