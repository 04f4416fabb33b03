//! `inbox reprocess`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use inqud_inbox::{Admin, Filter, Key, Reprocessed};
use serde_json::json;
use tokio::time::sleep;

use super::filter::FilterArgs;
use super::parse::{distinct, key};
use crate::chain::chained;
use crate::out::{BAD, Out, Outcome, styled};
use crate::store_args::StoreArgs;

/// How often to try objects again that are being handled, and how long to wait before.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct ReprocessArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// The keys, as listed by `list`.
    #[arg(value_name = "KEY", value_parser = key)]
    keys: Vec<Key>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Reprocesses all notifications that were ever processed and still have a body.
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Changes nothing, and counts what would be requeued.
    #[arg(long, conflicts_with = "keys")]
    dry_run: bool,
}

impl ReprocessArgs {
    pub(super) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        match (self.keys.is_empty(), self.filter.is_empty()) {
            (false, false) => return Err("give either keys or options that choose".into()),
            (true, true) if !self.all => {
                let missing = "nothing is chosen: give keys, options such as --since 24h, or --all";
                return Err(missing.into());
            }
            _ => {}
        }
        let mut unmatched = 0_usize;
        let mut done = if self.keys.is_empty() {
            inbox.reprocess_all(self.filter.filter(), self.dry_run).await.map_err(chained)?
        } else {
            let keys = distinct(&self.keys);
            for key in &keys {
                let page = inbox.list(Filter::new().key(*key), 1).await.map_err(chained)?;
                unmatched = unmatched.saturating_add(usize::from(page.entries.is_empty()));
            }
            inbox.reprocess(keys).await.map_err(chained)?
        };
        for _ in 0..TRIES {
            if self.dry_run || done.busy.is_empty() {
                break;
            }
            sleep(PAUSE).await;
            let busy = std::mem::take(&mut done.busy);
            let more = inbox.reprocess(busy).await.map_err(chained)?;
            done.requeued = done.requeued.saturating_add(more.requeued);
            done.busy = more.busy;
        }
        // Those that match options are chosen only if they were processed.
        let unprocessed = if self.keys.is_empty() { 0 } else { done.unprocessed.len() };
        let is_well =
            done.busy.is_empty() && done.pruned.is_empty() && unprocessed == 0 && unmatched == 0;
        let for_people = || self.text(&done, unprocessed, unmatched);
        let as_json = || {
            json!({
                "requeued": done.requeued, "dry_run": self.dry_run, "busy": texts(&done.busy),
                "pruned": texts(&done.pruned), "unprocessed": unprocessed, "unmatched": unmatched,
            })
        };
        Ok(out.conclude(is_well, for_people, as_json)?)
    }

    fn text(&self, done: &Reprocessed, unprocessed: usize, unmatched: usize) -> String {
        let mut text = if self.dry_run {
            format!("{} would be requeued\n", done.requeued)
        } else {
            format!("{} requeued\n", done.requeued)
        };
        for (count, why) in [
            (done.busy.len(), "being handled: reprocess them again later"),
            (done.pruned.len(), "not requeued: their bodies are deleted"),
            (unprocessed, "not requeued: never processed"),
            (unmatched, "not found: list the keys with `inbox list`"),
        ] {
            if count > 0 {
                _ = writeln!(text, "{}", styled(BAD, format!("{count} {why}")));
            }
        }
        text
    }
}

fn texts(keys: &[Key]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}
