use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::entry::Entry;
use crate::erase::{Erase, ErasedObject, Of};
use crate::error::InboxError;
use crate::filter::{Filter, Page};
use crate::inserted::Inserted;
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::{Replayed, Reprocessed};
use crate::sealed::Sealed;
use crate::state::State;
use crate::stats::Stats;
use crate::sweep::{Sweep, SweptBatch};

/// What an operator does with an inbox: look at it, and redrive, discard or prune what it holds.
///
/// Every [`Store`](crate::Store) implements it, and so does [`Attached`](crate::Attached), which opens
/// the file of a running server. Write your tools over `impl Admin`, and they work with all of them.
/// In the process that owns the inbox you need no trait: [`Inbox`](crate::Inbox#operations) has these
/// methods itself. It also sets the gauges and wakes its runners.
///
/// The trait is sealed: only types of this crate implement it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use inqud_inbox::{Admin, InboxError};
///
/// /// Requeues the dead letters of one kind, and deletes bodies that are older than 30 days.
/// async fn nightly(inbox: &impl Admin) -> Result<usize, InboxError> {
///     let dead = inbox.dead(1000).await?;
///     let requests = dead.iter().filter(|entry| entry.kind == "request");
///     let redriven = inbox.redrive(requests.map(|entry| entry.key)).await?;
///     inbox.prune(Duration::from_secs(30 * 24 * 3600), 10_000).await?;
///     Ok(redriven)
/// }
/// # let inbox = inqud_inbox::Inbox::memory();
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # assert_eq!(runtime.block_on(nightly(inbox.store())).unwrap(), 0);
/// ```
///
/// # Errors
///
/// Each method fails with [`Closed`](crate::InboxErrorKind::Closed) after the inbox was closed, and with
/// [`Store`](crate::InboxErrorKind::Store) if the store fails.
pub trait Admin: Sealed + Sync {
    /// Counts the notifications of each kind by their state.
    fn stats(&self) -> impl Future<Output = Result<Stats, InboxError>> + Send;

    /// Lists the kinds that have a backlog, and that no runner of any process has claimed for `since`.
    fn unclaimed(
        &self,
        since: Duration,
    ) -> impl Future<Output = Result<Vec<String>, InboxError>> + Send;

    /// Lists up to `limit` notifications that match a [`Filter`], the oldest first unless it says otherwise.
    fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> impl Future<Output = Result<Page, InboxError>> + Send;

    /// Returns a notification with its body, which holds personal data.
    ///
    /// It searches an index of all notifications, so it takes longer in a large inbox.
    fn show(&self, key: Key) -> impl Future<Output = Result<Option<Entry>, InboxError>> + Send {
        let filter = Filter::new().key(key).with_bodies();
        async move { Ok(self.list(filter, 1).await?.entries.pop()) }
    }

    /// Lists up to `limit` dead letters, the oldest first.
    fn dead(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        list_all(self, State::Dead, limit)
    }

    /// Lists up to `limit` notifications that are kept for [review](tower_inqud::Verdict::Review), the oldest first.
    fn review(&self, limit: usize) -> impl Future<Output = Result<Vec<Entry>, InboxError>> + Send {
        list_all(self, State::Review, limit)
    }

