use std::path::PathBuf;

use clap::Args;
use inqud_inbox::Inbox;
use serde_json::json;

use crate::chain::error_chain;
use crate::out::{Out, Outcome};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The SQLite file of the inbox.
    #[arg(long, value_name = "FILE")]
    sqlite: PathBuf,
    /// The file to write. It must not exist.
    #[arg(value_name = "TO")]
    to: PathBuf,
}

impl BackupArgs {
    pub(crate) async fn run(&self, out: &Out) -> Outcome {
        let Self { sqlite, to } = self;
        let attached = Inbox::attach(sqlite)
            .map_err(|error| format!("{}: {}", sqlite.display(), error_chain(&error)))?;
        let done = attached.back_up(to).await;
        done.map_err(|error| format!("{}: {}", to.display(), error_chain(&error)))?;
        let bytes = std::fs::metadata(to)?.len();
        let for_people = || format!("{} bytes written to {}\n", bytes, to.display());
        let as_json = || json!({ "backup": to.display().to_string(), "bytes": bytes });
        Ok(out.conclude(true, for_people, as_json)?)
    }
}
