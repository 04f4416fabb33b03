//! The writer thread, the only one that writes to the file.
//!
//! # Group commit
//!
//! Work arrives over a channel. The writer takes everything that waits as one group, runs it in one
//! transaction, commits, and answers. While it waits for the disk, new work accumulates for the next group.
//! So the cost of one `fsync` is shared by all that arrived during the one before.
//!
//! A group is all or nothing in SQLite, but its members are unrelated, so one that fails must not fail the
//! others. Three mechanisms see to that:
//!
//! - An effect runs in a savepoint. If it fails, only the savepoint is rolled back.
//! - If an effect ends the transaction, which it must not do, the others are run again without it.
//! - If the transaction itself fails because of some member (a deferred constraint that is checked at the
//!   commit, for example), each member is run again in a transaction of its own. So work can run more than
//!   once, and must not keep anything outside of the database. Work that cannot run twice says
//!   [`is_alone`](Work::is_alone), and never shares a transaction.
//!
//! If the transaction fails because of the disk, the memory or another connection, all members get that
//! error. Running them one by one would only wait for the same failure as many times.
//!
//! # What need not reach the disk
//!
//! Claims are a group of their own, which is committed without an `fsync` (`synchronous=NORMAL`), before the others. So
//! handlers run while earlier ones are settled. If the process ends, the claims are still in the file. If the machine loses power, they are undone: their notifications are due, and no crash is
//! counted. The next synced commit writes them to the disk before itself, so no settlement is there without its claim.
//!
//! # What must not stop the writer
//!
//! A panic in merchant code is contained. A connection whose transaction can neither be committed nor rolled
//! back, or was ended by merchant code, is dropped and replaced by a new one; SQLite then discards what was not
//! committed. The clock is taken over, so that a lease of the old connection does not appear to expire early.
//!
//! # What happens after a failed sync
//!
//! The group gets the error. Before the next one, the log is written again: see `log.rs`.
//!
//! # What stops the answers
//!
//! Before each group and after its commit, the files are compared with those at their paths. If they differ, all members
//! get an error. If another inbox has become the owner of the file, they do too, and the writer ends.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::catch_drop::contain;
use super::clock::last;
use super::error::engine;
use super::fence::{Fence, Identity, identity};
use super::file::{BUSY, connect};
use super::sandbox::Sandbox;
use super::tables::{Session, Tables};
use super::{log, schema};
use crate::error::{InboxError, InboxErrorKind};

/// The number of works after which a group takes no further message.
const GROUP: usize = 256;

/// The number of messages that wait for the writer. Further senders wait for a place.
const PLACES: usize = 256;

/// How long the writer waits for work before it truncates the log, and the length that it leaves alone.
const IDLE: Duration = Duration::from_secs(3);
const SHORT_LOG: u64 = 1024 * 1024;

/// A part of a transaction.
trait Work: Send {
    /// Does the work. Called again if the transaction failed.
    fn run(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;

    fn needs(&self) -> Needs;

    /// Delivers the result. Called after the commit or its failure.
    fn answer(self: Box<Self>, committed: Result<(), InboxError>);
}

/// What a work needs of its transaction.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Needs {
    /// That it has reached the disk when it is answered.
    Sync,
    /// The same. A claim is about to follow, because the runner has a handler that is free.
    SyncAfterClaim,
    /// The same, and no other work in it. It is then run only once.
    SyncAlone,
    /// That it outlives the process. A power loss may undo it.
    NoSync,
}

/// Works that are committed together.
type Group = Vec<Box<dyn Work>>;

/// A message to the writer.
enum Message {
    /// Holds its place until the writer takes it.
    Work(Box<dyn Work>, OwnedSemaphorePermit),
    Close,
}

type Answer<R> = oneshot::Receiver<Result<R, InboxError>>;

