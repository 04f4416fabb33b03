//! The rows of the watch list.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::watch::{Expected, Look, NEVER, Next, Reach, Scheduled};

/// The watch list, by Tokio's clock.
pub(super) struct Watched {
    began: (Instant, i64),
    rows: BTreeMap<(&'static str, Arc<str>), Row>,
    /// How many notifications of each kind are read.
    read: HashMap<&'static str, i64>,
}

struct Row {
    position: (i64, i64),
    added_at: i64,
    since: i64,
    looks: Option<u32>,
    failures: u32,
    look_at: i64,
    looked_at: Option<i64>,
    claim: i64,
    is_leased: bool,
}

impl Row {
    fn new(now: i64, since: i64, looks: Option<u32>, look_at: i64) -> Self {
        Self {
            position: (i64::MIN, 0),
            added_at: now,
            since,
            looks,
            failures: 0,
            look_at,
            looked_at: None,
            claim: 0,
            is_leased: false,
        }
    }
}

impl Default for Watched {
    fn default() -> Self {
        let began = (Instant::now(), Timestamp::now().as_microsecond());
        Self { began, rows: BTreeMap::new(), read: HashMap::new() }
    }
}

impl Watched {
    /// Removes an object.
    pub(super) fn forget(&mut self, kind: &str, object: &str) {
        self.rows.retain(|(its, id), _| (*its, &**id) != (kind, object));
    }

    /// Returns the time of an instant.
    pub(super) fn time(&self, at: Instant) -> i64 {
        let (began, time) = self.began;
        time.saturating_add(micros(at.saturating_duration_since(began)))
    }

    fn now(&self) -> i64 {
        self.time(Instant::now())
    }

    pub(super) fn read(&self, kind: &'static str) -> i64 {
        self.read.get(kind).copied().unwrap_or_default()
    }

    pub(super) fn expect(&mut self, expected: Expected) {
        let now = self.now();
        let Expected { kind, object, since } = expected;
        let row = Row::new(now, since.unwrap_or(now), None, now);
        self.rows.entry((kind, Arc::from(object))).or_insert(row);
    }

    pub(super) fn schedule(&mut self, kind: &'static str, reach: Reach, mut looks: Vec<Scheduled>) {
        let now = self.now();
        looks.sort_by_key(Scheduled::rank);
        let read = self.read.entry(kind).or_default();
        *read = (*read).max(reach.to);
        for Scheduled { object, position, since, look_at, is_fetched } in looks {
            let of = (kind, Arc::from(object));
            if is_fetched && self.rows.contains_key(&of) {
                continue;
            }
            let row = self.rows.entry(of);
            let row = row.or_insert_with(|| Row::new(now, since, None, look_at));
            if position > row.position {
                row.claim = row.claim.saturating_add(1);
                (row.position, row.since, row.look_at) = (position, since, look_at);
                (row.looks, row.failures, row.is_leased) = (Some(0), 0, false);
            }
        }
        self.rows.retain(|(its, _), row| {
            *its != kind || row.look_at != NEVER || row.position.1 > reach.to
        });
    }

    pub(super) fn claim(&mut self, kind: &'static str, count: usize, lease: Duration) -> Vec<Look> {
        let now = self.now();
        let of_kind = self.rows.iter_mut().filter(|((its, _), _)| *its == kind);
        let mut due: Vec<_> = of_kind.filter(|(_, row)| row.look_at <= now).collect();
        due.sort_by_key(|(_, row)| row.look_at);
        due.truncate(count);
        let claimed = due.into_iter().map(|((_, object), row)| {
            row.claim = row.claim.saturating_add(1);
            (row.look_at, row.is_leased) = (now.saturating_add(micros(lease)), true);
            let mut look = Look::new((kind, Arc::clone(object)), row.claim, now);
            (look.added_at, look.since) = (row.added_at, row.since);
            (look.looks, look.failures) = (row.looks, row.failures);
            look
        });
        claimed.collect()
    }

    pub(super) fn end(&mut self, look: &Look, next: Next) {
        let now = self.now();
        let of = (look.kind, Arc::clone(&look.object));
        let is_its = |row: &&mut Row| (row.claim, row.added_at) == (look.claim, look.added_at);
        let Some(row) = self.rows.get_mut(&of).filter(is_its) else { return };
        match next {
            Next::Done => _ = self.rows.remove(&of),
            Next::At { look_at, looks, failures, stored } => {
                row.claim = row.claim.saturating_add(1);
                (row.look_at, row.failures, row.looks) = (look_at, failures, Some(looks));
                row.is_leased = false;
                row.position = stored.unwrap_or(row.position);
                if look.looks.is_some() {
                    row.looked_at = Some(now);
                }
            }
        }
    }

    pub(super) fn hasten(&mut self, kind: &'static str, objects: Vec<String>, pause: Duration) {
        let now = self.now();
        for object in objects {
            let row = self.rows.entry((kind, Arc::from(object)));
            let row = row.or_insert_with(|| Row::new(now, now, Some(0), now));
            let since = row.looked_at.map(|at| now.saturating_sub(at));
            if !row.is_leased
                && row.failures == 0
                && since.is_none_or(|since| since >= micros(pause))
            {
                row.look_at = row.look_at.min(now);
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
