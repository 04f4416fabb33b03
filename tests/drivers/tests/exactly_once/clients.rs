//! The drivers, with the handlers of the guide.

use std::sync::{Arc, Mutex};

use ::diesel_async::{AsyncConnection, AsyncPgConnection};
use ::sea_orm::{Database, DatabaseConnection};
use drivers::{BoxError, deadpool_postgres, diesel_async, sea_orm, sqlx, sqlx_0_8, tokio_postgres};
use inqud_inbox::tokio_postgres::NoTls;
use inqud_inbox::{Context, Postgres, Stored};
use tower_inqud::PaymentRequest;

/// A driver, connected to the database.
pub trait Driver: Clone + Send + Sync + 'static {
    const NAME: &str;

    fn connect(url: String) -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// Runs the handler of the guide.
    fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

#[derive(Clone)]
pub struct Sqlx(::sqlx::PgPool);

impl Driver for Sqlx {
    const NAME: &str = "sqlx";

    async fn connect(url: String) -> Result<Self, BoxError> {
        Ok(Self(::sqlx::PgPool::connect(&url).await?))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        sqlx::on_request(self.0, request, cx).await
    }
}

#[derive(Clone)]
pub struct Sqlx08(::sqlx_0_8::PgPool);

impl Driver for Sqlx08 {
    const NAME: &str = "sqlx_0_8";

    async fn connect(url: String) -> Result<Self, BoxError> {
        Ok(Self(::sqlx_0_8::PgPool::connect(&url).await?))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        sqlx_0_8::on_request(self.0, request, cx).await
    }
}

#[derive(Clone)]
pub struct SeaOrm(DatabaseConnection);

impl Driver for SeaOrm {
    const NAME: &str = "sea_orm";

    async fn connect(url: String) -> Result<Self, BoxError> {
        Ok(Self(Database::connect(url).await?))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        sea_orm::on_request(self.0, request, cx).await
    }
}

/// Connections that are idle.
type Idle<C> = Arc<Mutex<Vec<C>>>;

fn idle<C>(connections: &Idle<C>) -> Option<C> {
    connections.lock().unwrap().pop()
}

#[derive(Clone)]
pub struct DieselAsync(String, Idle<AsyncPgConnection>);

impl Driver for DieselAsync {
    const NAME: &str = "diesel_async";

    async fn connect(url: String) -> Result<Self, BoxError> {
        Ok(Self(url, Idle::default()))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        let mut connection = match idle(&self.1) {
            Some(connection) => connection,
            None => AsyncPgConnection::establish(&self.0).await?,
        };
        diesel_async::on_request(&mut connection, request, cx).await?;
        self.1.lock().unwrap().push(connection);
        Ok(())
    }
}

#[derive(Clone)]
pub struct TokioPostgres(String, Idle<::tokio_postgres::Client>);

impl Driver for TokioPostgres {
    const NAME: &str = "tokio_postgres";

    async fn connect(url: String) -> Result<Self, BoxError> {
        Ok(Self(url, Idle::default()))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        let mut client = match idle(&self.1) {
            Some(client) => client,
            None => {
                let (client, connection) = ::tokio_postgres::connect(&self.0, NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        tokio_postgres::on_request(&mut client, request, cx).await?;
        self.1.lock().unwrap().push(client);
        Ok(())
    }
}

#[derive(Clone)]
pub struct DeadpoolPostgres(::deadpool_postgres::Pool);

impl Driver for DeadpoolPostgres {
    const NAME: &str = "deadpool_postgres";

    async fn connect(url: String) -> Result<Self, BoxError> {
        let manager = ::deadpool_postgres::Manager::new(url.parse()?, NoTls);
        Ok(Self(::deadpool_postgres::Pool::builder(manager).max_size(10).build()?))
    }

    async fn handle(
        self,
        request: Stored<PaymentRequest>,
        cx: Context<Postgres>,
    ) -> Result<(), BoxError> {
        deadpool_postgres::on_request(self.0, request, cx).await
    }
}