/// Delivers the results of a group: in a task, because if this thread woke each caller, it would wake a thread of the
/// runtime for each.
#[derive(Clone, Default)]
struct Answers(Arc<OnceLock<UnboundedSender<Answered>>>);

type Answered = Vec<(Box<dyn Work>, Result<(), InboxError>)>;

impl Answers {
    /// Starts the task, if none was started yet.
    fn start(&self) {
        self.0.get_or_init(|| {
            let (sender, mut receiver) = unbounded_channel::<Answered>();
            tokio::spawn(async move {
                while let Some(answered) = receiver.recv().await {
                    answer(answered);
                }
            });
            sender
        });
    }

    fn give(&self, answered: Answered) {
        let Some(sender) = self.0.get() else { return answer(answered) };
        // If this fails, the runtime of the task has ended.
        if let Err(SendError(answered)) = sender.send(answered) {
            answer(answered);
        }
    }

    fn all(&self, group: Group, committed: &Result<(), InboxError>) {
        self.give(group.into_iter().map(|work| (work, committed.clone())).collect());
    }

    fn refuse(&self, group: Group, error: &InboxError) {
        self.all(group, &Err(error.clone()));
    }
}

fn answer(answered: Answered) {
    for (work, committed) in answered {
        // If the caller has gone away, the result is dropped in `answer`. It can be of a merchant's type, whose
        // drop can panic.
        contain(|| work.answer(committed));
    }
}

struct Task<F, R> {
    work: F,
    needs: Needs,
    result: Option<R>,
    answer: oneshot::Sender<Result<R, InboxError>>,
}

impl<F, R> Task<F, R> {
    fn new(work: F, needs: Needs) -> (Self, Answer<R>) {
        let (answer, answered) = oneshot::channel();
        (Self { work, needs, result: None, answer }, answered)
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

    fn needs(&self) -> Needs {
        self.needs
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
    messages: Sender<Message>,
    answers: Answers,
    places: Arc<Semaphore>,
    ended: watch::Receiver<()>,
    /// Whether the log must be written again before the next commit, because a sync may have failed.
    is_log_doubtful: Arc<AtomicBool>,
    /// Why the writer ended, if it was not closed.
    why: Arc<OnceLock<InboxError>>,
}

impl Writer {
    /// Starts the thread. It ends when the last sender is dropped, and holds `lock` until then. When this
    /// returns, the notifications that an earlier process had in flight are due again.
    pub(super) fn start(path: PathBuf, lock: Connection) -> Result<Self, InboxError> {
        let (sender, receiver) = channel();
        let places = Arc::new(Semaphore::new(PLACES));
        let (why, answers) = (Arc::new(OnceLock::new()), Answers::default());
        let is_log_doubtful = Arc::new(AtomicBool::new(false));
        let messages = Messages {
            receiver,
            answers: answers.clone(),
            last: 0,
            places: Arc::clone(&places),
            is_log_doubtful: Arc::clone(&is_log_doubtful),
            why: Arc::clone(&why),
            is_closed: false,
        };
        let (running, ended) = watch::channel(());
        let (tell, opened) = sync_channel(1);
        thread::Builder::new()
            .name("inqud-inbox".to_owned())
            .spawn(move || {
                let mut tell = Some(tell);
                let begun = write(&path, messages, &mut tell);
                // `write` has closed the file. The lock is released only now, so that the next inbox does
                // not open the file while this one still has it open.
                drop(lock);
                drop(running);
                if let (Some(tell), Err(error)) = (tell, begun) {
                    let _ = tell.send(Err(error));
                }
            })
            .map_err(|error| InboxError::caused_by(InboxErrorKind::Store, error))?;
        opened.recv().map_err(|_| closed())??;
        Ok(Self { messages: sender, answers, places, ended, is_log_doubtful, why })
    }

    /// Runs `work` on the writer, and waits for the commit. Once it is handed over, it runs whether or not
    /// anybody waits.
    pub(super) async fn commit<R: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        self.commit_as(Needs::Sync, work).await
    }

    pub(super) async fn commit_as<R: Send + 'static>(
        &self,
        needs: Needs,
        work: impl FnMut(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let (task, answered) = Task::new(work, needs);
        self.hand_over(Box::new(task)).await?;
        answered.await.map_err(|_| self.why())?
    }

    /// Like [`commit`](Self::commit), in a transaction of its own, for work that can run only once.
    pub(super) async fn commit_alone<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let mut work = Some(work);
        let once = move |tables: &mut Tables<'_>| work.take().map(|it| it(tables)).transpose();
        let (task, answered) = Task::new(once, Needs::SyncAlone);
        self.hand_over(Box::new(task)).await?;
        answered.await.map_err(|_| self.why())??.ok_or_else(closed)
    }

