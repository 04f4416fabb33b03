use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tower_inqud::{Verifier, contract};
use tower_service::Service;

use crate::caller::Caller;
use crate::filter::FilterArgs;
use crate::out::{BAD, FAINT, GOOD, Out, Outcome, STRONG, is_broken_pipe, styled};
use crate::pretty::printable;
use crate::reason;
use crate::record::Record;
use crate::secret::SecretArgs;
use crate::summary::Summary;
use crate::target::{self, Target};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Maximum length of a line in a capture. Bodies have at most 256 KiB, and JSON escapes take six times that.
const LINE: u64 = 2 * 1024 * 1024;

/// Sends captured webhooks again, with the digests that they came with.
///
/// It verifies each one first, and does not send what was changed since. Nothing that is signed depends on
/// the time, so an old capture verifies too. Exits with 0 if every line verified and every response was 200.
#[derive(Args)]
pub(crate) struct Replay {
    /// A file that `listen --capture` has written.
    file: PathBuf,
    #[arg(help = target::HELP, long_help = format!(
        "{}. Each webhook keeps the path that it came to, unless the URL has one. Without a URL, the \
         capture is only verified", target::HELP))]
    url: Option<Target>,
    /// Maximum number of webhooks to send per second [default: no limit].
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Stops after N webhooks that the filters select.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Default)]
struct Tally {
    verified: u64,
    /// Lines that do not verify.
    unfit: u64,
    acknowledged: u64,
}

/// A line that is fit to be sent.
struct Captured {
    record: Record,
    body: Bytes,
    summary: Option<Summary>,
}

/// What came of a line.
enum Fate {
    Unfit(String),
    Verified,
    Answered(StatusCode),
    Silent(String),
}

