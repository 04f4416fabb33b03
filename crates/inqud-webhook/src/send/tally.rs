use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use inqud_mock::{Answer, Delivery};
use serde_json::{Value, json};

use super::latency::Latency;
use crate::out::{BAD, FAINT, GOOD, STRONG, styled};
use crate::pretty::printable;

/// Maximum number of failures that are listed one by one.
const TOLD: usize = 10;

/// Counts the results of all deliveries, in constant memory.
#[derive(Default)]
pub(super) struct Tally {
    forge: bool,
    rows: Vec<(String, Row)>,
    /// The first deliveries that did not have the expected result.
    amiss: Vec<String>,
    /// Why there was no response, and how often: each reason once.
    silent: BTreeMap<String, u64>,
    latency: Latency,
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
    pub(super) fn new(forge: bool) -> Self {
        Self { forge, ..Self::default() }
    }

    pub(super) fn add(&mut self, delivery: &Delivery) {
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
        let is_response = matches!(delivery.answer(), Answer::Status(_));
        if is_response {
            self.latency.add(delivery.elapsed());
        }
        if !is_amiss {
            return;
        }
        if is_response {
            if self.amiss.len() < TOLD {
                let text = delivery.response_text();
                let why = if text.is_empty() { String::new() } else { format!(": {text}") };
                self.amiss.push(format!("{delivery}{why}"));
            }
            return;
        }
        let why = delivery.answer().to_string();
        // A reason that is listed is still counted when the list is full.
        if self.silent.len() < TOLD || self.silent.contains_key(&why) {
            let times = self.silent.entry(why).or_default();
            *times = times.saturating_add(1);
        }
    }

    pub(super) fn is_well(&self) -> bool {
        let is_well = |row: &Row| match self.forge {
            true => row.rejected == row.delivered,
            false => row.lost == 0,
        };
        !self.rows.is_empty() && self.rows.iter().all(|(_, row)| is_well(row))
    }

    pub(super) fn text(&self, seed: Option<u64>, elapsed: Duration) -> String {
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
        for (why, times) in &self.silent {
            let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
            _ = writeln!(text, "{} {}{times}", styled(BAD, word), printable(why));
        }
        for amiss in &self.amiss {
            _ = writeln!(text, "{} {}", styled(BAD, word), printable(amiss));
        }
        text += &self.latency.text();
        if let Some(rate) = self.rate(elapsed) {
            _ = writeln!(
                text,
                "{} webhooks in {}.{} s, {rate} per second",
                self.sum(|row| row.delivered),
                elapsed.as_secs(),
                elapsed.subsec_millis() / 100
            );
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

    pub(super) fn json(&self, url: &str, seed: u64, elapsed: Duration) -> Value {
        let sum = |count| self.sum(count);
        json!({
            "url": url,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).ok(),
            "latency": self.latency.json(),
            "seed": seed,
            "ok": self.is_well(),
            "delivered": sum(|row| row.delivered),
            "acknowledged": sum(|row| row.acknowledged),
            "rejected": sum(|row| row.rejected),
            "lost": sum(|row| row.lost),
        })
    }

    fn sum(&self, count: fn(&Row) -> u64) -> u64 {
        self.rows.iter().map(|(_, row)| count(row)).fold(0, u64::saturating_add)
    }

    /// Deliveries per second. `None` if they are too few to tell.
    fn rate(&self, elapsed: Duration) -> Option<u128> {
        const FEW: u64 = 100;
        let delivered = self.sum(|row| row.delivered);
        let per_second =
            u128::from(delivered).saturating_mul(1_000_000).checked_div(elapsed.as_micros());
        per_second.filter(|_| delivered >= FEW)
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
        let answer = match delivery.answer() {
            Answer::Failed(_) => "no response".to_owned(),
            other => other.to_string(),
        };
        count(self.answers.entry(answer).or_default(), true);
    }
}

pub(super) fn as_json(delivery: &Delivery) -> Value {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use http::{Request, Response, StatusCode, Uri};
    use inqud_mock::{Message, MockInqud, SentBody};

    use super::Tally;

    /// Sends this many webhooks to a service that answers each with what `answer` says about its number.
    async fn tally(
        count: usize,
        retries: &[Duration],
        answer: impl Fn(u32) -> Result<StatusCode, String> + Clone + Send + Sync + 'static,
    ) -> Tally {
        let secret = tower_inqud::Secret::new("a secret of the test").unwrap();
        let number = AtomicU32::new(0);
        let service = tower::service_fn(move |_: Request<SentBody>| {
            let answer = answer(number.fetch_add(1, Ordering::Relaxed)).map(|status| {
                let mut response = Response::new(String::new());
                *response.status_mut() = status;
                response
            });
            std::future::ready(answer)
        });
        let mut tally = Tally::new(false);
        let inqud = MockInqud::new(secret, Uri::from_static("/")).retries(retries);
        let messages = vec![Message::new("SUCCESS", "{}"); count];
        inqud.deliver_each(messages, service, |delivery| tally.add(&delivery)).await;
        tally
    }

    fn text(tally: &Tally) -> String {
        anstream::adapter::strip_str(&tally.text(None, Duration::from_millis(2_540))).to_string()
    }

    #[tokio::test]
    async fn counts_retries() {
        let fails_once = |number| match number {
            0 => Ok(StatusCode::INTERNAL_SERVER_ERROR),
            _ => Ok(StatusCode::OK),
        };
        let text = text(&tally(2, &[Duration::ZERO], fails_once).await);
        let row = text.lines().nth(1).unwrap().split_whitespace().take(5).collect::<Vec<_>>();
        assert_eq!(row, ["SUCCESS", "3", "1", "2", "0"], "{text}");
        assert!(text.ends_with("\nall acknowledged\n"), "{text}");
    }

    #[tokio::test]
    async fn lists_ten_lost_webhooks() {
        let text = text(&tally(12, &[], |_| Ok(StatusCode::SERVICE_UNAVAILABLE)).await);
        assert_eq!(text.lines().filter(|line| line.starts_with("lost ")).count(), 10, "{text}");
    }

    #[tokio::test]
    async fn lists_ten_reasons_and_how_often_each_occurred() {
        let tally = tally(12, &[], |number| Err(format!("reason {}", number % 11))).await;
        let text = text(&tally);
        let lost = text.lines().filter(|line| line.starts_with("lost ")).collect::<Vec<_>>();
        assert_eq!(lost.len(), 10, "{text}");
        assert_eq!(lost[0], "lost no response: reason 0 (2 times)");
        assert_eq!(lost[1], "lost no response: reason 1");
    }

    #[tokio::test]
    async fn shows_the_rate_of_100_webhooks_or_more() {
        let ok = |_| Ok(StatusCode::OK);
        let shown = text(&tally(100, &[], ok).await);
        assert!(shown.contains("\n100 webhooks in 2.5 s, 39 per second\n"), "{shown}");
        let shown = text(&tally(99, &[], ok).await);
        assert!(!shown.contains("per second"), "{shown}");
    }
}
