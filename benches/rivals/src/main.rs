//! The same job, on the same body, done by this crate and by what a merchant would use instead.
//!
//! ```text
//! cargo run --release -- report     # measures all of it; writes ../RESULTS.md and ../plots
//! cargo run -- --smoke              # only checks that it runs and that the answers are right
//! ```
//!
//! Needs Linux, two cores and `taskset`; without `python3`, or without `node` and `npm`, those rivals
//! are left out.

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
mod report;
mod rounds;
mod sample;
mod stalled;
mod workers;

use std::io;

use crate::effort::{FULL, SMOKE};
use crate::findings::Findings;

/// A server and a client with 1,024 connections, and some more files.
const FILES: u64 = 4096;

fn main() -> io::Result<()> {
    rlimit::increase_nofile_limit(FILES)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", name, limit] => process::serve(name, limit),
        ["report"] if cfg!(debug_assertions) => Err(io::Error::other("measure with --release")),
        ["--smoke"] if !process::can_be_apart() => {
            println!("left out: it needs Linux, two cores and taskset");
            Ok(())
        }
        ["report"] => report::write(&Findings::gather(&FULL)?),
        ["--smoke"] => {
            let findings = Findings::gather(&SMOKE)?;
            let (text, plots) = (report::text(&findings), report::plots(&findings));
            println!("{} lines and {} plots, not written", text.lines().count(), plots.len());
            Ok(())
        }
        _ => Err(io::Error::other("report, or --smoke")),
    }
}