    /// Requeues dead letters and reviews, and resets their attempt counts. Returns how many it found.
    ///
    /// See [`Inbox::redrive`](crate::Inbox::redrive) for what becomes of them.
    fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Marks dead letters and reviews as skipped, so that they are never processed. Returns how many it
    /// found.
    ///
    /// This cannot be undone. Their keys stay, and [`prune`](Self::prune) deletes their bodies.
    fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Deletes the bodies of up to `limit` notifications that were processed or skipped more than `age`
    /// ago. Returns how many it deleted: call it again until that is less than `limit`.
    ///
    /// Their keys stay, because duplicates are detected by them.
    fn prune(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Processes notifications again that were processed before, and those about the same objects that were processed
    /// after them.
    ///
    /// See [`Inbox::reprocess`](crate::Inbox::reprocess) for how.
    fn reprocess(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> impl Future<Output = Result<Reprocessed, InboxError>> + Send {
        let keys: Vec<_> = keys.into_iter().collect();
        reprocess_keys(self, keys)
    }

    /// Processes all notifications again that match a filter and were processed before, each once.
    ///
    /// With `dry_run`, it only counts what it would requeue.
    fn reprocess_all(
        &self,
        filter: impl Into<Filter> + Send,
        dry_run: bool,
    ) -> impl Future<Output = Result<Reprocessed, InboxError>> + Send {
        let filter = filter.into();
        reprocess_all(self, filter, dry_run)
    }

    /// Opens what was processed with these numbers, and what was processed after it of the same objects. With `dry_run`,
    /// it changes nothing and answers the same.
    #[doc(hidden)]
    fn replay(
        &self,
        numbers: Vec<i64>,
        dry_run: bool,
    ) -> impl Future<Output = Result<Replayed, InboxError>> + Send;

    /// Stores notifications that were fetched elsewhere, as a receiver stores those that are delivered: with the same
    /// identity and order, so that one which was delivered is a duplicate. Their [`Source`](crate::Source) is `Fetched`.
    ///
    /// Make the records with [`Record::decode`].
    fn import(
        &self,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Vec<Inserted>, InboxError>> + Send;

    /// Deletes the bodies, errors and order ids of all notifications about an object or an order. Returns how many
    /// notifications it found.
    ///
    /// See [`Inbox::erase`](crate::Inbox::erase).
    fn erase(&self, erase: Erase) -> impl Future<Output = Result<usize, InboxError>> + Send {
        erase_all(self, erase)
    }

    /// Lists the objects of which a notification has this order id.
    #[doc(hidden)]
    fn objects_of_order(
        &self,
        order_id: String,
    ) -> impl Future<Output = Result<Vec<ErasedObject>, InboxError>> + Send;

    /// Erases one object.
    #[doc(hidden)]
    fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> impl Future<Output = Result<usize, InboxError>> + Send;

    /// Lists up to `limit` rejected calls of a [`RejectionLog`](crate::RejectionLog), the newest first.
    fn rejections(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LoggedRejection>, InboxError>> + Send;

    /// A part of a [`Retention`](crate::Retention), in one commit.
    #[doc(hidden)]
    fn sweep_batch(
        &self,
        sweep: Sweep,
        limit: usize,
    ) -> impl Future<Output = Result<SweptBatch, InboxError>> + Send;
}

/// Lists until there are enough, or no more.
async fn list_all<A: Admin + ?Sized>(
    inbox: &A,
    filter: impl Into<Filter>,
    limit: usize,
) -> Result<Vec<Entry>, InboxError> {
    let mut filter = filter.into();
    let mut entries = Vec::new();
    loop {
        let page = inbox.list(&filter, limit.saturating_sub(entries.len())).await?;
        entries.extend(page.entries);
        if page.next.is_none() || entries.len() >= limit {
            return Ok(entries);
        }
        filter = filter.after(page.next);
    }
}

/// Erases object by object.
async fn erase_all(inbox: &(impl Admin + ?Sized), erase: Erase) -> Result<usize, InboxError> {
    let objects = match erase.of {
        Of::Object(object) => vec![object],
        Of::Order(order_id) => inbox.objects_of_order(order_id).await?,
    };
    let mut count = 0_usize;
    for object in objects {
        let erased = inbox.erase_object(object, erase.is_forced).await?;
        count = count.saturating_add(erased);
    }
    Ok(count)
}

/// How many numbers are opened in one commit.
const BATCH: usize = 256;

async fn reprocess_keys<A: Admin + ?Sized>(
    inbox: &A,
    keys: Vec<Key>,
) -> Result<Reprocessed, InboxError> {
    let mut chosen = HashMap::new();
    for key in keys {
        let page = inbox.list(Filter::new().key(key), 1).await?;
        chosen.extend(page.entries.iter().map(|entry| (entry.number, entry.key)));
    }
    let mut all = AllReplayed::default();
    all.replay(inbox, &chosen, false).await?;
    Ok(all.reprocessed)
}

/// Processes notifications again.
async fn reprocess_all<A: Admin + ?Sized>(
    inbox: &A,
    mut filter: Filter,
    dry_run: bool,
) -> Result<Reprocessed, InboxError> {
    (filter.newest_first, filter.with_bodies) = (false, false);
    // Otherwise it would not end while more are processed.
    let newest = inbox.list(Filter::new().newest_first(), 1).await?;
    filter.up_to = newest.entries.first().map(|entry| entry.number);
    let mut all = AllReplayed::default();
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
struct AllReplayed {
    /// What was opened. It may be done again meanwhile, and is not opened twice.
    opened: HashSet<i64>,
    reprocessed: Reprocessed,
}

impl AllReplayed {
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
