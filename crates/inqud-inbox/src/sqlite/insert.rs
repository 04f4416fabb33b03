//! Storing notifications.

use rusqlite::{OptionalExtension, Result, params};

use super::row::{State, order_key};
use super::tables::Tables;
use crate::inserted::Inserted;
use crate::key::Key;
use crate::known::Known;
use crate::record::Record;
use crate::store;
use tower_inqud::{Dedup, Processed};

/// A known object.
#[derive(Clone, Copy)]
struct Found {
    number: i64,
    /// Whether some of its notifications are deleted.
    is_pruned: bool,
}

impl Tables<'_> {
    pub(super) fn insert(&mut self, record: &Record) -> Result<Inserted> {
        let now = self.now();
        let is_open = record.dead.is_none();
        let found = self.find(record)?;
        let (number, dedup, key) = match found {
            None => (self.insert_object(record, is_open.then_some(now))?, Dedup::New, record.key),
            Some(object) => match self.dedup(object, record)? {
                Ok((dedup, key)) => (object.number, dedup, key),
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

    /// Returns the object, if it exists.
    fn find(&mut self, record: &Record) -> Result<Option<Found>> {
        let found = self.find.query_row([record.kind, &record.object], |row| {
            Ok(Found { number: row.get(0)?, is_pruned: row.get(1)? })
        });
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
    /// `Key::range`. It reads all rows of the object only if one of them repeats this record, and a repeat can mean
    /// something else than a duplicate, or if some are deleted.
    fn dedup(
        &mut self,
        Found { number, is_pruned }: Found,
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
        let duplicate = match known {
            None if is_pruned => Inserted::Duplicate,
            None => return Ok(Ok((Dedup::New, record.key))),
            Some(duplicate) if record.order_key.repeat_is_duplicate() => return Ok(Err(duplicate)),
            Some(duplicate) => duplicate,
        };
        let mut rows = self.all.query([number])?;
        let mut known = Known::default();
        while let Some(row) = rows.next()? {
            let (seq, key) = (row.get(0)?, Key::from_bytes(row.get(1)?));
            known.add(seq, key, order_key(row.get_ref(2)?.as_blob()?), row.get(3)?);
        }
        if is_pruned {
            let processed: Option<Vec<u8>> = self.recall.query_row([number], |row| row.get(0))?;
            let processed = processed.and_then(|bytes| Processed::from_bytes(&bytes));
            known.recall(record.kind, &record.object, processed);
        }
        Ok(known.dedup(record).ok_or(duplicate))
    }

    /// Turns the row of an undecodable body into a row of the record that it was decoded to. Its `seq` stays,
    /// and so its place in the order of arrival.
    pub(super) fn replace_decoded(&mut self, seq: i64, record: &Record, now: i64) -> Result<bool> {
        let object = match self.find(record)? {
            Some(object) => object,
            None => Found { number: self.insert_object(record, None)?, is_pruned: false },
        };
        let Found { number, .. } = object;
        let Ok((dedup, key)) = self.dedup(object, record)? else {
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
