//! The watch list, as one process sees it.

use std::time::Duration;

use inqud_inbox::__private::{Arrived, Expected, Extent, Known, Look, Next, Reach, Scheduled};
use inqud_inbox::{InboxError, Record, WatchList};

use crate::bug::Bug;
use crate::disk::Disk;
use crate::trace::NOBODY;

impl WatchList for Disk {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        self.go("expecting fails").await?;
        let mut expected = expected;
        // The time of a run is paused, and that of the caller is not.
        expected.iter_mut().for_each(|it| it.since = None);
        self.world.disk.expect(expected).await?;
        self.come_back("the answer to expecting is lost").await
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        self.go("reading arrivals fails").await?;
        let arrived = self.world.disk.arrived(kind, limit, horizon).await?;
        self.come_back("arrivals are lost").await?;
        Ok(arrived)
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        self.go("scheduling fails").await?;
        let mut looks = looks;
        if self.world.has(Bug::ForgetsArrivals) {
            looks.clear();
        }
        self.world.disk.schedule(kind, arrived, looks).await?;
        self.come_back("the answer to scheduling is lost").await
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        self.go("claiming looks fails").await?;
        let looks = self.world.disk.claim_looks(kind, count, lease).await?;
        for look in looks.iter().filter(|look| look.looks.is_some()) {
            let object = self.world.ledger().object(look.kind, &look.object);
            self.note("begins a look", object, 0);
        }
        self.come_back("claimed looks are lost").await?;
        Ok(looks)
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        self.go("ending looks fails").await?;
        let mut ended = ended;
        for (_, next) in &mut ended {
            if self.world.has(Bug::LooksOnce) {
                *next = Next::Done;
            }
            if self.world.has(Bug::WatchStays) && *next == Next::Done {
                *next = Next::At { look_at: i64::MAX - 1, looks: 0, failures: 0, stored: None };
            }
        }
        for (look, next) in &ended {
            if *next == Next::Done {
                let object = self.world.ledger().object(look.kind, &look.object);
                self.note("leaves the watch list", object, 0);
            }
        }
        self.world.disk.end_looks(ended).await?;
        self.come_back("the answer to ending looks is lost").await
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        self.go("hastening fails").await?;
        self.world.disk.hasten(kind, objects, pause).await?;
        self.come_back("the answer to hastening is lost").await
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        self.go("reading what is known fails").await?;
        let mut known = self.world.disk.known(kind, object).await?;
        self.world.ledger().read(kind, object);
        if self.world.has(Bug::KnowsNothing) {
            known.rows.clear();
        }
        self.come_back("what is known is lost").await?;
        Ok(known)
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        self.go("storing what was fetched fails").await?;
        let mut extent = extent;
        if self.world.has(Bug::StoresLate) {
            let known = self.world.disk.known(record.kind, &record.object).await?;
            extent.last = known.rows.last().map(|row| row.seq);
            extent.count = i64::try_from(known.rows.len()).unwrap();
        }
        let stored = self.world.disk.insert_after(record.clone(), extent).await?;
        if let Some(number) = stored {
            let checked = self.world.fetched(&record, number);
            self.world.check(checked);
        }
        let what = if stored.is_some() { "recovered" } else { "a webhook arrived meanwhile" };
        self.note(what, NOBODY, stored.unwrap_or_default().unsigned_abs());
        self.come_back("the answer to storing what was fetched is lost").await?;
        Ok(stored)
    }
}
