use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Outcome;
use crate::out::{FAINT, Out, STRONG, styled};

/// How well something is known.
#[derive(Clone, Copy)]
enum Known {
    Confirmed,
    Inferred,
    Unknown,
}

use Known::{Confirmed, Inferred, Unknown};

impl Known {
    fn mark(self) -> &'static str {
        match self {
            Confirmed => "confirmed",
            Inferred => "inferred",
            Unknown => "not public",
        }
    }
}

struct Kind {
    name: &'static str,
    prefix: (&'static str, Known),
    changed: (&'static str, Known),
    statuses: &'static [(&'static str, Known)],
    /// Those of `send --life`.
    lives: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "Request",
        prefix: ("CAPD-", Confirmed),
        changed: ("lastUpdatedAt", Confirmed),
        statuses: &[
            ("WAITING_PAYMENT", Confirmed),
            ("PENDING_PAYMENT", Confirmed),
            ("CONFLICT", Confirmed),
            ("SUCCESS", Inferred),
            ("EXPIRED", Inferred),
            ("CANCELLED", Unknown),
        ],
        lives: &["success", "overpaid", "conflict", "settled", "expired"],
    },
    Kind {
        name: "Checkout",
        prefix: ("CCO-", Confirmed),
        changed: ("lastUpdatedAt", Confirmed),
        statuses: &[
            ("NEW", Confirmed),
            ("REQUEST_CREATED", Confirmed),
            ("PAYMENT_DETECTED", Confirmed),
            ("EXPIRED", Confirmed),
            ("CONFLICT", Confirmed),
            ("SUCCESS", Confirmed),
        ],
        lives: &["checkout"],
    },
    Kind {
        name: "Payment",
        prefix: ("PMT-", Confirmed),
        changed: ("lastUpdatedAt", Inferred),
        statuses: &[
            ("NEW", Confirmed),
            ("PENDING", Confirmed),
            ("FROZEN", Confirmed),
            ("PARTIAL_SUCCESS", Confirmed),
            ("SUCCESS", Confirmed),
            ("FAILED", Confirmed),
            ("CANCELLED", Confirmed),
            ("EXPIRED", Confirmed),
        ],
        lives: &["payment"],
    },
    Kind {
        name: "On-ramp checkout",
        prefix: ("ORCO-", Confirmed),
        changed: ("modifiedAt", Confirmed),
        statuses: &[("PENDING", Confirmed), ("SUCCESS", Inferred)],
        lives: &["on-ramp"],
    },
    Kind {
        name: "Subscription",
        prefix: ("SUB-", Confirmed),
        changed: ("lastUpdatedAt", Inferred),
        statuses: &[
            ("INITIATED", Confirmed),
            ("ACTIVE", Confirmed),
            ("CANCELLED", Confirmed),
            ("EXPIRED", Confirmed),
        ],
        lives: &["subscription"],
    },
    Kind {
        name: "Invoice",
        prefix: ("", Unknown),
        changed: ("lastUpdatedAt", Inferred),
        statuses: &[
            ("NEW", Confirmed),
            ("PENDING", Confirmed),
            ("SUCCESS", Confirmed),
            ("FAILED", Confirmed),
        ],
        lives: &["invoice"],
    },
    Kind {
        name: "Authorization",
        prefix: ("AGR-", Confirmed),
        changed: ("", Unknown),
        statuses: &[("GRANTED", Confirmed), ("REVOKED_BY_MERCHANT", Confirmed)],
        lives: &["authorization"],
    },
];

pub(crate) fn run(out: &Out) -> Outcome {
    out.tell(
        || KINDS.iter().map(text).collect::<Vec<_>>().join("\n"),
        || KINDS.iter().map(as_json).collect(),
    )?;
    Ok(true)
}

fn text(kind: &Kind) -> String {
    let mut text = styled(STRONG, kind.name) + "\n";
    let mut fact = |what: &str, value: &str, known: Known| {
        _ = writeln!(text, "  {what:<10} {value:<24} {}", styled(FAINT, known.mark()));
    };
    fact("id", kind.prefix.0, kind.prefix.1);
    fact("changed", kind.changed.0, kind.changed.1);
    for (status, known) in kind.statuses {
        fact("status", status, *known);
    }
    _ = writeln!(text, "  {:<10} --life {}", "send", kind.lives.join(", "));
    text
}

fn as_json(kind: &Kind) -> Value {
    let fact = |(value, known): &(&str, Known)| {
        let value = Some(*value).filter(|value| !value.is_empty());
        json!({ "value": value, "known": known.mark() })
    };
    json!({
        "name": kind.name,
        "id_prefix": fact(&kind.prefix),
        "changed_field": fact(&kind.changed),
        "statuses": kind.statuses.iter().map(fact).collect::<Vec<_>>(),
        "lives": kind.lives,
    })
}
