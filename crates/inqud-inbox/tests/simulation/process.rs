//! A process of the merchant: receivers and runners over one connection to the disk. It can end at any await.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use inqud_inbox::{Context, Inbox, InboxError, Reconciler, Runner, Storable, Stored};
use inqud_mock::SentBody;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_inqud::{Payment, PaymentRequest, Secret, Secrets, Subscription, Verifier, WebhookLayer};

use crate::api::Api;
use crate::bug::Bug;
use crate::disk::Disk;
use crate::ledger::LOOKS;
use crate::merchant::handle;
use crate::trace::NOBODY;
use crate::world::World;

/// What the runners are told. A lease lasts twice as long.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// When the reconciler looks, in seconds. In truth it takes days.
const SCHEDULE: [u64; LOOKS] = [2, 10, 60];
const CONFIRM: Duration = Duration::from_secs(90);

/// Whether a process is alive. What it has left behind stops at its next call.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) process: usize,
    generation: u32,
    is_over: AtomicBool,
}

impl Life {
    pub(crate) fn owner(&self) -> (usize, u32) {
        (self.process, self.generation)
    }

    /// Waits for ever in a process that has ended.
    pub(crate) async fn lives(&self) {
        if self.is_over.load(Ordering::SeqCst) {
            pending().await
        }
    }
}

/// What is told once to many. The `watch` of Tokio wakes them in an order of its own.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    is_given: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(crate) fn give(&self) {
        self.is_given.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    pub(crate) async fn given(&self) {
        let waiting = self.waiting.notified();
        if !self.is_given.load(Ordering::SeqCst) {
            waiting.await;
        }
    }
}

/// A type of notification that the merchant receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Request,
    Payment,
    Subscription,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Request, Self::Payment, Self::Subscription];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => PaymentRequest::KIND,
            Self::Payment => Payment::KIND,
            Self::Subscription => Subscription::KIND,
        }
    }
}

pub(crate) type Endpoint = BoxCloneService<Request<SentBody>, StatusCode, Infallible>;

pub(crate) struct Process {
    pub(crate) life: Arc<Life>,
    pub(crate) inbox: Inbox<Disk>,
    /// A service is no `Sync`.
    endpoints: Mutex<Vec<(Kind, Endpoint)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stop: Arc<Signal>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("life", &self.life).finish_non_exhaustive()
    }
}

pub(crate) static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("the secret of the simulation").unwrap());

/// A secret that was rotated out. Somebody has got hold of it.
pub(crate) static RETIRED_SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("the secret of last year").unwrap());

impl Process {
    /// Starts a process. `runs` is whether it has runners.
    pub(crate) fn start(
        world: &Arc<World>,
        (process, generation): (usize, u32),
        kinds: &[Kind],
        runs: bool,
    ) -> Arc<Self> {
        let life = Arc::new(Life { process, generation, is_over: AtomicBool::new(false) });
        let disk = Disk { world: Arc::clone(world), life: Arc::clone(&life) };
        let (capacity, limit) =
            world.draw(|random| (random.pick(&[1, 4, 64]), random.pick(&[1, 3, 64])));
        let inbox = Inbox::new(disk).capacity(capacity);
        let this = Arc::new(Self {
            life,
            inbox,
            endpoints: Mutex::default(),
            tasks: Mutex::default(),
            stop: Arc::default(),
        });
        world.note(process, "starts", NOBODY, u64::from(generation));
        let limit = GlobalConcurrencyLimitLayer::new(limit);
        for kind in kinds {
            match kind {
                Kind::Request => this.serve::<PaymentRequest>(world, *kind, &limit, runs),
                Kind::Payment => this.serve::<Payment>(world, *kind, &limit, runs),
                Kind::Subscription => this.serve::<Subscription>(world, *kind, &limit, runs),
            }
        }
        let (stop, inbox) = (Arc::clone(&this.stop), this.inbox.clone());
        this.spawn(async move {
            // A failure of the store is one of the faults.
            while timeout(Duration::from_secs(4), stop.given()).await.is_err() {
                let _ = inbox.stats().await;
            }
        });
        world.serving.lock().unwrap().push(Arc::clone(&this));
        this
    }

    fn serve<T: Storable>(
        &self,
        world: &Arc<World>,
        kind: Kind,
        limit: &GlobalConcurrencyLimitLayer,
        runs: bool,
    ) {
        let mut secrets = vec![SECRET.clone()];
        if world.has(Bug::AcceptsRetiredSecret) {
            secrets.push(RETIRED_SECRET.clone());
        }
        let verifier = Verifier::new(Secrets::new(secrets).unwrap()).diagnose(false);
        let mut receiver = self.inbox.receiver::<T>();
        if world.has(Bug::AnswersTooLate) {
            receiver = receiver.timeout(Duration::from_secs(30));
        }
        let service = WebhookLayer::<T>::new(verifier).layer(receiver);
        let service =
            ServiceExt::<Request<SentBody>>::map_response(service, |it: Response<_>| it.status());
        self.endpoints.lock().unwrap().push((kind, BoxCloneService::new(service)));
        if !runs {
            return;
        }
        let runner = self.runner::<T>(world, limit);
        let (stop, of_runner) = (Arc::clone(&self.stop), Arc::clone(world));
        self.spawn(async move {
            if let Err(error) = runner.run_until(stop.given()).await {
                of_runner.violate(format!("a runner ended with an error: {error}"));
            }
        });
        if world.reconciles {
            let reconciler = self.reconciler::<T>(world);
            let (stop, world) = (Arc::clone(&self.stop), Arc::clone(world));
            self.spawn(async move {
                if let Err(error) = reconciler.run_until(stop.given()).await {
                    world.violate(format!("a reconciler ended with an error: {error}"));
                }
            });
        }
    }

