//! The writer thread, the only one that writes to the file.
//!
//! # Group commit
//!
//! Work arrives over a channel. The writer takes everything that waits as one group, runs it in one
//! transaction, commits, and answers. While it waits for the disk, new work accumulates for the next group.
//! So the cost of one `fsync` is shared by all that arrived during the one before.
//!
//! A group is all or nothing in SQLite, but its members are unrelated, so one that fails must not fail the
//! others. Two mechanisms see to that:
//!
//! - An effect runs in a savepoint. If it fails, only the savepoint is rolled back.
//! - If the transaction itself fails because of some member (a deferred constraint that is checked at the
//!   commit, for example), each member is run again in a transaction of its own. So work can run more than
//!   once, and must not keep anything outside of the database. Work that cannot run twice says
//!   [`is_alone`](Work::is_alone), and never shares a transaction.
//!
//! If the transaction fails because of the disk, the memory or another connection, all members get that
//! error. Running them one by one would only wait for the same failure as many times.
//!
//! # What must not stop the writer
//!
//! A panic in merchant code is contained. A connection whose transaction can neither be committed nor rolled
//! back is dropped and replaced by a new one; SQLite then discards what was not committed. The clock is taken
//! over, so that a lease of the old connection does not appear to expire early.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot, watch};

use super::catch_drop::contain;
use super::error::engine;
use super::tables::Tables;
use crate::error::{InboxError, InboxErrorKind};

/// The number of works after which a group takes no further message.
const GROUP: usize = 256;

/// The number of messages that wait for the writer. Further senders wait for a place.
const PLACES: usize = 256;

/// A part of a transaction.
trait Work: Send {
    /// Does the work. Called again if the transaction failed.
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;

    /// Whether it needs a transaction of its own. It is then run only once.
    fn is_alone(&self) -> bool;

    /// Delivers the result. Called after the commit or its failure.
    fn answer(self: Box<Self>, committed: Result<(), InboxError>);
}

/// A message to the writer.
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
        // The caller may have gone away. The work is done all the same.
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
    /// Starts the thread. It ends when the last sender is dropped, and holds `lock` until then. When this
    /// returns, the notifications that an earlier process had in flight are due again.
    pub(super) fn start(
        connection: Connection,
        reopen: impl Fn() -> Result<Connection, InboxError> + Send + 'static,
        lock: Connection,
    ) -> Result<Self, InboxError> {
        let (sender, receiver) = mpsc::channel(PLACES);
        let (running, ended) = watch::channel(());
        let (tell, opened) = sync_channel(1);
        thread::Builder::new()
            .name("inqud-inbox".to_owned())
            .spawn(move || {
                let messages = Messages { receiver, is_closed: false };
                let begun = write(connection, reopen, messages, &tell);
                // `write` has closed the file. The lock is released only now, so that the next inbox does
                // not open the file while this one still has it open.
                drop(lock);
                drop(running);
                if let Err(error) = begun {
                    let _ = tell.send(Err(error));
                }
            })
            .map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))?;
        opened.recv().map_err(|_| closed())??;
        Ok(Self { messages: sender, ended })
    }

    /// Runs `work` on the writer, and waits for the commit. Once it is handed over, it runs whether or not
    /// anybody waits.
    pub(super) async fn commit<R: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let (task, answered) = Task::new(work, false);
        self.hand_over(vec![Box::new(task)]).await?;
        answered.await.map_err(|_| closed())?
    }

    /// Like [`commit`](Self::commit), in a transaction of its own, for work that can run only once.
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

    /// Like [`commit`](Self::commit) for many works: together if that succeeds, and otherwise each in a
    /// transaction of its own.
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

    /// Whether the thread has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Ends the thread after everything that was handed over before, and waits for it.
    pub(super) async fn close(&self) {
        // Sending fails if the writer has ended already.
        let _ = self.messages.send(Message::Close).await;
        let _ = self.ended.clone().changed().await;
    }
}

struct Messages {
    receiver: mpsc::Receiver<Message>,
    is_closed: bool,
}

