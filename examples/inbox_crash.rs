//! Deliveries to a server with an inbox that is killed again and again, and what is left of them.
//!
//! ```text
//! cargo run --release --all-features --example inbox_crash             # 20,000 deliveries
//! cargo run --release --all-features --example inbox_crash -- 400 12 64
//! ```
//!
//! The numbers are Requests, of which each is delivered five times, kills with SIGKILL, and
//! connections. Then also on a Postgres server of its own, which is killed
//! twice; it needs its programs (Debian's package is `postgresql`). Exit code 0 if all that was
//! acknowledged is stored, each effect was done once, and none out of order.
#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use tokio::process::Command;

#[path = "../crates/inqud-inbox/tests/support/crash.rs"]
mod crash;
#[path = "../crates/inqud-inbox/tests/support/postgres.rs"]
mod postgres;

use crash::{BoxError, Place, Size};

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if let [serve, place] = &*arguments
        && serve == "serve"
    {
        crash::serve(place).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |at: usize, unless: usize| {
        let text = arguments.get(at).and_then(|text| text.to_str());
        text.map_or(Ok(unless), str::parse::<usize>)
    };
    let size = Size {
        requests: u64::try_from(number(0, 4000)?)?,
        kills: number(1, 6)?,
        connections: number(2, 64)?,
    };
    let folder = tempfile::tempdir()?;
    println!("SQLite");
    let mut is_right = crash_in(&Place::Folder(folder.path().to_owned()), size).await?;
    if let Some(server) = postgres::Server::start() {
        println!("Postgres");
        is_right &= crash_in(&Place::Server(server), size).await?;
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn crash_in(place: &Place, size: Size) -> Result<bool, BoxError> {
    let program = env::current_exe()?;
    let began = Instant::now();
    let report = crash::run(size, place, || {
        let mut command = Command::new(&program);
        command.arg("serve").arg(place.argument());
        command
    })
    .await?;
    let is_right = report.is_right();
    println!("{report:#?}\n{:.1?}", began.elapsed());
    println!("{}\n", if is_right { "all as it should be" } else { "NOT all as it should be" });
    Ok(is_right)
}
