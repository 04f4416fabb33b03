use std::fmt;
use std::future::{self, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{MissedTickBehavior, interval};
use tower_service::Service;

use crate::attempt::{Attempts, Rules};
use crate::backoff::Backoff;
use crate::confirm::Confirmer;
use crate::error::{BoxError, InboxError, InboxErrorKind};
use crate::fetch::Fetch;
use crate::fetcher::Fetcher;
use crate::handler::{Context, Stored};
use crate::queue::Queue;
use crate::record::Storable;
use crate::report::RunReport;
use crate::store::{Claim, Store};
use crate::telemetry;
use crate::watch::WatchList;
#[cfg(doc)]
use tower_inqud::Verdict;

/// How long to [`collect`] ended attempts before the next claim, in yields to the runtime: the maximum, and the number of
/// yields in a row without another.
const TURNS: u8 = 64;
const QUIET: u8 = 3;

/// How often to poll the store for due objects, in addition to the notifications of the queue.
const POLL: Duration = Duration::from_secs(1);

/// How long a kind may have open notifications and no runner before a warning, and how often a runner
/// checks for such kinds.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Processes the stored notifications of one type.
///
/// Created by [`Inbox::process`](crate::Inbox::process). See [the crate](crate#processing) for its
/// behaviour.
#[must_use = "a runner does nothing until `run_until` is awaited"]
pub struct Runner<S, T, H> {
    queue: Arc<Queue<S>>,
    handler: H,
    concurrency: usize,
    rules: Rules,
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
            rules: Rules {
                max_attempts: 300,
                backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(600) },
                handler_timeout: Duration::from_secs(60),
                handles_stale: false,
                skips_replays: false,
                newest_only: false,
                until_idle: false,
                confirm: None,
                on_error: Box::new(|_| {}),
            },
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
    /// Defaults to 300, which takes between 24 and 48 hours with the default backoff: an outage of a day in what
    /// your handler depends on makes no dead letters. The minimum is 1.
    ///
    /// An attempt that the end of the process cut short is no failure, and does not count. The notification is
    /// handled alone after that, while no other handler runs in this process. If the process ends more than 150 times in
    /// a row nevertheless, it becomes a dead letter.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.rules.max_attempts = attempts.max(1);
        self
    }

    /// Sets the wait after the first failed attempt, and the longest wait.
    ///
    /// Defaults to 1 s and 10 minutes. Each wait is twice the one before, minus a random part of up to a
    /// half. The object's other notifications wait too, so that they stay in order.
    pub fn backoff(mut self, first: Duration, cap: Duration) -> Self {
        self.rules.backoff = Backoff { first, cap };
        self
    }

    /// Sets how long a handler may take. After that it is dropped, and the notification is retried.
    ///
    /// Defaults to 60 s. Objects are leased for twice this time. If several processes share a store and
    /// one dies, the others take over its notifications when the leases expire. A shorter timeout makes that
    /// faster.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.rules.handler_timeout = timeout;
        self
    }

    /// Calls the handler for [stale](Verdict::Stale) notifications too.
    ///
    /// A stale notification is older than one of its object that was already processed. By default it is
    /// skipped and its row is kept. Set this if you record every notification, and check
    /// [`Context::verdict`] in the handler. A stale notification never becomes the latest of its object.
    pub fn handle_stale(mut self) -> Self {
        self.rules.handles_stale = true;
        self
    }

    /// Does not call the handler for [replays](Context::is_replay).
    ///
    /// A notification that was processed before, and that an operator [reprocesses](crate::Inbox::reprocess), is then
    /// skipped, with this reason. By default the handler is called. Set this if your handler does something that must
    /// not happen twice and that [`once`](Context) does not protect, such as sending an email.
    pub fn skip_replays(mut self) -> Self {
        self.rules.skips_replays = true;
        self
    }

    /// Handles the newest notification of each object first, and skips those that it makes stale.
    ///
    /// By default an object waits while one of its notifications is retried, so that its notifications are handled
    /// in order. With this, a newer one is handled at once when it arrives, and the one that failed is then skipped
    /// as [stale](Verdict::Stale). Use it if your handler needs the present state of the object and not each step on
    /// the way: a notification has the whole state. Notifications that cannot be
    /// [ordered](Verdict::Unordered) are all handled.
    pub fn newest_only(mut self) -> Self {
        self.rules.newest_only = true;
        self
    }

    /// Fetches the object of each notification before the handler runs, and calls the handler only if the API shows the
    /// state of the notification.
    ///
    /// Use it if you trust no webhook, and take it as a nudge only. If the API shows a later state, that is stored and
    /// handled, and the notification is skipped. If the API shows an earlier one, or cannot answer, the
    /// notification is retried. A fetched notification is not confirmed again.
    ///
    /// A notification for [review](Verdict::Review) is handled if the API shows its state, and skipped if it shows another.
    /// Run a [reconciler](crate::Inbox::reconcile) too: it answers those that are kept for review on receipt.
    ///
    /// At most `per_minute` objects are fetched in a minute, because each webhook makes a request with your credentials.
    /// Notifications beyond that are retried later. Each process counts for itself.
    pub fn confirm_with(mut self, fetcher: impl Fetch<T>, per_minute: u32) -> Self
    where
        S: WatchList,
    {
        let (store, stored) = (Arc::clone(&self.queue.store), Arc::clone(&self.queue.stored));
        let confirmer = Confirmer::new(store, stored, Fetcher::new(fetcher), per_minute);
        self.rules.confirm = Some(Arc::new(confirmer));
        self
    }

    /// Does the same as [`confirm_with`](Self::confirm_with), for the objects of
    /// [tenants](tower_inqud::Verifier::tenant). `fetcher` is that of a tenant, and of objects without one for `None`.
    ///
    /// Notifications of a tenant without a fetcher are retried.
    pub fn confirm_per_tenant<F: Fetch<T>>(
        mut self,
        fetcher: impl Fn(Option<&str>) -> Option<Arc<F>> + Send + Sync + 'static,
        per_minute: u32,
    ) -> Self
    where
        S: WatchList,
    {
        let (store, stored) = (Arc::clone(&self.queue.store), Arc::clone(&self.queue.stored));
        let confirmer = Confirmer::new(store, stored, Fetcher::of_any(fetcher), per_minute);
        self.rules.confirm = Some(Arc::new(confirmer));
        self
    }

    /// Sets a callback for failures of the store.
    ///
    /// Defaults to none. The runner continues after a failure. If it could not settle a notification, it keeps the
    /// outcome and tries again: the handler is not called again for that. Features `tracing` and `metrics` [report more](crate#telemetry).
    pub fn on_error(mut self, callback: impl Fn(&InboxError) + Send + Sync + 'static) -> Self {
        self.rules.on_error = Box::new(callback);
        self
    }

    /// Processes notifications until `shutdown` completes, then shuts down gracefully.
    ///
    /// During the shutdown no new handler starts. The future completes when the running handlers have
    /// ended, which takes at most the [`handler_timeout`](Self::handler_timeout).
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
        self.rules.until_idle = true;
        self.run(future::pending()).await
    }

    async fn run(self, shutdown: impl Future<Output = ()>) -> Result<RunReport, InboxError> {
        let Self { queue, handler, concurrency, rules, event: _ } = self;
        let mut handlers = Handlers { handler, unready: None };
        let until_idle = rules.until_idle;
        let lease = rules.handler_timeout.saturating_mul(2);
        let newest_first = rules.newest_only;
        let attempts = Arc::new(Attempts::<S>::new(Arc::clone(&queue), concurrency, rules));
        let mut tasks = JoinSet::new();
        let mut sweeps = JoinSet::new();
        let mut report = RunReport::default();
        let mut shutdown = pin!(shutdown);
        let mut is_ending = false;
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first check is delayed, because other runners of this program may be about to start.
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset_after(FIRST_LOOK);
        // Whether something may be due that was not claimed yet, and whether a suspect may be.
        let (mut may_be_due, mut may_be_suspect) = (true, true);
        // Registered before each claim. A notification that is stored after the claim has looked, but before the
        // `select!`, would otherwise wait for the next poll.
        let mut stored = pin!(queue.stored.notified());
        stored.as_mut().enable();
        let mut arrivals = queue.store.arrivals();
        // Each turn claims as much as there are free handlers, starts those, and then sleeps until something
        // happens.
        loop {
            let free = if is_ending { 0 } else { attempts.free(tasks.len()) };
            // Handlers become ready before anything is claimed. If it claimed first and a handler was not
            // ready, the notification would hold a lease while it waits.
            let wanted = if may_be_due { free } else { 0 };
            if wanted == 0 {
                // If it became ready now, nothing would be claimed for it.
                handlers.unready = None;
            }
            let mut ready = poll_fn(|task| {
                Poll::Ready(handlers.ready::<(Stored<T>, Context<S>)>(wanted, task))
            })
            .await;
            let was_idle = tasks.is_empty();
            let together = attempts.join(ready.len());
            let is_held_up = together.is_none();
            if let (false, Some(mut together)) = (ready.is_empty(), together) {
                let claim = Claim::new(T::KIND, ready.len(), lease).newest_first(newest_first);
                let claimed = match queue.store.claim(claim).await {
                    Ok(claimed) => claimed,
                    Err(error) => attempts.report(error).map(|()| Vec::new())?,
                };
                may_be_due = claimed.len() >= ready.len();
                for claimed in claimed {
                    let Some(handler) = ready.pop() else { break };
                    tasks.spawn(attempts.begin::<T, H>(claimed, handler, together.split(1)));
                }
            }
            if !ready.is_empty() {
                // A ready service may hold a permit of a limit that it shares with others, so it must not be
                // kept while there is no work for it.
                ready.clear();
                handlers.unready = None;
            }
            // After the claim, so that suspects and others take turns.
            may_be_suspect |= attempts.had_suspect();
            if may_be_suspect && !is_ending && attempts.free(0) > 0 && !attempts.has_unsettled() {
                may_be_suspect = false;
                match queue.store.has_suspect(T::KIND).await {
                    Ok(true) => {
                        tasks.spawn(attempts.suspect::<T, H>(handlers.handler.clone()));
                    }
                    Ok(false) => {}
                    Err(error) => attempts.report(error)?,
                }
            }
            if tasks.is_empty() && is_ending {
                return Ok(report);
            }
            if tasks.is_empty() && until_idle && !may_be_due {
                if was_idle {
                    return Ok(report);
                }
                // The claim came before the last settlement, which may have made an object due.
                may_be_due = true;
                continue;
            }
            // In a fixed order, because a random one could not be simulated. Rare events come first. Ended attempts come
            // before arrivals: arrivals can be ready in each turn, and attempts end only as often as they begin.
            tokio::select! {
                biased;
                () = &mut shutdown, if !is_ending => {
                    is_ending = true;
                    attempts.end();
                }
                _ = polls.tick() => (may_be_due, may_be_suspect) = (true, true),
                _ = looks.tick(), if !is_ending => {
                    look(&queue);
                    sweep(&queue, &attempts, &mut sweeps);
                }
                Some(ended) = tasks.join_next() => {
                    report = report.plus(result(&attempts, ended)?);
                    report = report.plus(collect(&attempts, &mut tasks).await?);
                    if until_idle && tasks.is_empty() {
                        may_be_due = true;
                    }
                }
                () = attempts.slot(), if attempts.are_all_handling() && !is_ending => {
                    report = report.plus(collect(&attempts, &mut tasks).await?);
                }
                () = stored.as_mut() => {
                    stored.set(queue.stored.notified());
                    stored.as_mut().enable();
                    may_be_due = true;
                }
                () = attempts.next_is_due.notified() => may_be_due = true,
                () = changed(arrivals.as_mut()) => may_be_due = true,
                () = attempts.joinable(), if is_held_up && !is_ending => {}
                _ = poll_fn(|task| handlers.poll_unready::<(Stored<T>, Context<S>)>(task)) => {}
            }
        }
    }
}

