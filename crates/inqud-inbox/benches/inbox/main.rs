//! Compares the inbox with its floor: a plain thread or task that runs the same statements on the same
//! tables, with group commit and nothing else.
//!
//! Run `cargo bench -p inqud-inbox --bench inbox --all-features`. With `-- report` it writes `INBOX.md`. With
//! `-- --smoke` it only checks that everything is stored and processed.
//!
//! *Puts* are in-process calls of the receiver with webhooks that were verified before. *Consumption* is a
//! runner with a concurrency of 64 whose handler does nothing or has one effect. Inbox and floor alternate.
//! Each pair of rounds gives one ratio, and the report shows the medians.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../../tests/support/postgres.rs"]
mod server;

mod consumption;
mod engine;
mod ids;
mod postgres;
mod puts;
mod sides;
mod sqlite;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

use self::consumption::consume_round;
use self::engine::Engine;
use self::ids::Ids;
use self::puts::insert_round;
use self::sides::{Before, Sides};

#[derive(Clone, Copy)]
struct Size {
    /// An even number, so that both sides are first equally often.
    rounds: usize,
    /// The number of rows, processed or open, in the tables before a round.
    rows: usize,
    /// Pairs of the number of clients and the number of puts in a round.
    puts: [(usize, usize); 3],
    consumed: usize,
}

const FULL: Size = Size {
    rounds: 6,
    rows: 500_000,
    // With the last, SQLite copies its log into the file at least twice.
    puts: [(1, 1_500), (32, 10_000), (128, 60_000)],
    consumed: 10_000,
};
const SMOKE: Size =
    Size { rounds: 2, rows: 2_000, puts: [(1, 20), (32, 320), (128, 640)], consumed: 500 };

#[tokio::main]
async fn main() {
    let has = |word: &str| std::env::args().any(|it| it == word);
    let size = if has("--smoke") { SMOKE } else { FULL };
    let mut report = head(size);
    compare::<sqlite::Sqlite>(size, &mut report).await;
    compare::<postgres::Postgres>(size, &mut report).await;
    if has("report") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/INBOX.md");
        fs::write(path, report).unwrap();
    }
}

fn say(report: &mut String, line: &str) {
    println!("{line}");
    writeln!(report, "{line}").unwrap();
}

fn head(size: Size) -> String {
    let mut report = String::new();
    let text = "# The inbox and its floor\n\n\
        Written by `cargo bench -p inqud-inbox --bench inbox --all-features -- report`. The floor is a plain \
        thread or\ntask that runs the same statements on the same tables, and nothing else. In SQLite the \
        floor writes each new id into\nthe index at once. The inbox keeps the latest 16,384 in memory first, \
        so with empty tables it writes none of the\nfirst 16,384. If there were rows before, those of each \
        round are kept: 500,000 rows become 930,000 by the end.\nPostgres has `shared_buffers` of 1 GB and \
        `max_wal_size` of 4 GB.\n\nThe column *before* gives the rows in the tables before each round. The ratios are inbox to \
        floor, then inbox and floor each\ncompared with themselves on empty tables, then with themselves on \
        processed rows.\n";
    say(&mut report, text);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (rounds, syncs) = (size.rounds, syncs(if size.rounds > 2 { 300 } else { 10 }));
    let line = format!(
        "Medians of {rounds} alternating rounds of each, on {cores} cores. The disk does {syncs:.0} writes of \
         4 KiB with fdatasync a second."
    );
    say(&mut report, &line);
    report
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

async fn compare<E: Engine>(size: Size, report: &mut String) {
    if !E::is_there().await {
        return;
    }
    let mut ids = Ids(0);
    let mut all = Vec::new();
    for rows in [Before::Nothing, Before::Processed(size.rows), Before::Open(size.rows)] {
        all.push(Sides::<E>::new(rows, &mut ids).await);
    }
    let columns = "inbox/floor | inbox/empty | floor/empty | inbox/processed | floor/processed |";

    say(report, &format!("\n## Durable puts, {}\n", E::NAME));
    say(
        report,
        &format!("| clients | before | inbox/s | p50 | p99 | floor/s | p50 | p99 | {columns}"),
    );
    say(report, &format!("| ---: | --- |{}", " ---: |".repeat(11)));
    for (clients, count) in size.puts {
        let mut rounds = Vec::new();
        for round in 0..size.rounds {
            let mut speeds = Vec::new();
            for sides in &mut all {
                speeds.push(insert_round(sides, round, clients, count, &mut ids).await);
            }
            rounds.push(speeds);
        }
        for (at, sides) in all.iter().enumerate() {
            let mut line = format!("| {clients} | {} |", sides.before);
            for side in [0, 1] {
                let rate = middle(&rounds, |it| it[at][side].rate);
                let p50 = middle(&rounds, |it| it[at][side].p50.as_secs_f64() * 1e3);
                let p99 = middle(&rounds, |it| it[at][side].p99.as_secs_f64() * 1e3);
                write!(line, " {rate:.0} | {p50:.2} ms | {p99:.2} ms |").unwrap();
            }
            line.push_str(&ratios(&rounds, at, |speeds| speeds.each_ref().map(|it| it.rate)));
            say(report, &line);
        }
    }

    say(report, &format!("\n## Consumption, {}\n", E::NAME));
    say(report, &format!("| handler | before | inbox/s | floor/s | {columns}"));
    say(report, &format!("| --- | --- |{}", " ---: |".repeat(7)));
    for (what, has_effect) in [("nothing", false), ("one effect", true)] {
        let mut rounds = Vec::new();
        for round in 0..size.rounds {
            let mut rates = Vec::new();
            for sides in &mut all {
                rates.push(consume_round(sides, round, size.consumed, has_effect, &mut ids).await);
            }
            rounds.push(rates);
        }
        for (at, sides) in all.iter().enumerate() {
            let [inbox, floor] = [0, 1].map(|side| middle(&rounds, |round| round[at][side]));
            let mut line = format!("| {what} | {} | {inbox:.0} | {floor:.0} |", sides.before);
            line.push_str(&ratios(&rounds, at, |rates| *rates));
            say(report, &line);
        }
    }
}

/// Formats the ratio of inbox to floor, and of each to itself with fewer rows in its tables.
fn ratios<T>(rounds: &[Vec<T>], at: usize, rates: impl Fn(&T) -> [f64; 2]) -> String {
    let ratio = |one: &dyn Fn(&Vec<T>) -> f64, other: &dyn Fn(&Vec<T>) -> f64| {
        format!(" {:.2} |", middle(rounds, |round| one(round) / other(round)))
    };
    let rate = |at: usize, side: usize| {
        let rates = &rates;
        move |round: &Vec<T>| rates(&round[at])[side]
    };
    let mut line = ratio(&rate(at, 0), &rate(at, 1));
    for less in [0, 1] {
        for side in [0, 1] {
            line += &if less < at {
                ratio(&rate(at, side), &rate(less, side))
            } else {
                " |".to_owned()
            };
        }
    }
    line
}

/// Returns the median.
fn middle<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut all: Vec<_> = rounds.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
}
