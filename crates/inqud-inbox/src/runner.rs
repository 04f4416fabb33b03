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

/// How often to look for what is due, whatever the hints say.
const POLL: Duration = Duration::from_secs(1);

/// How long a kind with open notifications may be without a runner before there is a warning, and how often
/// a runner looks.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How many turns of the runtime a handler that has ended waits for others that are about to: so many at
/// most, and so many after the last that ended.
const TURNS: u8 = 64;
const QUIET: u8 = 3;

/// What is kept of an error, in characters.
const ERROR_LEN: usize = 1000;

/// Processes what an inbox holds of one type. See [the crate](crate#processing); made by
/// [`Inbox::process`](crate::Inbox::process).
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

    /// How many notifications to handle at once, each of another object. 16 unless set, and at least 1.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Maximum attempts before a notification becomes a dead letter. Defaults to 20, about 80 minutes with
    /// the default backoff. An attempt that ended the process counts too.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// How long an object waits after the first failure, and at most. 1 s and 10 minutes unless set;
    /// each wait is twice the one before, less up to a half at random.
    pub fn backoff(mut self, first: Duration, cap: Duration) -> Self {
        self.backoff = Backoff { first, cap };
        self
    }

    /// How long a handler may take; then it is dropped, and tried again. 60 s unless set. Objects are
    /// leased for twice as long: so long it takes until another process goes on with what a lost one
    /// had begun, where several share a store.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
        self
    }

    /// Calls the handler also for what is [stale](Verdict::Stale), that is older than what was processed; see
    /// [`Context::verdict`]. By default it is skipped, and its row kept. What is older is never taken for the
    /// latest of its object, handled or not.
    pub fn handle_stale(mut self) -> Self {
        self.handles_stale = true;
        self
    }

    /// Called with each failure of the store. The runner goes on; what it could not settle it handles
    /// again when the lease has passed. Nothing unless set; features `tracing` and `metrics`
    /// [tell more](crate#telemetry).
    pub fn on_error(mut self, callback: impl Fn(&InboxError) + Send + Sync + 'static) -> Self {
        self.on_error = Box::new(callback);
        self
    }

    /// Processes until `shutdown` is ready, and then ends when the handlers that run have ended, which
    /// they do within their [`handler_timeout`](Self::handler_timeout).
    ///
    /// Spawn it, beside the server: in a task of its own it settles more handlers in one commit than on
    /// the thread of `main`.
    ///
    /// To drop it instead is safe too: what was begun is begun again when its lease has passed.
    ///
    /// # Errors
    ///
    /// [`Closed`](InboxErrorKind::Closed) if the inbox is closed meanwhile.
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
    /// Ends with the first error of the store.
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
        // A clone of the handler that is not ready, and keeps its turn.
        let mut unready = None;
        // Not at once: other runners of this program may be about to begin.
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset_after(FIRST_LOOK);
        loop {
            let free = self.concurrency.saturating_sub(running.tasks.len());
            let free = if is_ending { 0 } else { free };
            // Listens before it looks: what is stored in between is heard.
            let mut stored = pin!(self.queue.stored.notified());
            stored.as_mut().enable();

            // Before it claims, for what waits for its handler is no attempt and needs no lease.
            let mut ready = poll_fn(|task| Poll::Ready(self.ready(free, &mut unready, task))).await;

            // Together, so that one commit of the store may cover both.
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
                // Nothing more is due. To hold what others wait for would keep them from it.
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
                    // What ends with it is settled in the same commit.
                    let (mut turns, mut quiet) = (0..TURNS, 0..QUIET);
                    while turns.next().is_some() && quiet.next().is_some() {
                        yield_now().await;
                        while let Some(ended) = running.tasks.try_join_next_with_id() {
                            settlements.extend(self.end(ended, &mut running));
                            quiet = 0..QUIET;
                        }
                    }
                }
                // What is settled without a handler must not keep it from the others.
                () = future::ready(()), if !settlements.is_empty() => {}
                _ = poll_fn(|task| poll_ready(unready.as_mut(), task)) => {}
                () = stored, if free > 0 => {}
                () = sleep(POLL), if !is_ending => {}
                _ = looks.tick(), if !is_ending => self.look(),
            }
        }
    }

    /// Warns of kinds that nobody processes, in a task of its own: nothing waits for it.
    fn look(&self) {
        let queue = Arc::clone(&self.queue);
        tokio::spawn(async move {
            for kind in queue.store.unclaimed(UNCLAIMED).await.unwrap_or_default() {
                telemetry::unclaimed(&kind);
            }
        });
    }

    /// Clones of the handler that are ready, or failed to be, and the first that is neither.
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

    /// Returns those whose effects failed, to be settled again.
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

    /// Calls the handler, unless it is clear without it what becomes of the notification.
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
            Outcome::Dead { error: "each attempt ended without a result".to_owned() }
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
    /// What could not be decoded when it came is to be stored as what it is, and processed in the order of its
    /// object and once.
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
        let task = self.tasks.spawn(async {
            work.await.unwrap_or_else(|_| Err("the handler took too long".into()))
        });
        self.tickets.insert(task.id(), ticket);
    }
}

/// Decodes too, for that is most of the work beside the handler's own, and is done by as many threads as
/// the runtime has.
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
