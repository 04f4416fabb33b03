//! A store and its floor.

use inqud_inbox::{Context, Inbox, Inserted, Record, Store};
use tokio::sync::{mpsc, oneshot};

/// How many notifications a runner handles at once, and the floor claims and settles in one commit.
pub(crate) const CONCURRENCY: usize = 64;
/// The maximum number of puts in one commit of the floor, as in the inbox.
pub(crate) const GROUP: usize = 256;

/// A store and its floor. A value is a database, which either the inbox or the floor uses.
pub(crate) trait Engine: Sized {
    type Store: Store;
    const NAME: &'static str;

    /// Whether this machine has it.
    async fn is_there() -> bool;

    /// Creates a database without rows, with the tables of the inbox and a table `effect (object TEXT)`.
    async fn new() -> Self;

    async fn inbox(&self) -> Inbox<Self::Store>;

    async fn close(inbox: Inbox<Self::Store>);

    /// Inserts a row into `effect` as an effect of the handler.
    fn effect(cx: &Context<Self::Store>, object: String) -> impl Future<Output = ()> + Send;

    /// Starts the floor of puts. It commits what waits as one group, then answers. It ends when all senders
    /// are dropped.
    async fn insert_plainly(&self) -> mpsc::Sender<Waiting>;

    /// Runs the floor of consumption: claims and settles in groups until `count` are settled.
    async fn consume_plainly(&self, count: usize, has_effect: bool);

    async fn rows(&self) -> Rows;

    /// Marks all open notifications as processed.
    async fn process_all(&self);
}

/// A record and the sender for its answer.
pub(crate) type Waiting = (Record, oneshot::Sender<Inserted>);

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
