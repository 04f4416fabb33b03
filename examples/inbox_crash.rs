//! Kills a server with an inbox repeatedly while it receives deliveries, and checks what is stored.
//!
//! ```text
//! cargo run --release --all-features --example inbox_crash             # 20,000 deliveries
//! cargo run --release --all-features --example inbox_crash -- 400 12 64
//! ```
//!
//! The numbers are: Requests, each of which is delivered five times; kills with SIGKILL; connections. The test runs with
//! SQLite first. If Postgres is installed (Debian's package is `postgresql`), it then runs with a Postgres server of its
//! own, which is killed twice. It exits with 0 if everything that was acknowledged is stored, and each effect happened
//! once and in order.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

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
    println!(
        "{}\n",
        if is_right { "everything as expected" } else { "NOT as expected, see above" }
    );
    Ok(is_right)
}
