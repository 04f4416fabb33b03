use std::collections::BTreeSet;
use std::fmt;
use std::future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tower_inqud::danger;

use crate::admin::Admin;
use crate::ask::{Answer, Answered, ask};
use crate::backoff::{Backoff, spread};
use crate::error::{InboxError, InboxErrorKind};
use crate::fetcher::Fetcher;
use crate::filter::{Cursor, Filter};
use crate::reconciled::{LookOutcome, ReconcileReport, Reconciled};
use crate::record::Storable;
use crate::schedule::Schedule;
use crate::state::State;
use crate::telemetry;
use crate::tenant;
use crate::watch::{Arrival, Compared, Look, NEVER, Next, Scheduled, WatchList};

/// How often to look for arrivals and due looks, unless set.
const POLL: Duration = Duration::from_secs(15);

/// How long an unanswered review waits before the API is asked about it again.
const REVIEW_AGAIN: Duration = Duration::from_secs(3600);

/// How long all looks wait after the API could not answer.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(300) };

/// How many notifications to read at once, and how many expected objects to schedule.
const BATCH: usize = 500;

/// How often, and after which time, to read again what transactions under way are about to store, before all that is due is
/// looked at.
const PATIENCE: u32 = 50;
const MOMENT: Duration = Duration::from_millis(20);

/// How long all looks wait at most if the API asks for it.
const ASKED: Duration = Duration::from_secs(3600);

/// How many notifications that are kept for review to read at once, and how many times in a turn. The next turn
/// continues after them.
const REVIEWS: usize = 100;
const PAGES: usize = 10;

/// Fetches objects of which a webhook may be lost, and stores what no webhook brought.
///
/// Created by [`Inbox::reconcile`](crate::Inbox::reconcile). See [the guide](crate::guide::reconcile).
#[must_use = "a reconciler does nothing until `run_until` is awaited"]
pub struct Reconciler<S, T> {
    store: Arc<S>,
    /// Notified after something was stored.
    stored: Arc<Notify>,
    fetcher: Fetcher<T>,
    schedule: Schedule,
    concurrency: usize,
    poll: Duration,
    is_dry: bool,
    /// Up to which notification those kept for review were read.
    reviews: Mutex<Option<Cursor>>,
}

