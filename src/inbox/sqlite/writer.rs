//! The one thread that writes.

use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::engine;
use super::tables::Tables;
use crate::inbox::{InboxError, InboxErrorKind};

/// How many pieces of work one commit covers at most.
const GROUP: usize = 256;

/// What waits in front of the writer; senders wait for a place.
const PLACES: usize = 256;

/// A part of a transaction.
trait Work: Send {
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;

    /// Told after the commit, and how it went.
    fn answer(self: Box<Self>, committed: Result<(), InboxError>);
}

/// What the writer is told.
enum Message {
    Work(Box<dyn Work>),
    Close,
}

struct Task<F, R> {
    work: Option<F>,
    result: Option<R>,
    answer: oneshot::Sender<Result<R, InboxError>>,
}

impl<F, R> Work for Task<F, R>
where
    F: FnOnce(&mut Tables<'_>) -> rusqlite::Result<R> + Send,
    R: Send,
{
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()> {
        self.result = self.work.take().map(|work| work(tables)).transpose()?;
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), InboxError>) {
        let Self { result, answer, .. } = *self;
        let closed = InboxError::new(InboxErrorKind::Closed);
        // Nobody waits any more, perhaps; it is done none the less.
        let _ = answer.send(committed.and_then(|()| result.ok_or(closed)));
    }
}

pub(super) struct Writer {
    messages: mpsc::Sender<Message>,
    ended: watch::Receiver<()>,
}

impl Writer {
    /// Starts the thread, which ends when the last sender is gone. It takes `lock` along.
    pub(super) fn start(connection: Connection, lock: Connection) -> Result<Self, InboxError> {
        let (sender, receiver) = mpsc::channel(PLACES);
        let (running, ended) = watch::channel(());
        thread::Builder::new()
            .name("inqud-inbox".to_owned())
            .spawn(move || {
                write(&connection, receiver);
                // The file before its lock: the next inbox finds it closed.
                drop(connection);
                drop(lock);
                drop(running);
            })
            .map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))?;
        Ok(Self { messages: sender, ended })
    }

    /// Has `work` done by the writer, and waits until it is committed. Once the work is handed over it
    /// is done whether or not anybody waits.
    pub(super) async fn commit<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let (answer, answered) = oneshot::channel();
        let closed = || InboxError::new(InboxErrorKind::Closed);
        let task = Task { work: Some(work), result: None, answer };
        self.messages.send(Message::Work(Box::new(task))).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Ends the thread after what was handed over before, and waits for it.
    pub(super) async fn close(&self) {
        // No work, for that may fail. It finds nobody where it was closed before.
        let _ = self.messages.send(Message::Close).await;
        let _ = self.ended.clone().changed().await;
    }
}

fn write(connection: &Connection, mut messages: mpsc::Receiver<Message>) {
    // Prepared once; they stay good, also when the tables of the merchant change.
    let Ok(mut tables) = Tables::new(connection) else { return };
    let mut is_closing = false;
    while !is_closing {
        let mut group = Vec::new();
        let mut message = messages.blocking_recv();
        is_closing = loop {
            match message {
                Some(Message::Work(work)) => group.push(work),
                Some(Message::Close) => break true,
                None => break group.is_empty(),
            }
            if group.len() >= GROUP {
                break false;
            }
            message = messages.try_recv().ok();
        };
        if group.is_empty() {
            continue;
        }
        let committed = commit(&mut tables, &mut group).map_err(engine);
        for work in group {
            work.answer(committed.clone());
        }
    }
}

/// All of the group, or nothing of it.
fn commit(tables: &mut Tables<'_>, group: &mut [Box<dyn Work>]) -> rusqlite::Result<()> {
    let connection = tables.connection;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = group.iter_mut().try_for_each(|work| work.run(tables));
    let done = done.and_then(|()| connection.execute_batch("COMMIT"));
    // SQLite may have rolled back itself, when the disk is full for example.
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    done
}
