use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use tower_inqud::{Event, EventKind, Notification};

use crate::message::Message;

/// The current state of each object, by its id.
#[derive(Default)]
pub(super) struct Objects {
    by_id: BTreeMap<String, Object>,
    /// The numbers that were given to messages so far.
    numbers: u64,
    /// How often each id was asked for.
    asked: BTreeMap<String, u64>,
}

struct Object {
    /// The number of the message that it is from.
    number: u64,
    body: Bytes,
    /// Set if it can be searched for.
    order_id: Option<String>,
}

impl Objects {
    /// Reserves the numbers of this many messages, and returns the first.
    pub(super) fn reserve(&mut self, messages: usize) -> u64 {
        let first = self.numbers;
        self.numbers = first.saturating_add(u64::try_from(messages).unwrap_or(u64::MAX));
        first
    }

    /// Keeps the message unless one with a higher number about the same object came before. A body that is not
    /// an object of Inqud is ignored.
    pub(super) fn publish(&mut self, number: u64, message: &Message) {
        let Ok(event) = serde_json::from_slice::<Event>(message.body()) else { return };
        if self.by_id.get(event.id()).is_some_and(|known| known.number > number) {
            return;
        }
        let order_id = match event.kind() {
            EventKind::Payment => order_id(message.body()),
            _ => None,
        };
        let object = Object { number, body: message.body().clone(), order_id };
        self.by_id.insert(event.id().to_owned(), object);
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    pub(super) fn get(&self, id: &str) -> Option<&Bytes> {
        self.by_id.get(id).map(|object| &object.body)
    }

    /// All payments of an order, as a JSON array.
    pub(super) fn search(&self, order_id: &str) -> String {
        let found = self.by_id.values().filter(|it| it.order_id.as_deref() == Some(order_id));
        let bodies = found.map(|it| String::from_utf8_lossy(&it.body)).collect::<Vec<_>>();
        format!("[{}]", bodies.join(","))
    }

    pub(super) fn count(&mut self, id: &str) {
        let asked = self.asked.entry(id.to_owned()).or_default();
        *asked = asked.saturating_add(1);
    }

    pub(super) fn asked(&self, id: &str) -> u64 {
        self.asked.get(id).copied().unwrap_or(0)
    }
}

fn order_id(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    value.get("orderId")?.as_str().map(str::to_owned)
}
