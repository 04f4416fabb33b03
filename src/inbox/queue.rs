//! In front of the store: bounded, and what waits in it is stored together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{InboxError, InboxErrorKind, Put, Record, Store};

/// How many records one commit covers at most.
const BATCH: usize = 256;

pub(super) struct Queue<S> {
    pub(super) store: Arc<S>,
    /// Rings after something was stored. A hint: a runner looks from time to time anyway.
    pub(super) stored: Notify,
    /// A permit for each record from its arrival until it is answered.
    pub(super) room: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    places: VecDeque<Place>,
    is_pumped: bool,
}

struct Place {
    record: Record,
    sender: Sender,
}

struct Sender {
    answer: oneshot::Sender<Result<Put, InboxError>>,
    _permit: OwnedSemaphorePermit,
}

impl<S: Store> Queue<S> {
    pub(super) fn new(store: Arc<S>, capacity: usize) -> Self {
        Self {
            store,
            stored: Notify::new(),
            room: Arc::new(Semaphore::new(capacity.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: Mutex::default(),
        }
    }

    /// Takes a record, which from now on is stored whether or not anybody waits for the answer; `None`
    /// if there is no room.
    pub(super) fn push(
        self: &Arc<Self>,
        record: impl FnOnce() -> Record,
    ) -> Option<oneshot::Receiver<Result<Put, InboxError>>> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let (answer, answered) = oneshot::channel();
        let place = Place { record: record(), sender: Sender { answer, _permit: permit } };
        let mut waiting = self.waiting();
        waiting.places.push_back(place);
        let was_pumped = std::mem::replace(&mut waiting.is_pumped, true);
        drop(waiting);
        if !was_pumped {
            // For as long as there is something to do: so it lives in whichever runtime calls.
            tokio::spawn(Pump { queue: Arc::clone(self), is_done: false }.run());
        }
        Some(answered)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits; `None` if nothing does, and then the next to come starts another pump.
    fn next_batch(&self) -> Option<Vec<Place>> {
        let mut waiting = self.waiting();
        let count = waiting.places.len().min(BATCH);
        if count == 0 {
            waiting.is_pumped = false;
            return None;
        }
        Some(waiting.places.drain(..count).collect())
    }
}

struct Pump<S> {
    queue: Arc<Queue<S>>,
    is_done: bool,
}

impl<S: Store> Pump<S> {
    async fn run(mut self) {
        let queue = &self.queue;
        while let Some(places) = queue.next_batch() {
            let places = places.into_iter().map(|place| (place.record, place.sender));
            let (records, senders): (Vec<_>, Vec<_>) = places.unzip();
            let stored = queue.store.put(records).await;
            queue.stored.notify_waiters();
            for (at, sender) in senders.into_iter().enumerate() {
                // A store that gives no answer has not said that it is stored.
                let missing = || Err(InboxError::new(InboxErrorKind::Store));
                let one = stored.as_ref().map_err(Clone::clone);
                let one = one.map_or_else(Err, |all| all.get(at).copied().map_or_else(missing, Ok));
                // Nobody waits any more, perhaps; it is stored none the less.
                let _ = sender.answer.send(one);
            }
        }
        self.is_done = true;
    }
}

/// If the runtime ended amid the work, or the store panicked: whoever waits is told so by the drop of
/// the senders, and the next to come starts another pump.
impl<S> Drop for Pump<S> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut waiting = self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            *waiting = Waiting::default();
        }
    }
}
