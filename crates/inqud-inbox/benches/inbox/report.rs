//! Alternating rounds, and the tables that show them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Size;

/// Runs each case once in every round: forwards in even rounds, backwards in odd ones. Returns the results by
/// case, then by round.
pub(crate) async fn alternate<C: Copy, R>(
    rounds: usize,
    cases: &[C],
    run: impl AsyncFn(C) -> R,
) -> Vec<Vec<R>> {
    let mut all: Vec<_> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for at in 0..cases.len() {
            let at = if round.is_multiple_of(2) { at } else { cases.len() - 1 - at };
            all[at].push(run(cases[at]).await);
        }
    }
    all
}

/// Returns the median.
pub(crate) fn median<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    middle(rounds.iter().map(figure).collect())
}

/// Returns the median of the ratios of the rounds of two cases.
pub(crate) fn ratio<T>(these: &[T], those: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    middle(these.iter().zip(those).map(|(this, that)| figure(this) / figure(that)).collect())
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
}

/// The throughput of a number of clients, and how long they waited.
#[derive(Clone, Copy)]
pub(crate) struct Speed {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Speed {
    pub(crate) fn new(took: Duration, mut times: Vec<Duration>) -> Self {
        times.sort();
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        let (p50, p99) = (ms(times.len() / 2), ms(times.len() * 99 / 100));
        Self { rate: times.len() as f64 / took.as_secs_f64(), p50, p99 }
    }

    /// Returns three cells with the medians.
    pub(crate) fn cells(rounds: &[Self]) -> String {
        let [rate, p50, p99] = [
            median(rounds, |it| it.rate),
            median(rounds, |it| it.p50),
            median(rounds, |it| it.p99),
        ];
        format!("{rate:.0} | {p50:.2} ms | {p99:.2} ms")
    }
}

/// The text that was printed so far.
pub(crate) struct Report(String);

impl Report {
    pub(crate) fn new(size: Size) -> Self {
        let mut report = Self(String::new());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let Size { rounds, rows, .. } = size;
        let syncs = syncs(if rounds > 1 { 300 } else { 10 });
        report.say(include_str!("head.md"));
        report.say(&format!(
            "Commit {}. Medians of {rounds} rounds, and ratios are medians of the ratios of each round, on {cores} \
             cores.\nThe disk does {syncs:.0} writes of 4 KiB with fdatasync a second. *Before* is the number of rows in \
             the tables\nbefore a round: none, or {rows} and what the rounds add.",
            commit()
        ));
        report
    }

    pub(crate) fn say(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.0, "{line}").unwrap();
    }

    /// Begins a table. The columns from `numbers` on are numbers.
    pub(crate) fn table(&mut self, title: &str, columns: &[&str], numbers: usize) {
        let aligned = |at: usize| if at < numbers { "---" } else { "---:" };
        let aligned: Vec<_> = (0..columns.len()).map(aligned).collect();
        self.say(&format!("\n## {title}\n\n| {} |", columns.join(" | ")));
        self.say(&format!("| {} |", aligned.join(" | ")));
    }

    pub(crate) fn write(&self) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/INBOX.md");
        fs::write(path, &self.0).unwrap();
    }
}

fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    let name = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// Measures how many synced writes of a page the disk does in a second.
fn syncs(count: usize) -> f64 {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let write = |file: &mut File| {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    };
    write(&mut file);
    let began = Instant::now();
    for _ in 0..count {
        write(&mut file);
    }
    count as f64 / began.elapsed().as_secs_f64()
}
