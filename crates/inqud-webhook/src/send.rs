use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use indicatif::{ProgressBar, ProgressStyle};
use inqud_mock::{Answer, Delivery, Fault, Lifecycle, MockInqud, Scenario};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower_inqud::{Amount, contract};

use crate::out::Outcome;
use crate::out::{BAD, FAINT, GOOD, Out, STRONG, is_broken_pipe, styled};
use crate::pretty::printable;
use crate::secret::SecretArgs;

type BoxError = Box<dyn std::error::Error + std::marker::Send + Sync>;

/// Maximum number of failures that are listed one by one.
const TOLD: usize = 10;

/// Sends webhooks to a handler, signed the way Inqud signs them.
///
/// Exits with 0 if every response was 200, or with --forge, if every response was 401.
#[derive(Args)]
pub(crate) struct Send {
    /// The webhook's URL, such as http://127.0.0.1:3000/webhooks/inqud/request.
    url: Uri,
    /// The statuses to send about one object. `inqud-webhook kinds` lists the scenarios of each kind. A
    /// handler must reject a scenario of another kind.
    #[arg(long, value_name = "SCENARIO", default_value = "success", value_parser = scenario())]
    scenario: Scenario,
    /// Sends this status instead of the scenario's. Can be any word, and can be repeated.
    #[arg(long, value_name = "WORD")]
    status: Vec<String>,
    /// Your id of the order, `clientOrderId`. The other ids are derived from it.
    #[arg(long, value_name = "ID", default_value = "order-1")]
    order: String,
    /// The requested amount, in USDT.
    #[arg(long, default_value = "100")]
    amount: Amount,
    /// How many times to send each webhook, at most 100000.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// Sends the webhooks in random order.
    #[arg(long)]
    shuffle: bool,
    /// The seed of the random order, to repeat a run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Signs with a random key instead of the secret.
    #[arg(long)]
    forge: bool,
    /// Maximum number of webhooks to send per second [default: no limit].
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Retries a webhook that got no 200 within 10 s, on Inqud's schedule: ten retries in almost two days.
    /// `--retry=1,2,5` waits that many seconds before each retry instead.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..,
        require_equals = true,
        value_delimiter = ','
    )]
    retry: Option<Vec<u32>>,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Parses a scenario. The names are listed in help and completions.
fn scenario() -> impl TypedValueParser<Value = Scenario> {
    PossibleValuesParser::new(Scenario::ALL.iter().map(|scenario| scenario.as_str())).try_map(
        |name| {
            Scenario::ALL
                .iter()
                .copied()
                .find(|scenario| scenario.as_str() == name)
                .ok_or("unknown scenario: see `inqud-webhook kinds`")
        },
    )
}

impl Send {
    pub(crate) async fn run(&self, out: &Out) -> Outcome {
        let is_https = self.is_https()?;
        let messages = self.lifecycle().into_iter().collect::<Vec<_>>();
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let inqud = self.inqud(seed)?;
        let times = u64::from(self.times);
        let bar = progress(times.saturating_mul(u64::try_from(messages.len())?))?;
        let mut tally = Tally { forge: self.forge, ..Tally::default() };
        let mut unprinted = None;
        let each = |delivery: Delivery| {
            tally.add(&delivery);
            show(&bar, &delivery);
            if out.is_json()
                && let Err(error) = bar.suspend(|| out.tell(String::new, || as_json(&delivery)))
            {
                unprinted.get_or_insert(error);
            }
        };
        let client = Client::builder(TokioExecutor::new());
        if is_https {
            // Trusts the system's root certificates, or those in SSL_CERT_FILE.
            let connector = HttpsConnectorBuilder::new().with_native_roots()?;
            let connector = connector.https_only().enable_http1().build();
            inqud.deliver_each(messages, client.build(connector), each).await;
        } else {
            inqud.deliver_each(messages, client.build_http(), each).await;
        }
        bar.finish_and_clear();

        if let Some(error) = unprinted.filter(|error| !is_broken_pipe(error)) {
            return Err(error.into());
        }
        Ok(out.conclude(
            tally.is_well(),
            || tally.text(self.shuffle.then_some(seed)),
            || tally.json(&self.url, seed),
        )?)
    }

