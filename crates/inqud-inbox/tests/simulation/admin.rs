//! What an operator does with the disk.

use std::time::Duration;

use inqud_inbox::{
    Admin, ErasedObject, Filter, InboxError, Inserted, Key, LoggedRejection, Page, Record,
    Replayed, State, Stats, Sweep, SweptBatch, WatchList,
};

use crate::bug::Bug;
use crate::disk::Disk;
use crate::process::Kind;
use crate::trace::NOBODY;

impl Admin for Disk {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.go("stats fail").await?;
        let mut stats = self.world.disk.stats().await?;
        let lost = self.world.ledger().lost_inserts;
        if self.world.has(Bug::CountsTwice)
            && let Some(kind) = stats.kinds.first_mut()
        {
            kind.backlog += lost;
        }
        let counted = self.world.ledger().counted(&stats);
        self.world.check(counted);
        self.come_back("stats are lost").await?;
        Ok(stats)
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.world.disk.unclaimed(since).await
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        self.world.disk.list(filter, limit).await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        self.go("reprocessing fails").await?;
        let replayed = self.reopen(numbers, dry_run).await?;
        self.come_back("the answer to reprocessing is lost").await?;
        Ok(replayed)
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.world.disk.import(records).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let mut redriven = 0;
        for key in keys.into_iter().collect::<Vec<_>>() {
            let Some(row) = self.kept(key).await? else { continue };
            self.note("redriven", NOBODY, row as u64);
            if self.world.ledger().is_replay(row) {
                let number = i64::try_from(row).unwrap();
                let opened = self.reopen(vec![number], false).await?.opened;
                redriven += usize::from(opened.contains(&number));
                continue;
            }
            redriven += self.world.disk.redrive([key]).await?;
            self.world.ledger().redriven(row);
        }
        Ok(redriven)
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let mut discarded = 0;
        for key in keys.into_iter().collect::<Vec<_>>() {
            let Some(row) = self.kept(key).await? else { continue };
            self.note("discarded", NOBODY, row as u64);
            discarded += self.world.disk.discard([key]).await?;
            self.world.ledger().discarded(row);
        }
        Ok(discarded)
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.world.disk.prune(age, count).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        self.world.disk.objects_of_order(order_id).await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        self.world.disk.erase_object(object, is_forced).await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.world.disk.rejections(limit).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        self.go("retention fails").await?;
        let mut done = sweep;
        match (self.world.bug, &mut done) {
            (Some(Bug::SweepsYoung), Sweep::Notifications { age, .. }) => *age = Duration::ZERO,
            (Some(Bug::SweepForgets), Sweep::Objects(age)) => *age = Duration::ZERO,
            _ => {}
        }
        let swept = self.world.disk.sweep_batch(done, limit).await?;
        let checked = self.world.ledger().swept(sweep, swept.count);
        self.world.check(checked);
        if swept.count > 0 {
            self.note(deleted(sweep), NOBODY, swept.count as u64);
        }
        self.come_back("the answer of the retention is lost").await?;
        Ok(swept)
    }
}

impl Disk {
    /// The row of a dead letter or a review.
    async fn kept(&self, key: Key) -> Result<Option<usize>, InboxError> {
        let Some(entry) = self.world.disk.show(key).await? else { return Ok(None) };
        if !matches!(entry.state, State::Dead | State::Review) {
            return Ok(None);
        }
        let kind = Kind::ALL.map(Kind::name).into_iter().find(|it| *it == entry.kind).unwrap();
        let known = self.world.disk.known(kind, &entry.object).await?;
        let row = known.rows.iter().find(|row| row.key == key);
        Ok(row.map(|row| usize::try_from(row.seq).unwrap()))
    }

    /// Opens rows again.
    async fn reopen(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        let mut opened = numbers.clone();
        if self.world.has(Bug::ReplaysLast) {
            // Only the last of them, without those that came before it.
            opened = opened.into_iter().max().into_iter().collect();
        }
        let replayed = self.world.disk.replay(opened, dry_run).await?;
        if !dry_run {
            let checked = self.world.ledger().replayed(&numbers, &replayed);
            self.world.check(checked);
        }
        for (what, rows) in [
            ("reprocessed", &replayed.opened),
            ("busy", &replayed.busy),
            ("has no body", &replayed.pruned),
        ] {
            rows.iter().for_each(|row| self.note(what, NOBODY, u64::try_from(*row).unwrap()));
        }
        Ok(replayed)
    }
}

fn deleted(sweep: Sweep) -> &'static str {
    match sweep {
        Sweep::Bodies(_) => "bodies are deleted",
        Sweep::Notifications { .. } => "notifications are deleted",
        Sweep::Objects(_) => "objects are deleted",
    }
}
