//! Processes again what was processed.

use std::collections::{HashMap, HashSet};

use crate::admin::Admin;
use crate::error::InboxError;
use crate::filter::Filter;
use crate::key::Key;
use crate::replay::{Replayed, Reprocessed};

/// How many numbers are opened in one commit.
const BATCH: usize = 256;

pub(crate) async fn keys<A: Admin + ?Sized>(
    inbox: &A,
    keys: Vec<Key>,
) -> Result<Reprocessed, InboxError> {
    let mut chosen = HashMap::new();
    for key in keys {
        let page = inbox.list(Filter::new().key(key), 1).await?;
        chosen.extend(page.entries.iter().map(|entry| (entry.number, entry.key)));
    }
    let mut all = All::default();
    all.replay(inbox, &chosen, false).await?;
    Ok(all.reprocessed)
}

pub(crate) async fn all<A: Admin + ?Sized>(
    inbox: &A,
    mut filter: Filter,
    dry_run: bool,
) -> Result<Reprocessed, InboxError> {
    (filter.newest_first, filter.with_bodies) = (false, false);
    // Otherwise it would not end while more are processed.
    let newest = inbox.list(Filter::new().newest_first(), 1).await?;
    filter.up_to = newest.entries.first().map(|entry| entry.number);
    let mut all = All::default();
    loop {
        let page = inbox.list(&filter, BATCH).await?;
        let chosen = page.entries.iter().map(|entry| (entry.number, entry.key)).collect();
        all.replay(inbox, &chosen, dry_run).await?;
        if page.next.is_none() {
            return Ok(all.reprocessed);
        }
        filter = filter.after(page.next);
    }
}

#[derive(Default)]
struct All {
    /// What was opened. It may be done again meanwhile, and is not opened twice.
    opened: HashSet<i64>,
    reprocessed: Reprocessed,
}

impl All {
    async fn replay<A: Admin + ?Sized>(
        &mut self,
        inbox: &A,
        chosen: &HashMap<i64, Key>,
        dry_run: bool,
    ) -> Result<(), InboxError> {
        let mut numbers: Vec<_> =
            chosen.keys().copied().filter(|number| !self.opened.contains(number)).collect();
        numbers.sort_unstable();
        for numbers in numbers.chunks(BATCH) {
            let Replayed { opened, busy, pruned, unprocessed } =
                inbox.replay(numbers.to_vec(), dry_run).await?;
            self.opened.extend(opened);
            let keys = |numbers: Vec<i64>| {
                numbers.into_iter().filter_map(|number| chosen.get(&number).copied())
            };
            self.reprocessed.busy.extend(keys(busy));
            self.reprocessed.pruned.extend(keys(pruned));
            self.reprocessed.unprocessed.extend(keys(unprocessed));
        }
        self.reprocessed.requeued = self.opened.len();
        Ok(())
    }
}
