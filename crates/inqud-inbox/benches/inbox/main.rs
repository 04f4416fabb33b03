//! What the inbox costs beside its floor: what a plain program does, the statements on the same tables,
//! committed in groups by a plain thread with nothing around it.
//!
//! `cargo bench -p inqud-inbox --bench inbox --all-features`, with `-- report` to write `INBOX.md`, or with
//! `-- --smoke` for a run that only checks that all is stored and processed.
//!
//! *Puts* are calls of the receiver, in process, with webhooks that were verified before. *Consumption*
//! is a runner with a concurrency of 64 whose handler does nothing, or has one effect. Inbox and floor
//! take turns, and each pair of turns gives one ratio; the medians count.
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
    /// Even, so that neither side is first more often.
    rounds: usize,
    /// How many are processed or open before.
    rows: usize,
    /// How many puts a round has, for so many clients.
    puts: [(usize, usize); 3],
    consumed: usize,
}

const FULL: Size = Size {
    rounds: 6,
    rows: 500_000,
    // The last are enough for SQLite to write its log into the file twice at least.
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
    let text = "# The inbox beside its floor\n\n\
        Written by `cargo bench -p inqud-inbox --bench inbox --all-features -- report`. The floor is \
        what a plain\nprogram does: the statements on the same tables in a plain thread or task, with nothing \
        around them. In SQLite it\nwrites the entry of each new id into the index at once; the inbox has the \
        latest 16,384 in memory first, so with\nnothing before it writes none for as many. What a round has \
        put stays where there was something before: 500,000\nrows are 930,000 in the end. Postgres has \
        `shared_buffers` of 1 GB and `max_wal_size` of 4 GB.";
    say(&mut report, text);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (rounds, syncs) = (size.rounds, syncs(if size.rounds > 2 { 300 } else { 10 }));
    let line = format!(
        "Medians of {rounds} rounds of each, in turn. {cores} shared cores; a lone write of 4 KiB and its \
         fdatasync: {syncs:.0}/s."
    );
    say(&mut report, &line);
    report
}

/// How many writes of a page the disk takes in a second when each is waited for.
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
    let columns = "inbox/floor | inbox to nothing | floor | inbox to processed | floor |";

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
    say(report, &format!("| the handler does | before | inbox/s | floor/s | {columns}"));
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

/// Of the inbox to the floor, and of both to what they were before with less in their tables.
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

/// The median.
fn middle<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut all: Vec<_> = rounds.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
}
