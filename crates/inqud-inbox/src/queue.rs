//! The bounded queue in front of the store. Records that wait in it are stored in one commit.
//!
//! One task, the pump, takes everything that waits as one batch, stores it, and answers. While it waits for a
//! commit, new records accumulate, and they become the next batch. So batches grow with the load, without a timer
//! that would delay a lone request.
//!
//! The first record starts the pump, on the runtime of its caller. It ends with the queue.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;

use crate::catch_unwind::catch_unwind;
use crate::error::{InboxError, InboxErrorKind};
use crate::inserted::Inserted;
use crate::record::Record;
use crate::retention::Retention;
use crate::stats::{KindStats, Stats};
use crate::store::Store;

/// The limits of one commit: the number of records, and roughly the total size of their bodies.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// More than there can be at a time.
pub(super) const ALL_HANDLERS: u32 = 1 << 28;

pub(super) struct Queue<S> {
    pub(super) store: Arc<S>,
    /// Notified after each commit. Only a hint to the runners, which also poll the store.
    pub(super) stored: Arc<Notify>,
    /// Has a permit for each handler of all runners. One that has to be alone in this process takes all of them.
    pub(super) handlers: Arc<Semaphore>,
    /// What the runners delete, and the permit of the one that does.
    pub(super) retention: Option<Retention>,
    pub(super) sweeping: Arc<Semaphore>,
    capacity: usize,
    /// Has one permit for each place. A record holds a permit until its answer.
    room: Arc<Semaphore>,
    places: Mutex<Option<UnboundedSender<Place>>>,
    /// The kinds that any earlier [`Stats`] contained.
    kinds: Mutex<BTreeSet<String>>,
}

pub(super) type Answer = Result<Inserted, InboxError>;

/// Room for one record.
pub(super) type Room = OwnedSemaphorePermit;

struct Place {
    record: Record,
    answer: oneshot::Sender<Answer>,
    _room: Room,
}

impl<S: Store> Queue<S> {
    pub(super) fn new(store: Arc<S>, capacity: usize) -> Self {
        Self {
            store,
            stored: Arc::default(),
            handlers: Arc::new(Semaphore::new(usize::try_from(ALL_HANDLERS).unwrap_or(1))),
            retention: None,
            sweeping: Arc::new(Semaphore::new(1)),
            capacity,
            room: Arc::new(Semaphore::new(capacity.clamp(1, Semaphore::MAX_PERMITS))),
            places: Mutex::default(),
            kinds: Mutex::default(),
        }
    }

    /// Returns a queue of another capacity in front of the same store.
    pub(super) fn with_capacity(&self, capacity: usize) -> Self {
        let (stored, handlers) = (Arc::clone(&self.stored), Arc::clone(&self.handlers));
        let (retention, sweeping) = (self.retention.clone(), Arc::clone(&self.sweeping));
        let new = Self::new(Arc::clone(&self.store), capacity);
        Self { stored, handlers, retention, sweeping, ..new }
    }

    /// Returns a queue in front of the same store, whose runners delete what is too old.
    pub(super) fn with_retention(&self, retention: Retention) -> Self {
        Self { retention: Some(retention), ..self.with_capacity(self.capacity) }
    }

    /// Returns `None` if there is no room, or if others wait for it.
    pub(super) fn try_room(&self) -> Option<Room> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Waits for room.
    pub(super) async fn room(&self) -> Result<Room, InboxError> {
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())
    }

    /// Enqueues a record. From now on it is stored whether or not anybody waits for the answer.
    pub(super) fn push(&self, record: Record, room: Room) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let place = Place { record, answer, _room: room };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // If it is closed, the runtime of the last pump has ended.
        let running = places.take().filter(|sender| !sender.is_closed());
        let sender = running.unwrap_or_else(|| self.start());
        // If this fails, the answer is dropped with the place, and the caller learns it from that.
        let _ = sender.send(place);
        *places = Some(sender);
        answered
    }

    fn start(&self) -> UnboundedSender<Place> {
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(pump(Arc::clone(&self.store), Arc::clone(&self.stored), receiver));
        sender
    }
}

impl<S> Queue<S> {
    /// Returns an empty entry for each kind that earlier stats contained and these do not.
    pub(super) fn emptied(&self, stats: &Stats) -> Vec<KindStats> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.extend(stats.kinds.iter().map(|it| it.kind.clone()));
        let has_some = |kind: &&String| stats.kinds.iter().any(|it| it.kind == **kind);
        kinds.iter().filter(|kind| !has_some(kind)).map(|kind| KindStats::new(&**kind)).collect()
    }
}

async fn pump<S: Store>(store: Arc<S>, stored: Arc<Notify>, mut places: UnboundedReceiver<Place>) {
    let mut is_busy = false;
    while let Some(first) = places.recv().await {
        // Under load, the callers that were just answered are about to send their next record. One yield lets
        // them run, so that their records join this batch instead of waiting for the next.
        if is_busy {
            yield_now().await;
        }
        let batch = take_batch(first, &mut places);
        let (records, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|it| (it.record, (it.answer, it._room))).unzip();
        let panicked = || Err(InboxError::caused_by(InboxErrorKind::Store, "the store panicked"));
        let inserted = catch_unwind(async { store.insert(records).await }).await;
        let inserted = inserted.unwrap_or_else(panicked);
        stored.notify_waiters();
        is_busy = answers.len() > 1 || !places.is_empty();
        for (at, (answer, _room)) in answers.into_iter().enumerate() {
            // If the store returned too few answers, the rest does not count as stored.
            let missing = || Err(InboxError::new(InboxErrorKind::Store));
            let one = inserted.as_ref().map_err(Clone::clone);
            let one = one.map_or_else(Err, |all| all.get(at).copied().map_or_else(missing, Ok));
            // The caller may have gone away. The record is stored all the same.
            let _ = answer.send(one);
        }
    }
}

fn take_batch(first: Place, places: &mut UnboundedReceiver<Place>) -> Vec<Place> {
    let mut bytes = first.record.body.len();
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(place) = places.try_recv() else { break };
        bytes = bytes.saturating_add(place.record.body.len());
        batch.push(place);
    }
    batch
}

pub(super) fn closed() -> InboxError {
    InboxError::new(InboxErrorKind::Closed)
}
