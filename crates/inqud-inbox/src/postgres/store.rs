use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Error;

use super::effect::{Open, PostgresEffect};
use super::error::{ANSWER, connection, engine, failed, within};
use super::{schema, tables, transaction};
use crate::admin::{Admin, Entry, List, Stats};
use crate::error::{InboxError, InboxErrorKind};
use crate::key::Key;
use crate::record::Record;
use crate::sealed::Sealed;
use crate::store::{Claimed, Inserted, Outcome, Settled, Settlement, Store};

/// How often a process records that it has a runner for a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

/// How often [`Store::close`] looks whether all connections are back.
const CLOSE_POLL: Duration = Duration::from_millis(10);

/// A store in a Postgres database, version 13 or later and with the encoding UTF8. Any number of receivers
/// and runners share it, on any number of machines.
///
/// - Its tables are in their own schema, `inqud_inbox`, which [`Inbox::migrate`](crate::Inbox::migrate)
///   makes. Your tables are in the same database, so that
///   [the transaction of a handler](crate::Context::transaction) reaches them.
/// - Storing a notification waits for the disk, even if `synchronous_commit` is off. A server that runs with
///   `fsync` off is refused.
/// - It has up to 4 connections of its own, and one for each transaction of a handler, up to 64. See
///   [`PostgresOptions`](crate::PostgresOptions). A call fails if it waits 5 s for a connection, or 10 s for
///   an answer.
/// - Leases and backoff use the database's clock. If it is set back, they last longer by as much.
/// - A runner polls, so it finds what another process stored within a second.
///
/// A role that only receives and processes needs `USAGE` on the schema, `SELECT` on its table `version`,
/// and `SELECT`, `INSERT` and `UPDATE` on `notification`, `object`, `once` and `runner`.
pub struct Postgres {
    own: Pool,
    handlers: Pool,
    /// When a runner of each kind was recorded last.
    asked: Mutex<HashMap<&'static str, Instant>>,
}

impl Postgres {
    /// The SQL of [`Inbox::migrate`](crate::Inbox::migrate): one text for each version, in order.
    ///
    /// To migrate with a tool of your own, apply each of them once.
    pub const MIGRATIONS: &[&str] = schema::MIGRATIONS;

    /// Takes two pools that nobody uses yet.
    pub(super) fn new(own: Pool, handlers: Pool) -> Self {
        Self { own, handlers, asked: Mutex::default() }
    }

    /// Checks that the database can hold an inbox of this version.
    pub(super) async fn check(&self) -> Result<(), InboxError> {
        let client = connection(&self.own).await?;
        within(ANSWER, schema::check(&client)).await?;
        let settings = within(ANSWER, async { tables::settings(&client).await.map_err(engine) });
        let (fsync, encoding) = settings.await?;
        if !fsync {
            return Err(InboxError::caused_by(InboxErrorKind::NotDurable, "fsync is off"));
        }
        if encoding != "UTF8" {
            return Err(failed(format!("the encoding of the database is {encoding}, not UTF8")));
        }
        Ok(())
    }

    /// Once a minute.
    fn should_record_runner(&self, kind: &'static str) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = asked.get(kind).is_none_or(|asked| asked.elapsed() >= RECORD_RUNNER);
        if is_due {
            asked.insert(kind, Instant::now());
        }
        is_due
    }

    pub(super) async fn begin(&self, deadline: Duration) -> Result<Open, InboxError> {
        let connection = connection(&self.handlers).await?;
        within(ANSWER, async { transaction::begin(connection, deadline).await.map_err(engine) })
            .await
    }

    async fn run<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> Result<R, InboxError> {
        self.spawn(work).await.map_err(failed)?
    }

    /// In a task of its own, which continues if the caller is dropped.
    fn spawn<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> JoinHandle<Result<R, InboxError>> {
        let pool = self.own.clone();
        tokio::spawn(async move {
            let pooled = PooledClient(Some(connection(&pool).await?));
            let work = async { work(pooled.client()?).await.map_err(engine) };
            let Ok(done) = timeout(ANSWER, work).await else {
                // Others may hang too.
                pool.retain(|_, _| false);
                return Err(failed("the database did not answer in time"));
            };
            done.map(|done| pooled.give_back(done))
        })
    }
}

/// A connection that goes back to the pool only after success. Otherwise it may still be in a transaction,
/// and the next user's work would be lost with that.
struct PooledClient(Option<Object>);