impl<S, T> Reconciler<S, T>
where
    S: Admin + WatchList,
    T: Storable,
{
    pub(crate) fn new(store: Arc<S>, stored: Arc<Notify>, fetcher: Fetcher<T>) -> Self {
        Self {
            store,
            stored,
            fetcher,
            schedule: Schedule::default(),
            concurrency: 4,
            poll: POLL,
            is_dry: false,
            reviews: Mutex::default(),
        }
    }

    /// Sets when to look at an object that is expected to change: how long after its last webhook, or after it expired.
    ///
    /// Defaults to 15 minutes, 1 hour, 6 hours, 24 hours and 3 days, which makes five requests at most for a quiet
    /// object. Up to a tenth, and up to 5 minutes, is added at random.
    pub fn schedule(mut self, offsets: impl IntoIterator<Item = Duration>) -> Self {
        self.schedule.offsets(offsets);
        self
    }

    /// Sets how long after a final status to look at the object once more. Defaults to 24 hours.
    ///
    /// Inqud's support can change a final status. Raise it if that takes longer in your experience.
    pub fn confirm_after(mut self, after: Duration) -> Self {
        self.schedule.confirm(after);
        self
    }

    /// Sets how many objects are fetched at the same time. Defaults to 4. The minimum is 1.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets how long a call of the fetcher may take. Defaults to 30 s. After that it is dropped, and the object is looked
    /// at later.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetcher.timeout = timeout;
        self
    }

    /// Sets how often to read what has arrived and what is due. Defaults to 15 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll = interval.max(Duration::from_millis(1));
        self
    }

    /// Makes [`look_at`](Self::look_at) and [`reconcile_now`](Self::reconcile_now) change nothing.
    /// [`run_until`](Self::run_until) then does nothing at all.
    pub fn dry_run(mut self) -> Self {
        self.is_dry = true;
        self
    }

    /// Looks at objects when they are due, until `shutdown` completes. Several processes can run this for one store.
    ///
    /// During the shutdown no new look starts. The future completes when the running ones have ended.
    ///
    /// If the API cannot answer, all looks wait for up to 5 minutes, or for up to an hour if it asks for that. Then one
    /// more tries. Nothing else waits for them.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`](InboxErrorKind::Closed) if the inbox is closed while this runs. Other failures of the store are
    /// logged, and it continues.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), InboxError> {
        if self.is_dry {
            shutdown.await;
            return Ok(());
        }
        self.run(shutdown, false).await.map(drop)
    }

    /// Looks at everything that is due now, and returns the outcomes: for tests, and for a job that runs now and then.
    ///
    /// It ends early if the API cannot answer.
    ///
    /// # Errors
    ///
    /// Ends with the first error of the store.
    pub async fn run_until_idle(self) -> Result<ReconcileReport, InboxError> {
        if self.is_dry {
            return Ok(ReconcileReport::default());
        }
        self.run(future::pending(), true).await
    }

    /// Looks at one object now, whether or not it is on the watch list. `tenant` is the tenant that it belongs to, if
    /// any.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn look_at(&self, tenant: Option<&str>, id: &str) -> Result<Reconciled, InboxError> {
        let object = tenant::qualify(tenant, id);
        let answer = ask(&*self.store, &self.fetcher, &object, self.is_dry).await?;
        if !self.is_dry {
            self.stored.notify_waiters();
        }
        let reconciled = reconciled(&object, answer, false);
        if !self.is_dry {
            telemetry::looked(T::KIND, &reconciled);
        }
        Ok(reconciled)
    }

    /// Looks at objects now, one after the other. For progress, call [`look_at`](Self::look_at) for each instead.
    ///
    /// # Errors
    ///
    /// Ends with the first error of the store.
    pub async fn reconcile_now(
        &self,
        ids: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<Reconciled>, InboxError> {
        let mut all = Vec::new();
        for id in ids {
            all.push(self.look_at(None, id.as_ref()).await?);
        }
        Ok(all)
    }

    async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        until_idle: bool,
    ) -> Result<ReconcileReport, InboxError> {
        let mut shutdown = pin!(shutdown);
        let mut polls = interval(self.poll);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let concurrency = self.concurrency;
        let this = Arc::new(self);
        let mut looks: JoinSet<Result<Reconciled, InboxError>> = JoinSet::new();
        let mut report = ReconcileReport::default();
        let mut pause = Pause::default();
        let mut is_ending = false;
        // Transactions that are under way are about to end.
        let mut patience = 0..if until_idle { PATIENCE } else { 0 };
        while patience.next().is_some() && this.read_arrivals().await? {
            sleep(MOMENT).await;
        }
        // Whether something may have arrived that was not read yet, and whether a look may be due.
        let (mut may_have_arrived, mut may_be_due) = (true, true);
        loop {
            let free = concurrency.saturating_sub(looks.len());
            if may_be_due && !is_ending && free > 0 {
                let arrivals = std::mem::take(&mut may_have_arrived);
                match this.claim(arrivals, pause.room(free), &mut looks).await {
                    Ok(has_more) => may_be_due = has_more,
                    Err(error) if until_idle => return Err(error),
                    Err(error) => {
                        may_be_due = false;
                        report_error(error)?;
                    }
                }
            }
            if looks.is_empty() && (is_ending || until_idle && !may_be_due) {
                return Ok(report);
            }
            tokio::select! {
                // In this order, so that a simulation can repeat it. A poll is due rarely, so the others do not wait for it.
                biased;
                () = &mut shutdown, if !is_ending => is_ending = true,
                _ = polls.tick() => (may_have_arrived, may_be_due) = (true, true),
                Some(ended) = looks.join_next() => {
                    may_be_due = true;
                    // All that have ended, so that one claim replaces them.
                    let mut next = Some(ended);
                    while let Some(ended) = next {
                        let ended = ended.unwrap_or_else(|error| {
                            Err(InboxError::caused_by(InboxErrorKind::Store, error))
                        });
                        match ended {
                            Ok(reconciled) => {
                                pause.ended(&reconciled);
                                report.add(reconciled.outcome);
                            }
                            Err(error) if until_idle => return Err(error),
                            Err(error) => report_error(error)?,
                        }
                        next = looks.try_join_next();
                    }
                }
                () = pause.over(), if pause.is_on() && looks.is_empty() => may_be_due = true,
            }
        }
    }

    /// Schedules looks at what has arrived if `arrivals`, and starts up to `count` looks that are due. Returns whether more may be
    /// due.
    async fn claim(
        self: &Arc<Self>,
        arrivals: bool,
        count: usize,
        looks: &mut JoinSet<Result<Reconciled, InboxError>>,
    ) -> Result<bool, InboxError> {
        if arrivals {
            self.read_arrivals().await?;
            self.hasten_reviews().await?;
        }
        loop {
            if count == 0 {
                return Ok(false);
            }
            // Long enough for the store too. If it expires, the look is repeated, which costs a request.
            let lease = self.fetcher.timeout.saturating_mul(3);
            let claimed = self.store.claim_looks(T::KIND, count, lease).await?;
            let has_more = claimed.len() >= count;
            let (due, expected): (Vec<_>, Vec<_>) =
                claimed.into_iter().partition(|look| look.looks.is_some());
            let is_scheduled = !expected.is_empty();
            let first = expected.into_iter().map(|look| {
                let next = self.schedule.expected(&look);
                (look, next)
            });
            self.store.end_looks(first.collect()).await?;
            let has_started = !due.is_empty();
            for look in due {
                looks.spawn(Arc::clone(self).look(look));
            }
            if has_started || !is_scheduled {
                return Ok(has_more);
            }
        }
    }

    /// Returns whether some cannot be read yet.
    async fn read_arrivals(&self) -> Result<bool, InboxError> {
        loop {
            let arrived = self.store.arrived(T::KIND, BATCH, self.schedule.horizon()).await?;
            let scheduled: Vec<_> =
                arrived.arrivals.iter().filter_map(|it| self.scheduled(it)).collect();
            if arrived.reach.to > arrived.reach.from {
                self.store.schedule(T::KIND, arrived.reach, scheduled).await?;
            }
            if !arrived.has_more {
                return Ok(arrived.is_behind);
            }
        }
    }

    /// When to look at the object of a notification. `None` if nothing is known of it, because its body could not be
    /// decoded.
    fn scheduled(&self, arrival: &Arrival) -> Option<Scheduled> {
        let (_, id) = tenant::split(&arrival.object);
        let event = danger::decode::<T>(&arrival.body);
        let (is_open, quiet_until) = match &event {
            // The body of an object whose id is too long for the store cannot be fetched by that id.
            Ok(event) if event.id() != id => return None,
            Ok(event) => (event.is_open(), event.quiet_until().map(|it| it.as_microsecond())),
            // The body is deleted, because the notification was settled.
            Err(_) if arrival.body.is_empty() => (false, None),
            Err(_) => return None,
        };
        let this = (&arrival.object, arrival.seq);
        let [since, look_at] =
            self.schedule.arrived(this, arrival.received_at, is_open, quiet_until);
        let position = (arrival.order_key.position(), arrival.seq);
        let scheduled = Scheduled::new(arrival.object.clone(), position, since, look_at);
        Some(scheduled.fetched(arrival.is_fetched))
    }

    /// Makes objects due that have a notification kept for review: the API can tell what is true.
    async fn hasten_reviews(&self) -> Result<(), InboxError> {
        let read = || self.reviews.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..PAGES {
            let after = read().take();
            let reviews = Filter::from(State::Review).kind(T::KIND).after(after);
            let page = self.store.list(&reviews, REVIEWS).await?;
            let objects: BTreeSet<_> = page
                .entries
                .iter()
                .map(|entry| tenant::qualify(entry.tenant.as_deref(), &entry.object).into_owned())
                .collect();
            if !objects.is_empty() {
                let objects = objects.into_iter().collect();
                self.store.hasten(T::KIND, objects, REVIEW_AGAIN).await?;
            }
            if page.next.is_none() {
                break;
            }
            *read() = page.next;
        }
        Ok(())
    }

    async fn look(self: Arc<Self>, look: Look) -> Result<Reconciled, InboxError> {
        let answer = ask(&*self.store, &self.fetcher, &look.object, false).await?;
        self.stored.notify_waiters();
        let next = self.next(&look, &answer);
        let reconciled = reconciled(&look.object, answer, Schedule::may_be_missing(&look));
        telemetry::looked(T::KIND, &reconciled);
        self.store.end_looks(vec![(look, next)]).await?;
        Ok(reconciled)
    }

    fn next(&self, look: &Look, answer: &Answer) -> Next {
        let schedule = &self.schedule;
        match answer {
            Answer::State(Answered { compared, is_open, stored, .. }) => {
                let is_ahead = *compared == Compared::Ahead;
                let is_settled = *compared == Compared::Agreed && !is_open;
                let next = schedule.answered(look, is_settled, *is_open || is_ahead);
                match (next, stored) {
                    (next, None) => next,
                    (Next::Done, Some(_)) => {
                        Next::At { look_at: NEVER, looks: 0, failures: 0, stored: *stored }
                    }
                    (Next::At { look_at, looks, failures, .. }, Some(_)) => {
                        Next::At { look_at, looks, failures, stored: *stored }
                    }
                }
            }
            Answer::Missing { .. } => schedule.answered(look, false, true),
            Answer::Later { after, .. } => schedule.failed(look, *after),
            Answer::Useless { .. } => schedule.failed(look, None),
        }
    }
}