    fn runner<T: Storable>(
        &self,
        world: &Arc<World>,
        limit: &GlobalConcurrencyLimitLayer,
    ) -> Runner<
        Disk,
        T,
        impl Service<(Stored<T>, Context<Disk>), Response = (), Error = String, Future: Send>
        + Clone
        + Send
        + use<T>,
    > {
        let (of_handler, life) = (Arc::clone(world), Arc::clone(&self.life));
        let handler = service_fn(move |(stored, cx): (Stored<T>, Context<Disk>)| {
            handle(Arc::clone(&of_handler), Arc::clone(&life), stored, cx)
        });
        let concurrency = world.draw(|random| random.pick(&[1, 2, 16]));
        let runner = self
            .inbox
            .process_with(ServiceBuilder::new().layer(limit.clone()).service(handler))
            .concurrency(concurrency)
            .max_attempts(world.max_attempts)
            .backoff(BACKOFF[0], BACKOFF[1])
            .handler_timeout(HANDLER_TIMEOUT);
        let runner = if world.has(Bug::HandlesStale) { runner.handle_stale() } else { runner };
        if world.newest_only { runner.newest_only() } else { runner }
    }

    fn reconciler<T: Storable>(&self, world: &Arc<World>) -> Reconciler<Disk, T> {
        let api = Api { world: Arc::clone(world), life: Arc::clone(&self.life) };
        let concurrency = world.draw(|random| random.pick(&[1, 4]));
        self.inbox
            .reconcile::<T>(api)
            .schedule(SCHEDULE.map(Duration::from_secs))
            .confirm_after(CONFIRM)
            .fetch_timeout(Duration::from_secs(8))
            .poll_interval(Duration::from_secs(3))
            .concurrency(concurrency)
    }

    /// Looks at what is due, and handles what it stores: a job that runs now and then.
    pub(crate) async fn catch_up(&self, world: &Arc<World>, kind: Kind) -> Result<(), InboxError> {
        match kind {
            Kind::Request => self.catch_up_with::<PaymentRequest>(world).await,
            Kind::Payment => self.catch_up_with::<Payment>(world).await,
            Kind::Subscription => self.catch_up_with::<Subscription>(world).await,
        }
    }

    async fn catch_up_with<T: Storable>(&self, world: &Arc<World>) -> Result<(), InboxError> {
        self.reconciler::<T>(world).run_until_idle().await?;
        let limit = GlobalConcurrencyLimitLayer::new(64);
        self.runner::<T>(world, &limit).run_until_idle().await.map(drop)
    }

    /// Tells the watch list of an object.
    pub(crate) async fn expect(&self, kind: Kind, id: &str) -> Result<(), InboxError> {
        let now = Timestamp::UNIX_EPOCH;
        match kind {
            Kind::Request => self.inbox.expect::<PaymentRequest>(id, now).await,
            Kind::Payment => self.inbox.expect::<Payment>(id, now).await,
            Kind::Subscription => self.inbox.expect::<Subscription>(id, now).await,
        }
    }

    /// The endpoint of a kind.
    pub(crate) fn endpoint(&self, kind: Kind) -> Endpoint {
        let endpoints = self.endpoints.lock().unwrap();
        endpoints.iter().find(|it| it.0 == kind).unwrap().1.clone()
    }

    /// Runs a task until the process ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().push(tokio::spawn(task));
    }

    /// Ends now, wherever each of its tasks is.
    pub(crate) fn crash(&self, world: &World) {
        self.leave(world);
        world.note(self.life.process, "crashes", NOBODY, 0);
        self.end();
    }

    fn end(&self) {
        self.life.is_over.store(true, Ordering::SeqCst);
        self.tasks.lock().unwrap().iter().for_each(JoinHandle::abort);
    }

    fn leave(&self, world: &World) {
        let is_other = |it: &Arc<Self>| !Arc::ptr_eq(&it.life, &self.life);
        world.serving.lock().unwrap().retain(is_other);
    }

    /// Accepts no more calls, answers those that it has, lets the runners end, and ends.
    pub(crate) async fn shut_down(&self, world: &World) {
        self.leave(world);
        world.note(self.life.process, "shuts down", NOBODY, 0);
        self.stop.give();
        if world.has(Bug::LeavesClaims) {
            self.end();
        }
        loop {
            let next = self.tasks.lock().unwrap().pop();
            let Some(next) = next else { break };
            // A task that was aborted. A panic is reported by the hook.
            let _ = next.await;
        }
        self.life.is_over.store(true, Ordering::SeqCst);
        world.note(self.life.process, "has shut down", NOBODY, 0);
        let ended = world.ledger().ended(self.life.owner());
        world.check(ended);
    }
}
