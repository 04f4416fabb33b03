//! The databases of the inbox and of the floor, and their contents before a round.

use std::fmt;

use inqud_inbox::{Inserted, Store};

use crate::engine::{Engine, Rows};
use crate::ids::Ids;

/// The contents of the tables before a round.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    Nothing,
    Processed(usize),
    Open(usize),
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("empty"),
            Self::Processed(count) => write!(f, "{count} processed"),
            Self::Open(count) => write!(f, "{count} open"),
        }
    }
}

/// The databases of the inbox and of the floor.
pub(crate) struct Sides<E> {
    pub(crate) before: Before,
    pub(crate) places: [E; 2],
}

impl<E: Engine> Sides<E> {
    pub(crate) async fn new(before: Before, ids: &mut Ids) -> Self {
        let places = [E::new().await, E::new().await];
        if let Before::Processed(count) | Before::Open(count) = before {
            for place in &places {
                fill(place, count, ids).await;
            }
        }
        Self { before, places }
    }

    /// Prepares the next round. Rows of the previous round are deleted, processed or left open.
    pub(crate) async fn next(&mut self) -> [(&E, Rows); 2] {
        match self.before {
            Before::Nothing => self.places = [E::new().await, E::new().await],
            Before::Processed(_) => {
                for place in &self.places {
                    place.process_all().await;
                }
            }
            Before::Open(_) => {}
        }
        let [inbox, floor] = &self.places;
        [(inbox, inbox.rows().await), (floor, floor.rows().await)]
    }
}

/// Stores `count` new notifications in large transactions.
pub(crate) async fn fill<E: Engine>(place: &E, count: usize, ids: &mut Ids) {
    let before = place.rows().await.open;
    let inbox = place.inbox().await;
    let mut rest = count;
    while rest > 0 {
        let records = ids.records(rest.min(10_000));
        rest -= records.len();
        let answers = inbox.store().insert(records).await.unwrap();
        assert!(answers.iter().all(|it| *it == Inserted::New));
    }
    E::close(inbox).await;
    assert_eq!(place.rows().await.open, before + count);
}

/// Runs both. The inbox is first in even rounds, the floor in odd ones.
pub(crate) async fn in_turn<R>(
    round: usize,
    inbox: impl Future<Output = R>,
    floor: impl Future<Output = R>,
) -> [R; 2] {
    if round.is_multiple_of(2) {
        let inbox = inbox.await;
        [inbox, floor.await]
    } else {
        let floor = floor.await;
        [inbox.await, floor]
    }
}
