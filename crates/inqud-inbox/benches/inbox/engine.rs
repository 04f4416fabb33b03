//! A store, and its floor.

use inqud_inbox::{Context, Inbox, Inserted, Record, Store};
use tokio::sync::{mpsc, oneshot};

/// How many a runner handles at once, and the floor claims and settles in one commit.
pub(crate) const CONCURRENCY: usize = 64;
/// How many the floor puts in one commit at most, as the inbox does.
pub(crate) const GROUP: usize = 256;

/// A store, and its floor. A value is a place with tables of its own, which inbox and floor use in turn.
pub(crate) trait Engine: Sized {
    type Store: Store;
    const NAME: &'static str;

    /// Whether it can be had on this machine.
    async fn is_there() -> bool;

    /// A place without rows, with the tables of the inbox and a table `effect (object TEXT)`.
    async fn new() -> Self;

    async fn inbox(&self) -> Inbox<Self::Store>;

    async fn close(inbox: Inbox<Self::Store>);

    /// Has a row inserted into `effect`.
    fn effect(cx: &Context<Self::Store>, object: String) -> impl Future<Output = ()> + Send;

    /// The floor of puts: commits what has come together, and answers then. Ends with its senders.
    async fn insert_plainly(&self) -> mpsc::Sender<Waiting>;

    /// The floor of consumption: claims and settles so many in each commit until `count` are settled.
    async fn consume_plainly(&self, count: usize, has_effect: bool);

    async fn rows(&self) -> Rows;

    /// What is open is as if it had been processed.
    async fn process_all(&self);
}

/// A record, and who waits for its commit.
pub(crate) type Waiting = (Record, oneshot::Sender<Inserted>);

/// What is in a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rows {
    pub(crate) open: usize,
    pub(crate) done: usize,
    pub(crate) effects: usize,
}

/// What an object keeps of the notification that was handled last.
pub(crate) fn processed(seq: i64, version: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes()[..], version].concat()
}
