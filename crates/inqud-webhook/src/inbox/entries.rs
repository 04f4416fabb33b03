//! Notifications of an inbox, as a table or as JSON.

use std::fmt::Write as _;

use inqud_inbox::{Entry, Source};
use serde_json::{Map, Value};
use tower_inqud::Verdict;

use crate::out::{BAD, FAINT, STRONG, styled};
use crate::pretty::{self, printable};

const HEAD: [&str; 7] = ["KEY", "STORED", "KIND", "OBJECT", "ORDER", "STATUS", "STATE"];

/// A table with a line for each notification, and the reason for its state below it.
pub(super) fn table(entries: &[Entry], with_bodies: bool) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = entries.iter().map(cells).collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|it| it.chars().count());
        cells.chain(HEAD.get(at).map(|it| it.len())).max().unwrap_or_default()
    };
    let line = |cells: &[String]| {
        let padded = cells.iter().enumerate().map(|(at, it)| format!("{it:<0$}", width(at)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = HEAD.map(str::to_owned);
    let mut text = format!("{}\n", styled(FAINT, line(&head)));
    for (entry, row) in entries.iter().zip(&rows) {
        text += &line(row);
        text.push('\n');
        if !entry.error.is_empty() {
            let attempts = match entry.attempts {
                0 => String::new(),
                count => format!("{count} attempts: "),
            };
            let why = format!("{attempts}{}", printable(&entry.error));
            _ = writeln!(text, "  {}", styled(BAD, why));
        }
        if with_bodies {
            text += &pretty::json(&String::from_utf8_lossy(&entry.body));
        }
    }
    text
}

fn cells(entry: &Entry) -> [String; 7] {
    [
        entry.key.to_string(),
        format!("{:.0}", entry.received_at),
        printable(&entry.kind),
        object(entry),
        printable(entry.order_id.as_deref().unwrap_or("-")),
        printable(if entry.status.is_empty() { "-" } else { &entry.status }),
        state(entry),
    ]
}

/// The id of the object, after its tenant.
fn object(entry: &Entry) -> String {
    match &entry.tenant {
        Some(tenant) => printable(&format!("{tenant}/{}", entry.object)),
        None => printable(&entry.object),
    }
}

fn state(entry: &Entry) -> String {
    let verdict = entry.verdict.filter(|it| *it != Verdict::Newer).map(Verdict::as_str);
    let replayed = (entry.replays > 0).then_some("replay");
    let fetched = (entry.source == Source::Fetched).then_some("fetched");
    let notes = [Some(entry.state.as_str()), verdict, replayed, fetched];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// All of a notification, with its body.
pub(super) fn details(entry: &Entry) -> String {
    let mut text = format!("{}\n", styled(STRONG, entry.key));
    let order_id = entry.order_id.as_deref().map(printable);
    let bytes = match entry.body_len {
        0 => "deleted".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    let replays = (entry.replays > 0).then(|| entry.replays.to_string());
    for (name, value) in [
        ("kind", Some(printable(&entry.kind))),
        ("tenant", entry.tenant.as_deref().map(printable)),
        ("object", Some(printable(&entry.object))),
        ("order", order_id),
        ("status", Some(printable(&entry.status)).filter(|it| !it.is_empty())),
        ("state", Some(entry.state.to_string())),
        ("verdict", entry.verdict.map(|it| it.to_string())),
        ("source", Some(entry.source.to_string())),
        ("stored", Some(entry.received_at.to_string())),
        ("settled", entry.settled_at.map(|it| it.to_string())),
        ("replays", replays),
        ("failed", (entry.attempts > 0).then(|| format!("{} attempts", entry.attempts))),
        ("body", Some(bytes)),
    ] {
        if let Some(value) = value {
            _ = writeln!(text, "  {} {value}", styled(FAINT, format!("{name:<8}")));
        }
    }
    if !entry.error.is_empty() {
        _ = writeln!(text, "  {}", styled(BAD, printable(&entry.error)));
    }
    text + &pretty::json(&String::from_utf8_lossy(&entry.body))
}

pub(super) fn json(entry: &Entry, with_body: bool) -> Value {
    let mut json = Map::new();
    json.insert("key".into(), entry.key.to_string().into());
    json.insert("kind".into(), entry.kind.as_str().into());
    json.insert("tenant".into(), entry.tenant.as_deref().into());
    json.insert("object".into(), entry.object.as_str().into());
    json.insert("order_id".into(), entry.order_id.as_deref().into());
    json.insert("status".into(), entry.status.as_str().into());
    json.insert("state".into(), entry.state.as_str().into());
    json.insert("verdict".into(), entry.verdict.map(Verdict::as_str).into());
    json.insert("source".into(), entry.source.as_str().into());
    json.insert("replays".into(), entry.replays.into());
    json.insert("attempts".into(), entry.attempts.into());
    json.insert("error".into(), entry.error.as_str().into());
    json.insert("received_at".into(), entry.received_at.to_string().into());
    json.insert("settled_at".into(), entry.settled_at.map(|it| it.to_string()).into());
    json.insert("bytes".into(), entry.body_len.into());
    if with_body {
        json.insert("body".into(), String::from_utf8_lossy(&entry.body).into());
    }
    json.into()
}
