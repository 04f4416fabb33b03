//! One attempt: a claimed notification, from its handler to the commit that settles it.
//!
//! Each attempt is a task of its own. A handler that is slow, or a commit that is, holds up only its object.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use crate::backoff::{Backoff, spread};
use crate::catch_unwind::catch_unwind;
use crate::confirm::{Confirm, Confirmed};
use crate::error::{BoxError, InboxError, InboxErrorKind, error_chain};
use crate::handler::{Context, Stored};
use crate::queue::{ALL_HANDLERS, Queue, closed};
use crate::record::{Record, Storable, dead_reason};
use crate::report::RunReport;
use crate::source::Source;
use crate::store::{Claim, Claimed, Outcome, Settled, Settlement, Store, Ticket};
use crate::telemetry;
use tower_inqud::{Rejection, Verdict, danger};

/// The maximum length of a stored error, in characters.
const ERROR_LEN: usize = 1000;

/// How many times in a row the process may end while it handles a notification. With the backoff of a file, that takes
/// a day, because something else can be what ends it.
const MAX_CRASHES: u32 = 150;

/// How long to wait before a settlement is tried again.
const SETTLE_AGAIN: Backoff =
    Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(1) };

/// What a [`Runner`](crate::Runner) is told about attempts.
pub(super) struct Rules {
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) handler_timeout: Duration,
    pub(super) handles_stale: bool,
    pub(super) skips_replays: bool,
    pub(super) newest_only: bool,
    pub(super) until_idle: bool,
    pub(super) confirm: Option<Arc<dyn Confirm>>,
    pub(super) on_error: Box<dyn Fn(&InboxError) + Send + Sync>,
}

/// What the attempts of one runner share.
pub(super) struct Attempts<S> {
    queue: Arc<Queue<S>>,
    rules: Rules,
    concurrency: usize,
    /// Has one permit for each handler that may run.
    slots: Arc<Semaphore>,
    /// Notified when a settlement has left its object due.
    pub(super) next_is_due: Notify,
    is_ending: AtomicBool,
    has_suspect: AtomicBool,
    had_suspect: AtomicBool,
    /// How many settlements take long, or are tried again.
    unsettled: AtomicUsize,
}

