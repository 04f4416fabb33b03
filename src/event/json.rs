use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The raw JSON of a field whose shape is not public.
///
/// Deserialize it into whatever type fits. An [`Amount`](crate::Amount) inside it stays exact:
///
/// ```
/// use std::collections::BTreeMap;
/// use tower_inqud::{Amount, Checkout};
///
/// let json = r#"{"id":"CCO-1","status":"NEW","minLimits":{"TRON_USDT":5.10}}"#;
/// let checkout: Checkout = serde_json::from_str(json)?;
/// let limits = checkout.min_limits.as_ref().map_or("{}", |limits| limits.json());
/// let limits: BTreeMap<String, Amount> = serde_json::from_str(limits)?;
/// assert_eq!(limits["TRON_USDT"].to_string(), "5.10");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RawJson {
    json: Box<RawValue>,
}

impl RawJson {
    pub(super) fn new(json: Box<RawValue>) -> Self {
        Self { json }
    }

    /// The JSON, as it was sent.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get()
    }
}

/// The JSON text of a value, as it was sent.
pub(super) fn text<'de, D>(deserializer: D) -> Result<&'de str, D::Error>
where
    D: Deserializer<'de>,
{
    let json = <&RawValue>::deserialize(deserializer).map_err(|error| {
        D::Error::custom(format_args!(
            "{error}: the raw JSON text is needed; deserialize with `serde_json::from_str` or \
             `from_slice`, and without `flatten`"
        ))
    })?;
    Ok(json.get())
}

/// Compares the JSON as text.
impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}