    async fn hand_over(&self, work: Box<dyn Work>) -> Result<(), InboxError> {
        self.answers.start();
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| self.why())?;
        self.messages.send(Message::Work(work, place)).map_err(|_| self.why())
    }

    /// Returns an error if the thread has ended.
    pub(super) fn check(&self) -> Result<(), InboxError> {
        if self.places.is_closed() || self.why.get().is_some() {
            return Err(self.why());
        }
        Ok(())
    }

    /// Another connection has failed to sync the log.
    pub(super) fn doubt_log(&self) {
        self.is_log_doubtful.store(true, Ordering::SeqCst);
    }

    fn why(&self) -> InboxError {
        self.why.get().cloned().unwrap_or_else(closed)
    }

    /// Ends the thread after everything that was handed over before, and waits for it.
    pub(super) async fn close(&self) {
        // Sending fails if the writer has ended already.
        let _ = self.messages.send(Message::Close);
        let _ = self.ended.clone().changed().await;
    }
}

struct Messages {
    receiver: Receiver<Message>,
    answers: Answers,
    /// About how many works the last groups had.
    last: usize,
    places: Arc<Semaphore>,
    is_log_doubtful: Arc<AtomicBool>,
    why: Arc<OnceLock<InboxError>>,
    is_closed: bool,
}

/// How long a group waits for another work, if the last groups had more than one, or if a claim is about to follow.
/// Those who were just answered together are about to come back together. Without this, the first of them would get a
/// commit of its own, and the claim would wait for it.
const LINGER: Duration = Duration::from_micros(30);

enum Next {
    Group(Group),
    /// Nothing came for as long as asked.
    Idle,
    /// There will be no more.
    End,
}

impl Messages {
    /// Returns another message for the group, or `None` if there is none for a moment.
    fn another(&self, is_claim_near: bool) -> Option<Message> {
        let mut began = None;
        loop {
            if let Ok(message) = self.receiver.try_recv() {
                return Some(message);
            }
            let is_near = is_claim_near || self.last > 1;
            if !is_near || began.get_or_insert_with(Instant::now).elapsed() > LINGER {
                return None;
            }
            // Not a wait on the channel: each sender would have to wake this thread.
            thread::yield_now();
        }
    }

    /// Waits for work, and takes all that is there.
    fn next_group(&mut self, idle: Option<Duration>) -> Next {
        if self.is_closed {
            return Next::End;
        }
        let next = match idle {
            Some(idle) => self.receiver.recv_timeout(idle),
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
        };
        let mut message = match next {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Next::Idle,
            Err(RecvTimeoutError::Disconnected) => return Next::End,
        };
        let mut group = Group::new();
        let (mut is_settled, mut is_claimed) = (false, false);
        loop {
            match message {
                Message::Work(work, _place) => {
                    is_settled |= work.needs() == Needs::SyncAfterClaim;
                    is_claimed |= work.needs() == Needs::NoSync;
                    group.push(work);
                }
                Message::Close => {
                    self.is_closed = true;
                    break;
                }
            }
            if group.len() >= GROUP {
                break;
            }
            let Some(next) = self.another(is_settled && !is_claimed) else { break };
            message = next;
        }
        // A claim between two batches of settlements, which is one work, is not the end of the load.
        self.last = group.len().max(self.last / 2);
        Next::Group(group)
    }
}