impl<S: Store> Attempts<S> {
    pub(super) fn new(queue: Arc<Queue<S>>, concurrency: usize, rules: Rules) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            queue,
            rules,
            concurrency,
            slots: Arc::new(Semaphore::new(concurrency)),
            next_is_due: Notify::new(),
            is_ending: AtomicBool::new(false),
            has_suspect: AtomicBool::new(false),
            had_suspect: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
        }
    }

    /// Returns how many more attempts can begin while `running` have not ended. Attempts that are being settled hold up
    /// no others, until there are three times as many attempts as handlers may run: while a third is committed, the next
    /// one waits for that, and the last is handled. A suspect holds up all others.
    pub(super) fn free(&self, running: usize) -> usize {
        if self.has_suspect.load(Ordering::Relaxed) {
            return 0;
        }
        let most = self.concurrency.saturating_mul(3).saturating_sub(running);
        self.slots.available_permits().min(most)
    }

    /// Waits until a handler has ended.
    pub(super) async fn slot(&self) {
        drop(self.slots.acquire().await);
    }

    pub(super) fn are_all_handling(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Lets `count` handlers run together with others, if no suspect runs in this process or waits to run alone.
    pub(super) fn join(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let handlers = Arc::clone(&self.queue.handlers);
        handlers.try_acquire_many_owned(u32::try_from(count).ok()?).ok()
    }

    /// Waits until no suspect runs in this process or waits to run alone.
    pub(super) async fn joinable(&self) {
        drop(self.queue.handlers.acquire().await);
    }

    /// Whether the attempt of a suspect has ended since the last call.
    pub(super) fn had_suspect(&self) -> bool {
        self.had_suspect.swap(false, Ordering::Relaxed)
    }

    /// Whether an expired lease can be that of an attempt of this runner, whose settlement is tried again.
    pub(super) fn has_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) > 0
    }

    /// Lets attempts give up settlements that the store fails to commit.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Reports an error of the store, unless the runner ends with it.
    pub(super) fn report(&self, error: InboxError) -> Result<(), InboxError> {
        if is_final(&error) || self.rules.until_idle {
            return Err(error);
        }
        telemetry::failed(&error);
        (self.rules.on_error)(&error);
        Ok(())
    }

    /// Claims a suspect and attempts it alone: while no other handler of this process runs. It waits for that before it
    /// claims, because a lease could expire meanwhile.
    pub(super) fn suspect<T, H>(
        self: &Arc<Self>,
        mut handler: H,
    ) -> impl Future<Output = Result<RunReport, InboxError>> + Send + use<S, T, H>
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        let suspect = Suspect::new(Arc::clone(self));
        let attempts = Arc::clone(self);
        async move {
            let handlers = Arc::clone(&attempts.queue.handlers);
            let Ok(alone) = handlers.acquire_many_owned(ALL_HANDLERS).await else {
                return Err(closed());
            };
            let ready = poll_fn(|task| handler.poll_ready(task)).await;
            let ready = ready.map(|()| handler).map_err(Into::into);
            if attempts.is_ending.load(Ordering::Relaxed) {
                return Ok(RunReport::default());
            }
            let Rules { handler_timeout, newest_only, .. } = attempts.rules;
            let claim = Claim::new(T::KIND, 1, handler_timeout.saturating_mul(2));
            let claim = claim.newest_first(newest_only).with_suspect(true);
            let claimed = match attempts.queue.store.claim(claim).await {
                Ok(claimed) => claimed,
                Err(error) => attempts.report(error).map(|()| Vec::new())?,
            };
            let Some(claimed) = claimed.into_iter().next() else {
                return Ok(RunReport::default());
            };
            let ended = attempts.begin::<T, H>(claimed, ready, Some(alone)).await;
            drop(suspect);
            ended
        }
    }

    /// Returns the attempt, which takes its slot at once. `permit` lets its handler run.
    pub(super) fn begin<T, H>(
        self: &Arc<Self>,
        claimed: Claimed,
        handler: Result<H, BoxError>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = Result<RunReport, InboxError>> + Send + use<S, T, H>
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        Arc::clone(self).attempt::<T, H>(claimed, handler, (slot, permit))
    }

    async fn attempt<T, H>(
        self: Arc<Self>,
        claimed: Claimed,
        handler: Result<H, BoxError>,
        permits: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
    ) -> Result<RunReport, InboxError>
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        let mut telemetry = telemetry::Attempt::begin(T::KIND, &claimed);
        let mut ticket = claimed.ticket.clone();
        let (failures, key) = (claimed.failures, claimed.key);
        let is_stale = ticket.verdict == Verdict::Stale && !self.rules.handles_stale;
        let is_skipped = is_stale || ticket.is_replay && self.rules.skips_replays;
        // A replay was confirmed the first time. What the API says now is about a later one.
        let confirmed = if is_skipped || ticket.is_replay {
            Confirmed::Yes
        } else {
            self.confirm(&claimed).await
        };
        let mut is_review_confirmed = false;
        let outcome = if is_skipped {
            Outcome::Skipped
        } else if confirmed == Confirmed::Superseded {
            // Whatever it was compared with, the API knows better.
            ticket.verdict = Verdict::Stale;
            Outcome::Skipped
        } else if ticket.verdict == Verdict::Review {
            is_review_confirmed = self.rules.confirm.is_some() && confirmed == Confirmed::Yes;
            Outcome::Review
        } else if let Confirmed::NotYet { after, reason } = confirmed {
            self.failure(&claimed.ticket, failures, &reason).no_sooner_than(after)
        } else if claimed.crashes > MAX_CRASHES {
            let times = claimed.crashes;
            Outcome::Dead {
                error: format!("the process ended {times} times in a row while it was handled"),
            }
        } else {
            let handled = self.handle(claimed, handler, &mut telemetry).await;
            ticket.completion_is_taken = handled.1;
            handled.0
        };
        drop(permits);
        let key = is_review_confirmed.then_some(key);
        let settled = self.settle(Settlement { ticket, outcome }, failures, telemetry).await;
        if let (Some(key), Ok(_)) = (key, &settled) {
            // It is handled as one that was reviewed. If this fails, it stays for review.
            let redriven = self.queue.store.redrive([key]).await;
            self.next_is_due.notify_one();
            redriven.map(drop).or_else(|error| self.report(error))?;
        }
        settled
    }

    /// Asks the API whether a notification is true, if the runner confirms.
    async fn confirm(&self, claimed: &Claimed) -> Confirmed {
        let half = self.rules.handler_timeout.checked_div(2).unwrap_or_default();
        match &self.rules.confirm {
            // The lease is for twice as long as the handler may take.
            Some(confirm) => confirm.confirm(claimed, half).await,
            None => Confirmed::Yes,
        }
    }

    /// Calls the handler. Returns also whether it has taken its completion.
    async fn handle<T, H>(
        &self,
        claimed: Claimed,
        handler: Result<H, BoxError>,
        telemetry: &mut telemetry::Attempt,
    ) -> (Outcome<S::Effect>, bool)
    where
        T: Storable,
        H: Service<(Stored<T>, Context<S>), Response = ()> + Send + 'static,
        H::Error: Into<BoxError> + Send,
        H::Future: Send,
    {
        let Rules { handler_timeout, .. } = self.rules;
        let cx = Context::new(&claimed, Arc::clone(&self.queue.store), handler_timeout);
        let is_undecodable = Record::is_undecodable(claimed.key, &claimed.ticket.object);
        let body = (claimed.body, claimed.source);
        let work = handle::<S, T, H>(handler, body, cx.clone(), is_undecodable);
        let work = telemetry.handling(timeout(handler_timeout, work));
        // All of it is merchant code: the handler, its drop after the timeout, its error and the drop of that.
        let handled = catch_unwind(async {
            match work.await {
                Ok(Ok(ended)) => Ok(ended),
                Ok(Err(error)) => Err(text(&error_chain(&*error))),
                Err(_) => Err("the handler timed out".to_owned()),
            }
        });
        let handled = handled.await.unwrap_or_else(|| Err("the handler panicked".to_owned()));
        let completion_is_taken = cx.completion_is_taken();
        drop(cx);
        let outcome = match handled {
            Ok(Ended::Undecodable(rejection)) => {
                Outcome::Dead { error: text(&dead_reason(&rejection)) }
            }
            Ok(Ended::Decoded(record)) => Outcome::Decoded(*record),
            Ok(Ended::Done(effects)) => {
                telemetry.handled();
                Outcome::Done(effects)
            }
            Err(error) => {
                telemetry.handled();
                self.failure(&claimed.ticket, claimed.failures, &error)
            }
        };
        (outcome, completion_is_taken)
    }

    /// Settles. If the store fails, it keeps the outcome and tries again.
    async fn settle(
        &self,
        mut settlement: Settlement<S::Effect>,
        failures: u32,
        mut telemetry: telemetry::Attempt,
    ) -> Result<RunReport, InboxError> {
        let mut report = RunReport::default();
        let half = self.rules.handler_timeout.checked_div(2).unwrap_or_default();
        let mut tries = Tries { unsettled: &self.unsettled, is_counted: false, count: 0 };
        loop {
            telemetry.decide(&settlement.outcome);
            let settled = {
                let mut settled = pin!(self.queue.store.settle(&mut settlement));
                match timeout(half, settled.as_mut()).await {
                    Ok(settled) => settled,
                    Err(_) => {
                        // The lease may expire before this ends.
                        tries.is_slow();
                        settled.await
                    }
                }
            };
            match settled {
                Ok(Settled::Done { next_is_due }) => {
                    if next_is_due {
                        self.next_is_due.notify_one();
                    }
                    telemetry.settled();
                    return Ok(report.plus(RunReport::of(&settlement.outcome)));
                }
                Ok(Settled::Completed { next_is_due }) => {
                    if next_is_due {
                        self.next_is_due.notify_one();
                    }
                    telemetry.completed();
                    let done = Outcome::<S::Effect>::Done(Vec::new());
                    return Ok(report.plus(RunReport::of(&done)));
                }
                Ok(Settled::LeaseExpired) => {
                    telemetry.lease_expired();
                    report.lease_expired = 1;
                    return Ok(report);
                }
                Ok(Settled::EffectFailed(error)) => {
                    settlement.outcome = self.failure(&settlement.ticket, failures, &error);
                }
                Ok(Settled::EffectRefused(error)) => {
                    settlement.outcome = Outcome::Dead { error: text(&error) };
                }
                Err(error) => {
                    let is_first = tries.again() == 1;
                    if is_first || is_final(&error) {
                        self.report(error)?;
                    }
                    if self.is_ending.load(Ordering::Relaxed) {
                        telemetry.unsettled();
                        return Ok(report);
                    }
                    let jitter =
                        spread((&settlement.ticket.object, settlement.ticket.claim, tries.count));
                    sleep(SETTLE_AGAIN.after(tries.count, jitter)).await;
                }
            }
        }
    }

    fn failure(&self, ticket: &Ticket, failures: u32, error: &str) -> Outcome<S::Effect> {
        let (error, attempts) = (text(error), failures.saturating_add(1));
        if attempts >= self.rules.max_attempts {
            return Outcome::Dead { error };
        }
        let jitter = spread((&ticket.object, ticket.claim));
        Outcome::Retry { after: self.rules.backoff.after(attempts, jitter), error }
    }
}