impl Messages {
    /// Waits for work, and takes all that is there. Returns `None` if there will be no more.
    fn next_group(&mut self) -> Option<Vec<Box<dyn Work>>> {
        if self.is_closed {
            return None;
        }
        let mut group = Vec::new();
        let mut message = self.receiver.blocking_recv()?;
        loop {
            match message {
                Message::Work(works) => group.extend(works),
                Message::Close => {
                    self.is_closed = true;
                    break;
                }
            }
            if group.len() >= GROUP {
                break;
            }
            let Ok(next) = self.receiver.try_recv() else { break };
            message = next;
        }
        Some(group)
    }
}

/// Commits until there is no more work. Replaces the connection whenever its transaction cannot be rolled
/// back. Returns an error only if it could not start.
fn write(
    first: Connection,
    reopen: impl Fn() -> Result<Connection, InboxError>,
    mut messages: Messages,
    opened: &SyncSender<Result<(), InboxError>>,
) -> Result<(), InboxError> {
    let mut clock = {
        let mut tables = Tables::new(&first, None).map_err(engine)?;
        tables.recover().map_err(engine)?;
        // `Writer::start` waits for this.
        let _ = opened.send(Ok(()));
        commit_all(&mut tables, Vec::new(), &mut messages);
        tables.clock
    };
    drop(first);
    while let Some(group) = messages.next_group() {
        match reopen() {
            Ok(connection) => match Tables::new(&connection, Some(clock)) {
                Ok(mut tables) => {
                    commit_all(&mut tables, group, &mut messages);
                    clock = tables.clock;
                }
                Err(error) => refuse(group, &engine(error)),
            },
            Err(error) => refuse(group, &error),
        }
    }
    Ok(())
}

/// Commits until there is no more work, or the connection is broken.
fn commit_all(tables: &mut Tables<'_>, mut group: Vec<Box<dyn Work>>, messages: &mut Messages) {
    loop {
        let (alone, together): (Vec<_>, Vec<_>) = group.into_iter().partition(|it| it.is_alone());
        commit_group(tables, together);
        for work in alone {
            commit_group(tables, vec![work]);
        }
        if tables.is_broken() {
            return;
        }
        let Some(next) = messages.next_group() else { return };
        group = next;
    }
}

fn refuse(group: Vec<Box<dyn Work>>, error: &InboxError) {
    for work in group {
        answer(work, Err(error.clone()));
    }
}

fn answer(work: Box<dyn Work>, committed: Result<(), InboxError>) {
    // If the caller has gone away, the result is dropped in `answer`. It can be of a merchant's type, whose
    // drop can panic.
    contain(|| work.answer(committed));
}

/// Commits a group together. If that fails because of one of them, commits each on its own.
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
        answer(work, committed);
    }
}

/// Whether the work itself caused the error, and not the disk, the memory or another connection.
pub(super) fn is_of_work(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
        )
    )
}

/// Runs the group in one transaction.
fn commit(tables: &mut Tables<'_>, group: &mut [Box<dyn Work>]) -> rusqlite::Result<()> {
    let lost = || failure(ErrorCode::SystemIoFailure, "a transaction could not be rolled back");
    if tables.is_broken() {
        return Err(lost());
    }
    let connection = tables.connection;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let before = connection.total_changes();
    let done = group.iter_mut().try_for_each(|work| {
        let panicked = || Err(failure(ErrorCode::InternalMalfunction, "the work panicked"));
        contain(|| work.run(tables)).unwrap_or_else(panicked)
    });
    // A group that only looked and found nothing, such as a claim while idle, needs no new timestamp. With
    // one, every poll would write to the disk.
    let is_changed = connection.total_changes() != before;
    let done = done.and_then(|()| if is_changed { tables.finish() } else { Ok(()) });
    let done = done.and_then(|()| connection.execute_batch("COMMIT"));
    tables.end(done.is_ok());
    // SQLite rolls some failed transactions back by itself, for example when the disk is full. Then there is
    // nothing left to roll back, and `ROLLBACK` would be an error.
    if done.is_err() && tables.is_broken() && connection.execute_batch("ROLLBACK").is_err() {
        return Err(lost());
    }
    done
}

