use std::collections::HashMap;
use std::fmt;
use std::future::{self, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{Id, JoinError, JoinSet, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower_service::Service;

use crate::backoff::Backoff;
use crate::error::error_chain;
use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::handler::{Context, Stored};
use crate::queue::Queue;
use crate::record::dead_reason;
use crate::record::{Record, Storable};
use crate::report::RunReport;
use crate::store::{Claimed, Outcome, Settled, Settlement, Store, Ticket};
use crate::telemetry;
use tower_inqud::Rejection;
use tower_inqud::{Verdict, danger};

/// How often to poll the store for due objects, in addition to the notifications of the queue.
const POLL: Duration = Duration::from_secs(1);

/// How long a kind may have open notifications and no runner before a warning, and how often a runner
/// checks for such kinds.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long to collect finished handlers before their settlements are committed, in yields to the
/// runtime: the maximum, and the number of yields in a row without another finished handler.
const TURNS: u8 = 64;
const QUIET: u8 = 3;

/// The maximum length of a stored error, in characters.
const ERROR_LEN: usize = 1000;

/// Processes the stored notifications of one type.
///
/// Created by [`Inbox::process`](crate::Inbox::process). See [the crate](crate#processing) for its
/// behaviour.
#[must_use = "a runner does nothing until `run_until` is awaited"]
pub struct Runner<S, T, H> {
    queue: Arc<Queue<S>>,
    handler: H,
    concurrency: usize,
    max_attempts: u32,
    backoff: Backoff,
    handler_timeout: Duration,
    handles_stale: bool,
    until_idle: bool,
    on_error: Box<dyn Fn(&InboxError) + Send + Sync>,
    event: PhantomData<fn() -> T>,
}

impl<S, T, H> Runner<S, T, H>
where
    S: Store,
    T: Storable,
    H: Service<(Stored<T>, Context<S>), Response = ()> + Clone + Send + 'static,
    H::Error: Into<BoxError> + Send,
    H::Future: Send,
{
    pub(super) fn new(queue: Arc<Queue<S>>, handler: H) -> Self {
        Self {
            queue,
            handler,
            concurrency: 16,
            max_attempts: 20,
            backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(600) },
            handler_timeout: Duration::from_secs(60),
            handles_stale: false,
            until_idle: false,
            on_error: Box::new(|_| {}),
            event: PhantomData,
        }
    }

    /// Sets how many handlers run concurrently, each for a different object.
    ///
    /// Defaults to 16. The minimum is 1. Raise it if handlers wait for other services; lower it if those
    /// services limit you.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets the maximum number of attempts before a notification becomes a dead letter.
    ///
    /// Defaults to 20, which takes about 80 minutes with the default backoff. The minimum is 1. Raise it to
    /// outlast longer outages of what your handler depends on. An attempt during which the process ended
    /// counts too.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Sets the wait after the first failed attempt, and the longest wait.
    ///
    /// Defaults to 1 s and 10 minutes. Each wait is twice the one before, minus a random part of up to a
    /// half. The object's other notifications wait too, so that they stay in order.
    pub fn backoff(mut self, first: Duration, cap: Duration) -> Self {
        self.backoff = Backoff { first, cap };
        self
    }

    /// Sets how long a handler may take. After that it is dropped, and the notification is retried.
    ///
    /// Defaults to 60 s. Objects are leased for twice this time. If several processes share a store and
    /// one dies, the others take over its notifications when the leases expire. A shorter timeout makes that
    /// faster.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
        self
    }

    /// Calls the handler for [stale](Verdict::Stale) notifications too.
    ///
    /// A stale notification is older than one of its object that was already processed. By default it is
    /// skipped and its row is kept. Set this if you record every notification, and check
    /// [`Context::verdict`] in the handler. A stale notification never becomes the latest of its object.
    pub fn handle_stale(mut self) -> Self {
        self.handles_stale = true;
        self
    }

    /// Sets a callback for failures of the store.
    ///
    /// Defaults to none. The runner continues after a failure. A notification that it could not settle is
    /// handled again when its lease expires. Features `tracing` and `metrics` [report more](crate#telemetry).
    pub fn on_error(mut self, callback: impl Fn(&InboxError) + Send + Sync + 'static) -> Self {
        self.on_error = Box::new(callback);
        self
    }

    /// Processes notifications until `shutdown` completes, then shuts down gracefully.
    ///
    /// During the shutdown no new handler starts. The future completes when the running handlers have
    /// ended, which takes at most the [`handler_timeout`](Self::handler_timeout).
    ///
    /// Spawn it as a task of its own. There it settles more notifications in one commit than on the main
    /// thread.
    ///
    /// Dropping the future is safe. Notifications in flight are handled again when their leases expire.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`](InboxErrorKind::Closed) if the inbox is closed while this runs.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), InboxError> {
        self.run(shutdown).await.map(drop)
    }

    /// Processes until nothing is due and no handler runs, and returns what became of the notifications: for
    /// tests.
    ///
    /// A notification that waits for a retry is not due. Set [`backoff`](Self::backoff) to zero to have it
    /// retried at once, until it succeeds or is a dead letter. A notification that another runner has leased
    /// is not due either.
    ///
    /// # Errors
    ///
    /// Ends with the first error of the store, except that a store may report a failed settlement as
    /// [`lease_expired`](RunReport::lease_expired).
    ///
    /// # Example
    ///
    /// ```
    /// use inqud_inbox::{Context, Inbox, Memory, Record, Store, Stored};
    /// use std::time::Duration;
    /// use tower_inqud::{PaymentRequest, danger};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Inbox::memory();
    /// // Or through a receiver, as Inqud delivers it.
    /// let body = br#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    /// let request: PaymentRequest = danger::decode(body)?;
    /// inbox.store().insert(vec![Record::new(&request, body.as_slice().into())]).await?;
    ///
    /// let handler = async |_: Stored<PaymentRequest>, cx: Context<Memory>| match cx.attempt() {
    ///     1 => Err("not yet"),
    ///     _ => Ok(()),
    /// };
    /// let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
    /// let report = runner.run_until_idle().await?;
    /// assert_eq!((report.retried, report.done), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_until_idle(mut self) -> Result<RunReport, InboxError> {
        self.until_idle = true;
        self.run(future::pending()).await
    }

    async fn run(self, shutdown: impl Future<Output = ()>) -> Result<RunReport, InboxError> {
        let mut report = RunReport::default();
        let mut shutdown = pin!(shutdown);
        let mut is_ending = false;
        let mut running = Running { tasks: JoinSet::new(), tickets: HashMap::new() };
        let mut settlements = Vec::new();
        // A clone of the handler whose `poll_ready` returned `Pending`. It is kept between turns of the
        // loop, because a tower service such as a concurrency limit queues the clone that was polled. A new
        // clone on each turn would lose its place each time, and never become ready under contention.
        let mut unready = None;
        // The first check is delayed, because other runners of this program may be about to start.
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset_after(FIRST_LOOK);
        // Each turn settles what has ended, claims as much as there are free handlers, starts those, and
        // then sleeps until something happens.
        loop {
            let free = self.concurrency.saturating_sub(running.tasks.len());
            let free = if is_ending { 0 } else { free };
            // Registered before the claim below. A notification that is stored after the claim has looked,
            // but before the `select!`, would otherwise wait for the next poll.
            let mut stored = pin!(self.queue.stored.notified());
            stored.as_mut().enable();

            // Handlers become ready before anything is claimed. If it claimed first and a handler was not
            // ready, the notification would hold a lease and have an attempt counted while it waits.
            let mut ready = poll_fn(|task| Poll::Ready(self.ready(free, &mut unready, task))).await;

            // At the same time, so that the store can cover both with one commit.
            let is_settling = !settlements.is_empty();
            let settle = self.settle(std::mem::take(&mut settlements), &mut report);
            let (failed, claimed) = tokio::join!(settle, self.claim(ready.len()));
            settlements.extend(failed?);
            for claimed in claimed? {
                let Some(handler) = ready.pop() else { break };
                self.begin(claimed, handler, &mut running, &mut settlements);
            }
            let is_idle = !ready.is_empty() && running.tasks.is_empty() && settlements.is_empty();
            if !ready.is_empty() {
                // Nothing more is due. A ready service may hold a permit of a limit that it shares with
                // others, so it must not be kept while there is no work for it.
                ready.clear();
                unready = None;
            }
            if is_ending && running.tasks.is_empty() && settlements.is_empty() {
                return Ok(report);
            }
            if self.until_idle && is_idle {
                if is_settling {
                    // The claim may have come before the settlement that made an object due.
                    continue;
                }
                return Ok(report);
            }
            tokio::select! {
                () = &mut shutdown, if !is_ending => is_ending = true,
                Some(ended) = running.tasks.join_next_with_id() => {
                    settlements.extend(self.end(ended, &mut running));
                    // Many handlers end at about the same time. One commit costs the same for one
                    // settlement as for many, so this waits a few yields for more to end. It stops
                    // after three yields in a row without any, so that a lone handler is not delayed.
                    let (mut turns, mut quiet) = (0..TURNS, 0..QUIET);
                    while turns.next().is_some() && quiet.next().is_some() {
                        yield_now().await;
                        while let Some(ended) = running.tasks.try_join_next_with_id() {
                            settlements.extend(self.end(ended, &mut running));
                            quiet = 0..QUIET;
                        }
                    }
                }
                // Settlements without a handler (skipped, review, or an effect that failed) start the next
                // turn at once. Otherwise they would wait for the next event.
                () = future::ready(()), if !settlements.is_empty() => {}
                _ = poll_fn(|task| poll_ready(unready.as_mut(), task)) => {}
                () = stored, if free > 0 => {}
                () = sleep(POLL), if !is_ending => {}
                _ = looks.tick(), if !is_ending => self.look(),
            }
        }
    }

    /// Warns of kinds that no runner processes. Runs in its own task, so that the loop does not wait.
    fn look(&self) {
        let queue = Arc::clone(&self.queue);
        tokio::spawn(async move {
            for kind in queue.store.unclaimed(UNCLAIMED).await.unwrap_or_default() {
                telemetry::unclaimed(&kind);
            }
        });
    }

    /// Returns up to `count` clones of the handler that are ready or whose `poll_ready` failed. The first
    /// clone that is still pending goes into `unready`.
    fn ready(
        &self,
        count: usize,
        unready: &mut Option<H>,
        task: &mut task::Context<'_>,
    ) -> Vec<Result<H, BoxError>> {
        let mut all = Vec::new();
        let mut first = unready.take();
        while all.len() < count {
            let mut handler = first.take().unwrap_or_else(|| self.handler.clone());
            match handler.poll_ready(task) {
                Poll::Ready(ready) => all.push(ready.map(|()| handler).map_err(Into::into)),
                Poll::Pending => {
                    *unready = Some(handler);
                    break;
                }
            }
        }
        all
    }

    async fn claim(&self, count: usize) -> Result<Vec<Claimed>, InboxError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let lease = self.handler_timeout.saturating_mul(2);
        match self.queue.store.claim(T::KIND, count, lease).await {
            Ok(claimed) => Ok(claimed),
            Err(error) => self.report_error(error).map(|()| Vec::new()),
        }
    }

    /// Settles, and returns those whose effects failed. Their new outcome is a retry or a dead letter.
    async fn settle(
        &self,
        settlements: Vec<Unsettled<S::Effect>>,
        report: &mut RunReport,
    ) -> Result<Vec<Unsettled<S::Effect>>, InboxError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let (settlements, mut attempts): (Vec<_>, Vec<_>) = settlements.into_iter().unzip();
        let mut tickets = Vec::with_capacity(settlements.len());
        for (settlement, attempt) in settlements.iter().zip(&mut attempts) {
            tickets.push((settlement.ticket.clone(), RunReport::of(&settlement.outcome)));
            attempt.telemetry.decide(&settlement.outcome);
        }
        let settled = match self.queue.store.settle(settlements).await {
            Ok(settled) => settled,
            Err(error) => {
                attempts.into_iter().for_each(|attempt| attempt.telemetry.unsettled());
                return self.report_error(error).map(|()| Vec::new());
            }
        };
        let mut failed = Vec::new();
        for (((ticket, of_outcome), attempt), settled) in
            tickets.into_iter().zip(attempts).zip(settled)
        {
            match settled {
                Settled::Done => {
                    *report = report.plus(of_outcome);
                    attempt.telemetry.settled();
                }
                Settled::LeaseExpired => {
                    report.lease_expired = report.lease_expired.saturating_add(1);
                    attempt.telemetry.lease_expired();
                }
                Settled::EffectFailed(error) => {
                    let outcome = self.failure(attempt.number, &error);
                    failed.push((Settlement { ticket, outcome }, attempt));
                }
            }
        }
        Ok(failed)
    }

    fn report_error(&self, error: InboxError) -> Result<(), InboxError> {
        if error.kind() == InboxErrorKind::Closed || self.until_idle {
            return Err(error);
        }
        telemetry::failed(&error);
        (self.on_error)(&error);
        Ok(())
    }

    /// Starts the handler, unless the outcome is known without it.
    fn begin(
        &self,
        claimed: Claimed,
        handler: Result<H, BoxError>,
        running: &mut Running<S::Effect>,
        settlements: &mut Vec<Unsettled<S::Effect>>,
    ) {
        let cx = Context::new(&claimed, Arc::clone(&self.queue.store), self.handler_timeout);
        let telemetry = telemetry::Attempt::begin(T::KIND, &claimed);
        let Claimed { ticket, key, body, attempt: number, .. } = claimed;
        let mut attempt = Attempt { number, telemetry };
        let outcome = if ticket.verdict == Verdict::Stale && !self.handles_stale {
            Outcome::Skipped
        } else if ticket.verdict == Verdict::Review {
            Outcome::Review
        } else if number > self.max_attempts {
            // Only the end of the process, or a store that failed to settle, leaves an attempt without
            // a result.
            Outcome::Dead {
                error: "every attempt ended without a result: check whether the handler ends the process"
                    .to_owned(),
            }
        } else {
            let is_undecodable = Record::is_undecodable(key, &ticket.object);
            let work = attempt.telemetry.handling(handle(handler, body, cx, is_undecodable));
            running.spawn((ticket, attempt), self.handler_timeout, work);
            return;
        };
        settlements.push((Settlement { ticket, outcome }, attempt));
    }

    fn end(
        &self,
        ended: Result<(Id, Handled<S::Effect>), JoinError>,
        running: &mut Running<S::Effect>,
    ) -> Option<Unsettled<S::Effect>> {
        let (id, handled) = match ended {
            Ok((id, handled)) => (id, handled),
            Err(error) => (error.id(), Err("the handler panicked".into())),
        };
        let (ticket, mut attempt) = running.tickets.remove(&id)?;
        let outcome = match handled {
            Ok(Ended::Done(effects)) => {
                attempt.telemetry.handled();
                Outcome::Done(effects)
            }
            Ok(Ended::Undecodable(rejection)) => {
                Outcome::Dead { error: text(&dead_reason(&rejection)) }
            }
            Ok(Ended::Decoded(record)) => Outcome::Decoded(record),
            Err(error) => {
                attempt.telemetry.handled();
                self.failure(attempt.number, &error_chain(&*error))
            }
        };
        Some((Settlement { ticket, outcome }, attempt))
    }

    fn failure(&self, attempt: u32, error: &str) -> Outcome<S::Effect> {
        let error = text(error);
        if attempt >= self.max_attempts {
            return Outcome::Dead { error };
        }
        Outcome::Retry { after: self.backoff.after(attempt), error }
    }
}