/// Reports an error of the store, unless it is final.
fn report_error(error: InboxError) -> Result<(), InboxError> {
    if matches!(error.kind(), InboxErrorKind::Closed | InboxErrorKind::TakenOver) {
        return Err(error);
    }
    telemetry::failed(&error);
    Ok(())
}

fn reconciled(object: &str, answer: Answer, may_be_missing: bool) -> Reconciled {
    let mut reviews = 0;
    let (outcome, status, reason, after) = match answer {
        Answer::State(answered) => {
            let outcome = match answered.compared {
                Compared::Agreed => LookOutcome::Agreed,
                Compared::Amended | Compared::Recovered => LookOutcome::Recovered,
                Compared::Ahead => LookOutcome::Ahead,
            };
            reviews = answered.reviews;
            (outcome, Some(answered.status), None, None)
        }
        Answer::Missing { is_known: false } if may_be_missing => {
            (LookOutcome::Later, None, Some("the API does not know it yet".to_owned()), None)
        }
        Answer::Missing { .. } => (LookOutcome::Missing, None, None, None),
        Answer::Later { after, reason } => {
            (LookOutcome::Later, None, Some(reason), Some(after.unwrap_or_default()))
        }
        Answer::Useless { reason } => (LookOutcome::Later, None, Some(reason), None),
    };
    let (tenant, id) = tenant::split(object);
    Reconciled { tenant, id: id.to_owned(), outcome, status, reason, reviews, after }
}

