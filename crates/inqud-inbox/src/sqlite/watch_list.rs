//! The watch list, of a file that this process owns and of one that it only attaches.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::attached::Attached;
use super::clock::last;
use super::store::Sqlite;
use super::tables::Tables;
use super::watch;
use crate::error::InboxError;
use crate::fetch::Fetch;
use crate::fetcher::Fetcher;
use crate::reconciler::Reconciler;
use crate::record::{Record, Storable};
use crate::tenant;
use crate::watch::{Arrived, Expected, Extent, Known, Look, Next, Reach, Scheduled, WatchList};

impl Sqlite {
    /// Makes a [`Reconciler`](crate::Reconciler) look at an object of type `T`, as a part of a transaction of yours. See
    /// [`Inbox::expect`](crate::Inbox::expect).
    ///
    /// `connection` is that of [`Inbox::write`](crate::Inbox::write) or of an
    /// [effect](crate::Context::effect), or one of your own to the same file.
    ///
    /// # Errors
    ///
    /// If the statement fails.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use inqud_inbox::{Inbox, InboxError, Sqlite};
    /// use tower_inqud::{PaymentRequest, jiff::Timestamp};
    ///
    /// # async fn run(inbox: Inbox<Sqlite>, id: String, expires_at: Timestamp) -> Result<(), InboxError> {
    /// inbox
    ///     .write(move |db| {
    ///         db.execute("INSERT INTO orders (request_id) VALUES (?1)", [&id])?;
    ///         Sqlite::expect::<PaymentRequest>(db, &id, expires_at)
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn expect<T: Storable>(
        connection: &Connection,
        id: &str,
        expires_at: Timestamp,
    ) -> rusqlite::Result<()> {
        Self::expect_object::<T>(connection, None, id, expires_at)
    }

    /// Does the same as [`expect`](Self::expect), for an object of a [tenant](tower_inqud::Verifier::tenant).
    ///
    /// # Errors
    ///
    /// If the statement fails.
    pub fn expect_of_tenant<T: Storable>(
        connection: &Connection,
        tenant: &str,
        id: &str,
        expires_at: Timestamp,
    ) -> rusqlite::Result<()> {
        Self::expect_object::<T>(connection, Some(tenant), id, expires_at)
    }

    fn expect_object<T: Storable>(
        connection: &Connection,
        tenant: Option<&str>,
        id: &str,
        expires_at: Timestamp,
    ) -> rusqlite::Result<()> {
        let object = tenant::qualify(tenant, id).into_owned();
        let since = expires_at.as_microsecond();
        watch::expect(connection, &Expected::new(T::KIND, object, Some(since)))
    }
}

impl WatchList for Sqlite {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        let expect = move |tables: &mut Tables<'_>| {
            // Stamps the time, which is that of the row.
            tables.now();
            expected.iter().try_for_each(|it| watch::expect(tables.connection, it))
        };
        self.writer.commit(expect).await
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        self.read(move |connection| watch::arrived(connection, kind, limit, horizon)).await
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        let schedule = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            watch::schedule(tables.connection, now, (kind, arrived), &looks)
        };
        self.writer.commit(schedule).await
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        let claim = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            watch::claim(tables.connection, now, kind, (count, lease))
        };
        self.writer.commit(claim).await
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        if ended.is_empty() {
            return Ok(());
        }
        let end = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            watch::end(tables.connection, now, &ended)
        };
        self.writer.commit(end).await
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        let hasten = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            watch::hasten(tables.connection, now, kind, (&objects, pause))
        };
        self.writer.commit(hasten).await
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        let object = object.to_owned();
        self.read(move |connection| watch::known(connection, kind, &object)).await
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        let insert = move |tables: &mut Tables<'_>| {
            let now = tables.now();
            watch::insert_after(tables.connection, now, &record, extent)
        };
        self.writer.commit(insert).await
    }
}

/// What is written counts by the clock of the file, which may be behind the system's: what is new by the first must not
/// be old by the second.
impl WatchList for Attached {
    async fn expect(&self, expected: Vec<Expected>) -> Result<(), InboxError> {
        self.commit(move |connection| {
            expected.iter().try_for_each(|it| watch::expect(connection, it))
        })
        .await
    }

    async fn arrived(
        &self,
        kind: &'static str,
        limit: usize,
        horizon: Duration,
    ) -> Result<Arrived, InboxError> {
        self.read(move |connection| watch::arrived(connection, kind, limit, horizon)).await
    }

    async fn schedule(
        &self,
        kind: &'static str,
        arrived: Reach,
        looks: Vec<Scheduled>,
    ) -> Result<(), InboxError> {
        self.commit(move |connection| {
            watch::schedule(connection, last(connection)?, (kind, arrived), &looks)
        })
        .await
    }

    async fn claim_looks(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Look>, InboxError> {
        self.commit(move |connection| {
            watch::claim(connection, last(connection)?, kind, (count, lease))
        })
        .await
    }

    async fn end_looks(&self, ended: Vec<(Look, Next)>) -> Result<(), InboxError> {
        self.commit(move |connection| watch::end(connection, last(connection)?, &ended)).await
    }

    async fn hasten(
        &self,
        kind: &'static str,
        objects: Vec<String>,
        pause: Duration,
    ) -> Result<(), InboxError> {
        self.commit(move |connection| {
            watch::hasten(connection, last(connection)?, kind, (&objects, pause))
        })
        .await
    }

    async fn known(&self, kind: &'static str, object: &str) -> Result<Known, InboxError> {
        let object = object.to_owned();
        self.read(move |connection| watch::known(connection, kind, &object)).await
    }

    async fn insert_after(
        &self,
        record: Record,
        extent: Extent,
    ) -> Result<Option<i64>, InboxError> {
        self.commit(move |connection| {
            watch::insert_after(connection, last(connection)?, &record, extent)
        })
        .await
    }
}

impl Attached {
    /// Creates a reconciler next to the process that has the inbox open, such as for
    /// [`reconcile_now`](Reconciler::reconcile_now). That process handles what is stored.
    pub fn reconcile<T: Storable>(&self, fetcher: impl Fetch<T>) -> Reconciler<Self, T> {
        Reconciler::new(Arc::new(self.clone()), Arc::default(), Fetcher::new(fetcher))
    }

    /// Does the same as [`reconcile`](Self::reconcile), for the objects of tenants: see
    /// [`Inbox::reconcile_per_tenant`](crate::Inbox::reconcile_per_tenant).
    pub fn reconcile_per_tenant<T: Storable, F: Fetch<T>>(
        &self,
        fetcher: impl Fn(Option<&str>) -> Option<Arc<F>> + Send + Sync + 'static,
    ) -> Reconciler<Self, T> {
        Reconciler::new(Arc::new(self.clone()), Arc::default(), Fetcher::of_any(fetcher))
    }

    async fn commit<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let work = move |connection: &mut Connection| super::attached::commit(connection, work);
        self.on(OpenFlags::SQLITE_OPEN_READ_WRITE, work).await
    }

    async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, InboxError> {
        let look =
            move |connection: &mut Connection| look(connection).map_err(super::error::engine);
        self.on(OpenFlags::SQLITE_OPEN_READ_ONLY, look).await
    }
}
