//! In front of the store: bounded, and what waits in it is stored together.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;

use crate::admin::{KindStats, Stats};
use crate::error::{InboxError, InboxErrorKind};
use crate::record::Record;
use crate::store::{Inserted, Store};

/// How many records one commit covers at most, and about how many bytes of bodies.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct Queue<S> {
    pub(super) store: Arc<S>,
    /// Rings after something was stored. A hint: a runner looks from time to time anyway.
    pub(super) stored: Notify,
    /// A permit for each record from its arrival until it is answered.
    room: Arc<Semaphore>,
    /// Rings when permits are back, and when a pump was lost.
    freed: Notify,
    /// Rings when a pump was lost with its runtime.
    lost: Notify,
    waiting: Mutex<Waiting>,
    /// The kinds that had something at a look.
    kinds: Mutex<BTreeSet<String>>,
}

pub(super) type Answer = Result<Inserted, InboxError>;

#[derive(Default)]
struct Waiting {
    places: VecDeque<Place>,
    is_pumped: bool,
    /// Whether the last batch was of more than one, or left some waiting.
    is_busy: bool,
}

struct Place {
    record: Record,
    answer: oneshot::Sender<Answer>,
    _permit: OwnedSemaphorePermit,
}

impl<S: Store> Queue<S> {
    pub(super) fn new(store: Arc<S>, capacity: usize) -> Self {
        Self {
            store,
            stored: Notify::new(),
            room: Arc::new(Semaphore::new(capacity.clamp(1, Semaphore::MAX_PERMITS))),
            freed: Notify::new(),
            lost: Notify::new(),
            waiting: Mutex::default(),
            kinds: Mutex::default(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// Until there is room, of which it takes none.
    pub(super) async fn room(self: Arc<Self>) {
        loop {
            // Listens before it looks.
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            self.pump();
            freed.await;
            if !self.has_room() {
                // A runtime that is ending drops each pump at once: let it drop this too.
                yield_now().await;
            }
        }
    }

    /// Takes a record, which from now on is stored whether or not anybody waits for the answer; `None`
    /// if there is no room.
    pub(super) fn push(
        self: &Arc<Self>,
        record: impl FnOnce() -> Record,
    ) -> Option<oneshot::Receiver<Answer>> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.pump();
            return None;
        };
        let (answer, answered) = oneshot::channel();
        let place = Place { record: record(), answer, _permit: permit };
        self.waiting().places.push_back(place);
        self.pump();
        Some(answered)
    }

    /// The answer to a record. Who waits for it sees to it that there is a pump, for that of another
    /// runtime ends with it.
    pub(super) async fn answer(self: Arc<Self>, answered: oneshot::Receiver<Answer>) -> Answer {
        let mut answered = pin!(answered);
        loop {
            let lost = self.lost.notified();
            self.pump();
            tokio::select! {
                biased;
                answer = &mut answered => {
                    return answer.unwrap_or_else(|_| Err(InboxError::new(InboxErrorKind::Closed)));
                }
                () = lost => {}
            }
            // As above.
            yield_now().await;
        }
    }

    /// Starts a pump if something waits and there is none. It lives for as long as there is something
    /// to do, in whichever runtime calls.
    fn pump(self: &Arc<Self>) {
        let mut waiting = self.waiting();
        if waiting.is_pumped || waiting.places.is_empty() {
            return;
        }
        waiting.is_pumped = true;
        drop(waiting);
        tokio::spawn(Pump { queue: Arc::clone(self), batch: Vec::new(), is_done: false }.run());
    }
}

impl<S> Queue<S> {
    /// The kinds that had something at an earlier look, and have nothing now.
    pub(super) fn emptied(&self, stats: &Stats) -> Vec<KindStats> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.extend(stats.kinds.iter().map(|it| it.kind.clone()));
        let has_some = |kind: &&String| stats.kinds.iter().any(|it| it.kind == **kind);
        kinds.iter().filter(|kind| !has_some(kind)).map(|kind| KindStats::new(&**kind)).collect()
    }

    fn is_busy(&self) -> bool {
        self.waiting().is_busy
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pump<S> {
    queue: Arc<Queue<S>>,
    batch: Vec<Place>,
    is_done: bool,
}

impl<S: Store> Pump<S> {
    async fn run(mut self) {
        while !self.is_done {
            // Who was just answered, and who comes with them, are in the same commit. Where nobody else has
            // come of late there is nobody to wait for.
            if self.queue.is_busy() {
                yield_now().await;
            }
            if !self.take_batch() {
                self.is_done = true;
                break;
            }
            // A copy, because it is stored again if this pump is lost. The store then treats it as Inqud's own
            // repetition: a duplicate, or a payment to review if another came in between.
            let records = self.batch.iter().map(|place| place.record.clone()).collect();
            let stored = insert(&*self.queue.store, records).await;
            self.queue.stored.notify_waiters();
            // Before anybody is answered: this runtime may rest as soon as its own caller is.
            self.is_done = self.end_if_nothing_waits();
            for (at, place) in self.batch.drain(..).enumerate() {
                // A store that gives no answer has not said that it is stored.
                let missing = || Err(InboxError::new(InboxErrorKind::Store));
                let one = stored.as_ref().map_err(Clone::clone);
                let one = one.map_or_else(Err, |all| all.get(at).copied().map_or_else(missing, Ok));
                // Nobody waits any more, perhaps; it is stored none the less.
                let _ = place.answer.send(one);
            }
            // All, for whoever is told may make no use of it.
            self.queue.freed.notify_waiters();
        }
    }

    /// Then the next to come starts another pump.
    fn end_if_nothing_waits(&self) -> bool {
        let mut waiting = self.queue.waiting();
        waiting.is_pumped = !waiting.places.is_empty();
        waiting.is_busy = waiting.is_pumped || self.batch.len() > 1;
        !waiting.is_pumped
    }

    /// Whether anything waits; if not, the next to come starts another pump.
    fn take_batch(&mut self) -> bool {
        let mut waiting = self.queue.waiting();
        let mut bytes = 0_usize;
        while self.batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(place) = waiting.places.pop_front() else { break };
            bytes = bytes.saturating_add(place.record.body.len());
            self.batch.push(place);
        }
        waiting.is_pumped = !self.batch.is_empty();
        waiting.is_pumped
    }
}

/// A store that panics has failed.
async fn insert<S: Store>(store: &S, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
    let failed = || InboxError::caused_by(InboxErrorKind::Store, "the store panicked");
    let inserted =
        catch_unwind(AssertUnwindSafe(|| store.insert(records))).map_err(|_| failed())?;
    let mut inserted = pin!(inserted);
    poll_fn(|task| {
        let polled = catch_unwind(AssertUnwindSafe(|| inserted.as_mut().poll(task)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(failed())))
    })
    .await
}

/// Its runtime ended amid the work: what it had taken waits again, in its order, and whoever waits for
/// an answer or for room starts another pump.
impl<S> Drop for Pump<S> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = self.queue.waiting();
        for place in self.batch.drain(..).rev() {
            waiting.places.push_front(place);
        }
        waiting.is_pumped = false;
        drop(waiting);
        self.queue.lost.notify_waiters();
        self.queue.freed.notify_waiters();
    }
}
