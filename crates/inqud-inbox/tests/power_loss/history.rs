//! What an inbox has acknowledged, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use inqud_inbox::{Key, Record};
use tower_inqud::PaymentRequest;

use crate::disk::Disk;

/// A notification: the number of its object, and the minute of its time.
pub(crate) type Name = (u32, u32);

pub(crate) fn body((id, minute): Name) -> String {
    let status = ["WAITING_PAYMENT", "PENDING_PAYMENT"][minute as usize % 2];
    let padding = "x".repeat((id * 7919 + minute * 1237) as usize % 5000);
    format!(
        r#"{{"id":"CAPD-{id:04}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z","p":"{padding}"}}"#
    )
}

pub(crate) fn name(request: &PaymentRequest) -> Name {
    let time = request.last_updated_at.unwrap().to_string();
    (request.id["CAPD-".len()..].parse().unwrap(), time[14..16].parse().unwrap())
}

pub(crate) fn key(name: Name) -> Key {
    let body = body(name);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into()).key
}

/// When something was asked for and when it was acknowledged, as numbers of operations of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) asked: usize,
    pub(crate) acknowledged: Option<usize>,
}

impl Span {
    pub(crate) fn is_asked(self, cut: usize) -> bool {
        self.asked <= cut
    }

    pub(crate) fn is_acknowledged(self, cut: usize) -> bool {
        self.acknowledged.is_some_and(|at| at <= cut)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) puts: BTreeMap<Name, Span>,
    /// When the effect was known to be committed.
    pub(crate) settled: BTreeMap<Name, usize>,
    /// When it was known to be a dead letter.
    pub(crate) dead: BTreeMap<Name, usize>,
    pub(crate) redriven: BTreeMap<Name, Span>,
    /// The objects that were erased.
    pub(crate) erased: BTreeMap<u32, Span>,
    /// Those that the handler accepted, whose settlement may still be on its way.
    accepted: BTreeSet<Name>,
}

impl History {
    /// What had happened after `cut` operations.
    pub(crate) fn until(&self, cut: usize) -> Self {
        let mut it = self.clone();
        for spans in [&mut it.puts, &mut it.redriven] {
            spans.retain(|_, span| span.is_asked(cut));
            for span in spans.values_mut() {
                span.acknowledged = span.acknowledged.filter(|at| *at <= cut);
            }
        }
        it.settled.retain(|_, at| *at <= cut);
        it.dead.retain(|_, at| *at <= cut);
        it
    }
}

/// A history that is being made.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) disk: Arc<Disk>,
    history: Arc<Mutex<History>>,
}

impl Log {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self { disk, history: Arc::default() }
    }

    /// Goes on with a history.
    pub(crate) fn resumed(disk: Arc<Disk>, history: History) -> Self {
        Self { disk, history: Arc::new(Mutex::new(history)) }
    }

    pub(crate) fn history(&self) -> History {
        self.history.lock().unwrap().clone()
    }

    fn note(&self, note: impl FnOnce(&mut History, usize)) {
        let now = self.disk.now();
        note(&mut self.history.lock().unwrap(), now);
    }

    pub(crate) fn asks_to_put(&self, name: Name) {
        self.note(|it, asked| {
            it.puts.entry(name).or_insert(Span { asked, acknowledged: None });
        });
    }

    pub(crate) fn answers_put(&self, name: Name) {
        self.note(|it, now| {
            it.puts.get_mut(&name).unwrap().acknowledged.get_or_insert(now);
        });
    }

    /// A handler was called, so what came before it of its object is settled.
    pub(crate) fn handles(&self, (id, minute): Name) {
        self.note(|it, now| {
            for name in it.accepted.range((id, 0)..(id, minute)) {
                it.settled.entry(*name).or_insert(now);
            }
        });
    }

    pub(crate) fn accepts(&self, name: Name) {
        self.note(|it, _| {
            it.accepted.insert(name);
        });
    }

    /// The runner has nothing to do, so everything is settled.
    pub(crate) fn is_idle(&self, dead: &[Name]) {
        self.note(|it, now| {
            for name in &it.accepted {
                it.settled.entry(*name).or_insert(now);
            }
            for name in dead {
                it.dead.entry(*name).or_insert(now);
            }
        });
    }

    pub(crate) fn asks_to_redrive(&self, name: Name) {
        self.note(|it, asked| {
            it.redriven.insert(name, Span { asked, acknowledged: None });
        });
    }

    pub(crate) fn asks_to_erase(&self, id: u32) {
        self.note(|it, asked| {
            it.erased.insert(id, Span { asked, acknowledged: None });
        });
    }

    /// All that was redriven and erased so far has been acknowledged.
    pub(crate) fn answers(&self) {
        self.note(|it, now| {
            for span in it.redriven.values_mut().chain(it.erased.values_mut()) {
                span.acknowledged.get_or_insert(now);
            }
        });
    }
}
