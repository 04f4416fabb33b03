//! The same job, on the same body, done by this crate and by what a merchant would use instead.
//!
//! ```text
//! cargo run --release -- report     # measures until two runs agree; writes ../RESULTS.md and ../plots
//! cargo run --release -- trial      # the same with less effort, into target/trial
//! cargo run -- --smoke              # only checks that it runs and that the answers are right
//! ```
//!
//! Needs Linux, two cores and `taskset`; without `python3`, or without `node` and `npm`, those rivals
//! are left out.

mod agreement;
mod connections;
mod contender;
mod effort;
mod end_to_end;
mod findings;
mod fit;
mod flood;
mod foreign;
mod in_process;
mod load;
mod machine;
mod plot;
mod process;
mod ratios;
mod report;
mod rounds;
mod sample;
mod stalled;

use std::io;

use std::path::Path;

use crate::agreement::Runs;
use crate::effort::{FULL, SMOKE, TRIAL};
use crate::in_process::InProcess;

/// A server and a client with 1,024 connections, and some more files.
const FILES: u64 = 4096;

fn main() -> io::Result<()> {
    rlimit::increase_nofile_limit(FILES)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", name, limit] => process::serve(name, limit),
        ["in-process", start, rounds] => {
            print!("{}", InProcess::start(start, rounds)?);
            Ok(())
        }
        ["report" | "trial"] if cfg!(debug_assertions) => {
            Err(io::Error::other("measure with --release"))
        }
        ["--smoke"] if !process::can_be_apart() => {
            println!("left out: it needs Linux, two cores and taskset");
            Ok(())
        }
        ["report"] => {
            let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            report::write(&Runs::gather(&FULL)?, &benches)
        }
        ["trial"] => report::write(&Runs::gather(&TRIAL)?, &foreign::target()?.join("trial")),
        ["--smoke"] => {
            let runs = Runs::gather(&SMOKE)?;
            let (text, plots) = (report::text(&runs), report::plots(&runs.last));
            println!("{} lines and {} plots, not written", text.lines().count(), plots.len());
            Ok(())
        }
        _ => Err(io::Error::other("report, trial, or --smoke")),
    }
}
