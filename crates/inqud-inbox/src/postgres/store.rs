use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Error, Socket};

use super::effect::{Open, PostgresEffect};
use super::error::{ANSWER, CONNECT, connection, engine, failed, within};
use super::{schema, tables, transaction};
use crate::error::{InboxError, InboxErrorKind};
use crate::inbox::Inbox;
use crate::key::Key;
use crate::record::Record;
use crate::store::{Claimed, Entry, Inserted, List, Outcome, Settled, Settlement, Stats, Store};

/// The statements look up their parameters by index, however many there are. Planning them again for each
/// batch would take longer than running them.
const PLAN_ONCE: &str = "SET plan_cache_mode = force_generic_plan";

/// How often it is written that a runner asks for a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

/// Connections of the inbox itself, beside those of the handlers: however many wait for those, a
/// notification is stored.
const OWN: usize = 4;
const HANDLERS: usize = 64;

/// A store in a Postgres database, 13 or later and of encoding UTF8: for several receivers and several
/// runners, on as many machines.
///
/// - Its tables are in a schema of their own, `inqud_inbox`, which [`Inbox::migrate`] makes; yours are
///   in the same database, so that [the transaction of a handler](crate::Context::transaction) reaches them.
/// - A put waits for the disk also where `synchronous_commit` is off. A server with `fsync` off is
///   refused.
/// - It holds up to 4 connections of its own, and one for each transaction of a handler, up to 64.
///   Each waits 5 s for a connection and 10 s for an answer; then it fails, and with it the call.
/// - Leases and waits go by the database's clock. If that is set back, they are longer by as much.
/// - What one process stores, a runner of another finds within a second, when it looks.
///
/// A role that only receives and processes needs `USAGE` on the schema, `SELECT` on its table `version`,
/// and `SELECT`, `INSERT` and `UPDATE` on `notification`, `object`, `once` and `runner`.
pub struct Postgres {
    own: Pool,
    handlers: Pool,
    /// When it was written last that a runner asks for a kind.
    asked: Mutex<HashMap<&'static str, Instant>>,
}

impl Inbox<Postgres> {
    /// Opens the inbox in a database that was [migrated](Self::migrate). Connections end in `tls`, which
    /// is [`NoTls`](tokio_postgres::NoTls) or the connector of a crate such as `postgres-native-tls`.
    ///
    /// # Errors
    ///
    /// - [`NotMigrated`](InboxErrorKind::NotMigrated): its tables are missing, or of an earlier version.
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew): a later version made the tables.
    /// - [`NotDurable`](InboxErrorKind::NotDurable): the server runs with `fsync` off.
    /// - [`Store`](InboxErrorKind::Store): there is no connection.
    pub async fn postgres<T>(mut config: Config, tls: T) -> Result<Self, InboxError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        if config.get_tcp_user_timeout().is_none() {
            // Or a connection whose other end is gone hangs for a quarter of an hour.
            config.tcp_user_timeout(ANSWER);
        }
        let pool = |method, size| {
            let method = ManagerConfig { recycling_method: method };
            let manager = Manager::from_config(config.clone(), tls.clone(), method);
            let pool = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1);
            let pool = pool.wait_timeout(Some(CONNECT)).create_timeout(Some(CONNECT));
            pool.recycle_timeout(Some(CONNECT))
        };
        let plan_once = Hook::async_fn(|client: &mut ClientWrapper, _| {
            Box::pin(async { client.batch_execute(PLAN_ONCE).await.map_err(HookError::Backend) })
        });
        let own = pool(RecyclingMethod::Fast, OWN).post_create(plan_once);
        let store = Postgres {
            own: own.build().map_err(failed)?,
            // What a handler set for its session is no other's, and a connection that hangs is found out.
            handlers: pool(RecyclingMethod::Clean, HANDLERS).build().map_err(failed)?,
            asked: Mutex::default(),
        };
        let client = connection(&store.own).await?;
        within(ANSWER, schema::check(&client)).await?;
        let settings = within(ANSWER, async { tables::settings(&client).await.map_err(engine) });
        let (fsync, encoding) = settings.await?;
        if !fsync {
            return Err(InboxError::caused_by(InboxErrorKind::NotDurable, "fsync is off"));
        }
        if encoding != "UTF8" {
            return Err(failed(format!("the encoding of the database is {encoding}, not UTF8")));
        }
        drop(client);
        Ok(Self::new(store))
    }

    /// Makes the tables, or brings those of an earlier version to this one; one process at a time, in one
    /// transaction. Call it when you deploy, or each time before [`postgres`](Self::postgres). The role
    /// needs the right to create a schema, the first time. What it does is in [`Postgres::MIGRATIONS`].
    ///
    /// # Errors
    ///
    /// - [`SchemaTooNew`](InboxErrorKind::SchemaTooNew): a later version made the tables.
    /// - [`Store`](InboxErrorKind::Store): there is no connection, or the role may not.
    pub async fn migrate<T>(config: &Config, tls: T) -> Result<(), InboxError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (mut client, connection) =
            timeout(CONNECT, config.connect(tls)).await.map_err(failed)?.map_err(engine)?;
        // Ends with the client.
        let connection = tokio::spawn(connection);
        let migrated = schema::migrate(&mut client, Postgres::MIGRATIONS).await;
        drop(client);
        let _ = connection.await;
        migrated
    }

    /// Closes all connections. All clones of the inbox are closed with it.
    pub fn close(&self) {
        self.store().own.close();
        self.store().handlers.close();
    }
}

impl Postgres {
    /// The SQL of [`Inbox::migrate`], a text for each version, in order. To apply them with a tool of
    /// your own, apply each once.
    pub const MIGRATIONS: &[&str] = schema::MIGRATIONS;

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

    /// In a task of its own, which goes on if the caller is dropped.
    fn spawn<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> JoinHandle<Result<R, InboxError>> {
        let pool = self.own.clone();
        tokio::spawn(async move {
            let pooled = PooledClient(Some(connection(&pool).await?));
            let work = async { work(pooled.client()?).await.map_err(engine) };
            let Ok(done) = timeout(ANSWER, work).await else {
                // Who knows how many more of them hang.
                pool.retain(|_, _| false);
                return Err(failed("the database did not answer in time"));
            };
            done.map(|done| pooled.give_back(done))
        })
    }
}

/// A connection that goes back to the pool only after all went well: else it may be amid a transaction,
/// in which what comes next would be lost.
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
            // Until it is known better: what keeps its lock is settled by the lease.
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
                    // A failure is settled by the lease.
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
        // What a task does not tell, because it panicked, is settled by the lease.
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

    async fn stats(&self) -> Result<Stats, InboxError> {
        self.run(|client| Box::pin(tables::stats(client))).await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.run(move |client| Box::pin(tables::unclaimed(client, since))).await
    }

    async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.run(move |client| Box::pin(tables::list(client, list, count))).await
    }

    async fn redrive(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(async move { tables::redrive(client, &keys).await })).await
    }

    async fn discard(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(async move { tables::discard(client, &keys).await })).await
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(tables::prune(client, age, count))).await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}