/// Nobody waits for a place any more, even if the thread panics.
impl Drop for Messages {
    fn drop(&mut self) {
        self.places.close();
    }
}

/// A connection, what limits merchant code on it, and what it has open.
struct Opened {
    connection: Connection,
    sandbox: Sandbox,
    fence: Fence,
    /// How many pages the log holds before a checkpoint.
    log_pages: u32,
}

impl Opened {
    /// `file` is what the first connection had opened.
    fn new(mut connection: Connection, path: &Path, file: Identity) -> Result<Self, InboxError> {
        // SQLite hides the errors of its automatic checkpoints, and a failed sync of the log must not be hidden.
        let log_pages = no_automatic_checkpoints(&connection).map_err(engine)?;
        let sandbox = Sandbox::install(&mut connection).map_err(engine)?;
        // SQLite opens the log when it first reads.
        last(&connection).map_err(engine)?;
        let fence = Fence::new(path, file)?;
        Ok(Self { connection, sandbox, fence, log_pages })
    }
}

/// Commits until there is no more work. Replaces the connection whenever its transaction cannot be rolled
/// back. Returns an error only if it could not start.
fn write(
    path: &Path,
    mut messages: Messages,
    opened: &mut Option<SyncSender<Result<(), InboxError>>>,
) -> Result<(), InboxError> {
    let log = log::path(path);
    let has_log = log::exists(&log);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if has_log {
        // An earlier process was killed. A sync of it can have failed before.
        log::rewrite(&connection, &log)?;
    }
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    // Not before it was written to, because an overlay file system can then replace it by a copy.
    let file = identity(path)?;
    let first = Opened::new(connection, path, file)?;
    let mut session = Session::begin(&first.connection, &first.sandbox).map_err(engine)?;
    let mut groups = VecDeque::new();
    let mut next = Some(first);
    loop {
        let reconnect = || {
            file.check(path)?;
            let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            Opened::new(connection, path, file)
        };
        let after = match next.take().map_or_else(reconnect, Ok) {
            Ok(on) => commit_all(&on, &mut session, &mut groups, &mut messages, opened),
            Err(error) => Err(error),
        };
        match after {
            // The checkpoint of a connection that is closed can fail without an error.
            Ok(After::Reconnect) => messages.is_log_doubtful.store(true, Ordering::SeqCst),
            Ok(After::End) => return Ok(()),
            Err(error) if opened.is_some() => return Err(error),
            Err(error) => {
                // It is tried again with the next group.
                groups.drain(..).for_each(|group| messages.answers.refuse(group, &error));
                match messages.next_group(None) {
                    Next::Group(group) => push(&mut groups, group),
                    Next::Idle | Next::End => return Ok(()),
                }
            }
        }
    }
}

enum After {
    Reconnect,
    End,
}

/// Commits until there is no more work, or the connection has to be replaced.
fn commit_all(
    on: &Opened,
    session: &mut Session,
    groups: &mut VecDeque<Group>,
    messages: &mut Messages,
    opened: &mut Option<SyncSender<Result<(), InboxError>>>,
) -> Result<After, InboxError> {
    let Opened { connection, sandbox, fence, log_pages } = on;
    let mut tables = Tables::new(connection, sandbox, session.clone()).map_err(engine)?;
    if let Some(opened) = opened.take() {
        // `Writer::start` waits for this.
        let _ = opened.send(Ok(()));
    }
    let after = loop {
        while let Some(group) = groups.pop_front() {
            let after = commit_group(&mut tables, fence, group, groups, messages);
            if fence.log_len() > u64::from(*log_pages) * PAGE
                && checkpoint(connection, *log_pages).is_err()
            {
                messages.is_log_doubtful.store(true, Ordering::SeqCst);
            }
            if let Some(after) = after.or_else(|| tables.is_spoilt().then_some(After::Reconnect)) {
                *session = tables.session.clone();
                return Ok(after);
            }
        }
        let idle = (fence.log_len() > SHORT_LOG).then_some(IDLE);
        match messages.next_group(idle) {
            Next::Group(group) => push(groups, group),
            Next::Idle => {
                if truncate_log(connection).is_err() {
                    messages.is_log_doubtful.store(true, Ordering::SeqCst);
                }
            }
            Next::End => {
                // What fails here is done when the file is opened again.
                drop(mend_log(&tables, fence, messages));
                break After::End;
            }
        }
    };
    Ok(after)
}