/// Holds up all looks after the API could not answer. One look tries again.
#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    fn ended(&mut self, reconciled: &Reconciled) {
        match reconciled.after {
            Some(after) => {
                // Looks that were started together fail together.
                if !self.is_on() {
                    self.failures = self.failures.saturating_add(1);
                }
                // Processes look at different objects, so they do not all try again at once.
                let jitter = spread((&reconciled.id, self.failures));
                let wait = PAUSE.after(self.failures, jitter).min(PAUSE.cap).max(after.min(ASKED));
                // A look in flight that fails otherwise does not shorten what the API asked for.
                self.until = self.until.max(Instant::now().checked_add(wait));
            }
            // An answer during the pause belongs to a look that was in flight when it began.
            None if reconciled.outcome != LookOutcome::Later && !self.is_on() => {
                *self = Self::default();
            }
            None => {}
        }
    }

    fn is_on(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }

    /// How many of `free` looks can start.
    fn room(&self, free: usize) -> usize {
        match self.failures {
            0 => free,
            _ if self.is_on() => 0,
            _ => 1,
        }
    }

    async fn over(&self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => future::pending().await,
        }
    }
}

impl<S, T> fmt::Debug for Reconciler<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("schedule", &self.schedule)
            .field("concurrency", &self.concurrency)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(after: Option<Duration>) -> Reconciled {
        let answer = Answer::Later { after, reason: "429".to_owned() };
        reconciled("CAPD-1", answer, false)
    }

    /// How long looks wait after this.
    fn wait(pause: &mut Pause, after: Option<Duration>) -> Duration {
        pause.ended(&later(after));
        pause.until.unwrap().duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_the_api_asks_within_an_hour() {
        for (asked, least, most) in [(0, 0, 5), (600, 600, 600), (86_400, 3600, 3600)] {
            let asked = Some(Duration::from_secs(asked));
            let wait = wait(&mut Pause::default(), asked).as_secs_f64();
            assert!((f64::from(least)..=f64::from(most)).contains(&wait), "{asked:?}: {wait}");
        }
        let mut pause = Pause::default();
        for _ in 0..100 {
            let wait = wait(&mut pause, None);
            assert!(wait <= PAUSE.cap, "{wait:?}");
            assert_eq!(pause.room(9), 0);
            tokio::time::advance(wait).await;
            assert_eq!(pause.room(9), 1, "one look tries");
        }
        let answer = Answer::Missing { is_known: true };
        pause.ended(&reconciled("CAPD-1", answer, false));
        assert_eq!(pause.room(9), 9, "the API has answered");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_in_flight_do_not_shorten_a_pause() {
        let (mut pause, hour) = (Pause::default(), Duration::from_secs(3600));
        assert_eq!(wait(&mut pause, Some(hour)), hour);
        assert_eq!(wait(&mut pause, None), hour);
        let answered = || reconciled("CAPD-1", Answer::Missing { is_known: true }, false);
        pause.ended(&answered());
        assert_eq!(pause.room(9), 0);
        tokio::time::advance(hour).await;
        assert_eq!(pause.room(9), 1, "one look tries");
        pause.ended(&answered());
        assert_eq!(pause.room(9), 9, "the API has answered");
    }
}
