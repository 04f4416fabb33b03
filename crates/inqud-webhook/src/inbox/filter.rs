//! Options that choose notifications.

use clap::Args;
use inqud_inbox::{Filter, State};
use jiff::{SignedDuration, Timestamp};

use super::parse::age;

#[derive(Args)]
pub(super) struct FilterArgs {
    /// The order: your own id of it, or Inqud's if the notification does not have yours.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// The id of the object, such as CAPD-... Add --tenant if it belongs to one.
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// The kind, such as request or payment.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The tenant that it was received for.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The status, such as SUCCESS.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// The state: open, done, skipped, dead or review.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Stored at this time or later: 2026-11-27T08:00Z, or an age such as 36h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Stored before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> Filter {
        let mut filter = Filter::new();
        if let Some(id) = &self.order {
            filter = filter.order_id(id);
        }
        if let Some(id) = &self.object {
            filter = filter.object(id);
        }
        if let Some(kind) = &self.kind {
            filter = filter.kind(kind);
        }
        if let Some(name) = &self.tenant {
            filter = filter.tenant(name);
        }
        if let Some(status) = &self.status {
            filter = filter.status(status);
        }
        if let Some(state) = self.state {
            filter = filter.state(state);
        }
        if let Some(time) = self.since {
            filter = filter.since(time);
        }
        if let Some(time) = self.before {
            filter = filter.before(time);
        }
        filter
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filter() == Filter::new()
    }
}

fn state(text: &str) -> Result<State, String> {
    let known = State::ALL.into_iter().find(|it| it.as_str() == text);
    known.ok_or_else(|| "must be open, done, skipped, dead or review".to_owned())
}

/// Parses an instant, or an age.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || "use an instant such as 2026-11-27T08:00Z, or an age such as 36h".to_owned();
    let age = SignedDuration::try_from(age(text).map_err(|_| wrong())?).map_err(|_| wrong())?;
    Timestamp::now().checked_sub(age).map_err(|_| wrong())
}
