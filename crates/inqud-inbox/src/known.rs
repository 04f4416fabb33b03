//! What is known of an object when a notification about it arrives.

use crate::key::Key;
use crate::record::Record;
use tower_inqud::{Dedup, OrderKey, Processed};

/// The stored notifications of an object, in the order of arrival.
#[derive(Default)]
pub(crate) struct Known(Vec<(i64, Key, OrderKey, bool)>);

impl Known {
    /// Adds a row. `counts` is false if an operator discarded it after a review.
    pub(crate) fn add(&mut self, seq: i64, key: Key, order_key: OrderKey, counts: bool) {
        self.0.push((seq, key, order_key, counts));
    }

    /// Adds what was processed last, at its place, if its row is deleted.
    pub(crate) fn recall(&mut self, kind: &str, object: &str, processed: Option<Processed>) {
        let Some(processed) = processed else { return };
        let (seq, order_key) = (processed.arrival(), processed.order_key());
        let place = self.0.partition_point(|(its, ..)| *its < seq);
        if self.0.get(place).is_none_or(|(its, ..)| *its != seq) {
            let key = Key::new(kind, object, order_key);
            self.0.insert(place, (seq, key, order_key.clone(), true));
        }
    }

    /// Decides how to store a record: see [`Record::dedup`].
    pub(crate) fn dedup(&self, record: &Record) -> Option<(Dedup, Key)> {
        let rows = self.0.iter().map(|(_, key, order_key, counts)| (*key, order_key, *counts));
        record.dedup(&rows.collect::<Vec<_>>())
    }

    /// The keys of those that a record is a duplicate of.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "the others know it"))]
    pub(crate) fn duplicates(&self, record: &Record) -> Vec<Key> {
        let same = self.0.iter().filter(|(_, _, it, _)| record.order_key.is_duplicate_of(it));
        same.map(|(_, key, ..)| *key).collect()
    }
}
