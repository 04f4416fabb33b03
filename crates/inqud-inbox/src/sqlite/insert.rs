//! Storing notifications.

use rusqlite::{OptionalExtension, Result, params};

use super::row::{State, order_key};
use super::tables::Tables;
use crate::key::Key;
use crate::record::Record;
use crate::store;
use crate::store::Inserted;
use tower_inqud::Dedup;

impl Tables<'_> {
    pub(super) fn insert(&mut self, record: &Record) -> Result<Inserted> {
        let now = self.now();
        let is_open = record.dead.is_none();
        let found = self.find(record)?;
        let (number, dedup, key) = match found {
            None => (self.insert_object(record, is_open.then_some(now))?, Dedup::New, record.key),
            Some(number) => match self.dedup(number, record)? {
                Ok((dedup, key)) => (number, dedup, key),
                Err(duplicate) => return Ok(duplicate),
            },
        };
        let (inserted, state, why) = stored_as(dedup, record.dead.as_deref());
        let Record { order_key, body, order_id, source, .. } = record;
        let (position, status) = (order_key.position(), order_key.status());
        let order_key = order_key.to_bytes();
        let row = params![
            number,
            record.kind,
            key.as_bytes(),
            position,
            order_key,
            now,
            state as i64,
            why,
            &body[..],
            order_id,
            status,
            source.code(),
        ];
        self.insert.execute(row)?;
        if found.is_some() && state == State::Open {
            self.arrive.execute([number, now])?;
        }
        Ok(inserted)
    }

    /// Returns the number of the object, if it exists.
    fn find(&mut self, record: &Record) -> Result<Option<i64>> {
        let found = self.find.query_row([record.kind, &record.object], |row| row.get(0));
        found.optional()
    }

    /// Adds the object, and returns its number.
    fn insert_object(&mut self, record: &Record, due_at: Option<i64>) -> Result<i64> {
        self.insert_object.insert(params![record.kind, record.object, due_at])
    }

    /// Decides how to store a record of a known object, and under which key. The inner `Err` says that it
    /// is a duplicate.
    ///
    /// It first looks only at rows with the same content, which are few and adjacent in the index: see
    /// `Key::range`. Only if one of them repeats this record, and a repeat can mean something else than a
    /// duplicate, it reads all rows of the object.
    fn dedup(
        &mut self,
        number: i64,
        record: &Record,
    ) -> Result<std::result::Result<(Dedup, Key), Inserted>> {
        let [first, last] = record.key.range();
        let range = params![number, first.as_bytes(), last.as_bytes(), &record.body[..]];
        let mut rows = self.same.query(range)?;
        let mut known = None;
        while let Some(row) = rows.next()? {
            if record.order_key.is_duplicate_of(&order_key(row.get_ref(0)?.as_blob()?)) {
                let is_same = row.get(1)? || known == Some(Inserted::Duplicate);
                known =
                    Some(if is_same { Inserted::Duplicate } else { Inserted::DuplicateDiffers });
            }
        }
        drop(rows);
        let Some(duplicate) = known else { return Ok(Ok((Dedup::New, record.key))) };
        if record.order_key.repeat_is_duplicate() {
            return Ok(Err(duplicate));
        }
        let rows = self.all.query_map([number], |row| {
            let key = Key::from_bytes(row.get(0)?);
            Ok((key, order_key(row.get_ref(1)?.as_blob()?), row.get(2)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let rows = rows.iter().map(|(key, order_key, counts)| (*key, order_key, *counts));
        Ok(record.dedup(&rows.collect::<Vec<_>>()).ok_or(duplicate))
    }

    /// Turns the row of an undecodable body into a row of the record that it was decoded to. Its `seq` stays,
    /// and so its place in the order of arrival.
    pub(super) fn replace_decoded(&mut self, seq: i64, record: &Record, now: i64) -> Result<bool> {
        let number = match self.find(record)? {
            Some(number) => number,
            None => self.insert_object(record, None)?,
        };
        let Ok((dedup, key)) = self.dedup(number, record)? else {
            let row = params![seq, State::Skipped as i64, now, store::SKIPPED_DUPLICATE, 0];
            self.close.execute(row)?;
            return Ok(false);
        };
        let (_, state, why) = stored_as(dedup, None);
        let Record { order_key, order_id, .. } = record;
        let (position, status) = (order_key.position(), order_key.status());
        let order_key = order_key.to_bytes();
        let row = params![
            seq,
            number,
            key.as_bytes(),
            position,
            order_key,
            state as i64,
            why,
            now,
            order_id,
            status,
        ];
        self.convert.execute(row)?;
        if state == State::Open {
            self.arrive.execute([number, now])?;
        }
        Ok(state == State::Open)
    }
}

/// Returns what to report for a new row, its state, and the reason for that state.
fn stored_as(dedup: Dedup, dead: Option<&str>) -> (Inserted, State, Option<&str>) {
    match (dedup, dead) {
        (Dedup::Review, _) => (Inserted::Review, State::Review, Some(store::REVIEW_REPEATED)),
        (_, Some(dead)) => (Inserted::New, State::Dead, Some(dead)),
        (_, None) => (Inserted::New, State::Open, None),
    }
}
