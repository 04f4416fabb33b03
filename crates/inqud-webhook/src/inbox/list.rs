//! `inbox list`, `inbox show`, and the lists of one state.

use std::fmt::Write as _;

use clap::Args;
use inqud_inbox::{Admin, Cursor, Entry, Filter, Key};
use serde_json::json;

use super::entries;
use super::filter::FilterArgs;
use super::parse::key;
use crate::chain::{BoxError, chained};
use crate::out::{BAD, Out, Outcome, styled};
use crate::store_args::StoreArgs;

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Maximum number of entries to list.
    #[arg(long, value_name = "N", default_value = "20")]
    limit: usize,
    /// Continues a list: the cursor that the page before printed.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<Cursor>,
    /// Also shows the bodies, which contain personal data.
    #[arg(long)]
    bodies: bool,
}

#[derive(Args)]
pub(super) struct FindArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Lists the newest first.
    #[arg(long)]
    newest: bool,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// The key, as listed by `list`.
    #[arg(value_name = "KEY", value_parser = key)]
    key: Key,
}

impl ListArgs {
    pub(super) async fn run(
        &self,
        name: &str,
        filter: impl Into<Filter>,
        inbox: &impl Admin,
        out: &Out,
    ) -> Outcome {
        let stats = inbox.stats().await.map_err(chained)?;
        let all = match name {
            "dead" => Some(stats.dead()),
            "review" => Some(stats.review()),
            "skipped" => Some(stats.skipped()),
            _ => None,
        };
        let (entries, next) = self.page(filter.into(), inbox).await?;
        let shown = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        // What an earlier page showed is not missing.
        let all = all.filter(|_| self.cursor.is_none());
        let what = if name == "dead" { "dead letters" } else { name };
        let last = match all {
            Some(all) if next.is_some() => {
                format!("{all} {what}, {} not shown", all.saturating_sub(shown))
            }
            Some(_) => format!("{shown} {what}"),
            None => format!("{shown} {what} shown"),
        };
        let for_people = || self.text(&entries, &last, next);
        let as_json = || {
            let count = all.unwrap_or(shown);
            json!({ name: count, "entries": self.json(&entries), "next": text_of(next) })
        };
        Ok(out.conclude(true, for_people, as_json)?)
    }

    /// Reads pages until there are enough entries or no more.
    async fn page(
        &self,
        mut filter: Filter,
        inbox: &impl Admin,
    ) -> Result<(Vec<Entry>, Option<Cursor>), BoxError> {
        if self.bodies {
            filter = filter.with_bodies();
        }
        let (mut entries, mut cursor) = (Vec::new(), self.cursor);
        loop {
            let room = self.limit.saturating_sub(entries.len());
            let page = inbox.list(filter.clone().after(cursor), room).await.map_err(chained)?;
            entries.extend(page.entries);
            cursor = page.next;
            if cursor.is_none() || entries.len() >= self.limit {
                return Ok((entries, cursor));
            }
        }
    }

    fn text(&self, entries: &[Entry], last: &str, next: Option<Cursor>) -> String {
        let mut text = entries::table(entries, self.bodies);
        _ = match next {
            Some(next) => writeln!(text, "{last}: add --cursor {next} for more"),
            None => writeln!(text, "{last}"),
        };
        text
    }

    fn json(&self, entries: &[Entry]) -> Vec<serde_json::Value> {
        entries.iter().map(|entry| entries::json(entry, self.bodies)).collect()
    }
}

impl FindArgs {
    pub(super) fn store(&self) -> &StoreArgs {
        &self.list.store
    }

    pub(super) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let filter = self.filter.filter();
        let filter = if self.newest { filter.newest_first() } else { filter };
        let (entries, next) = self.list.page(filter, inbox).await?;
        let last = match entries.len() {
            0 => "no notifications match".to_owned(),
            count => format!("{count} shown"),
        };
        let for_people = || self.list.text(&entries, &last, next);
        let as_json = || json!({ "entries": self.list.json(&entries), "next": text_of(next) });
        Ok(out.conclude(!entries.is_empty(), for_people, as_json)?)
    }
}

impl ShowArgs {
    pub(super) async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let entry = inbox.show(self.key).await.map_err(chained)?;
        let for_people = || match &entry {
            Some(entry) => entries::details(entry),
            None => format!("{}\n", styled(BAD, "no notification has this key")),
        };
        let as_json = || entry.as_ref().map(|entry| entries::json(entry, true)).into();
        Ok(out.conclude(entry.is_some(), for_people, as_json)?)
    }
}

fn text_of(cursor: Option<Cursor>) -> Option<String> {
    cursor.map(|cursor| cursor.to_string())
}