impl PooledClient {
    fn client(&self) -> Result<&ClientWrapper, InboxError> {
        self.0.as_deref().ok_or_else(|| InboxError::new(InboxErrorKind::Closed))
    }

    fn give_back<R>(mut self, done: R) -> R {
        drop(self.0.take());
        done
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

impl Postgres {
    async fn settle_together(
        &self,
        settlements: Vec<Settlement<PostgresEffect>>,
    ) -> Result<Vec<Settled>, InboxError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let settle = self.run(move |client| {
            Box::pin(async move {
                let settled = tables::settle(client, &settlements).await?;
                Ok(settled.into_iter().zip(settlements).collect::<Vec<_>>())
            })
        });
        let mut settled = Vec::new();
        let mut waiting = Vec::new();
        for (at, (answer, settlement)) in settle.await?.into_iter().enumerate() {
            if answer.is_none() {
                let one = self.spawn(move |client| {
                    Box::pin(async move { tables::settle_one(client, &settlement).await })
                });
                waiting.push((at, one));
            }
            // Until there is an answer. If its lock is never released, the lease settles it.
            settled.push(answer.unwrap_or(Settled::LeaseExpired));
        }
        for (at, one) in waiting {
            if let Ok(Ok(answer)) = one.await {
                settled.get_mut(at).into_iter().for_each(|it| *it = answer.clone());
            }
        }
        Ok(settled)
    }
}

type Work<'c, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send + 'c>>;

impl Sealed for Postgres {}

impl Admin for Postgres {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.run(|client| Box::pin(tables::stats(client))).await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.run(move |client| Box::pin(tables::unclaimed(client, since))).await
    }

    async fn list(&self, list: List, limit: usize) -> Result<Vec<Entry>, InboxError> {
        self.run(move |client| Box::pin(tables::list(client, list, limit))).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.run(move |client| Box::pin(async move { tables::redrive(client, &keys).await })).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.run(move |client| Box::pin(async move { tables::discard(client, &keys).await })).await
    }

    async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(tables::prune(client, age, limit))).await
    }
}

impl Store for Postgres {
    type Effect = PostgresEffect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.run(move |client| Box::pin(async move { tables::insert(client, &records).await }))
            .await
    }

    async fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, InboxError> {
        if self.should_record_runner(kind) {
            self.run(move |client| Box::pin(tables::record_runner(client, kind))).await?;
        }
        self.run(move |client| Box::pin(tables::claim(client, kind, count, lease))).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement<PostgresEffect>>,
    ) -> Result<Vec<Settled>, InboxError> {
        let count = settlements.len();
        let mut commits = JoinSet::new();
        let (mut places, mut together) = (Vec::new(), Vec::new());
        for (at, Settlement { ticket, outcome }) in settlements.into_iter().enumerate() {
            match outcome {
                Outcome::Done(effects) if !effects.is_empty() => {
                    commits.spawn(async move { (at, transaction::commit(effects, &ticket).await) });
                }
                Outcome::Decoded(record) => {
                    let decoded = self.spawn(move |client| {
                        Box::pin(
                            async move { tables::replace_decoded(client, &ticket, &record).await },
                        )
                    });
                    // The lease settles a failure.
                    commits.spawn(async move {
                        let settled = decoded.await.ok().and_then(Result::ok);
                        (at, settled.unwrap_or(Settled::LeaseExpired))
                    });
                }
                outcome => {
                    places.push(at);
                    together.push(Settlement { ticket, outcome });
                }
            }
        }
        // A task that panicked gives no answer: the lease settles it.
        let mut all = vec![Settled::LeaseExpired; count];
        let together = self.settle_together(together).await;
        while let Some(committed) = commits.join_next().await {
            let Ok((at, settled)) = committed else { continue };
            all.get_mut(at).into_iter().for_each(|it| *it = settled.clone());
        }
        for (at, settled) in places.into_iter().zip(together?) {
            all.get_mut(at).into_iter().for_each(|it| *it = settled.clone());
        }
        Ok(all)
    }

    async fn commit(&self, _: Key, effects: Vec<PostgresEffect>) -> Result<(), InboxError> {
        for effect in effects {
            within(ANSWER, effect.commit()).await?;
        }
        Ok(())
    }

    async fn close(&self) {
        self.own.close();
        self.handlers.close();
        // Each is closed when it comes back. Handlers may keep theirs for as long as they run.
        let are_back = async {
            while self.own.status().size > 0 {
                sleep(CLOSE_POLL).await;
            }
        };
        let _ = timeout(ANSWER, are_back).await;
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}
