//! How to open the inbox in a Postgres database.

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolBuilder, RecyclingMethod,
    Runtime,
};
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Socket};

use super::error::{ANSWER, CONNECT, engine, failed};
use super::store::Postgres;
use super::tables::PLAN_ONCE;
use super::{schema, wake};
use crate::error::InboxError;
use crate::inbox::Inbox;

/// How many connections an inbox in Postgres opens.
///
/// [`Inbox::postgres`] is the short form with the defaults. What concerns a single connection, such as its
/// timeouts, is part of the [`Config`].
///
/// # Example
///
/// ```no_run
/// use inqud_inbox::PostgresOptions;
/// use inqud_inbox::tokio_postgres::NoTls;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let config = "postgres://shop@localhost/shop".parse()?;
/// let inbox = PostgresOptions::new(config).max_handler_connections(16).open(NoTls).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open` is awaited"]
pub struct PostgresOptions {
    config: Config,
    max_connections: usize,
    max_handler_connections: usize,
}

impl PostgresOptions {
    /// Starts with the defaults, for the database that `config` names.
    pub fn new(config: Config) -> Self {
        Self { config, max_connections: 4, max_handler_connections: 64 }
    }

    /// Sets how many connections the inbox opens at most for its own work: storing, claiming and settling.
    /// Handlers cannot use them up, so notifications are stored however many handlers wait.
    ///
    /// Defaults to 4, and is at least 1. Lower it if many processes share a server with few connections.
    /// Raise it if storing waits for a connection.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Sets how many connections the inbox opens at most for the
    /// [transactions](crate::Context::transaction) of handlers.
    ///
    /// Defaults to 64, and is at least 1. Keep it at or above the
    /// [concurrency](crate::Runner::concurrency) of all runners of this inbox together: a handler that waits 5 s for a
    /// connection gets an error, and is retried.
    pub fn max_handler_connections(mut self, connections: usize) -> Self {
        self.max_handler_connections = connections.max(1);
        self
    }

    /// Opens the inbox in a database that was [migrated](Inbox::migrate).
    ///
    /// `tls` is [`NoTls`](tokio_postgres::NoTls), or the connector of a crate such as
    /// `postgres-native-tls`.
    ///
    /// # Errors
    ///
    /// The same as of [`Inbox::postgres`].
    pub async fn open<T>(self, tls: T) -> Result<Inbox<Postgres>, InboxError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let Self { mut config, max_connections, max_handler_connections } = self;
        if config.get_tcp_user_timeout().is_none() {
            // Without it, a connection whose other end is gone hangs for a quarter of an hour.
            config.tcp_user_timeout(ANSWER);
        }
        let plan_once = Hook::async_fn(|client: &mut ClientWrapper, _| {
            Box::pin(async { client.batch_execute(PLAN_ONCE).await.map_err(HookError::Backend) })
        });
        let manager = |recycling_method| {
            let method = ManagerConfig { recycling_method };
            Manager::from_config(config.clone(), tls.clone(), method)
        };
        let own = pool(manager(RecyclingMethod::Fast), max_connections).post_create(plan_once);
        // Cleaned when a transaction begins, in the same round trip, so that no handler sees the settings of another's
        // session.
        let handlers = pool(manager(RecyclingMethod::Fast), max_handler_connections);
        let connect = wake::connect(config.clone(), tls.clone());
        let (own, handlers) = (own.build().map_err(failed)?, handlers.build().map_err(failed)?);
        let store = Postgres::new(own, handlers, connect);
        store.check().await?;
        Ok(Inbox::new(store))
    }
}

fn pool(manager: Manager, size: usize) -> PoolBuilder {
    let pool = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1);
    let pool = pool.wait_timeout(Some(CONNECT)).create_timeout(Some(CONNECT));
    pool.recycle_timeout(Some(CONNECT))
}

impl Inbox<Postgres> {
    /// Opens the inbox in a database that was [migrated](Self::migrate), with the default
    /// [options](PostgresOptions).
    ///
    /// `tls` is [`NoTls`](tokio_postgres::NoTls), or the connector of a crate such as
    /// `postgres-native-tls`.
    ///
    /// # Errors
    ///
    /// - [`NotMigrated`](crate::InboxErrorKind::NotMigrated): the tables are missing, or of an earlier
    ///   version.
    /// - [`SchemaTooNew`](crate::InboxErrorKind::SchemaTooNew): a later version of this crate made the
    ///   tables.
    /// - [`NotDurable`](crate::InboxErrorKind::NotDurable): the server runs with `fsync` off.
    /// - [`Store`](crate::InboxErrorKind::Store): there is no connection, or the encoding is not UTF8.
    pub async fn postgres<T>(config: Config, tls: T) -> Result<Self, InboxError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        PostgresOptions::new(config).open(tls).await
    }

    /// Makes the tables, or brings those of an earlier version up to this one, in one transaction.
    ///
    /// Call it when you deploy, or each time before [`postgres`](Self::postgres). Several processes may
    /// call it: one migrates at a time. The first time, the role needs the right to create a schema. The SQL is in
    /// [`Postgres::MIGRATIONS`].
    ///
    /// # Errors
    ///
    /// - [`SchemaTooNew`](crate::InboxErrorKind::SchemaTooNew): a later version of this crate made the
    ///   tables.
    /// - [`Store`](crate::InboxErrorKind::Store): there is no connection, or the role lacks a right.
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
}
