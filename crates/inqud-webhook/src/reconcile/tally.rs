use std::fmt::Write as _;

use inqud_inbox::{LookOutcome, ReconcileReport, Reconciled};
use serde_json::{Value, json};

use super::ids::Object;
use crate::out::{BAD, FAINT, GOOD, STRONG, styled};
use crate::pretty::printable;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum End {
    #[default]
    Complete,
    /// By Ctrl-C.
    Interrupted,
    /// The API failed again and again.
    ApiFailed,
    /// The inbox failed.
    Failed,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::ApiFailed => "api_failed",
            Self::Failed => "inbox_failed",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Complete | Self::Interrupted => "because of Ctrl-C: run the command again",
            Self::ApiFailed => "because the API fails: run the command again later",
            Self::Failed => "because the inbox failed",
        }
    }
}

/// The outcomes of all looks.
#[derive(Default)]
pub(super) struct Tally {
    is_dry: bool,
    report: ReconcileReport,
    /// The objects with another outcome than `agreed`.
    others: Vec<(Object, Reconciled)>,
    not_looked_at: Vec<Object>,
    end: End,
}

impl Tally {
    pub(super) fn new(is_dry: bool) -> Self {
        Self { is_dry, ..Self::default() }
    }

    pub(super) fn add(&mut self, object: Object, reconciled: Reconciled) {
        self.report.add(reconciled.outcome);
        if reconciled.outcome != LookOutcome::Agreed {
            self.others.push((object, reconciled));
        }
    }

    pub(super) fn not_looked_at(&mut self, object: Object) {
        self.not_looked_at.push(object);
    }

    /// Sets how the run ended, and which objects are left.
    pub(super) fn end(&mut self, end: End, rest: impl Iterator<Item = Object>) {
        self.end = end;
        self.not_looked_at.extend(rest);
    }

    pub(super) fn is_well(&self) -> bool {
        self.others.is_empty() && self.not_looked_at.is_empty()
    }

    fn counts(&self) -> [(LookOutcome, u64); 5] {
        let report = &self.report;
        [
            (LookOutcome::Agreed, report.agreed),
            (LookOutcome::Recovered, report.recovered),
            (LookOutcome::Ahead, report.ahead),
            (LookOutcome::Missing, report.missing),
            (LookOutcome::Later, report.later),
        ]
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        _ = writeln!(text, "{}", styled(STRONG, format!("{:<10} {:>8}", "outcome", "objects")));
        for (outcome, count) in self.counts() {
            _ = writeln!(text, "{outcome:<10} {count:>8}");
        }
        for (object, reconciled) in &self.others {
            let status = reconciled.status.iter().map(|status| format!(" {}", printable(status)));
            let reason = reconciled.reason.iter().map(|reason| format!(": {}", printable(reason)));
            let rest = status.chain(reason).collect::<String>();
            let outcome = styled(BAD, reconciled.outcome);
            _ = writeln!(
                text,
                "{outcome} {} {}{rest}",
                object.kind.as_str(),
                printable(&object.id)
            );
        }
        if !self.not_looked_at.is_empty() {
            let count = self.not_looked_at.len();
            let line = format!("{count} not looked at, {}", self.end.reason());
            _ = writeln!(text, "{}", styled(BAD, line));
        }
        let verdict =
            if self.is_well() { styled(GOOD, "all agree") } else { styled(BAD, "not all agree") };
        let dry = if self.is_dry { ", dry run: nothing is stored" } else { "" };
        _ = writeln!(text, "{verdict}{}", styled(FAINT, dry));
        text
    }

    pub(super) fn json(&self) -> Value {
        let objects = self.others.iter().map(|(object, reconciled)| {
            json!({
                "kind": object.kind.as_str(), "id": object.id, "outcome": reconciled.outcome.as_str(),
                "status": reconciled.status, "reason": reconciled.reason,
            })
        });
        let rest = self.not_looked_at.iter();
        let rest = rest.map(|object| json!({ "kind": object.kind.as_str(), "id": object.id }));
        let mut json = json!({
            "ok": self.is_well(),
            "dry_run": self.is_dry,
            "end": self.end.as_str(),
            "objects": objects.collect::<Vec<_>>(),
            "not_looked_at": rest.collect::<Vec<_>>(),
        });
        if let Some(json) = json.as_object_mut() {
            for (outcome, count) in self.counts() {
                json.insert(outcome.as_str().to_owned(), count.into());
            }
        }
        json
    }
}
