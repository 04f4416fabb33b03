//! `inqud-webhook`: Inqud's webhooks at the command line. It signs, verifies, sends and receives them,
//! and tends an inbox.

mod capture;
#[cfg(feature = "postgres")]
mod database;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod inbox;
mod kinds;
mod listen;
mod out;
mod pretty;
mod reason;
mod secret;
mod send;
mod sign;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::out::{Out, Outcome};

/// Inqud's webhooks at the command line: sign, verify, send and receive them.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
The secret is read from INQUD_WEBHOOK_SECRET, or from the file that --secret-file names. It is never
an argument, for everyone on a machine can read those.

Exit codes:
  0  all is well: the digest is right, every delivery ended as it should
  1  it is not: the digest is wrong, a delivery did not end as it should, a key is of no dead letter
  2  it could not be tried: wrong usage, no secret, a file, an inbox or an address that cannot be used,
     an output that cannot be written
Whoever closes the output early, as `head` does, changes none of them."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Prints JSON: one value, or with `listen` and `send` one on each line, and a last one about them
    /// all. Not for `completions`.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Sign(sign::Sign),
    Verify(verify::Verify),
    Send(send::Send),
    Listen(listen::Listen),
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    Inbox(inbox::InboxCommand),
    /// Tells what is known of each kind of webhook, and how well.
    Kinds,
    /// Prints the completions for a shell.
    Completions {
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.json);
    let outcome = match cli.command {
        Command::Sign(sign) => sign.run(&out),
        Command::Verify(verify) => verify.run(&out),
        Command::Send(send) => on_runtime(send.run(&out)),
        Command::Listen(listen) => on_runtime(listen.run(out)),
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        Command::Inbox(inbox) => on_runtime(inbox.run(&out)),
        Command::Kinds => kinds::run(&out),
        Command::Completions { .. } if cli.json => {
            Err("completions are a script: no --json".into())
        }
        Command::Completions { shell } => completions(shell, &out),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            out::fail(&*error);
            ExitCode::from(2)
        }
    }
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