type Ended = Result<RunReport, InboxError>;

/// Waits a few yields for other handlers and attempts to end, because many end at about the same time. The next claim is
/// then for all of them: it costs about the same for one object as for many. A lone one is held up by a few yields.
async fn collect<S: Store>(attempts: &Attempts<S>, tasks: &mut JoinSet<Ended>) -> Ended {
    let mut report = RunReport::default();
    let (mut turns, mut quiet) = (0..TURNS, 0..QUIET);
    let mut free = 0;
    while turns.next().is_some() && quiet.next().is_some() {
        yield_now().await;
        while let Some(ended) = tasks.try_join_next() {
            report = report.plus(result(attempts, ended)?);
        }
        let now_free = attempts.free(tasks.len());
        if now_free > free {
            (free, quiet) = (now_free, 0..QUIET);
        }
    }
    Ok(report)
}

/// An attempt contains the panics of merchant code. Another one does not end the runner: the lease of the attempt expires.
fn result<S: Store>(attempts: &Attempts<S>, ended: Result<Ended, JoinError>) -> Ended {
    ended.unwrap_or_else(|error| {
        let error = InboxError::caused_by(InboxErrorKind::Store, error);
        attempts.report(error).map(|()| RunReport::default())
    })
}

/// A handler, and its clone whose `poll_ready` returned `Pending`.
///
/// That clone is kept between turns of the loop, because a tower service such as a concurrency limit queues the clone
/// that was polled. A new clone on each turn would lose its place each time, and never become ready under
/// contention.
struct Handlers<H> {
    handler: H,
    unready: Option<H>,
}