fn failure(code: ErrorCode, text: &str) -> rusqlite::Error {
    let error = ffi::Error { code, extended_code: ffi::SQLITE_ERROR };
    rusqlite::Error::SqliteFailure(error, Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::handler::{Context, Stored};
    use crate::inbox::Inbox;
    use crate::record::Record;
    use crate::sqlite::Sqlite;
    use crate::store::{Inserted, Store};
    use tower_inqud::PaymentRequest;

    /// Panics in a place where nothing contains it.
    struct Fatal;

    impl Work for Fatal {
        fn run(&mut self, _: &mut Tables<'_>) -> rusqlite::Result<()> {
            Ok(())
        }

        fn is_alone(&self) -> bool {
            panic!("a bug of this crate")
        }

        fn answer(self: Box<Self>, _: Result<(), InboxError>) {}
    }

    #[tokio::test]
    async fn reports_closed_and_frees_the_file_if_the_writer_dies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inbox.db");
        let inbox = Inbox::new(Sqlite::open(&path).unwrap());
        let handler = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| Ok::<_, Infallible>(());
        let runner = tokio::spawn(inbox.process(handler).run_until(pending()));
        let writer = &inbox.store().writer;

        let (task, in_flight) = Task::new(|_: &mut Tables<'_>| Ok(()), false);
        writer.hand_over(vec![Box::new(task), Box::new(Fatal)]).await.unwrap();
        let all = async {
            assert!(in_flight.await.is_err(), "work in flight has its sender dropped");
            let later = writer.commit(|_| Ok(())).await.unwrap_err();
            assert_eq!(later.kind(), InboxErrorKind::Closed);
            let runner = runner.await.unwrap().unwrap_err();
            assert_eq!(runner.kind(), InboxErrorKind::Closed);
            inbox.close().await;
        };
        timeout(Duration::from_secs(30), all).await.expect("nobody waits forever");
        Sqlite::open(&path).unwrap();
    }

    fn record(id: usize) -> Record {
        let body = format!(r#"{{"id":"CAPD-{id}","status":"SUCCESS"}}"#);
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into())
    }

    #[tokio::test]
    async fn finds_objects_after_a_failed_commit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("inbox.db")).unwrap();
        let tables = "CREATE TABLE paid (id INTEGER PRIMARY KEY);
            CREATE TABLE sent (id INTEGER REFERENCES paid DEFERRABLE INITIALLY DEFERRED)";
        let make = |it: &mut Tables<'_>| it.connection.execute_batch(tables);
        store.writer.commit(make).await.unwrap();
        // More than the index keeps in memory, so that each commit moves some of them into the file.
        let all: Vec<_> = (0..30_000).map(record).collect();
        let (before, after) = all.split_at(25_000);
        assert!(store.insert(before.to_vec()).await.unwrap().iter().all(|it| *it == Inserted::New));

        let after = after.to_vec();
        let inserted =
            move |tables: &mut Tables<'_>| after.iter().map(|it| tables.insert(it)).collect();
        let (inserted, answered) = Task::new(inserted, false);
        let spoil =
            |tables: &mut Tables<'_>| tables.connection.execute("INSERT INTO sent VALUES (7)", []);
        let (spoil, spoilt) = Task::new(spoil, false);
        store.writer.hand_over(vec![Box::new(inserted), Box::new(spoil)]).await.unwrap();
        let _: Vec<Inserted> = answered.await.unwrap().unwrap();
        spoilt.await.unwrap().unwrap_err();

        assert!(
            store.insert(all.clone()).await.unwrap().iter().all(|it| *it == Inserted::Duplicate)
        );
        store.writer.close().await;
        let store = Sqlite::open(&folder.path().join("inbox.db")).unwrap();
        assert!(store.insert(all).await.unwrap().iter().all(|it| *it == Inserted::Duplicate));
    }
}
