use std::str::FromStr;

use inqud_mock::Message;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use tower_inqud::{Amount, EventKind};

use super::members::Members;
use super::schema::{Type, fields};
use crate::summary::{Summary, name};

/// A field to set, as in `paidAmount=99.5`, `request.overpaid=true` or `new:={"any":"json"}`.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    path: String,
    value: String,
    /// Whether the value is JSON, and the field may be unknown.
    is_json: bool,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "use FIELD=VALUE, as in paidAmount=99.5, or FIELD:=JSON";
        let (path, value) = text.split_once('=').ok_or(example)?;
        let (path, is_json) = path.strip_suffix(':').map_or((path, false), |path| (path, true));
        if path.split('.').any(str::is_empty) {
            return Err(format!("`{path}` is not the name of a field: {example}"));
        }
        Ok(Self { path: path.to_owned(), value: value.to_owned(), is_json })
    }
}

/// Sets fields in the body of a message.
pub(super) fn apply(assignments: &[Assignment], message: Message) -> Result<Message, String> {
    if assignments.is_empty() {
        return Ok(message);
    }
    let kind = Summary::of(message.body()).map_or(EventKind::Other, |it| it.kind);
    let mut members: Members =
        serde_json::from_slice(message.body()).map_err(|error| error.to_string())?;
    for assignment in assignments {
        let path = assignment.path.split('.').collect::<Vec<_>>();
        let value = assignment.json(kind, &path)?;
        let blocked = |by| format!("cannot set `{}`: `{by}` is not an object", assignment.path);
        members.set(&path, value).map_err(blocked)?;
    }
    let body = serde_json::to_vec(&members).map_err(|error| error.to_string())?;
    Ok(Message::new(message.label(), body))
}

impl Assignment {
    /// The value as JSON, typed by the schema.
    fn json(&self, kind: EventKind, path: &[&str]) -> Result<Box<RawValue>, String> {
        let Self { path: field, value, .. } = self;
        if self.is_json {
            return RawValue::from_string(value.clone())
                .map_err(|error| format!("`{field}` must be JSON after `:=`: {error}"));
        }
        let wrong = |what: &str| {
            Err(format!("`{field}` of a {} must be {what}, not `{value}`", name(kind)))
        };
        let json = match find(kind, path)? {
            _ if value == "null" => "null".to_owned(),
            Type::Text => Value::from(value.as_str()).to_string(),
            // An amount is spelled like a number in JSON.
            Type::Number if value.parse::<Amount>().is_ok() => value.clone(),
            Type::Number => return wrong("a number"),
            Type::Boolean if matches!(value.as_str(), "true" | "false") => value.clone(),
            Type::Boolean => return wrong("true or false"),
            Type::Time if value.parse::<Timestamp>().is_ok() => {
                Value::from(value.as_str()).to_string()
            }
            Type::Time => return wrong("a time such as 2026-01-31T12:00:00Z"),
            Type::Json | Type::Object(_) => {
                return Err(format!("`{field}` of a {} is JSON: use `{field}:=JSON`", name(kind)));
            }
        };
        RawValue::from_string(json).map_err(|error| format!("`{field}`: {error}"))
    }
}

fn find(kind: EventKind, path: &[&str]) -> Result<Type, String> {
    let (mut known, mut found) = (fields(kind), Type::Json);
    for (depth, field) in path.iter().enumerate() {
        let whole = path.join(".");
        match known.iter().find(|(name, _)| name == field) {
            Some((_, it)) => found = *it,
            None => {
                let near = known.iter().map(|(name, _)| (distance(name, field), *name)).min();
                let near = near.filter(|(distance, _)| *distance <= 3);
                let before = path.get(..depth).unwrap_or_default().iter();
                let hint = near.map_or_else(
                    || ".".to_owned(),
                    |(_, name)| {
                        let near = before.chain([&name]).copied().collect::<Vec<_>>().join(".");
                        format!(": did you mean `{near}`?")
                    },
                );
                return Err(format!(
                    "a {} has no field `{whole}`{hint} To send an unknown field, use `{whole}:=JSON`",
                    name(kind)
                ));
            }
        }
        known = match found {
            Type::Object(inner) => inner,
            _ => &[],
        };
    }
    Ok(found)
}

