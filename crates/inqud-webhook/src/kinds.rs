use std::fmt::Write as _;

use serde_json::{Value, json};
use tower_inqud::EventKind;

use crate::out::Outcome;
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
    kind: EventKind,
    /// The field that tells when it last changed, and so which of two is newer.
    changed: (&'static str, Known),
    statuses: &'static [(&'static str, Known)],
    /// Those of `send --life`.
    lives: &'static [&'static str],
}

impl Kind {
    fn prefix(&self) -> (&'static str, Known) {
        self.kind.id_prefix().map_or(("", Unknown), |prefix| (prefix, Confirmed))
    }
}

const KINDS: &[Kind] = &[
    Kind {
        name: "Request",
        kind: EventKind::Request,
        changed: ("lastUpdatedAt", Confirmed),
        statuses: &[
            ("WAITING_PAYMENT", Confirmed),
            ("PENDING_PAYMENT", Confirmed),
            ("CONFLICT", Confirmed),
            ("SUCCESS", Inferred),
            ("EXPIRED", Inferred),
            ("CANCELLED", Unknown),
        ],
        lives: &["success", "overpaid", "conflict", "settled", "reversed", "amended", "expired"],
    },
    Kind {
        name: "Checkout",
        kind: EventKind::Checkout,
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
        kind: EventKind::Payment,
        changed: ("", Unknown),
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
        lives: &["payment", "reversed-payment", "partial-payment"],
    },
    Kind {
        name: "On-ramp checkout",
        kind: EventKind::OnRampCheckout,
        changed: ("modifiedAt", Confirmed),
        statuses: &[("PENDING", Confirmed), ("SUCCESS", Unknown)],
        lives: &["on-ramp"],
    },
    Kind {
        name: "Subscription",
        kind: EventKind::Subscription,
        changed: ("", Unknown),
        statuses: &[
            ("INITIATED", Confirmed),
            ("ACTIVE", Confirmed),
            ("CANCELLED", Confirmed),
            ("EXPIRED", Confirmed),
        ],
        lives: &["subscription", "renewal"],
    },
    Kind {
        name: "Invoice",
        kind: EventKind::Invoice,
        changed: ("modifiedAt", Inferred),
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
        kind: EventKind::Authorization,
        changed: ("", Unknown),
        statuses: &[("GRANTED", Confirmed), ("REVOKED_BY_MERCHANT", Confirmed)],
        lives: &["authorization"],
    },
];

pub(crate) fn run(out: &Out) -> Outcome {
    Ok(out.conclude(
        true,
        || KINDS.iter().map(text).collect::<Vec<_>>().join("\n"),
        || KINDS.iter().map(as_json).collect(),
    )?)
}

fn text(kind: &Kind) -> String {
    let mut text = styled(STRONG, kind.name) + "\n";
    let mut fact = |what: &str, value: &str, known: Known| {
        _ = writeln!(text, "  {what:<10} {value:<24} {}", styled(FAINT, known.mark()));
    };
    let prefix = kind.prefix();
    fact("id", prefix.0, prefix.1);
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
        "id_prefix": fact(&kind.prefix()),
        "changed_field": fact(&kind.changed),
        "statuses": kind.statuses.iter().map(fact).collect::<Vec<_>>(),
        "lives": kind.lives,
    })
}
