//! What an operator does with the disk.

use std::time::Duration;

use inqud_inbox::{
    Admin, ErasedObject, Filter, InboxError, Inserted, Key, LoggedRejection, Page, Record,
    Replayed, State, Stats, Sweep, SweptBatch,
};

use crate::bug::Bug;
use crate::disk::Disk;
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
        self.world.disk.replay(numbers, dry_run).await
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
            let is_dead = |row: usize| self.world.ledger().rows[row].state == State::Dead;
            let row = self.world.ledger().row(key);
            if !row.is_some_and(is_dead) {
                continue;
            }
            redriven += self.world.disk.redrive([key]).await?;
            let mut ledger = self.world.ledger();
            ledger.redriven(key);
            self.note("redriven", NOBODY, row.unwrap() as u64);
        }
        Ok(redriven)
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.world.disk.discard(keys).await
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
        self.world.disk.sweep_batch(sweep, limit).await
    }
}