/// How many letters to insert, delete or replace, regardless of case.
fn distance(a: &str, b: &str) -> usize {
    let b = b.to_lowercase().chars().collect::<Vec<_>>();
    let mut row = (0..=b.len()).collect::<Vec<_>>();
    for a in a.to_lowercase().chars() {
        let mut diagonal = row.first().copied().unwrap_or_default();
        let mut left = diagonal.saturating_add(1);
        let mut next = vec![left];
        for (b, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(a != *b));
            left = replaced.min(above.saturating_add(1)).min(left.saturating_add(1));
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use inqud_mock::{Lifecycle, Scenario};
    use serde_json::Value;

    use super::{Type, apply, distance, fields, find};
    use crate::summary::Summary;

    /// Every field that the mock sends is known, and has a type that fits.
    #[test]
    fn the_schema_has_every_field_of_the_mock() {
        for scenario in Scenario::ALL {
            for message in Lifecycle::new(*scenario) {
                let kind = Summary::of(message.body()).unwrap().kind;
                let body: Value = serde_json::from_slice(message.body()).unwrap();
                for (name, value) in body.as_object().unwrap() {
                    let fits = match find(kind, &[name]).unwrap() {
                        Type::Text | Type::Time => value.is_string(),
                        Type::Number => value.is_number(),
                        Type::Boolean => value.is_boolean(),
                        Type::Json => value.is_array() || value.is_object(),
                        Type::Object(_) => value.is_object(),
                    };
                    assert!(fits || value.is_null(), "{name} of {scenario}: {value}");
                }
                assert!(!fields(kind).is_empty());
            }
        }
    }

    #[test]
    fn sets_typed_values_and_names_the_wrong_field() {
        let message = || Lifecycle::new(Scenario::Checkout).into_iter().nth(1).unwrap();
        let set = |text: &str| apply(&[text.parse().unwrap()], message());
        let json = |text: &str| String::from_utf8(set(text).unwrap().body().to_vec()).unwrap();
        assert!(json("fixedAmount.amount=1.10").contains(r#""amount":1.10}"#));
        assert!(json("clientOrderId=17").contains(r#""clientOrderId":"17""#));
        assert!(json("request.overpaid=true").contains(r#""overpaid":true"#));
        assert!(json("reason=null").contains(r#""reason":null"#));
        let time = "2026-01-31T12:00:00Z";
        let created = json(&format!("createdAt={time}"));
        assert!(created.contains(&format!(r#""createdAt":"{time}""#)), "{created}");
        for number in ["true", "\"1\"", "01", "+1", ".5", " 1", "{}", ""] {
            let error = set(&format!("fixedAmount.amount={number}")).unwrap_err();
            assert!(error.contains("must be a number"), "{error}");
        }
        assert!(json("new.field:=[1.10]").ends_with(r#""new":{"field":[1.10]}}"#));
        for (text, words) in [
            (
                "fixedAmount.amount=much",
                "`fixedAmount.amount` of a Checkout must be a number, not `much`",
            ),
            ("createdAt=today", "`createdAt` of a Checkout must be a time"),
            ("request.overpaid=yes", "`request.overpaid` of a Checkout must be true or false"),
            ("request.payAmonut=1", "did you mean `request.payAmount`? To send"),
            (
                "zzzzzzzzzzz=1",
                "has no field `zzzzzzzzzzz`. To send an unknown field, use `zzzzzzzzzzz:=JSON`",
            ),
            ("minLimits=1", "is JSON: use `minLimits:=JSON`"),
            ("minLimits:=x", "`minLimits` must be JSON after `:=`"),
            ("name.first:=1", "cannot set `name.first`: `name` is not an object"),
        ] {
            let error = set(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn counts_letters_to_change() {
        assert_eq!(distance("payAmount", "payamonut"), 2);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("same", "same"), 0);
    }
}
