use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tower_inqud::EventKind;

use crate::summary::Summary;

const KINDS: [EventKind; 8] = [
    EventKind::Request,
    EventKind::Checkout,
    EventKind::Payment,
    EventKind::OnRampCheckout,
    EventKind::Subscription,
    EventKind::Invoice,
    EventKind::Authorization,
    EventKind::Other,
];

/// Selects notifications. Each option narrows the choice, and can be repeated.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Only notifications of this kind.
    #[arg(long, value_name = "KIND", value_parser = kind())]
    kind: Vec<EventKind>,
    /// Only notifications with this status.
    #[arg(long, value_name = "WORD")]
    status: Vec<String>,
    /// Only notifications about this order of yours.
    #[arg(long, value_name = "ID")]
    order: Vec<String>,
}

impl FilterArgs {
    /// Whether to select a notification. One that cannot be read is always selected, so that it is not
    /// overlooked.
    pub(crate) fn selects(&self, summary: Option<&Summary>) -> bool {
        let Some(summary) = summary else { return true };
        let Self { kind, status, order } = self;
        (kind.is_empty() || kind.contains(&summary.kind))
            && (status.is_empty()
                || status.iter().any(|it| it.eq_ignore_ascii_case(&summary.status)))
            && (order.is_empty() || order.iter().any(|it| Some(it) == summary.order.as_ref()))
    }
}

fn kind() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(KINDS.map(EventKind::as_str))
        .try_map(|name| KINDS.into_iter().find(|kind| kind.as_str() == name).ok_or("unknown kind"))
}
