//! The command `inqud-webhook`: signs, verifies, sends and receives Inqud's webhooks, and maintains an inbox.

#![forbid(unsafe_code)]

#[cfg(feature = "sqlite")]
mod backup;
mod bind;
mod caller;
mod capture;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod chain;
#[cfg(feature = "postgres")]
mod database;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod erase;
mod filter;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod inbox;
mod kinds;
mod listen;
mod out;
#[cfg(feature = "postgres")]
mod parameters;
mod pretty;
mod reason;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod reconcile;
mod record;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod rejected;
mod replay;
mod secret;
mod send;
mod sign;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod store_args;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod stored_kind;
mod summary;
mod target;
#[cfg(feature = "postgres")]
mod tls;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::out::{Out, Outcome};

/// Signs, verifies, sends and receives Inqud's webhooks.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
The secret is read from INQUD_WEBHOOK_SECRET or from --secret-file. It is never an argument, because
every user of a machine can read arguments.

Exit codes:
  0  success: the digest matches, or every delivery had the expected result
  1  failure: the digest does not match, a delivery had another result, or a key was not found
  2  error: wrong usage, no secret, or a file, inbox, address or output that cannot be used
An error is a line on standard error. With --json it is an object: {\"error\": \"...\"}.
If the reader of the output closes it early, as `head` does, the exit code stays the same."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Prints JSON: one value, or with `listen`, `send` and `replay` one line for each delivery and a last
    /// line with the totals. Errors are JSON too, on standard error. Not available for `completions`.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Sign(sign::Sign),
    Verify(verify::Verify),
    Send(Box<send::Send>),
    Listen(Box<listen::Listen>),
    Replay(Box<replay::Replay>),
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    Inbox(inbox::InboxCommand),
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    Reconcile(reconcile::Reconcile),
    /// Lists what is known about each kind of webhook, and how well it is known.
    Kinds,
    /// Prints a completion script for a shell.
    Completions {
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.json;
    let out = Out::new(cli.json);
    let outcome = match cli.command {
        Command::Sign(sign) => sign.run(&out),
        Command::Verify(verify) => verify.run(&out),
        Command::Send(send) => on_runtime(send.run(&out)),
        Command::Listen(listen) => on_runtime(listen.run(out)),
        Command::Replay(replay) => on_runtime(replay.run(&out)),
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        Command::Inbox(inbox) => on_runtime(inbox.run(&out)),
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        Command::Reconcile(reconcile) => on_runtime(reconcile.run(&out)),
        Command::Kinds => kinds::run(&out),
        Command::Completions { .. } if cli.json => {
            Err("completions are a shell script: remove --json".into())
        }
        Command::Completions { shell } => completions(shell, &out),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            out::fail(&error.to_string(), json);
            ExitCode::from(2)
        }
    }
}

/// Prints why the arguments cannot be used, or the help or version that they ask for.
fn misused(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().any(|argument| argument == "--json");
    if !is_json || !error.use_stderr() {
        _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    // The first paragraph says what is wrong. The usage and a hint follow.
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    out::fail(&text.split_whitespace().collect::<Vec<_>>().join(" "), true);
    ExitCode::from(2)
}

fn on_runtime(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn completions(shell: Shell, out: &Out) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inqud-webhook", &mut script);
    match out.print_as_is(&String::from_utf8(script)?) {
        Err(error) if !out::is_broken_pipe(&error) => Err(error.into()),
        _ => Ok(true),
    }
}
