//! What an operator and a retention do, in a real store.

use std::time::Duration;

use inqud_inbox::{Filter, Key, Record, Reprocessed, Store, Sweep, WatchList};
use tower_inqud::PaymentRequest;

use super::{Replay, same};
use crate::state::{Kept, Object, Row};
use crate::step::Action;
use crate::store::Model;
use crate::upkeep;

impl<S: Store + WatchList> Replay<'_, S> {
    /// Whether a store can do it whose clock a test cannot advance. All that is settled is old at once there.
    pub(super) fn is_possible_now(&self, action: Action) -> bool {
        let mut rows = self.state.objects.iter().flat_map(Object::rows);
        match action {
            Action::Wake => false,
            Action::Age => !rows.any(|row| row.waits),
            Action::Sweep(_) => !Model::has_young(&self.state),
            _ => true,
        }
    }

    pub(super) async fn reprocess(&self, object: u8, row: u8) -> Result<(), String> {
        let key = self.keys[usize::from(object)][usize::from(row)];
        let done = self.inbox.store().reprocess([key]).await.unwrap();
        let mut expected = Reprocessed::default();
        match self.model.reprocess(&mut self.state.clone(), usize::from(object), row) {
            upkeep::Reprocessed::Opened { rows } => expected.requeued = rows,
            upkeep::Reprocessed::Empty { rows } => {
                (expected.requeued, expected.pruned) = (rows, vec![key]);
            }
            upkeep::Reprocessed::Busy => expected.busy = vec![key],
            upkeep::Reprocessed::Unprocessed => expected.unprocessed = vec![key],
            upkeep::Reprocessed::Open => {}
        }
        same("reprocessed", done, expected)
    }

    pub(super) async fn sweep(&self, sweep: upkeep::Sweep, age: Duration) -> Result<(), String> {
        // Stores may keep the very last notification.
        let body = format!(r#"{{"id":"{}-{}","status":"SUCCESS"}}"#, self.kind, self.path.len());
        let event: PaymentRequest = serde_json::from_str(&body).unwrap();
        let record = Record { kind: "last", ..Record::new(&event, body.into()) };
        let key = Key::new(record.kind, &record.object, &record.order_key);
        self.inbox.store().insert(vec![Record { key, ..record }]).await.unwrap();
        let mut next = Some(match sweep {
            upkeep::Sweep::Bodies => Sweep::Bodies(age),
            upkeep::Sweep::Notifications => {
                Sweep::Notifications { age, includes_reviews: false, after: i64::MIN }
            }
            upkeep::Sweep::Objects => Sweep::Objects(age),
        });
        while let Some(sweep) = next {
            next = self.inbox.store().sweep_batch(sweep, 256).await.unwrap().next;
        }
        Ok(())
    }

    /// The keys of what is known of an object.
    pub(super) fn known_keys(&self, at: usize, object: &Object) -> Vec<Key> {
        let processed = object.processed.filter(|_| object.is_swept).map(|seen| seen.row);
        let key = |(row, (it, key)): (u8, (&Row, &Key))| {
            let record = self.record(it.note);
            match it.is_deleted {
                false => Some(*key),
                // Its key is not kept.
                true if processed == Some(row) => Some(record.key),
                true => None,
            }
        };
        (0..).zip(object.rows().iter().zip(&self.keys[at])).filter_map(key).collect()
    }

    /// Compares all rows, and what cannot be reprocessed.
    pub(super) async fn compare_rows(&self) -> Result<(), String> {
        let page =
            self.inbox.store().list(&Filter::new().kind(self.kind), 1_000_000).await.unwrap();
        for (at, object) in self.state.objects.iter().enumerate() {
            let its = page.entries.iter().filter(|it| it.object == self.id(at));
            let its = its.map(|it| (it.key, it.state, it.replays > 0, it.body_len == 0));
            let rows = self.keys[at].iter().zip(object.rows()).filter(|(_, row)| !row.is_deleted);
            let rows = rows.map(|(key, row)| (*key, state(row.kept), row.is_replay, row.is_empty));
            same("rows", its.collect::<Vec<_>>(), rows.collect())?;
            let has_replays = self.model.world.has_replays;
            for row in (0..object.rows().len() as u8).filter(|_| has_replays) {
                let done = self.model.reprocess(&mut self.state.clone(), at, row);
                let opens = matches!(
                    done,
                    upkeep::Reprocessed::Opened { .. } | upkeep::Reprocessed::Empty { rows: 1.. }
                );
                if !opens && !object.row(row).is_deleted {
                    self.reprocess(at as u8, row).await?;
                }
            }
        }
        Ok(())
    }
}

fn state(kept: Kept) -> inqud_inbox::State {
    match kept {
        Kept::Open => inqud_inbox::State::Open,
        Kept::Done => inqud_inbox::State::Done,
        Kept::Skipped => inqud_inbox::State::Skipped,
        Kept::Dead => inqud_inbox::State::Dead,
        Kept::Review => inqud_inbox::State::Review,
    }
}
