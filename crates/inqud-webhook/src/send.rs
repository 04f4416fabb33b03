mod assignment;
mod latency;
mod members;
mod progress;
mod schema;
mod tally;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use inqud_mock::{Delivery, Fault, Lifecycle, Message, MockInqud, Scenario};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tower_inqud::{Amount, contract};

use self::assignment::Assignment;
use self::progress::Progress;
use self::tally::{Tally, as_json};
use crate::caller::Caller;
use crate::out::{Out, Outcome, is_broken_pipe};
use crate::secret::SecretArgs;
use crate::sign;
use crate::summary::Summary;
use crate::target::{self, Target};

type BoxError = Box<dyn std::error::Error + std::marker::Send + Sync>;

/// Maximum number of webhooks in one run.
const MOST: u64 = 1_000_000;

/// Sends webhooks to a handler, signed the way Inqud signs them.
///
/// Exits with 0 if every response was 200, or with --forge, if every response was 401.
#[derive(Args)]
pub(crate) struct Send {
    #[arg(help = target::HELP)]
    url: Target,
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
    /// Sets a field, as in `paidAmount=99.5` or `request.overpaid=true`. The schema of the webhook decides
    /// whether the value is text, a number or a time. `FIELD:=JSON` sets any field to any JSON. Can be
    /// repeated.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<Assignment>,
    /// Sends the bytes of this file instead of a scenario, unchanged. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["scenario", "status", "order", "amount", "set", "count"])]
    body: Option<PathBuf>,
    /// How many orders to send the scenario for, at most 10000. Their ids are `order-1-1`, `order-1-2`
    /// and so on.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// How many times to send each webhook, at most 100000.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// How many webhooks to send at a time, at most 1000. The webhooks about one order stay in order, but
    /// the copies that --times makes are sent at the same time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
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
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let inqud = self.inqud(seed)?;
        let objects = self.objects()?;
        let webhooks = objects.iter().map(Vec::len).fold(0, usize::saturating_add);
        let webhooks = u64::try_from(webhooks)?.saturating_mul(self.times.into());
        if webhooks > MOST {
            return Err(format!(
                "{webhooks} webhooks are too many: at most {MOST} can be sent in one run"
            )
            .into());
        }
        let caller = Caller::new(&self.url, usize::MAX)?;
        let bar = Progress::new(webhooks)?;
        let mut tally = Tally::new(self.forge);
        let mut unprinted = None;
        let began = Instant::now();
        let mut each = |delivery: &Delivery| {
            tally.add(delivery);
            bar.show(delivery);
            if out.is_json()
                && let Err(error) = bar.suspend(|| out.tell(String::new, || as_json(delivery)))
            {
                unprinted.get_or_insert(error);
            }
        };
        if self.concurrency == 1 {
            let messages = objects.into_iter().flatten();
            inqud.times(self.times).deliver_each(messages, caller, |it| each(&it)).await;
        } else {
            let mut deliveries = self.deliver_at_once(&inqud, &objects, &caller);
            while let Some(delivery) = deliveries.recv().await {
                each(&delivery);
            }
        }
        let elapsed = began.elapsed();
        bar.finish();

        if let Some(error) = unprinted.filter(|error| !is_broken_pipe(error)) {
            return Err(error.into());
        }
        let url = self.url.uri().to_string();
        Ok(out.conclude(
            tally.is_well(),
            || tally.text(self.shuffle.then_some(seed), elapsed),
            || tally.json(&url, seed, elapsed),
        )?)
    }

    /// Splits the objects, and their copies, among concurrent senders.
    fn deliver_at_once(
        &self,
        inqud: &MockInqud,
        objects: &[Vec<Message>],
        caller: &Caller<inqud_mock::SentBody>,
    ) -> mpsc::UnboundedReceiver<Delivery> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let copies = usize::try_from(self.times).unwrap_or(usize::MAX);
        let senders = usize::try_from(self.concurrency).unwrap_or(usize::MAX);
        let units = || objects.iter().flat_map(|object| std::iter::repeat_n(object, copies));
        let interval = self.interval();
        for (turn, number) in (0..senders).zip(0_u32..) {
            let messages =
                units().skip(turn).step_by(senders).flatten().cloned().collect::<Vec<_>>();
            let (caller, sender) = (caller.clone(), sender.clone());
            // Each sender has its share of the rate, and starts in turn.
            let inqud = inqud.clone().interval(interval.saturating_mul(self.concurrency));
            let start = interval.saturating_mul(number);
            tokio::spawn(async move {
                sleep(start).await;
                inqud.deliver_each(messages, caller, |delivery| _ = sender.send(delivery)).await;
            });
        }
        receiver
    }

    /// The messages about each object, in order.
    fn objects(&self) -> Result<Vec<Vec<Message>>, BoxError> {
        if let Some(file) = &self.body {
            let body = sign::body(Some(file))?;
            let label = Summary::of(&body).map_or_else(|| "body".to_owned(), |it| it.status);
            return Ok(vec![vec![Message::new(label, body)]]);
        }
        let now = Timestamp::now();
        let object = |number: u32| {
            let lifecycle = self.lifecycle(number).ends_at(now).into_iter();
            lifecycle.map(|message| assignment::apply(&self.set, message)).collect::<Result<_, _>>()
        };
        Ok((1..=self.count).map(object).collect::<Result<_, String>>()?)
    }

    fn lifecycle(&self, number: u32) -> Lifecycle {
        let order = match self.count {
            1 => self.order.clone(),
            _ => format!("{}-{number}", self.order),
        };
        let lifecycle =
            Lifecycle::new(self.scenario).client_order_id(order).amount(self.amount.clone());
        if self.status.is_empty() { lifecycle } else { lifecycle.statuses(&self.status) }
    }

    fn interval(&self) -> Duration {
        let interval = |rate: NonZeroU32| Duration::from_secs(1).checked_div(rate.get());
        self.rate.and_then(interval).unwrap_or_default()
    }

    fn inqud(&self, seed: u64) -> Result<MockInqud, BoxError> {
        let mut inqud = MockInqud::new(self.secret.read()?, self.url.uri().clone());
        inqud = inqud.seed(seed).interval(self.interval());
        if self.shuffle {
            inqud = inqud.shuffled();
        }
        if self.forge {
            inqud = inqud.fault(Fault::Forged);
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
