//! The watch list.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Memory, Row, State, Tables, number};
use crate::error::InboxError;
use crate::record::Record;
use crate::source::Source;
use crate::watch::{
    Arrival, Arrived, Expected, Extent, Known, KnownRow, Look, Next, Reach, Scheduled, WatchList,
};
use tower_inqud::Dedup;

impl WatchList for Memory {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        let mut tables = self.tables()?;
        expected.into_iter().for_each(|it| tables.watched.expect(it));
        Ok(())
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        let tables = self.tables()?;
        let from = tables.watched.read(kind);
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        let oldest = Instant::now().checked_sub(horizon);
        let is_new = |row: &Row| from > 0 || oldest.is_none_or(|oldest| row.arrived >= oldest);
        let mut arrivals = Vec::new();
        let mut to = from;
        for (seq, row) in tables.rows.iter().enumerate().skip(skip) {
            if arrivals.len() >= limit {
                return Ok(Arrived::new(Reach::new(from, to), true, arrivals));
            }
            to = number(seq.saturating_add(1));
            if row.record.kind == kind && row.record.dead.is_none() && is_new(row) {
                let Record { object, order_key, body, source, .. } = row.record.clone();
                let received_at = tables.watched.time(row.arrived);
                let arrival = Arrival::new(number(seq), object, order_key, received_at, body);
                arrivals.push(arrival.fetched(source == Source::Fetched));
            }
        }
        Ok(Arrived::new(Reach::new(from, to), false, arrivals))
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        self.tables()?.watched.schedule(kind, arrived, looks);
        Ok(())
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        Ok(self.tables()?.watched.claim(kind, count, lease))
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        let mut tables = self.tables()?;
        ended.into_iter().for_each(|(look, next)| tables.watched.end(&look, next));
        Ok(())
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        self.tables()?.watched.hasten(kind, objects, pause);
        Ok(())
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        Ok(self.tables()?.known(kind, object))
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        Ok(self.tables()?.insert_after(record, extent))
    }
}

impl Tables {
    fn of_object(&self, kind: &'static str, object: &str) -> Vec<(usize, &Row)> {
        let object = self.objects.get(&(kind, Arc::from(object)));
        let rows = object.into_iter().flat_map(|object| &object.rows);
        rows.filter_map(|seq| Some((*seq, self.rows.get(*seq)?))).collect()
    }

    fn known(&self, kind: &'static str, object: &str) -> Known {
        let rows = self.of_object(kind, object);
        let known = |(seq, row): &(usize, &Row)| {
            let Record { key, order_key, .. } = &row.record;
            KnownRow::new(number(*seq), *key, order_key.clone(), row.is_reviewed)
                .in_review(row.state == State::Review)
                .skipped(row.is_stale() || row.is_discarded_review())
                .given_up(row.replays == 0 && matches!(row.state, State::Dead | State::Skipped))
        };
        let pruned = self.objects.get(&(kind, Arc::from(object))).filter(|it| it.pruned.is_some());
        let processed = pruned.and_then(|object| object.processed.clone());
        let known = Known::new(rows.iter().map(known).collect()).recall(kind, object, processed);
        let end = known.end_seq();
        let body = rows.iter().find(|(seq, _)| Some(number(*seq)) == end);
        known.with_body(body.map(|(_, row)| row.record.body.clone()).unwrap_or_default())
    }

    fn insert_after(&mut self, record: Record, extent: Extent) -> Option<i64> {
        let known = self.of_object(record.kind, &record.object);
        if Extent::of(known.last().map(|(seq, _)| number(*seq)), known.len()) != extent {
            return None;
        }
        let (seq, now) = (self.rows.len(), Instant::now());
        self.rows.push(Row {
            received_at: Timestamp::now(),
            arrived: now,
            state: State::Open,
            verdict: None,
            is_reviewed: true,
            failures: 0,
            retry_at: None,
            settled: None,
            settled_at: None,
            error: String::new(),
            position: record.order_key.position(),
            replays: 0,
            rank: 0,
            is_deleted: false,
            record,
        });
        self.file(seq, Dedup::New, now);
        Some(number(seq))
    }
}
