use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields that identify an object. The other fields are not read.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    /// The id in an older form of a payment, which has no `id`.
    #[serde(default, borrow, rename = "paymentId")]
    payment_id: Option<&'a RawValue>,
}

/// Checks that a body is the object with this id. The error says why it is not.
pub(crate) fn check(body: &[u8], id: &str) -> Result<(), &'static str> {
    const NOT_JSON: &str = "the response is not one JSON object";
    let text = std::str::from_utf8(body).map_err(|_| NOT_JSON)?;
    // Without this, serde would read a struct from an array.
    if !text.trim_start().starts_with('{') {
        return Err(NOT_JSON);
    }
    let head: Head<'_> = serde_json::from_str(text).map_err(|_| NOT_JSON)?;
    let found = head.id.or(head.payment_id).ok_or("the response has no `id`")?;
    match serde_json::from_str::<Cow<'_, str>>(found.get()) {
        Ok(found) if found == id => Ok(()),
        _ => Err("the response is another object"),
    }
}

/// Returns the member with this name of a JSON object, for an [`extract`](crate::ApiClientBuilder::extract)
/// function.
///
/// `None` if `body` is not an object or has no such member.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
///
/// let body = Bytes::from(r#"{"data":{"id":"PMT-1"},"error":null}"#);
/// assert_eq!(inqud_api::member(&body, "data").unwrap(), r#"{"id":"PMT-1"}"#);
/// ```
#[must_use]
pub fn member(body: &Bytes, name: &str) -> Option<Bytes> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
    Some(body.slice_ref(members.get(name)?.get().as_bytes()))
}
