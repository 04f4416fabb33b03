//! A merchant's server as it runs in production. `docs/production.md` explains each part.
//!
//! - Two kinds of webhooks, each with a URL and secrets of its own, stored in an inbox before the 200.
//! - Secrets are read again on `SIGHUP`, so that you can rotate them without a restart.
//! - Limits on connections, request heads and bodies. Metrics on a port of their own.
//! - On `SIGTERM` or Ctrl-C, requests in flight are answered and running handlers finish.
//!
//! ```text
//! echo "2026-11 secret_value" > secrets.txt
//! REQUEST_SECRETS=secrets.txt PAYMENT_SECRETS=secrets.txt INBOX=inbox.db \
//!     cargo run --all-features --example production
//! ```
//!
//! `LISTEN` and `METRICS` set the two addresses, by default `127.0.0.1:3000` and `127.0.0.1:9000`.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use axum::Router;
use axum::routing::{get, post_service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use inqud_inbox::rusqlite::{Connection, OptionalExtension};
use inqud_inbox::{Context, Inbox, Sqlite, Stored};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};
use tower_inqud::{Payment, PaymentRequest, Secret, Secrets, WebhookLayer};

type BoxError = Box<dyn Error + Send + Sync>;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, amount TEXT, currency TEXT, shipped INT DEFAULT 0);
    CREATE TABLE IF NOT EXISTS paid_again (order_id TEXT, object TEXT);";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    run().await
}

pub(crate) async fn run() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    // Before any layer is built, because a layer describes its metrics.
    let metrics = install_metrics()?;

    let requests = SecretsFile::open("REQUEST_SECRETS")?;
    let payments = SecretsFile::open("PAYMENT_SECRETS")?;
    let inbox = Inbox::sqlite(variable("INBOX")?)?;
    inbox.write(|db| db.execute_batch(TABLES)).await?;

    let app = app(&inbox, &requests.secrets, &payments.secrets);
    let listener = listen("LISTEN", "127.0.0.1:3000").await?;
    let metrics_listener = listen("METRICS", "127.0.0.1:9000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    println!("metrics at http://{}/metrics", metrics_listener.local_addr()?);

    // These end with the process.
    tokio::spawn(update_gauges(inbox.clone()));
    tokio::spawn(reload_on_hangup([requests, payments]));
    tokio::spawn(axum::serve(metrics_listener, metrics_app(metrics)).into_future());

    // These stop when the process is asked to. If one fails, so does the program.
    let (stop, stopped) = watch::channel(false);
    let signal = async {
        terminated().await?;
        stop.send_replace(true);
        Ok(())
    };
    let result = tokio::try_join!(
        signal,
        spawn(serve(listener, app, is_true(stopped.clone()))),
        spawn(inbox.process(on_request).run_until(is_true(stopped.clone()))),
        spawn(inbox.process(on_payment).run_until(is_true(stopped))),
    );
    inbox.close().await;
    result.map(drop)
}

fn app(inbox: &Inbox<Sqlite>, requests: &Secrets, payments: &Secrets) -> Router {
    let request = WebhookLayer::<PaymentRequest>::new(requests.clone()).forward_undecodable();
    let payment = WebhookLayer::<Payment>::new(payments.clone()).forward_undecodable();
    Router::new()
        .route("/inqud/request", post_service(inbox.receiver::<PaymentRequest>()).layer(request))
        .route("/inqud/payment", post_service(inbox.receiver::<Payment>()).layer(payment))
        .route("/health", get(async || "ok"))
}

// ---------------------------------------------------------------------------------------- handlers

async fn on_request(request: Stored<PaymentRequest>, cx: Context<Sqlite>) -> Result<(), BoxError> {
    if request.status.is_successful() {
        let order =
            request.client_order_id.clone().ok_or("a paid Request without clientOrderId")?;
        let object = request.id.clone();
        ship_once(&cx, order, object, move |amount, currency| {
            Ok(request.is_paid_for(&amount.parse()?, currency))
        });
    }
    Ok(())
}

async fn on_payment(payment: Stored<Payment>, cx: Context<Sqlite>) -> Result<(), BoxError> {
    // A payment without an order of yours, such as a payout, ships nothing.
    if let Some(order) = payment.client_order_id.clone().filter(|_| payment.is_incoming_paid()) {
        let object = payment.id.clone();
        ship_once(&cx, order, object, move |amount, currency| {
            Ok(payment.is_paid_for(&amount.parse()?, currency))
        });
    }
    Ok(())
}

