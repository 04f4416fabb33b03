//! Deliveries to a server with an inbox that is killed again and again, and what is left of them.
//!
//! ```text
//! cargo run --release --features axum,inbox-sqlite --example inbox_crash             # 20,000 deliveries
//! cargo run --release --features axum,inbox-sqlite --example inbox_crash -- 400 12 64
//! ```
//!
//! The numbers are Requests, of which each is delivered five times, kills with SIGKILL, and
//! connections. Exit code 0 if all that was acknowledged is stored, each effect was done once, and none
//! out of order.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use tokio::process::Command;

#[path = "../tests/support/crash.rs"]
mod crash;

use crash::{BoxError, Size};

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [serve, folder] = &*arguments
        && serve == "serve"
    {
        crash::serve(Path::new(folder)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |at: usize, unless: usize| {
        arguments.get(at).map_or(Ok(unless), |text| text.parse::<usize>())
    };
    let size = Size {
        requests: u64::try_from(number(0, 4000)?)?,
        kills: number(1, 6)?,
        connections: number(2, 64)?,
    };
    let folder = tempfile::tempdir()?;
    let program = env::current_exe()?;
    let began = Instant::now();
    let report = crash::run(size, folder.path(), || {
        let mut command = Command::new(&program);
        command.arg("serve").arg(folder.path());
        command
    })
    .await?;
    println!("{report:#?}\n{:.1?}", began.elapsed());
    println!(
        "{}",
        if report.is_right() { "all as it should be" } else { "NOT all as it should be" }
    );
    Ok(if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
