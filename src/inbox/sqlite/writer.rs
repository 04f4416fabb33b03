//! The one thread that writes.

use std::thread;

use rusqlite::{Connection, ErrorCode};
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
    /// Done again if the transaction failed.
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;

    /// Whether it has a transaction for itself, and so is done once.
    fn is_alone(&self) -> bool;

    /// Told after the commit, and how it went.
    fn answer(self: Box<Self>, committed: Result<(), InboxError>);
}

/// What the writer is told.
enum Message {
    Work(Vec<Box<dyn Work>>),
    Close,
}

type Answer<R> = oneshot::Receiver<Result<R, InboxError>>;

struct Task<F, R> {
    work: F,
    is_alone: bool,
    result: Option<R>,
    answer: oneshot::Sender<Result<R, InboxError>>,
}

impl<F, R> Task<F, R> {
    fn new(work: F, is_alone: bool) -> (Self, Answer<R>) {
        let (answer, answered) = oneshot::channel();
        (Self { work, is_alone, result: None, answer }, answered)
    }
}

impl<F, R> Work for Task<F, R>
where
    F: FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send,
    R: Send,
{
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()> {
        self.result = Some((self.work)(tables)?);
        Ok(())
    }

    fn is_alone(&self) -> bool {
        self.is_alone
    }

    fn answer(self: Box<Self>, committed: Result<(), InboxError>) {
        let Self { result, answer, .. } = *self;
        // Nobody waits any more, perhaps; it is done none the less.
        let _ = answer.send(committed.and_then(|()| result.ok_or_else(closed)));
    }
}

fn closed() -> InboxError {
    InboxError::new(InboxErrorKind::Closed)
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
        work: impl FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let (task, answered) = Task::new(work, false);
        self.hand_over(vec![Box::new(task)]).await?;
        answered.await.map_err(|_| closed())?
    }

    /// The same in a transaction of its own, for what can be done only once.
    pub(super) async fn commit_alone<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let mut work = Some(work);
        let once = move |tables: &mut Tables<'_>| work.take().map(|it| it(tables)).transpose();
        let (task, answered) = Task::new(once, true);
        self.hand_over(vec![Box::new(task)]).await?;
        answered.await.map_err(|_| closed())??.ok_or_else(closed)
    }

    /// The same for many, together if that succeeds, and else each on its own.
    pub(super) async fn commit_each<R: Send + 'static>(
        &self,
        works: impl IntoIterator<
            Item = impl FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
        >,
    ) -> Result<Vec<Result<R, InboxError>>, InboxError> {
        let mut tasks: Vec<Box<dyn Work>> = Vec::new();
        let mut answers = Vec::new();
        for work in works {
            let (task, answered) = Task::new(work, false);
            tasks.push(Box::new(task));
            answers.push(answered);
        }
        self.hand_over(tasks).await?;
        let mut all = Vec::with_capacity(answers.len());
        for answered in answers {
            all.push(answered.await.map_err(|_| closed())?);
        }
        Ok(all)
    }

    async fn hand_over(&self, works: Vec<Box<dyn Work>>) -> Result<(), InboxError> {
        self.messages.send(Message::Work(works)).await.map_err(|_| closed())
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
                Some(Message::Work(works)) => group.extend(works),
                Some(Message::Close) => break true,
                None => break group.is_empty(),
            }
            if group.len() >= GROUP {
                break false;
            }
            message = messages.try_recv().ok();
        };
        let (alone, together): (Vec<_>, Vec<_>) = group.into_iter().partition(|it| it.is_alone());
        commit_group(&mut tables, together);
        for work in alone {
            commit_group(&mut tables, vec![work]);
        }
    }
}

/// Together, and if that fails one at a time: a work that lets no transaction succeed is to fail alone.
fn commit_group(tables: &mut Tables<'_>, mut group: Vec<Box<dyn Work>>) {
    if group.is_empty() {
        return;
    }
    let committed = commit(tables, &mut group);
    let is_to_be_parted = group.len() > 1 && committed.as_ref().is_err_and(is_of_work);
    let committed = committed.map_err(engine);
    for mut work in group {
        let committed = if is_to_be_parted {
            commit(tables, std::slice::from_mut(&mut work)).map_err(engine)
        } else {
            committed.clone()
        };
        work.answer(committed);
    }
}

/// Whether it is the fault of what was done, and not of the disk, the memory or another connection.
pub(super) fn is_of_work(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
        )
    )
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