    fn is_https(&self) -> Result<bool, String> {
        let scheme = self.url.scheme().filter(|_| self.url.authority().is_some());
        match scheme {
            Some(scheme) if *scheme == Scheme::HTTP => Ok(false),
            Some(scheme) if *scheme == Scheme::HTTPS => Ok(true),
            _ => Err(format!("invalid URL {}: must start with http:// or https://", self.url)),
        }
    }

    fn lifecycle(&self) -> Lifecycle {
        let lifecycle = Lifecycle::new(self.scenario)
            .client_order_id(&self.order)
            .amount(self.amount.clone())
            .ends_at(Timestamp::now());
        if self.status.is_empty() { lifecycle } else { lifecycle.statuses(&self.status) }
    }

    fn inqud(&self, seed: u64) -> Result<MockInqud, BoxError> {
        let mut inqud =
            MockInqud::new(self.secret.read()?, self.url.clone()).times(self.times).seed(seed);
        if self.shuffle {
            inqud = inqud.shuffled();
        }
        if self.forge {
            inqud = inqud.fault(Fault::Forged);
        }
        if let Some(rate) = self.rate {
            let interval = Duration::from_secs(1).checked_div(rate.get()).unwrap_or_default();
            inqud = inqud.interval(interval);
        }
        Ok(match self.retry.as_deref() {
            None => inqud,
            Some([]) => inqud.retries(contract::RETRY_SCHEDULE),
            Some(waits) => {
                let seconds = |wait: &u32| Duration::from_secs(u64::from(*wait));
                inqud.retries(&waits.iter().map(seconds).collect::<Vec<_>>())
            }
        })
    }
}

/// Counts the results of all deliveries, in constant memory.
#[derive(Default)]
struct Tally {
    forge: bool,
    rows: Vec<(String, Row)>,
    /// The first deliveries that did not have the expected result.
    amiss: Vec<String>,
}

#[derive(Default)]
struct Row {
    delivered: u64,
    retries: u64,
    acknowledged: u64,
    rejected: u64,
    lost: u64,
    answers: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, delivery: &Delivery) {
        let label = delivery.message().label();
        match self.rows.iter_mut().find(|(known, _)| known == label) {
            Some((_, row)) => row.add(delivery),
            None => {
                let mut row = Row::default();
                row.add(delivery);
                self.rows.push((label.to_owned(), row));
            }
        }
        let is_amiss = if self.forge { !delivery.is_rejected() } else { delivery.is_lost() };
        if is_amiss && self.amiss.len() < TOLD {
            let text = delivery.response_text();
            let why = if text.is_empty() { String::new() } else { format!(": {text}") };
            self.amiss.push(format!("{delivery}{why}"));
        }
    }

    fn is_well(&self) -> bool {
        let is_well = |row: &Row| match self.forge {
            true => row.rejected == row.delivered,
            false => row.lost == 0,
        };
        !self.rows.is_empty() && self.rows.iter().all(|(_, row)| is_well(row))
    }

    fn text(&self, seed: Option<u64>) -> String {
        let mut text = String::new();
        let head = format!(
            "{:<20} {:>9} {:>7} {:>12} {:>6}  answers",
            "status", "delivered", "retries", "acknowledged", "lost"
        );
        _ = writeln!(text, "{}", styled(STRONG, head));
        for (label, row) in &self.rows {
            let answers = row.answers.iter().map(|(answer, times)| format!("{answer} ({times})"));
            let answers = answers.collect::<Vec<_>>().join(", ");
            _ = writeln!(
                text,
                "{:<20} {:>9} {:>7} {:>12} {:>6}  {answers}",
                printable(label),
                row.delivered,
                row.retries,
                row.acknowledged,
                row.lost
            );
        }
        let word = if self.forge { "not rejected" } else { "lost" };
        for amiss in &self.amiss {
            _ = writeln!(text, "{} {}", styled(BAD, word), printable(amiss));
        }
        let verdict = match (self.is_well(), self.forge) {
            (true, false) => styled(GOOD, "all acknowledged"),
            (true, true) => styled(GOOD, "all rejected, as expected"),
            (false, false) => styled(BAD, "not all acknowledged"),
            (false, true) => styled(BAD, "not all rejected with 401"),
        };
        let seed = seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        _ = writeln!(text, "{verdict}{}", styled(FAINT, seed));
        text
    }

    fn json(&self, url: &Uri, seed: u64) -> Value {
        let sum = |count: fn(&Row) -> u64| {
            self.rows.iter().map(|(_, row)| count(row)).fold(0, u64::saturating_add)
        };
        json!({
            "url": url.to_string(),
            "seed": seed,
            "ok": self.is_well(),
            "delivered": sum(|row| row.delivered),
            "acknowledged": sum(|row| row.acknowledged),
            "rejected": sum(|row| row.rejected),
            "lost": sum(|row| row.lost),
        })
    }
}

