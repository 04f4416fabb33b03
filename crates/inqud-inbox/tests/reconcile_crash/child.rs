//! The merchant's process, which is killed: a receiver, a runner and a reconciler on one inbox.

use std::env;
use std::future::pending;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{post, post_service};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, Credentials, RequestBody};
use inqud_inbox::tokio_postgres::{Config, NoTls};
use inqud_inbox::{
    Context, Fetch, Fetched, Inbox, Postgres, Sqlite, Store, Stored, WatchList, rusqlite,
};
use jiff::Timestamp;
use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
use tracing_subscriber::fmt::MakeWriter;

use crate::postgres::connect;
use crate::world::{CONFIRM, OFFSETS, SECRET, TOKEN};

pub const PLACE: &str = "RECONCILE_CRASH_PLACE";
pub const API: &str = "RECONCILE_CRASH_API";
pub const STOP: &str = "RECONCILE_CRASH_STOP";

/// Where the process kills itself. Its parent could be too late: a look that waits for it times out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    Never,
    /// Between a fetch and its put.
    Fetched,
    /// Between a put and the change of the watch list.
    Stored,
}

impl Stop {
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Fetched => "fetched",
            Self::Stored => "stored",
        }
    }

    fn of_environment() -> Self {
        let word = env::var(STOP).unwrap();
        let all = [Self::Never, Self::Fetched, Self::Stored];
        all.into_iter().find(|it| it.word() == word).unwrap()
    }
}

/// What a process prints before it kills itself.
pub const STOPPED: &str = "stopped here";

fn stop() -> ! {
    println!("{STOPPED}");
    std::process::abort()
}

type Http = Client<HttpConnector, RequestBody>;

/// The client of the API.
struct Api {
    client: ApiClient<Http>,
    stop: Stop,
}

impl Fetch<PaymentRequest> for Api {
    async fn fetch(&self, id: &str) -> Fetched {
        let fetched = self.client.get(id).await;
        if self.stop == Stop::Fetched && matches!(fetched, Fetched::Found(_)) {
            stop();
        }
        fetched
    }
}

/// Prints what looks have found. The log is written after the put of a look and before its end.
#[derive(Clone)]
struct Looks(Stop);

impl Write for Looks {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.contains("outcome=\"") {
            println!("{}", text.trim_end());
        }
        if self.0 == Stop::Stored && text.contains("outcome=\"recovered\"") {
            stop();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Looks {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

pub async fn serve() {
    let stop = Stop::of_environment();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    // Not `init`, which also listens to the `log` crate.
    tracing::subscriber::set_global_default(log.with_writer(Looks(stop)).finish()).unwrap();
    let place = env::var(PLACE).unwrap();
    if place.starts_with("postgres:") {
        in_postgres(&place, stop).await
    } else {
        in_sqlite(&place, stop).await
    }
}

async fn in_sqlite(folder: &str, stop: Stop) {
    let inbox = Inbox::sqlite(Path::new(folder).join("inbox.db")).unwrap();
    let tables = "CREATE TABLE IF NOT EXISTS orders (request TEXT PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS effect (object TEXT NOT NULL, status TEXT NOT NULL)";
    inbox.write(move |db| db.execute_batch(tables)).await.unwrap();
    let its = inbox.clone();
    let place = move |order: String| {
        let inbox = its.clone();
        async move {
            let (id, expires_at) = parsed(&order);
            let written = inbox.write(move |db| {
                db.execute("INSERT INTO orders VALUES (?1) ON CONFLICT DO NOTHING", [&id])?;
                Sqlite::expect::<PaymentRequest>(db, &id, expires_at)
            });
            written.await.unwrap();
        }
    };
    listen(&inbox, Router::new().route("/orders", post(place))).await;
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let (id, status) = (request.id.clone(), request.status.as_str().to_owned());
        cx.effect(move |db| db.execute("INSERT INTO effect VALUES (?1, ?2)", [&id, &status]));
        Ok::<_, rusqlite::Error>(())
    };
    let runner = inbox.process(handler).concurrency(16).run_until(pending());
    let (ran, reconciled) = tokio::join!(runner, reconcile(&inbox, stop));
    ran.and(reconciled).unwrap();
}

async fn in_postgres(url: &str, stop: Stop) {
    let config: Config = url.parse().unwrap();
    Inbox::migrate(&config, NoTls).await.unwrap();
    let client = Arc::new(connect(&config).await);
    let tables = "CREATE TABLE IF NOT EXISTS orders (request text PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS effect (object text NOT NULL, status text NOT NULL)";
    client.batch_execute(tables).await.unwrap();
    let place = move |order: String| {
        let client = Arc::clone(&client);
        async move {
            let (id, expires_at) = parsed(&order);
            let both = "WITH placed AS (INSERT INTO orders VALUES ($1) ON CONFLICT DO NOTHING)
                SELECT inqud_inbox.expect('request', $1, $2::text::timestamptz)";
            client.query(both, &[&id, &expires_at.to_string()]).await.unwrap();
        }
    };
    let inbox = Inbox::postgres(config, NoTls).await.unwrap();
    listen(&inbox, Router::new().route("/orders", post(place))).await;
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let transaction = cx.transaction().await?;
        let insert = "INSERT INTO effect VALUES ($1, $2)";
        transaction.execute(insert, &[&request.id, &request.status.as_str()]).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    // A short lease, so that interrupted notifications are taken over soon. Few handlers, because the login of each of their
    // connections takes a tenth of a second without optimization.
    let runner = inbox.process(handler).concurrency(4).handler_timeout(Duration::from_secs(1));
    let (ran, reconciled) = tokio::join!(runner.run_until(pending()), reconcile(&inbox, stop));
    ran.and(reconciled).unwrap();
}

/// The id and the expiry of an order, from the request that places it.
fn parsed(order: &str) -> (String, Timestamp) {
    let (id, expires_at) = order.split_once(' ').unwrap();
    (id.to_owned(), expires_at.parse().unwrap())
}

async fn listen<S: Store>(inbox: &Inbox<S>, shop: Router) {
    let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new(SECRET).unwrap());
    let receiver = inbox.receiver::<PaymentRequest>();
    let app = shop.route("/", post_service(receiver).layer(webhooks));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
}

async fn reconcile<S: Store + WatchList>(
    inbox: &Inbox<S>,
    stop: Stop,
) -> Result<(), inqud_inbox::InboxError> {
    let credentials = Credentials::signed(TOKEN.0, TOKEN.1).unwrap();
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let client = ApiClient::builder(credentials)
        .base_url(env::var(API).unwrap())
        .rate_limit(100_000, Duration::from_secs(1))
        .max_per_hour(1_000_000);
    let api = Api { client: client.build(http).unwrap(), stop };
    let reconciler = inbox.reconcile(api).schedule(OFFSETS).confirm_after(CONFIRM);
    let reconciler = reconciler.poll_interval(Duration::from_millis(100)).concurrency(8);
    // The lease of a look, which is three times as long, is how long a killed one waits.
    reconciler.fetch_timeout(Duration::from_millis(500)).run_until(pending()).await
}
