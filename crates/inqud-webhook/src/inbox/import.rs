//! `inbox import`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use inqud_inbox::{Admin, Inserted, Record};
use serde_json::json;

use crate::chain::{BoxError, chained};
use crate::out::{Out, Outcome};
use crate::store_args::StoreArgs;
use crate::stored_kind::Kind;

/// The largest body. Inqud's are below 256 KiB.
const MOST: u64 = 1024 * 1024;

#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// The kind under which the inbox stores them.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The tenant that they belong to.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Files with one notification each, as JSON. `-` is standard input.
    ///
    /// Nothing verifies them: take them only from Inqud's API or from a backup.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl ImportArgs {
    pub(super) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        // All are read before any is stored.
        let records: Result<Vec<_>, BoxError> =
            self.files.iter().map(|it| self.record(it)).collect();
        let answers = inbox.import(records?).await.map_err(chained)?;
        let count = |wanted: &[Inserted]| answers.iter().filter(|it| wanted.contains(it)).count();
        let (new, review) = (count(&[Inserted::New]), count(&[Inserted::Review]));
        let known = count(&[Inserted::Duplicate, Inserted::DuplicateDiffers]);
        let for_people = || {
            let kept =
                if review > 0 { format!(", {review} kept for review") } else { String::new() };
            format!("{new} imported, {known} known{kept}\n")
        };
        let as_json = || json!({ "imported": new, "known": known, "review": review });
        Ok(out.conclude(true, for_people, as_json)?)
    }

    fn record(&self, file: &PathBuf) -> Result<Record, BoxError> {
        let read = || {
            let mut body = Vec::new();
            if file.as_os_str() == "-" {
                io::stdin().lock().take(MOST.saturating_add(1)).read_to_end(&mut body)?;
            } else {
                File::open(file)?.take(MOST.saturating_add(1)).read_to_end(&mut body)?;
            }
            Ok::<_, io::Error>(body)
        };
        let named = |error: String| format!("{}: {error}", file.display());
        let body = read().map_err(|error| named(error.to_string()))?;
        if u64::try_from(body.len()).is_ok_and(|len| len > MOST) {
            return Err(named("is longer than 1 MiB".to_owned()).into());
        }
        let record = self.kind.record(body).map_err(|rejection| {
            let at = rejection.field_path().map(|path| format!(": at {path}"));
            named(format!("{rejection}{}", at.unwrap_or_default()))
        })?;
        Ok(match &self.tenant {
            Some(tenant) => record.of_tenant(tenant),
            None => record,
        })
    }
}