struct Running<E> {
    tasks: JoinSet<Handled<E>>,
    tickets: HashMap<Id, (Ticket, Attempt)>,
}

struct Attempt {
    number: u32,
    telemetry: telemetry::Attempt,
}

type Unsettled<E> = (Settlement<E>, Attempt);

type Handled<E> = Result<Ended<E>, BoxError>;

enum Ended<E> {
    Done(Vec<E>),
    Undecodable(Rejection),
    /// A body that was undecodable when it arrived can be decoded now. It is stored again under its own
    /// object, so that it is deduplicated and processed in order.
    Decoded(Record),
}

impl<E: Send + 'static> Running<E> {
    fn spawn(
        &mut self,
        ticket: (Ticket, Attempt),
        handler_timeout: Duration,
        work: impl Future<Output = Handled<E>> + Send + 'static,
    ) {
        let work = timeout(handler_timeout, work);
        let task = self
            .tasks
            .spawn(async { work.await.unwrap_or_else(|_| Err("the handler timed out".into())) });
        self.tickets.insert(task.id(), ticket);
    }
}

/// Decodes the body and calls the handler. Decoding is most of the work besides the handler's own. Here, in
/// the handler's task, it runs on all threads of the runtime and not on the one of the loop.
async fn handle<S, T, H>(
    handler: Result<H, BoxError>,
    body: Bytes,
    cx: Context<S>,
    is_undecodable: bool,
) -> Handled<S::Effect>
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
        return Ok(Ended::Decoded(Record::new(&event, body)));
    }
    handler?.call((Stored::new(event, body), cx.clone())).await.map_err(Into::into)?;
    Ok(Ended::Done(cx.take()))
}

fn poll_ready<R, H: Service<R>>(
    handler: Option<&mut H>,
    task: &mut task::Context<'_>,
) -> Poll<Result<(), H::Error>> {
    handler.map_or(Poll::Pending, |handler| handler.poll_ready(task))
}

fn text(error: &str) -> String {
    error.chars().take(ERROR_LEN).collect()
}

impl<S, T, H> fmt::Debug for Runner<S, T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("concurrency", &self.concurrency)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("handler_timeout", &self.handler_timeout)
            .field("handles_stale", &self.handles_stale)
            .finish_non_exhaustive()
    }
}
