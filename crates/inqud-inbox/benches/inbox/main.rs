//! Compares the inbox with hand-written programs on the same tables.
//!
//! Run `cargo bench -p inqud-inbox --bench inbox --all-features`. With `-- report` it writes `INBOX.md`. With
//! `-- --smoke` it only checks that everything is stored and processed. Words choose parts: `puts`,
//! `consumption`, `http`, `sqlite`, `postgres`. `--rows`, `--rounds` and `--clients`, each with a number, change how
//! many rows the larger tables have, how many rounds there are, and choose one number of clients or handlers:
//!
//! ```text
//! cargo bench -p inqud-inbox --bench inbox --all-features -- sqlite consumption --rows 200000 --rounds 1 --clients 64
//! ```
//!
//! All of it takes more than half an hour. A part of one engine takes a few minutes.
//!
//! *Puts* are in-process calls of the receiver with webhooks that were verified before. *Consumption* is a
//! runner. *HTTP* is a server, with a client in another process. `head.md` says what each floor does.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../../tests/support/postgres.rs"]
mod server;

mod client;
mod consumption;
mod engine;
mod http;
mod ids;
mod postgres;
mod puts;
mod report;
mod sqlite;

use std::env;
use std::time::Instant;

use self::engine::{Before, Engine, Places};
use self::report::Report;

#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    /// The number of rows in the larger tables before the rounds.
    rows: usize,
    before: &'static [Before],
    /// The only number of clients or handlers, if there is one.
    clients: Option<usize>,
    /// Pairs of the number of clients and the number of puts in a round.
    puts: &'static [(usize, usize)],
    /// Pairs of the concurrency and the number of notifications in a round.
    consumed: &'static [(usize, usize)],
    /// Pairs of the number of clients and the number of requests in a round.
    http: &'static [(usize, usize)],
}

const FULL: Size = Size {
    rounds: 4,
    rows: 1_000_000,
    before: &[Before::Nothing, Before::Rows],
    clients: None,
    // With the last, SQLite copies its log into the file at least twice.
    puts: &[(1, 1_500), (32, 10_000), (128, 60_000)],
    consumed: &[(1, 1_500), (16, 8_000), (64, 16_000)],
    http: &[(1, 1_500), (32, 15_000), (128, 30_000)],
};
const SMOKE: Size = Size {
    rounds: 1,
    rows: 400,
    before: &[Before::Rows],
    clients: None,
    puts: &[(8, 160)],
    consumed: &[(8, 160)],
    http: &[(8, 160)],
};

impl Size {
    fn of(arguments: &[String]) -> Self {
        let number = |name: &str| {
            let at = arguments.iter().position(|it| it == name)?;
            let number = arguments.get(at + 1).and_then(|it| it.parse::<usize>().ok());
            Some(number.unwrap_or_else(|| panic!("{name} needs a number")))
        };
        let size = if arguments.iter().any(|it| it == "--smoke") { SMOKE } else { FULL };
        Self {
            rounds: number("--rounds").unwrap_or(size.rounds),
            rows: number("--rows").unwrap_or(size.rows),
            clients: number("--clients"),
            ..size
        }
    }

    /// Returns the chosen ones of such pairs.
    fn chosen(&self, pairs: &'static [(usize, usize)]) -> impl Iterator<Item = (usize, usize)> {
        let clients = self.clients;
        pairs.iter().copied().filter(move |it| clients.is_none_or(|clients| clients == it.0))
    }
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let Some(("client", arguments)) = arguments.split_first().map(|(it, rest)| (&**it, rest)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(client::send(arguments));
    }
    tokio::runtime::Runtime::new().unwrap().block_on(compare(&arguments));
}

async fn compare(arguments: &[String]) {
    let has = |word: &str| arguments.iter().any(|it| it == word);
    let size = Size::of(arguments);
    let mut report = Report::new(size);
    if has("sqlite") || !has("postgres") {
        compare_engine::<sqlite::Sqlite>(size, &has, &mut report).await;
    }
    if has("postgres") || !has("sqlite") {
        compare_engine::<postgres::Postgres>(size, &has, &mut report).await;
    }
    if has("report") {
        report.write();
    }
}

async fn compare_engine<E: Engine>(size: Size, has: &dyn Fn(&str) -> bool, report: &mut Report) {
    if !E::is_there().await {
        return;
    }
    let began = Instant::now();
    let took = |what: &str| eprintln!("{}, {what}: {:.0?}", E::NAME, began.elapsed());
    let places = Places::<E>::new(size.rows).await;
    took("filled");
    let is_whole = !["puts", "consumption", "http"].iter().any(|it| has(it));
    if is_whole || has("puts") {
        puts::compare(&places, size, report).await;
        took("puts");
    }
    if is_whole || has("consumption") {
        consumption::compare(&places, size, report).await;
        took("consumption");
    }
    if is_whole || has("http") {
        http::compare(&places, size, report).await;
        took("HTTP");
    }
    places.remove().await;
}