impl<H: Clone> Handlers<H> {
    /// Returns up to `count` clones of the handler that are ready or whose `poll_ready` failed.
    fn ready<R>(&mut self, count: usize, task: &mut task::Context<'_>) -> Vec<Result<H, BoxError>>
    where
        H: Service<R>,
        H::Error: Into<BoxError>,
    {
        let mut all = Vec::new();
        while all.len() < count {
            let mut handler = self.unready.take().unwrap_or_else(|| self.handler.clone());
            match handler.poll_ready(task) {
                Poll::Ready(ready) => all.push(ready.map(|()| handler).map_err(Into::into)),
                Poll::Pending => {
                    self.unready = Some(handler);
                    break;
                }
            }
        }
        all
    }

    fn poll_unready<R>(&mut self, task: &mut task::Context<'_>) -> Poll<()>
    where
        H: Service<R>,
    {
        let unready = self.unready.as_mut();
        unready.map_or(Poll::Pending, |handler| handler.poll_ready(task).map(drop))
    }
}

/// Waits for the next arrival in another process.
async fn changed(arrivals: Option<&mut watch::Receiver<()>>) {
    let Some(arrivals) = arrivals else { return future::pending().await };
    if arrivals.changed().await.is_err() {
        future::pending().await
    }
}

/// Warns of kinds that no runner processes. Runs in its own task, so that the loop does not wait.
fn look<S: Store>(queue: &Arc<Queue<S>>) {
    let store = Arc::clone(&queue.store);
    tokio::spawn(async move {
        for kind in store.unclaimed(UNCLAIMED).await.unwrap_or_default() {
            telemetry::unclaimed(&kind);
        }
    });
}

/// Deletes what is too old, unless another runner does. Runs in its own task, which ends with the runner.
fn sweep<S: Store>(queue: &Arc<Queue<S>>, attempts: &Arc<Attempts<S>>, sweeps: &mut JoinSet<()>) {
    while sweeps.try_join_next().is_some() {}
    let Some(retention) = queue.retention.clone() else { return };
    let Ok(turn) = Arc::clone(&queue.sweeping).try_acquire_owned() else { return };
    let (store, attempts) = (Arc::clone(&queue.store), Arc::clone(attempts));
    sweeps.spawn(async move {
        if let Err(error) = retention.sweep(&*store).await {
            // If the inbox is closed, the runner learns of it too.
            drop(attempts.report(error));
        }
        drop(turn);
    });
}

impl<S, T, H> fmt::Debug for Runner<S, T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("concurrency", &self.concurrency)
            .field("max_attempts", &self.rules.max_attempts)
            .field("backoff", &self.rules.backoff)
            .field("handler_timeout", &self.rules.handler_timeout)
            .field("handles_stale", &self.rules.handles_stale)
            .field("skips_replays", &self.rules.skips_replays)
            .field("newest_only", &self.rules.newest_only)
            .finish_non_exhaustive()
    }
}