/// Decodes the body and calls the handler.
async fn handle<S, T, H>(
    handler: Result<H, BoxError>,
    (body, source): (Bytes, Source),
    cx: Context<S>,
    is_undecodable: bool,
) -> Result<Ended<S::Effect>, BoxError>
where
    S: Store,
    T: Storable,
    H: Service<(Stored<T>, Context<S>), Response = ()>,
    H::Error: Into<BoxError>,
{
    let event = match danger::decode::<T>(&body) {
        Ok(event) => event,
        Err(rejection) => return Ok(Ended::Undecodable(rejection)),
    };
    if is_undecodable {
        let record = Record { source, ..Record::new(&event, body) };
        return Ok(Ended::Decoded(Box::new(match cx.tenant() {
            Some(tenant) => record.of_tenant(tenant),
            None => record,
        })));
    }
    handler?.call((Stored::new(event, body, source), cx.clone())).await.map_err(Into::into)?;
    Ok(Ended::Done(cx.take()))
}

enum Ended<E> {
    Done(Vec<E>),
    Undecodable(Rejection),
    /// A body that was undecodable when it arrived can be decoded now. It is stored again under its own
    /// object, so that it is deduplicated and processed in order.
    Decoded(Box<Record>),
}

/// Marks that a suspect of this runner is attempted.
struct Suspect<S>(Arc<Attempts<S>>);

impl<S> Suspect<S> {
    fn new(attempts: Arc<Attempts<S>>) -> Self {
        attempts.has_suspect.store(true, Ordering::Relaxed);
        Self(attempts)
    }
}

impl<S> Drop for Suspect<S> {
    fn drop(&mut self) {
        self.0.has_suspect.store(false, Ordering::Relaxed);
        self.0.had_suspect.store(true, Ordering::Relaxed);
        // The next one, if there is any.
        self.0.next_is_due.notify_one();
    }
}

/// Counts how often the store has failed to commit one settlement.
struct Tries<'a> {
    unsettled: &'a AtomicUsize,
    is_counted: bool,
    count: u32,
}

impl Tries<'_> {
    fn again(&mut self) -> u32 {
        self.is_slow();
        self.count = self.count.saturating_add(1);
        self.count
    }

    fn is_slow(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.unsettled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.unsettled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether the store has failed for good.
fn is_final(error: &InboxError) -> bool {
    matches!(error.kind(), InboxErrorKind::Closed | InboxErrorKind::TakenOver)
}

fn text(error: &str) -> String {
    error.chars().take(ERROR_LEN).collect()
}
