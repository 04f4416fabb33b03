use std::fmt::Write as _;

use clap::Args;
use inqud_inbox::{Admin, LoggedRejection};
use serde_json::{Value, json};

use crate::chain::error_chain;
use crate::out::{BAD, FAINT, Out, Outcome, STRONG, styled};
use crate::pretty::printable;
use crate::store_args::StoreArgs;

#[derive(Args)]
pub(crate) struct RejectedArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Maximum number of calls to list.
    #[arg(long, value_name = "N", default_value = "20")]
    limit: usize,
}

impl RejectedArgs {
    pub(crate) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let calls = inbox.rejections(self.limit).await.map_err(|error| error_chain(&error))?;
        let as_json = || json!({ "rejected": calls.iter().map(as_json).collect::<Vec<_>>() });
        Ok(out.conclude(true, || for_people(&calls), as_json)?)
    }
}

const HEADS: [&str; 6] = ["AT", "KIND", "REASON", "FROM", "BYTES", "DIAGNOSIS"];

fn for_people(calls: &[LoggedRejection]) -> String {
    let rows: Vec<_> = calls.iter().map(cells).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; 6]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    let mut text = String::new();
    if !rows.is_empty() {
        _ = writeln!(text, "{}", styled(STRONG, line(HEADS)));
    }
    for (row, call) in rows.iter().zip(calls) {
        _ = writeln!(text, "{}", line(row.each_ref().map(|it| &**it)));
        if call.dropped > 0 {
            let dropped = format!("  {} more before it are not in the log", call.dropped);
            _ = writeln!(text, "{}", styled(FAINT, dropped));
        }
    }
    let count = rows.len();
    let shown = format!("{count} rejected calls shown, newest first");
    _ = writeln!(text, "{}", if count == 0 { "no rejected calls".to_owned() } else { shown });
    if calls.iter().any(|it| it.reason == "digest_mismatch") {
        let advice = "a digest did not match: the secret is wrong, the body was changed, or a stranger called";
        _ = writeln!(text, "{}", styled(BAD, advice));
    }
    text
}

fn cells(call: &LoggedRejection) -> [String; 6] {
    let unknown = || "-".to_owned();
    [
        format!("{:.0}", call.at),
        printable(&call.kind),
        printable(&call.reason),
        call.source.map_or_else(unknown, |it| it.to_string()),
        call.content_length.map_or_else(unknown, |it| it.to_string()),
        call.diagnosis.as_deref().map_or_else(unknown, printable),
    ]
}

fn as_json(call: &LoggedRejection) -> Value {
    json!({
        "at": call.at.to_string(),
        "kind": call.kind,
        "reason": call.reason,
        "diagnosis": call.diagnosis,
        "source": call.source.map(|it| it.to_string()),
        "content_length": call.content_length,
        "dropped": call.dropped,
    })
}
