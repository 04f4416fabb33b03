//! What must be true of looks, and of what they store.

use inqud_inbox::{Record, State};

use tower_inqud::OrderKey;

use super::{Check, Ledger, Row, check};
use crate::api::Truth;

/// How often the API may be asked after one arrival, if it answers.
pub(crate) const LOOKS: usize = 3;

impl Ledger {
    /// A look reads what is known.
    pub(crate) fn read(&mut self, kind: &str, object: &str) {
        let at = self.object(kind, object);
        self.objects[at].read_to = self.objects[at].rows.last().copied();
    }

    /// A look has stored what it has fetched.
    pub(crate) fn fetched(&mut self, record: &Record, number: i64, truth: &Truth) -> Check {
        let at = self.object(record.kind, &record.object);
        let seq = self.rows.len();
        check(usize::try_from(number) == Ok(seq), || format!("row {number} is not {seq}"))?;
        check(truth.states.iter().any(|it| it.body == record.body), || {
            format!("object {at}: a look has stored what is not true")
        })?;
        let object = &self.objects[at];
        // A row that arrives during a look, and is deleted before the look ends, is not known to it. Outside of a
        // simulation that takes days.
        let is_known = |row: &usize| object.is_swept && Some(*row) <= object.read_to;
        let recalled = object.processed_row.filter(is_known);
        let counted = object.rows.iter().filter(|row| {
            let it = &self.rows[**row];
            let is_left = !it.is_deleted || recalled == Some(**row);
            is_left && it.state != State::Review && !it.is_discarded
        });
        let keys: Vec<_> = counted.map(|row| &self.rows[*row].order_key).collect();
        let mine = &record.order_key;
        let last = keys.last();
        if !truth.told_old {
            let (_, fetched) = truth.places(mine).unwrap();
            let latest = last.and_then(|last| truth.places(last));
            check(latest.is_none_or(|(latest, _)| latest <= fetched), || {
                format!("object {at}: a look has set it back from {latest:?} to {fetched}")
            })?;
        }
        // With times, one that came last of those of its time: amendments of the same time are told by arrival.
        let is_like = |it: &&OrderKey| {
            mine.last_update().is_none()
                || (it.status(), it.last_update()) == (mine.status(), mine.last_update())
        };
        let stored = keys.iter().copied().rfind(is_like);
        check(stored.is_none_or(|it| !mine.is_duplicate_of(it)), || {
            format!("object {at}: a look has stored {} twice", mine.status())
        })?;
        self.objects[at].rows.push(seq);
        let row = Row::new(at, record, State::Open);
        self.rows.push(Row { is_reviewed: true, ..row });
        Ok(())
    }

    /// Faults have ended, and no look is due any more.
    pub(crate) fn looked(&self, truth: &Truth) -> Check {
        let at = truth.object;
        let object = &self.objects[at];
        let last = &truth.states.last().unwrap().order_key;
        let found = object.state.map(|row| &self.rows[row].order_key);
        let is_it = found.is_some_and(|it| last.is_duplicate_of(it));
        // Without the body, an amendment is not told from what it amends.
        let is_pruned = object.rows.iter().any(|row| self.rows[*row].is_empty);
        check(is_it || is_pruned || !truth.told_last, || {
            let found = found.map(|it| it.status().to_owned());
            format!("object {at}: it ends as {found:?}, and the API says {}", last.status())
        })?;
        check(truth.told_last || !truth.is_lost(), || {
            format!("object {at}: nothing arrived, and no look has found its last state")
        })?;
        let most = LOOKS * (object.rows.len() + 2);
        check(truth.asked <= most, || {
            format!("object {at}: the API was asked {} times", truth.asked)
        })
    }
}