impl Row {
    fn add(&mut self, delivery: &Delivery) {
        let count = |to: &mut u64, it: bool| *to = to.saturating_add(u64::from(it));
        count(&mut self.delivered, true);
        count(&mut self.retries, delivery.retry() > 0);
        count(&mut self.acknowledged, delivery.is_acknowledged());
        count(&mut self.rejected, delivery.is_rejected());
        count(&mut self.lost, delivery.is_lost());
        count(self.answers.entry(printable(&delivery.answer().to_string())).or_default(), true);
    }
}

fn as_json(delivery: &Delivery) -> Value {
    let (status, error) = match delivery.answer() {
        Answer::Status(status) => (Some(status.as_u16()), None),
        other => (None, Some(other.to_string())),
    };
    json!({
        "label": delivery.message().label(),
        "retry": delivery.retry(),
        "at_ms": u64::try_from(delivery.at().as_millis()).ok(),
        "elapsed_ms": u64::try_from(delivery.elapsed().as_millis()).ok(),
        "status": status,
        "error": error,
        "text": delivery.response_text(),
        "acknowledged": delivery.is_acknowledged(),
        "rejected": delivery.is_rejected(),
        "lost": delivery.is_lost(),
    })
}

/// A progress bar on standard error, hidden unless that is a terminal.
fn progress(len: u64) -> Result<ProgressBar, BoxError> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}")?;
    Ok(ProgressBar::new(len).with_style(style))
}

fn show(bar: &ProgressBar, delivery: &Delivery) {
    bar.set_message(printable(&delivery.to_string()));
    if delivery.is_acknowledged() || delivery.is_lost() {
        bar.inc(1);
    }
}

#[cfg(test)]
mod tests {
    use inqud_mock::SentBody;

    use super::{Lifecycle, MockInqud, ProgressBar, Scenario, Uri, show};

    #[tokio::test]
    async fn the_progress_bar_escapes_responses() {
        let secret = tower_inqud::Secret::new("a secret of the test").unwrap();
        let service = tower::service_fn(async |_: http::Request<SentBody>| {
            Err::<http::Response<String>, _>("\u{9b}2J\u{202e}")
        });
        let bar = ProgressBar::hidden();
        let inqud = MockInqud::new(secret, Uri::from_static("/"));
        inqud.deliver_each(Lifecycle::new(Scenario::Expired), service, |it| show(&bar, &it)).await;
        assert!(bar.message().ends_with(r"\u{9b}2J\u{202e}"), "{}", bar.message());
        assert_eq!(bar.position(), 2);
    }
}
