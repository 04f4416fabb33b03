use super::*;

/// A store in memory that can be delayed and made to fail.
#[derive(Debug)]
pub(crate) struct Moody {
    pub(crate) memory: Memory,
    pub(crate) gate: Semaphore,
    /// Gets a permit for each insert that begins.
    pub(crate) begun: Semaphore,
    pub(crate) fails: AtomicBool,
    /// Whether only settlements fail.
    pub(crate) fails_to_settle: AtomicBool,
    /// The number of bytes of bodies in each commit.
    pub(crate) commits: Mutex<Vec<usize>>,
    /// How long it takes to settle CAPD-99.
    pub(crate) slow_settlement: Duration,
    pub(crate) panics: AtomicBool,
    /// How often something was deleted.
    pub(crate) sweeps: AtomicUsize,
}

impl Moody {
    pub(crate) fn inbox(gate: usize) -> Inbox<Self> {
        Inbox::new(Self {
            memory: Memory::default(),
            gate: Semaphore::new(gate),
            begun: Semaphore::new(0),
            fails: AtomicBool::new(false),
            fails_to_settle: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            sweeps: AtomicUsize::new(0),
            commits: Mutex::default(),
            slow_settlement: Duration::from_secs(5),
        })
    }

    fn mood(&self) -> Result<(), InboxError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(InboxError::caused_by(InboxErrorKind::Store, "the disk is full"));
        }
        Ok(())
    }
}

impl Sealed for Moody {}

impl Admin for Moody {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.memory.stats().await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.memory.unclaimed(since).await
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        self.memory.list(filter, limit).await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        self.memory.replay(numbers, dry_run).await
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.memory.import(records).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.redrive(keys).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.discard(keys).await
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.memory.prune(age, count).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        self.memory.objects_of_order(order_id).await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        self.memory.erase_object(object, is_forced).await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.memory.rejections(limit).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        self.sweeps.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs(10)).await;
        self.memory.sweep_batch(sweep, limit).await
    }
}

impl Store for Moody {
    type Effect = <Memory as Store>::Effect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.begun.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        assert!(!self.panics.load(Ordering::SeqCst), "a bug");
        self.mood()?;
        self.commits.lock().unwrap().push(records.iter().map(|it| it.body.len()).sum());
        self.memory.insert(records).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        self.mood()?;
        self.memory.claim(claim).await
    }

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        self.memory.has_suspect(kind).await
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<Self::Effect>,
    ) -> Result<Settled, InboxError> {
        if *settlement.ticket.object == *"CAPD-99" {
            sleep(self.slow_settlement).await;
        }
        self.mood()?;
        if self.fails_to_settle.load(Ordering::SeqCst) {
            return Err(InboxError::new(InboxErrorKind::Store));
        }
        self.memory.settle(settlement).await
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        self.mood()?;
        self.memory.log_rejections(calls, keep).await
    }

    async fn commit(&self, key: Key, effects: Vec<Self::Effect>) -> Result<(), InboxError> {
        self.memory.commit(key, effects).await
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

pub(crate) type Received<S> =
    WebhookService<inqud_inbox::Receiver<S, PaymentRequest>, PaymentRequest>;

pub(crate) fn received<S: Store>(inbox: &Inbox<S>) -> Received<S> {
    support::layer().layer(inbox.receiver())
}

pub(crate) fn why<B>(response: &http::Response<B>) -> Option<InboxErrorKind> {
    response.extensions().get::<InboxError>().map(InboxError::kind)
}
