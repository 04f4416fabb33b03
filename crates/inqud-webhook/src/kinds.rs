use std::fmt::Write as _;

use serde_json::{Value, json};
use tower_inqud::EventKind;

use crate::out::Outcome;
use crate::out::{FAINT, Out, STRONG, styled};

/// How well a fact about Inqud is known.
#[derive(Clone, Copy)]
enum Certainty {
    Confirmed,
    Inferred,
    Unknown,
}

use Certainty::{Confirmed, Inferred, Unknown};

impl Certainty {
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
    /// The field with the time of the last change, which orders two notifications.
    changed: (&'static str, Certainty),
    statuses: &'static [(&'static str, Certainty)],
    /// The values of `send --scenario` that send this kind.
    scenarios: &'static [&'static str],
}

impl Kind {
    fn prefix(&self) -> (&'static str, Certainty) {
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
        scenarios: &[
            "success",
            "overpaid",
            "conflict",
            "resolved-conflict",
            "reversed",
            "amended",
            "expired",
        ],
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
        scenarios: &["checkout"],
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
        scenarios: &["payment", "reversed-payment", "partial-payment"],
    },
    Kind {
        name: "On-ramp checkout",
        kind: EventKind::OnRampCheckout,
        changed: ("modifiedAt", Confirmed),
        statuses: &[("PENDING", Confirmed), ("SUCCESS", Unknown)],
        scenarios: &["on-ramp"],
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
        scenarios: &["subscription", "renewal"],
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
        scenarios: &["invoice"],
    },
    Kind {
        name: "Authorization",
        kind: EventKind::Authorization,
        changed: ("", Unknown),
        statuses: &[("GRANTED", Confirmed), ("REVOKED_BY_MERCHANT", Confirmed)],
        scenarios: &["authorization"],
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
    let mut fact = |what: &str, value: &str, known: Certainty| {
        _ = writeln!(text, "  {what:<10} {value:<24} {}", styled(FAINT, known.mark()));
    };
    let prefix = kind.prefix();
    fact("id", prefix.0, prefix.1);
    fact("changed", kind.changed.0, kind.changed.1);
    for (status, known) in kind.statuses {
        fact("status", status, *known);
    }
    _ = writeln!(text, "  {:<10} --scenario {}", "send", kind.scenarios.join(", "));
    text
}

fn as_json(kind: &Kind) -> Value {
    let fact = |(value, known): &(&str, Certainty)| {
        let value = Some(*value).filter(|value| !value.is_empty());
        json!({ "value": value, "known": known.mark() })
    };
    json!({
        "name": kind.name,
        "id_prefix": fact(&kind.prefix()),
        "changed_field": fact(&kind.changed),
        "statuses": kind.statuses.iter().map(fact).collect::<Vec<_>>(),
        "scenarios": kind.scenarios,
    })
}
