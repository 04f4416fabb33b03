//! The bounded queue in front of the store. Records that wait in it are stored in one commit.
//!
//! # How batching works
//!
//! There is no background task that lives as long as the queue. The first record that finds no pump
//! running spawns one. The pump takes everything that waits as one batch, stores it, answers, and repeats
//! until nothing waits; then it ends. While it waits for a commit, new records accumulate, and they become
//! the next batch. So batches grow with the load, without a timer that would delay a lone request.
//!
//! A pump is spawned on the runtime of the caller. If that runtime shuts down during a commit, the pump is
//! dropped with records in hand, while callers on other runtimes may still wait for their answers. Then
//! `Drop` puts its batch back in front of the queue and wakes everyone who waits; the first of them starts
//! another pump. Without this, those callers would wait until their timeout, and the queue would never
//! drain.

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

/// The limits of one commit: the number of records, and roughly the total size of their bodies.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct Queue<S> {
    pub(super) store: Arc<S>,
    /// Notified after each commit. Only a hint to the runners, which also poll the store.
    pub(super) stored: Notify,
    /// Has one permit for each place. A record holds a permit from its arrival until its answer.
    room: Arc<Semaphore>,
    /// Notified when permits were returned, and when a pump was lost.
    freed: Notify,
    /// Notified when a pump was lost with its runtime.
    lost: Notify,
    waiting: Mutex<Waiting>,
    /// The kinds that any earlier [`Stats`] contained.
    kinds: Mutex<BTreeSet<String>>,
}

pub(super) type Answer = Result<Inserted, InboxError>;

#[derive(Default)]
struct Waiting {
    places: VecDeque<Place>,
    is_pumped: bool,
    /// Whether the last batch had more than one record, or left some waiting.
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

    /// Waits until there is room. It does not reserve a place.
    pub(super) async fn room(self: Arc<Self>) {
        loop {
            // Registered before the check, so that a place freed in between is not missed.
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            self.pump();
            freed.await;
            if !self.has_room() {
                // A runtime that shuts down drops each new pump at once, and each drop wakes this task.
                // Without the yield this loop would spin, and the runtime could not drop the task.
                yield_now().await;
            }
        }
    }

    /// Enqueues a record. From now on it is stored whether or not anybody waits for the answer. Returns
    /// `None` if there is no room.
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

    /// Waits for the answer to a record. While it waits, it restarts the pump if that is lost with the
    /// runtime of another caller.
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
            // See `room`.
            yield_now().await;
        }
    }

    /// Spawns a pump on the current runtime if records wait and no pump is running.
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
    /// Returns an empty entry for each kind that earlier stats contained and these do not.
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
            // Under load, the callers that were just answered are about to send their next record. One
            // yield lets them run, so that their records join this batch instead of waiting for the
            // next. A lone record skips the yield and is committed at once.
            if self.queue.is_busy() {
                yield_now().await;
            }
            if !self.take_batch() {
                self.is_done = true;
                break;
            }
            // The batch keeps a copy, because it is stored again if this pump is lost during the commit.
            // The store then treats each record like a retry by Inqud: a duplicate, or one for review if
            // another notification was stored in between.
            let records = self.batch.iter().map(|place| place.record.clone()).collect();
            let stored = insert(&*self.queue.store, records).await;
            self.queue.stored.notify_waiters();
            // Before any answer is sent. The caller may block or leave this runtime as soon as it has its
            // answer, and then a pump that still counted as running would hold up everyone else.
            self.is_done = self.end_if_nothing_waits();
            for (at, place) in self.batch.drain(..).enumerate() {
                // If the store returned too few answers, the rest does not count as stored.
                let missing = || Err(InboxError::new(InboxErrorKind::Store));
                let one = stored.as_ref().map_err(Clone::clone);
                let one = one.map_or_else(Err, |all| all.get(at).copied().map_or_else(missing, Ok));
                // The caller may have gone away. The record is stored all the same.
                let _ = place.answer.send(one);
            }
            // Wakes all waiters and not just one, because the one that is woken may not take the place.
            self.queue.freed.notify_waiters();
        }
    }

    /// Returns true if this pump can end because nothing waits. The next record then starts another.
    fn end_if_nothing_waits(&self) -> bool {
        let mut waiting = self.queue.waiting();
        waiting.is_pumped = !waiting.places.is_empty();
        waiting.is_busy = waiting.is_pumped || self.batch.len() > 1;
        !waiting.is_pumped
    }

    /// Takes the next batch. Returns false if nothing waits; the next record then starts another pump.
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

/// Calls the store, and turns a panic into an error.
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

/// The runtime shut down while the pump was working. Its batch goes back to the front of the queue in the
/// same order. Everyone who waits for an answer or for room is woken, and the first of them starts
/// another pump.
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
