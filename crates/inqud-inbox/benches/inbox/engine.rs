//! A store, and its floors.

use std::time::Duration;

use inqud_inbox::{Context, Inbox, Inserted, Record, Storable, Store};
use tokio::sync::{mpsc, oneshot};
use tower_inqud::PaymentRequest;

use crate::ids;

pub(crate) const KIND: &str = <PaymentRequest as Storable>::KIND;

/// The maximum number of puts in one commit of the floor, as in the inbox.
pub(crate) const GROUP: usize = 256;

/// What a handler does with its notification.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Handler {
    Nothing,
    /// One effect, which shares its commit with others.
    Effect,
    /// One effect, in a transaction of its own.
    Transaction,
}

/// A store, and its floors. A value is a database.
pub(crate) trait Engine: Sized + 'static {
    type Store: Store;
    const NAME: &'static str;
    /// The handlers, and their names in the report.
    const HANDLERS: &'static [(Handler, &'static str)];

    /// Whether this machine has it.
    async fn is_there() -> bool;

    /// Creates a database without rows, with the tables of the inbox and a table `effect (object text)`.
    async fn new() -> Self;

    async fn inbox(&self) -> Inbox<Self::Store>;

    /// Does in a handler of the inbox what `handler` says.
    fn handle(
        handler: Handler,
        cx: &Context<Self::Store>,
        object: String,
    ) -> impl Future<Output = ()> + Send;

    /// Starts the floor of puts. It commits what waits as one group, then answers. It ends when all senders
    /// are dropped.
    async fn insert_plainly(&self) -> mpsc::Sender<Waiting>;

    /// Runs the floor of consumption until `count` are done. Returns how long it took without connecting.
    async fn consume_plainly(&self, count: usize, handler: Handler, concurrency: usize)
    -> Duration;

    /// Counts the rows, all of which have to be open or done.
    async fn rows(&self) -> Rows;

    /// Marks all open notifications as done.
    async fn process_all(&self);

    async fn remove(self);
}

/// A record and the sender for its answer.
pub(crate) type Waiting = (Record, oneshot::Sender<Inserted>);

/// Stores a record through the floor.
pub(crate) async fn put(floor: &mpsc::Sender<Waiting>, record: Record) {
    let (answer, answered) = oneshot::channel();
    floor.send((record, answer)).await.unwrap();
    assert_eq!(answered.await.unwrap(), Inserted::New);
}

/// The number of rows in a database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rows {
    pub(crate) open: usize,
    pub(crate) done: usize,
    pub(crate) effects: usize,
}

/// Returns what an object keeps of the notification that was handled last.
pub(crate) fn processed(seq: i64, order_key: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes()[..], order_key].concat()
}

/// The rows in the tables before a round.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Before {
    Nothing,
    Rows,
}

/// The databases of an engine.
pub(crate) struct Places<E> {
    full: E,
    rows: usize,
}

impl<E: Engine> Places<E> {
    /// Creates a database with `rows` notifications, half of them open.
    pub(crate) async fn new(rows: usize) -> Self {
        let full = E::new().await;
        fill(&full, rows / 2).await;
        full.process_all().await;
        fill(&full, rows / 2).await;
        Self { full, rows }
    }

    pub(crate) fn rows(&self, before: Before) -> usize {
        if before == Before::Rows { self.rows } else { 0 }
    }

    /// Runs on a new database or on the one with rows.
    pub(crate) async fn on<R>(&self, before: Before, run: impl AsyncFnOnce(&E) -> R) -> R {
        if before == Before::Rows {
            return run(&self.full).await;
        }
        let place = E::new().await;
        let result = run(&place).await;
        place.remove().await;
        result
    }

    pub(crate) async fn remove(self) {
        self.full.remove().await;
    }
}

/// Stores `count` new notifications in large transactions.
pub(crate) async fn fill<E: Engine>(place: &E, count: usize) {
    let inbox = place.inbox().await;
    let mut rest = count;
    while rest > 0 {
        let records = ids::records(rest.min(10_000));
        rest -= records.len();
        let answers = inbox.store().insert(records).await.unwrap();
        assert!(answers.iter().all(|it| *it == Inserted::New));
    }
    inbox.close().await;
}
