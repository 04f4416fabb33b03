//! The inbox in a Postgres database (feature `inbox-postgres`).

mod schema;
mod tables;
mod transaction;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Error, Socket};

pub use self::transaction::{PostgresEffect, PostgresTransaction};

use self::transaction::Open;
use super::{
    Claimed, DeadLetter, Inbox, InboxError, InboxErrorKind, Key, Outcome, Put, Record, Settled,
    Settlement, Stats, Store,
};
use crate::rejection::BoxError;

/// How long to wait for a connection, and then for the database. Less than the patience of a
/// [`Receiver`](super::Receiver) for the first, so that it can tell the reason.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// Connections of the inbox itself, beside those of the handlers: however many wait for those, a
/// notification is stored.
const OWN: usize = 4;
const HANDLERS: usize = 64;

/// A store in a Postgres database, 13 or later: for several receivers and several runners, on as many
/// machines.
///
/// - Its tables are in a schema of their own, `inqud_inbox`, which [`Inbox::migrate`] makes; yours are
///   in the same database, so that [the transaction of a handler](super::Cx::transaction) reaches them.
/// - A put waits for the disk also where `synchronous_commit` is off. A server with `fsync` off is
///   refused.
/// - Leases and waits go by the database's clock.
/// - It holds up to 4 connections of its own, and one for each transaction of a handler, up to 64.
///   Each waits 5 s for a connection and 10 s for an answer; then it fails, and with it the call.
/// - Runners of other processes are found out by looking, once a second: what one process stores, a
///   runner of another begins within that time.
pub struct Postgres {
    own: Pool,
    handlers: Pool,
}

impl Inbox<Postgres> {
    /// Opens the inbox in a database that was [migrated](Self::migrate). Connections end in `tls`, which
    /// is [`NoTls`](tokio_postgres::NoTls) or the connector of a crate such as `postgres-native-tls`.
    ///
    /// # Errors
    ///
    /// - [`NotMigrated`](InboxErrorKind::NotMigrated): its tables are missing, or of an earlier version.
    /// - [`FromLaterVersion`](InboxErrorKind::FromLaterVersion): a later version made the tables.
    /// - [`NotDurable`](InboxErrorKind::NotDurable): the server runs with `fsync` off.
    /// - [`Store`](InboxErrorKind::Store): there is no connection.
    pub async fn postgres<T>(config: Config, tls: T) -> Result<Self, InboxError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let pool = |method, size| {
            let method = ManagerConfig { recycling_method: method };
            let manager = Manager::from_config(config.clone(), tls.clone(), method);
            let pool = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1);
            let pool = pool.wait_timeout(Some(CONNECT)).create_timeout(Some(CONNECT));
            pool.recycle_timeout(Some(CONNECT)).build().map_err(failed)
        };
        let store = Postgres {
            own: pool(RecyclingMethod::Fast, OWN)?,
            // A handler may leave a connection that hangs.
            handlers: pool(RecyclingMethod::Verified, HANDLERS)?,
        };
        let client = store.own.get().await.map_err(no_connection)?;
        within(ANSWER, schema::check(&client)).await?;
        if !within(ANSWER, async { tables::fsync(&client).await.map_err(engine) }).await? {
            return Err(InboxError::caused_by(InboxErrorKind::NotDurable, "fsync is off"));
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
    /// - [`FromLaterVersion`](InboxErrorKind::FromLaterVersion): a later version made the tables.
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
    pub const MIGRATIONS: &[&str] = schema::STEPS;

    async fn begin(&self) -> Result<Open, InboxError> {
        let connection = self.handlers.get().await.map_err(no_connection)?;
        within(ANSWER, async { Open::begin(connection).await.map_err(engine) }).await
    }

    /// In a task of its own, so that nothing is left half-way on a connection if the caller is dropped.
    async fn run<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let pool = self.own.clone();
        let task = tokio::spawn(async move {
            let client = pool.get().await.map_err(no_connection)?;
            let done = within(ANSWER, async { work(&client).await.map_err(engine) }).await;
            if done.is_err() {
                // Amid a transaction, perhaps, or it hangs: not to be used again.
                drop(Object::take(client));
            }
            done
        });
        task.await.map_err(failed)?
    }
}

type Work<'c, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send + 'c>>;

impl Store for Postgres {
    type Effect = PostgresEffect;

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Put>, InboxError> {
        let put =
            self.run(move |client| Box::pin(async move { tables::put(client, &records).await }));
        put.await?.ok_or_else(|| {
            InboxError::caused_by(InboxErrorKind::NotDurable, "synchronous_commit is off")
        })
    }

    async fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, InboxError> {
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
                outcome => {
                    places.push(at);
                    together.push(Settlement { ticket, outcome });
                }
            }
        }
        let mut all = vec![None; count];
        let mut set = |at: usize, settled| {
            if let Some(place) = all.get_mut(at) {
                *place = Some(settled);
            }
        };
        let settled = if together.is_empty() {
            Ok(Vec::new())
        } else {
            self.run(move |client| Box::pin(async move { tables::settle(client, &together).await }))
                .await
        };
        while let Some(committed) = commits.join_next().await {
            let (at, settled) = committed.map_err(failed)?;
            set(at, settled);
        }
        for (at, settled) in places.into_iter().zip(settled?) {
            set(at, settled);
        }
        Ok(all.into_iter().flatten().collect())
    }

    async fn stats(&self) -> Result<Stats, InboxError> {
        self.run(|client| Box::pin(tables::stats(client))).await
    }

    async fn dead(&self, count: usize) -> Result<Vec<DeadLetter>, InboxError> {
        self.run(move |client| Box::pin(tables::dead(client, count))).await
    }

    async fn redrive(&self, keys: Vec<Key>) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(async move { tables::redrive(client, &keys).await })).await
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

async fn within<R>(
    patience: Duration,
    work: impl Future<Output = Result<R, InboxError>>,
) -> Result<R, InboxError> {
    timeout(patience, work).await.unwrap_or_else(|elapsed| Err(failed(elapsed)))
}

fn no_connection(error: PoolError) -> InboxError {
    match error {
        PoolError::Closed => InboxError::new(InboxErrorKind::Closed),
        error => failed(error),
    }
}

fn engine(error: Error) -> InboxError {
    failed(error)
}

fn failed(error: impl Into<BoxError>) -> InboxError {
    InboxError::caused_by(InboxErrorKind::Store, error)
}
