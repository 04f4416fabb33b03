//! The watch list.

use std::time::Duration;

use super::store::Postgres;
use super::tables;
use crate::error::InboxError;
use crate::record::Record;
use crate::watch::{Arrived, Expected, Extent, Known, Look, Next, Reach, Scheduled, WatchList};

impl WatchList for Postgres {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        self.run(move |client| Box::pin(async move { tables::expect(client, &expected).await }))
            .await
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        self.run(move |client| Box::pin(tables::arrived(client, kind, limit, horizon))).await
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        self.run(move |client| {
            Box::pin(async move { tables::schedule(client, kind, arrived, &looks).await })
        })
        .await
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        self.run(move |client| Box::pin(tables::claim_looks(client, kind, count, lease))).await
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        if ended.is_empty() {
            return Ok(());
        }
        self.run(move |client| Box::pin(async move { tables::end_looks(client, &ended).await }))
            .await
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        self.run(move |client| {
            Box::pin(async move { tables::hasten(client, kind, &objects, pause).await })
        })
        .await
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        let object = object.to_owned();
        self.run(move |client| Box::pin(async move { tables::known(client, kind, &object).await }))
            .await
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        let insert = self.run(move |client| {
            Box::pin(async move { tables::insert_after(client, &record, extent).await })
        });
        let inserted = insert.await?;
        if inserted.is_some() {
            self.arrived_here();
        }
        Ok(inserted)
    }
}
