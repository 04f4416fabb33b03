//! Describes a rejection, as text and as JSON.

use std::error::Error;

use serde_json::{Map, Value};
use tower_inqud::{Diagnosis, Rejection};

use crate::pretty::printable;

/// The rejection as lines of text: summary, field, cause, diagnosis.
pub(crate) fn lines(rejection: &Rejection) -> Vec<String> {
    let mut lines = vec![rejection.to_string()];
    if let Some(path) = rejection.field_path() {
        lines.push(format!("at {}", printable(path)));
    }
    if let Some(source) = rejection.source() {
        lines.push(printable(&source.to_string()));
    }
    lines.extend(rejection.diagnosis().map(|diagnosis| diagnosis.to_string()));
    lines
}

/// The rejection as JSON.
pub(crate) fn json(rejection: &Rejection) -> Value {
    let mut json = Map::new();
    json.insert("kind".into(), rejection.kind().as_str().into());
    json.insert("text".into(), rejection.to_string().into());
    json.insert("field".into(), rejection.field_path().into());
    json.insert("source".into(), rejection.source().map(ToString::to_string).into());
    let diagnosis = rejection.diagnosis();
    json.insert("diagnosis".into(), diagnosis.map(Diagnosis::as_str).into());
    json.insert("explanation".into(), diagnosis.map(|it| it.to_string()).into());
    json.into()
}