/// Ships an order once, however many objects report that it is paid. Commits together with "done".
fn ship_once(
    cx: &Context<Sqlite>,
    order: String,
    object: String,
    is_paid: impl Fn(&str, &str) -> Result<bool, BoxError> + Send + Sync + 'static,
) {
    let again = [order.clone(), object];
    cx.once(
        format!("ship:{order}"),
        move |db| ship(db, &order, &is_paid),
        // Keep it: someone may have paid twice.
        move |db, _| Ok(db.execute("INSERT INTO paid_again VALUES (?1, ?2)", again.each_ref())?),
    );
}

/// An error rolls everything back. The notification is retried, and becomes a dead letter in the end.
fn ship(
    db: &Connection,
    order: &str,
    is_paid: impl Fn(&str, &str) -> Result<bool, BoxError>,
) -> Result<(), BoxError> {
    let price = "SELECT amount, currency FROM orders WHERE id = ?1";
    let price = db.query_row(price, [order], |row| Ok((row.get(0)?, row.get(1)?)));
    let (amount, currency): (String, String) = price.optional()?.ok_or("unknown order")?;
    if !is_paid(&amount, &currency)? {
        return Err("the amount or the currency is not that of the order".into());
    }
    db.execute("UPDATE orders SET shipped = shipped + 1 WHERE id = ?1", [order])?;
    Ok(())
}

// ---------------------------------------------------------------------------------------- secrets

/// Lines of a label and a secret. The first is in use; the others are still accepted.
struct SecretsFile {
    path: PathBuf,
    secrets: Secrets,
}

impl SecretsFile {
    fn open(name: &str) -> Result<Self, BoxError> {
        let path = PathBuf::from(variable(name)?);
        let secrets = Secrets::new(read_secrets(&path)?)?;
        Ok(Self { path, secrets })
    }

    fn reload(&self) -> Result<(), BoxError> {
        Ok(self.secrets.replace(read_secrets(&self.path)?)?)
    }
}

fn read_secrets(path: &Path) -> Result<Vec<Secret>, BoxError> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let secrets = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (label, secret) = line.split_once(' ').ok_or("expected a label and a secret")?;
        Ok(Secret::new(secret)?.label(label))
    });
    secrets.collect()
}

#[cfg(unix)]
async fn reload_on_hangup(files: [SecretsFile; 2]) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        for file in &files {
            match file.reload() {
                Ok(()) => println!("reloaded {}", file.path.display()),
                // The former secrets stay.
                Err(error) => tracing::error!(%error, "secrets not reloaded"),
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
async fn reload_on_hangup(_: [SecretsFile; 2]) -> io::Result<()> {
    Ok(())
}

// ---------------------------------------------------------------------------------------- server

/// Like `axum::serve`, with limits on connections and request heads.
async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), io::Error> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    let (service, graceful) = (TowerToHyperService::new(app), GracefulShutdown::new());
    let connections = Arc::new(Semaphore::new(1000));

    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut shutdown => break,
        };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    // A webhook that is cut off is retried, so do not wait longer than Inqud does.
    _ = timeout(Duration::from_secs(10), graceful.shutdown()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            // For example, too many open files. Try again, because others may close.
            Err(error) => tracing::error!(%error, "accept failed"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

// ---------------------------------------------------------------------------------------- metrics

fn install_metrics() -> Result<PrometheusHandle, BoxError> {
    let seconds = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];
    let durations = Matcher::Suffix("_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(durations, &seconds)?;
    Ok(recorder.install_recorder()?)
}

fn metrics_app(metrics: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(async move || metrics.render()))
}

/// The inbox sets its gauges whenever its statistics are read.
async fn update_gauges(inbox: Inbox<Sqlite>) {
    let mut ticks = interval(Duration::from_secs(15));
    loop {
        ticks.tick().await;
        if let Err(error) = inbox.stats().await {
            tracing::error!(%error, "no statistics of the inbox");
        }
    }
}

// ---------------------------------------------------------------------------------------- the rest

fn variable(name: &str) -> Result<String, BoxError> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

async fn listen(name: &str, default: &str) -> Result<TcpListener, BoxError> {
    let address = env::var(name).unwrap_or_else(|_| default.to_owned());
    let listener = TcpListener::bind(&address).await;
    listener.map_err(|error| format!("{name}={address}: {error}").into())
}

async fn spawn<E>(
    future: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Result<(), BoxError>
where
    E: Error + Send + Sync + 'static,
{
    Ok(tokio::spawn(future).await??)
}

async fn is_true(mut flag: watch::Receiver<bool>) {
    _ = flag.wait_for(|flag| *flag).await;
}

async fn terminated() -> Result<(), BoxError> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    }
    #[cfg(not(unix))]
    Ok(tokio::signal::ctrl_c().await?)
}
