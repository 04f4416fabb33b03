//! Shows, captures and counts deliveries.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower_inqud::contract;

use super::delivery::{Delivery, Verdict};
use super::forward::AppAnswer;
use crate::filter::FilterArgs;
use crate::out::{BAD, FAINT, GOOD, Out, STRONG, is_broken_pipe, styled};
use crate::record::{Record, Recorder};
use crate::summary::Summary;
use crate::{pretty, reason};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Log {
    out: Out,
    filter: FilterArgs,
    is_verbose: bool,
    until: u64,
    state: Mutex<State>,
    end: Notify,
}

struct State {
    tally: Tally,
    recorder: Option<Recorder>,
    failure: Option<BoxError>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    verified: u64,
    unverified: u64,
    rejected: u64,
    hidden: u64,
    /// Forwarded, and not answered with 200.
    unacknowledged: u64,
}

impl Tally {
    fn total(self) -> u64 {
        self.verified.saturating_add(self.unverified).saturating_add(self.rejected)
    }

    pub(super) fn is_well(self, may_be_unverified: bool) -> bool {
        self.rejected == 0
            && self.unacknowledged == 0
            && (self.unverified == 0 || may_be_unverified)
    }

    pub(super) fn text(self) -> String {
        let mut text = format!("{} verified, {} rejected", self.verified, self.rejected);
        let rest = [
            (self.unverified, "unverified"),
            (self.unacknowledged, "not acknowledged by the app"),
            (self.hidden, "not shown"),
        ];
        for (count, what) in rest.iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {what}");
        }
        text + "\n"
    }

    pub(super) fn json(self) -> Value {
        json!({
            "verified": self.verified,
            "unverified": self.unverified,
            "rejected": self.rejected,
            "unacknowledged": self.unacknowledged,
            "hidden": self.hidden,
        })
    }
}

impl Log {
    pub(super) fn new(
        out: Out,
        filter: FilterArgs,
        is_verbose: bool,
        recorder: Option<Recorder>,
        until: u64,
    ) -> Self {
        let state = State { tally: Tally::default(), recorder, failure: None };
        Self { out, filter, is_verbose, until, state: Mutex::new(state), end: Notify::new() }
    }

    /// Waits until the last delivery was shown, or one could not be.
    pub(super) async fn end(&self) {
        self.end.notified().await;
    }

    /// Returns the totals, or the error that ended the log.
    pub(super) fn tally(&self) -> Result<Tally, BoxError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.take().map_or(Ok(state.tally), Err)
    }

    /// Shows, captures and counts a delivery.
    pub(super) fn note(&self, delivery: &Delivery) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let tally = &mut state.tally;
        let count = |to: &mut u64| *to = to.saturating_add(1);
        count(match delivery.verdict {
            Verdict::Verified => &mut tally.verified,
            Verdict::Unverified => &mut tally.unverified,
            Verdict::Rejected(_) => &mut tally.rejected,
        });
        if delivery.app.is_some() && delivery.status != contract::ACKNOWLEDGED {
            count(&mut tally.unacknowledged);
        }
        let number = tally.total();
        let now = Timestamp::now();
        if let Some(recorder) = &mut state.recorder {
            let body = delivery.body.as_deref().filter(|_| delivery.is_complete);
            let record = Record::new(now.to_string(), &delivery.head, body);
            if let Err(error) = recorder.write(&record) {
                state.failure.get_or_insert(format!("cannot write to the capture: {error}").into());
            }
        }
        let summary = delivery.summary();
        if self.filter.selects(summary.as_ref()) {
            let line = || self.for_people(delivery, summary.as_ref(), number, now);
            let as_json = || as_json(delivery, summary.as_ref(), number, now);
            match self.out.tell(line, as_json) {
                Err(error) if is_broken_pipe(&error) => self.end.notify_one(),
                Err(error) => _ = state.failure.get_or_insert(error.into()),
                Ok(()) => {}
            }
        } else {
            count(&mut tally.hidden);
        }
        if number >= self.until || state.failure.is_some() {
            self.end.notify_one();
        }
    }

    fn for_people(
        &self,
        delivery: &Delivery,
        summary: Option<&Summary>,
        number: u64,
        now: Timestamp,
    ) -> String {
        let time = styled(FAINT, now.strftime("%T"));
        let line = pretty::printable(&delivery.line());
        let subject = summary.map_or(line.clone(), ToString::to_string);
        let subject = styled(STRONG, subject);
        let answered = styled(FAINT, answered(delivery));
        let said = match &delivery.verdict {
            Verdict::Verified => format!("{} {subject}", styled(GOOD, "verified")),
            Verdict::Unverified => format!("{} {subject}", styled(BAD, "unverified")),
            Verdict::Rejected(rejection) => {
                let why = reason::lines(rejection).join("; ");
                format!("{} {subject}: {why}", styled(BAD, "rejected"))
            }
        };
        let mut text = format!("{time} #{number} {said}, {answered}\n");
        if self.is_verbose {
            text += &pretty::json(&line);
            text += &match lossy(delivery.body.as_deref()) {
                Some(body) => pretty::json(&body),
                None => "  body not shown: too many bodies at once\n".to_owned(),
            };
            if let Some(AppAnswer::Response { body, .. }) = &delivery.app {
                text += &format!("  {}\n", styled(FAINT, "the app's response:"));
                text += &pretty::json(&String::from_utf8_lossy(body));
            }
        }
        text
    }
}

/// What was answered, and by whom.
fn answered(delivery: &Delivery) -> String {
    let status = delivery.status;
    let said = match &delivery.app {
        None => format!("answered {status}"),
        Some(AppAnswer::Response { elapsed, .. }) => {
            format!("app answered {status} in {} ms", elapsed.as_millis())
        }
        Some(AppAnswer::None(why)) => {
            format!("app did not answer: {}; answered {status}", pretty::printable(why))
        }
    };
    let is_retried = status != StatusCode::OK && !matches!(delivery.verdict, Verdict::Rejected(_));
    said + if is_retried { ", which Inqud retries" } else { "" }
}

fn as_json(delivery: &Delivery, summary: Option<&Summary>, number: u64, now: Timestamp) -> Value {
    let rejection = match &delivery.verdict {
        Verdict::Rejected(rejection) => Some(reason::json(rejection)),
        _ => None,
    };
    let app = delivery.app.as_ref().map(|app| match app {
        AppAnswer::Response { body, elapsed } => json!({
            "status": delivery.status.as_u16(),
            "body": String::from_utf8_lossy(body),
            "elapsed_ms": u64::try_from(elapsed.as_millis()).ok(),
        }),
        AppAnswer::None(why) => json!({ "error": why }),
    });
    json!({
        "number": number,
        "at": now.to_string(),
        "request": delivery.line(),
        "verified": matches!(delivery.verdict, Verdict::Verified),
        "rejected": rejection,
        "status": delivery.status.as_u16(),
        "notification": summary.map(Summary::json),
        "app": app,
        "body": lossy(delivery.body.as_deref()),
    })
}

fn lossy(body: Option<&[u8]>) -> Option<Cow<'_, str>> {
    body.map(String::from_utf8_lossy)
}
