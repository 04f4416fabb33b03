use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON object whose members keep their order, and whose values keep their digits.
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Sets the member at this path, and creates the objects on the way.
    ///
    /// # Errors
    ///
    /// The name of what is in the way: a value that is neither an object nor `null`.
    pub(super) fn set(&mut self, path: &[&str], value: Box<RawValue>) -> Result<(), String> {
        let Some((name, rest)) = path.split_first() else { return Ok(()) };
        let found = self.0.iter().position(|(known, _)| known == name);
        let old = found.and_then(|at| self.0.get(at)).map(|(_, value)| value.get());
        let value = match rest {
            [] => value,
            _ => {
                let mut inner = match old {
                    None | Some("null") => Self(Vec::new()),
                    Some(json) => serde_json::from_str(json).map_err(|_| (*name).to_owned())?,
                };
                inner.set(rest, value)?;
                serde_json::value::to_raw_value(&inner).map_err(|error| error.to_string())?
            }
        };
        match found.and_then(|at| self.0.get_mut(at)) {
            Some((_, old)) => *old = value,
            None => self.0.push(((*name).to_owned(), value)),
        }
        Ok(())
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::Members;

    #[test]
    fn sets_members_and_keeps_the_others_as_they_are() {
        let json = r#"{"b":1.10,"a":{"y":1E-8,"x":null},"c":"d"}"#;
        let set = |path: &[&str], value: &str| {
            let mut members = serde_json::from_str::<Members>(json).unwrap();
            members.set(path, RawValue::from_string(value.to_owned()).unwrap())?;
            Ok::<_, String>(serde_json::to_string(&members).unwrap())
        };
        assert_eq!(set(&["b"], "2.50").unwrap(), json.replace("1.10", "2.50"));
        assert_eq!(set(&["a", "y"], "7").unwrap(), json.replace("1E-8", "7"));
        assert_eq!(set(&["a", "x", "z"], "7").unwrap(), json.replace("null", r#"{"z":7}"#));
        assert_eq!(set(&["e"], "{}").unwrap(), json.replace("\"d\"}", "\"d\",\"e\":{}}"));
        assert_eq!(set(&["c", "d"], "1").unwrap_err(), "c");
    }
}