/// Adds the works as groups. Claims come first, so that their handlers run while the rest is committed.
fn push(groups: &mut VecDeque<Group>, group: Group) {
    let (unsynced, synced): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|it| it.needs() == Needs::NoSync);
    let (alone, together): (Vec<_>, Vec<_>) =
        synced.into_iter().partition(|it| it.needs() == Needs::SyncAlone);
    groups.extend([unsynced, together]);
    groups.extend(alone.into_iter().map(|work| vec![work]));
}

/// The size of a page.
const PAGE: u64 = 4096;

/// Returns how many pages a log could have before a checkpoint.
fn no_automatic_checkpoints(connection: &Connection) -> rusqlite::Result<u32> {
    let log_pages = connection.pragma_query_value(None, "wal_autocheckpoint", |row| row.get(0))?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(log_pages)
}

/// Copies a log of more than `log_pages` into the file, as far as readers allow.
fn checkpoint(connection: &Connection, log_pages: u32) -> rusqlite::Result<()> {
    let pages: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    if pages <= i64::from(log_pages) {
        return Ok(());
    }
    connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
}

/// Copies the log into the file, and truncates it. Does nothing if a reader needs the log: it is tried again later.
fn truncate_log(connection: &Connection) -> rusqlite::Result<()> {
    let truncated = connection
        .busy_timeout(Duration::ZERO)
        .and_then(|()| connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
    connection.busy_timeout(BUSY)?;
    truncated
}

/// Writes the log again if a sync of it may have failed.
fn mend_log(tables: &Tables<'_>, fence: &Fence, messages: &Messages) -> Result<(), InboxError> {
    if messages.is_log_doubtful.swap(false, Ordering::SeqCst) {
        let mended = log::rewrite(tables.connection, fence.log());
        messages.is_log_doubtful.fetch_or(mended.is_err(), Ordering::SeqCst);
        return mended;
    }
    Ok(())
}

/// Why a transaction was not committed.
enum Lost {
    Engine(rusqlite::Error),
    /// The member at this place ended it. Its answer is known.
    EndedBy(usize),
    TakenOver,
}

impl From<rusqlite::Error> for Lost {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

/// Commits a group together. Works that have to be tried again become the first of the `groups`.
fn commit_group(
    tables: &mut Tables<'_>,
    fence: &Fence,
    mut group: Group,
    groups: &mut VecDeque<Group>,
    messages: &Messages,
) -> Option<After> {
    if group.is_empty() {
        return None;
    }
    let answers = &messages.answers;
    if let Err(error) = fence.check().and_then(|()| mend_log(tables, fence, messages)) {
        answers.refuse(group, &error);
        return None;
    }
    match commit(tables, &mut group) {
        Ok(()) => match fence.check() {
            Ok(()) => answers.all(group, &Ok(())),
            Err(error) => answers.refuse(group, &error),
        },
        Err(Lost::Engine(error)) if group.len() > 1 && is_of_work(&error) => {
            group.into_iter().rev().for_each(|work| groups.push_front(vec![work]));
        }
        Err(Lost::Engine(error)) => {
            if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                messages.is_log_doubtful.store(true, Ordering::SeqCst);
            }
            answers.refuse(group, &engine(error));
        }
        Err(Lost::EndedBy(at)) => {
            answers.give(vec![(group.remove(at), Ok(()))]);
            groups.push_front(group);
            return Some(After::Reconnect);
        }
        Err(Lost::TakenOver) => {
            let error = InboxError::new(InboxErrorKind::TakenOver);
            // Set before any answer, so that later calls get the same error.
            let _ = messages.why.set(error.clone());
            answers.refuse(group, &error);
            groups.drain(..).for_each(|group| answers.refuse(group, &error));
            return Some(After::End);
        }
    }
    None
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
fn commit(tables: &mut Tables<'_>, group: &mut [Box<dyn Work>]) -> Result<(), Lost> {
    let lost = || failure(ErrorCode::SystemIoFailure, "a transaction could not be rolled back");
    if tables.is_broken() {
        return Err(lost().into());
    }
    if group.iter().all(|work| work.needs() == Needs::NoSync) {
        tables.sync(false)?;
        let done = transact(tables, group);
        // If this fails, the connection is replaced by one that syncs.
        drop(tables.sync(true));
        return done;
    }
    transact(tables, group)
}

fn transact(tables: &mut Tables<'_>, group: &mut [Box<dyn Work>]) -> Result<(), Lost> {
    let lost = || failure(ErrorCode::SystemIoFailure, "a transaction could not be rolled back");
    tables.connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = run(tables, group);
    // SQLite rolls some failed transactions back by itself, for example when the disk is full. Then there is
    // nothing left to roll back, and `ROLLBACK` would be an error. After merchant code has ended the transaction, the
    // connection is not used any more.
    let is_left_open = matches!(done, Err(Lost::Engine(_) | Lost::TakenOver)) && tables.is_broken();
    if is_left_open && tables.connection.execute_batch("ROLLBACK").is_err() {
        return Err(lost().into());
    }
    done
}

fn run(tables: &mut Tables<'_>, group: &mut [Box<dyn Work>]) -> Result<(), Lost> {
    // Nothing runs in vain, and an inbox that has nothing to write notices it too.
    if !tables.is_owner()? {
        return Err(Lost::TakenOver);
    }
    let before = tables.connection.total_changes();
    for (at, work) in group.iter_mut().enumerate() {
        let panicked = || Err(failure(ErrorCode::InternalMalfunction, "the work panicked"));
        contain(|| work.run(tables)).unwrap_or_else(panicked)?;
        if std::mem::take(&mut tables.is_ended) {
            return Err(Lost::EndedBy(at));
        }
    }
    // A group that only looked and found nothing, such as a claim while idle, needs no new timestamp. With
    // one, every poll would write to the disk.
    if tables.connection.total_changes() != before && !tables.stamp()? {
        return Err(Lost::TakenOver);
    }
    Ok(tables.sandbox.commit(tables.connection)?)
}

fn failure(code: ErrorCode, text: &str) -> rusqlite::Error {
    let error = ffi::Error { code, extended_code: ffi::SQLITE_ERROR };
    rusqlite::Error::SqliteFailure(error, Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use tokio::time::timeout;

    use super::*;
    use crate::handler::{Context, Stored};
    use crate::record::Record;
    use crate::sqlite::{Sqlite, SqliteOptions};
    use crate::store::Store;
    use tower_inqud::PaymentRequest;

    /// Panics in a place where nothing contains it.
    struct Fatal;

    impl Work for Fatal {
        fn run(&mut self, _: &mut Tables<'_>) -> rusqlite::Result<()> {
            Ok(())
        }

        fn needs(&self) -> Needs {
            panic!("a bug of this crate")
        }

        fn answer(self: Box<Self>, _: Result<(), InboxError>) {}
    }

    #[tokio::test]
    async fn reports_closed_and_frees_the_file_if_the_writer_dies() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(folder.path().join("inbox.db")).allow_tmpfs();
        let inbox = options.clone().open().unwrap();
        let handler = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| Ok::<_, Infallible>(());
        let runner = tokio::spawn(inbox.process(handler).run_until(pending()));
        let writer = &inbox.store().writer;

        // It is busy with the first, and takes the next two together.
        let (go, wait) = channel::<()>();
        let busy = move |_: &mut Tables<'_>| Ok(wait.recv().is_ok());
        writer.hand_over(Box::new(Task::new(busy, Needs::Sync).0)).await.unwrap();
        let (task, in_flight) = Task::new(|_: &mut Tables<'_>| Ok(()), Needs::Sync);
        writer.hand_over(Box::new(task)).await.unwrap();
        writer.hand_over(Box::new(Fatal)).await.unwrap();
        drop(go);
        let all = async {
            assert!(in_flight.await.is_err(), "work in flight has its sender dropped");
            let later = writer.commit(|_| Ok(())).await.unwrap_err();
            assert_eq!(later.kind(), InboxErrorKind::Closed);
            let runner = runner.await.unwrap().unwrap_err();
            assert_eq!(runner.kind(), InboxErrorKind::Closed);
            inbox.close().await;
        };
        timeout(Duration::from_secs(30), all).await.expect("nobody waits forever");
        options.open().unwrap();
    }

    #[test]
    fn checkpoint_copies_a_log_that_is_longer_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(&folder.path().join("inbox.db"), flags).unwrap();
        assert_eq!(no_automatic_checkpoints(&connection).unwrap(), 16_000);
        connection.execute_batch("CREATE TABLE paid (c)").unwrap();
        let log = |column: usize| {
            let noop = "PRAGMA wal_checkpoint(NOOP)";
            connection.query_row(noop, [], |row| row.get::<_, u32>(column)).unwrap()
        };
        let pages = log(1);
        assert!(pages > 0);
        checkpoint(&connection, pages).unwrap();
        assert_eq!(log(2), 0);
        checkpoint(&connection, pages - 1).unwrap();
        assert_eq!(log(2), pages);
    }

    /// The merchant code hides why SQLite rolled the transaction back, so it is not refused.
    #[tokio::test]
    async fn tries_again_an_effect_that_hides_a_full_disk() {
        type Effect = fn(&Connection) -> Result<(), String>;
        const FILL: &str = "INSERT INTO paid VALUES (zeroblob(200000))";
        let effects: [Effect; 2] = [
            |db| db.execute_batch(FILL).map_err(|error| format!("not marked as paid: {error}")),
            |db| db.execute_batch(FILL).or(Ok(())),
        ];
        for effect in effects {
            let folder = tempfile::tempdir().unwrap();
            let options = SqliteOptions::new(folder.path().join("inbox.db")).allow_tmpfs();
            let inbox = options.open().unwrap();
            let body = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
            let request: PaymentRequest = serde_json::from_str(body).unwrap();
            inbox.store().insert(vec![Record::new(&request, body.into())]).await.unwrap();
            // The next connection has no such limit.
            let fill_disk = |tables: &mut Tables<'_>| {
                tables.connection.execute_batch("CREATE TABLE paid (c)")?;
                let pages: i64 =
                    tables.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                tables.connection.execute_batch(&format!("PRAGMA max_page_count = {}", pages + 10))
            };
            inbox.store().writer.commit(fill_disk).await.unwrap();
            let handler = move |_: Stored<PaymentRequest>, cx: Context<Sqlite>| {
                cx.effect(effect);
                ready(Ok::<_, Infallible>(()))
            };
            let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
            let report = runner.run_until_idle().await.unwrap();
            assert_eq!((report.retried, report.dead, report.done), (1, 0, 1), "{report:?}");
            let paid = |db: &Connection| {
                db.query_row("SELECT count(*) FROM paid", [], |row| row.get::<_, i64>(0))
            };
            assert_eq!(inbox.write(paid).await.unwrap(), 1);
        }
    }
}