impl Replay {
    pub(crate) async fn run(&self, out: &Out) -> Outcome {
        let verifier = Verifier::new(self.secret.read()?);
        let caller = self.url.as_ref().map(|url| Caller::new(url, 0)).transpose()?;
        let name = self.file.display();
        let file =
            File::open(&self.file).map_err(|error| format!("cannot read {name}: {error}"))?;
        let mut lines = BufReader::new(file);
        let mut tally = Tally::default();
        let mut due = Instant::now();
        let mut number = 0_u64;
        while tally.verified.saturating_add(tally.unfit) < self.limit.unwrap_or(u64::MAX) {
            let mut line = Vec::new();
            let len = lines.by_ref().take(LINE).read_until(b'\n', &mut line);
            if len.map_err(|error| format!("cannot read {name}: {error}"))? == 0 {
                break;
            }
            number = number.saturating_add(1);
            if u64::try_from(line.len())? == LINE && !line.ends_with(b"\n") {
                return Err(format!(
                    "line {number} of {name} is longer than {LINE} bytes: not a capture"
                )
                .into());
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (captured, fate) = match verify(&line, &verifier) {
                Ok(captured) if !self.filter.selects(captured.summary.as_ref()) => continue,
                Ok(captured) => {
                    let fate = match (&self.url, &caller) {
                        (Some(url), Some(caller)) => {
                            sleep_until(due).await;
                            due = Instant::now().checked_add(self.interval()).unwrap_or(due);
                            send(&captured, url, caller).await
                        }
                        _ => Fate::Verified,
                    };
                    (Some(captured), fate)
                }
                Err(why) => (None, Fate::Unfit(why)),
            };
            tally.add(&fate);
            match tell(out, number, captured.as_ref(), &fate) {
                Err(error) if is_broken_pipe(&error) => break,
                told => told?,
            }
        }
        self.conclude(out, &tally)
    }

    fn interval(&self) -> Duration {
        let interval = |rate: NonZeroU32| Duration::from_secs(1).checked_div(rate.get());
        self.rate.and_then(interval).unwrap_or_default()
    }

    fn conclude(&self, out: &Out, tally: &Tally) -> Outcome {
        let Tally { verified, unfit, acknowledged } = *tally;
        let is_well = unfit == 0 && (self.url.is_none() || acknowledged == verified);
        let for_people = || {
            let sent = match self.url {
                Some(_) => format!("{verified} sent, {acknowledged} acknowledged"),
                None => format!("{verified} verified"),
            };
            let unfit = match unfit {
                0 => String::new(),
                _ => format!(", {}", styled(BAD, format!("{unfit} did not verify"))),
            };
            format!("{sent}{unfit}\n")
        };
        let as_json = || {
            let sent = self.url.as_ref().map(|_| verified);
            json!({ "verified": verified, "changed": unfit, "sent": sent, "acknowledged": acknowledged, "ok": is_well })
        };
        Ok(out.conclude(is_well, for_people, as_json)?)
    }
}

impl Tally {
    fn add(&mut self, fate: &Fate) {
        let count = match fate {
            Fate::Unfit(_) => &mut self.unfit,
            _ => &mut self.verified,
        };
        *count = count.saturating_add(1);
        if matches!(fate, Fate::Answered(status) if *status == contract::ACKNOWLEDGED) {
            self.acknowledged = self.acknowledged.saturating_add(1);
        }
    }
}

/// Parses a line and verifies it. The error says what is wrong with it.
fn verify(line: &[u8], verifier: &Verifier) -> Result<Captured, String> {
    let record: Record =
        serde_json::from_slice(line).map_err(|error| format!("not a captured webhook: {error}"))?;
    let body = record.body().map_err(|error| format!("not a captured webhook: {error}"))?;
    let body = body.ok_or("its body did not arrive completely")?;
    let headers = record.headers().map_err(|error| format!("not a captured webhook: {error}"))?;
    match verifier.verify_headers(&headers, body.clone()) {
        Ok(_) => Ok(Captured { summary: Summary::of(&body), record, body }),
        Err(rejection) => Err(reason::lines(&rejection).join("; ")),
    }
}

async fn send(captured: &Captured, url: &Target, caller: &Caller<Full<Bytes>>) -> Fate {
    let request = match request(captured, url) {
        Ok(request) => request,
        Err(error) => {
            return Fate::Silent(format!("the path or a header of the line is invalid: {error}"));
        }
    };
    match timeout(contract::RESPONSE_TIMEOUT, caller.clone().call(request)).await {
        Ok(Ok(response)) => Fate::Answered(response.status()),
        Ok(Err(error)) => Fate::Silent(error.to_string()),
        Err(_) => Fate::Silent("no response within 10 s".to_owned()),
    }
}

fn request(captured: &Captured, url: &Target) -> Result<Request<Full<Bytes>>, BoxError> {
    let path = captured.record.path.parse()?;
    let request = Request::builder().method(captured.record.method.as_str());
    let mut request =
        request.uri(url.for_path(Some(&path))).body(Full::new(captured.body.clone()))?;
    *request.headers_mut() = captured.record.headers()?;
    Ok(request)
}

fn tell(out: &Out, number: u64, captured: Option<&Captured>, fate: &Fate) -> std::io::Result<()> {
    let summary = captured.and_then(|it| it.summary.as_ref());
    let for_people = || {
        let subject = match (summary, captured) {
            (Some(summary), _) => summary.to_string(),
            (None, Some(it)) => printable(&format!("{} {}", it.record.method, it.record.path)),
            (None, None) => String::new(),
        };
        let subject = styled(STRONG, subject);
        let said = match fate {
            Fate::Unfit(why) => format!("{}: {}", styled(BAD, "not sent"), printable(why)),
            Fate::Verified => format!("{} {subject}", styled(GOOD, "verified")),
            Fate::Answered(status) => {
                format!("{} {subject}, answered {status}", styled(GOOD, "verified"))
            }
            Fate::Silent(why) => {
                let why = styled(BAD, format!("no response: {}", printable(why)));
                format!("{} {subject}, {why}", styled(GOOD, "verified"))
            }
        };
        format!("{} {said}\n", styled(FAINT, format!("line {number}:")))
    };
    let as_json = || {
        let (mut changed, mut status, mut error) = (None, None, None);
        match fate {
            Fate::Unfit(why) => changed = Some(why),
            Fate::Verified => {}
            Fate::Answered(it) => status = Some(it.as_u16()),
            Fate::Silent(why) => error = Some(why),
        }
        json!({
            "line": number,
            "captured_at": captured.map(|it| &it.record.at),
            "verified": changed.is_none(),
            "rejected": changed,
            "notification": summary.map_or(Value::Null, Summary::json),
            "status": status,
            "error": error,
        })
    };
    out.tell(for_people, as_json)
}
