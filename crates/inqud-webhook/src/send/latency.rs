use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// How long responses took, in constant memory: rounded down by at most 2 %.
#[derive(Default)]
pub(super) struct Latency {
    /// The number of responses for each rounded time, in microseconds.
    counts: BTreeMap<u64, u64>,
    total: u64,
    max: Duration,
}

impl Latency {
    pub(super) fn add(&mut self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        // Keeps the seven leading bits.
        let shift = micros.max(1).ilog2().saturating_sub(6);
        let count = self.counts.entry(micros >> shift << shift).or_default();
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.max = self.max.max(elapsed);
    }

    /// The time within which this share of the responses came. `None` if there were none.
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = u128::from(self.total).saturating_mul(percent.into()).div_ceil(100);
        let mut seen = 0_u128;
        self.counts.iter().find_map(|(micros, count)| {
            seen = seen.saturating_add((*count).into());
            (seen >= rank).then(|| Duration::from_micros(*micros))
        })
    }

    /// A line of text, or none if nothing responded.
    pub(super) fn text(&self) -> String {
        let Some(median) = self.percentile(50) else { return String::new() };
        let mut text = format!("latency: median {}", millis(median));
        for percent in [95, 99] {
            if let Some(time) = self.percentile(percent) {
                _ = write!(text, ", {percent} % {}", millis(time));
            }
        }
        _ = writeln!(text, ", maximum {}", millis(self.max));
        text
    }

    pub(super) fn json(&self) -> Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).ok();
        let of = |percent| self.percentile(percent).and_then(micros);
        let max = micros(self.max).filter(|_| self.total > 0);
        json!({ "p50_us": of(50), "p95_us": of(95), "p99_us": of(99), "max_us": max })
    }
}

/// Such as `12.3 ms`.
fn millis(time: Duration) -> String {
    let tenths = time.as_micros() / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latency;

    #[test]
    fn percentiles_are_within_two_percent() {
        let mut latency = Latency::default();
        assert_eq!(latency.text(), "");
        assert!(latency.json().as_object().unwrap().values().all(serde_json::Value::is_null));
        for millis in (1..=1000).rev() {
            latency.add(Duration::from_millis(millis));
        }
        for percent in [1, 50, 95, 99, 100] {
            let found = latency.percentile(percent).unwrap().as_micros();
            let exact = u128::from(percent) * 10_000;
            assert!(found <= exact && found * 50 >= exact * 49, "{percent} %: {found}");
        }
        assert!(latency.text().ends_with(", maximum 1000.0 ms\n"), "{}", latency.text());
        latency.add(Duration::MAX);
        assert!(latency.counts.len() < 700);
    }
}
