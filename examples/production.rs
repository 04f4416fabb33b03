//! A merchant's server as it runs in production. `docs/production.md` explains each part.
//!
//! - Two kinds of webhooks, each with a URL and secrets of its own, stored in an inbox before the 200.
//! - Secrets are read again on `SIGHUP`, so that you can rotate them without a restart.
//! - Limits on connections, request heads and bodies. Metrics on a port of their own.
//! - On `SIGTERM` or Ctrl-C, requests in flight are answered and running handlers finish.
//!
//! ```text
//! echo "request-2026-11 secret_value" > request.txt
//! echo "payment-2026-11 secret_value" > payment.txt
//! REQUEST_SECRETS=request.txt PAYMENT_SECRETS=payment.txt INBOX=inbox.db \
//!     cargo run --all-features --example production
//! ```
//!
//! `LISTEN` and `METRICS` set the two addresses, by default `127.0.0.1:3000` and `127.0.0.1:9000`.

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
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tower_inqud::{Payment, PaymentRequest, Secret, Secrets, WebhookLayer};

type BoxError = Box<dyn Error + Send + Sync>;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders
        (id TEXT PRIMARY KEY, amount TEXT, currency TEXT, shipped INT DEFAULT 0, payment TEXT);
    CREATE TABLE IF NOT EXISTS payments (id TEXT PRIMARY KEY, order_id TEXT, status TEXT);
    CREATE TABLE IF NOT EXISTS attention (order_id TEXT, request TEXT, why TEXT);";

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
    let hangups = hangups()?;
    tracing::info!("webhooks at http://{}", listener.local_addr()?);
    tracing::info!("metrics at http://{}/metrics", metrics_listener.local_addr()?);

    // These end with the process.
    tokio::spawn(reload_secrets(hangups, [requests, payments]));
    tokio::spawn(update_metrics(inbox.clone(), metrics.clone()));
    tokio::spawn(axum::serve(metrics_listener, metrics_app(metrics)).into_future());

    // These stop when the process is asked to, or when one of them fails.
    let (stop, stopped) = watch::channel(false);
    let requests = inbox.process(on_request).run_until(is_true(stopped.clone()));
    let payments = inbox.process(on_payment).run_until(is_true(stopped.clone()));
    let mut parts = JoinSet::new();
    parts.spawn(serve(listener, app, is_true(stopped)));
    parts.spawn(async { requests.await.map_err(BoxError::from) });
    parts.spawn(async { payments.await.map_err(BoxError::from) });

    let mut result = tokio::select! {
        signal = terminated() => signal,
        Some(ended) = parts.join_next() => ended.map_err(BoxError::from).and_then(|result| result),
    };
    stop.send_replace(true);
    while let Some(ended) = parts.join_next().await {
        result = result.and(ended.map_err(BoxError::from).and_then(|result| result));
    }
    inbox.close().await;
    result
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
    let order = request.client_order_id.clone().ok_or("a Request without clientOrderId")?;
    if request.status.is_successful() {
        let key = format!("ship:{order}");
        let (again, id) = (order.clone(), request.id.clone());
        let payment = request.payment_id.clone();
        cx.once(
            key,
            move |db| ship(db, &order, &request),
            move |db, _| look_if_another_payment(db, &again, &id, payment.as_deref()),
        );
    } else if request.is_final() {
        // It may have been paid before: Inqud's support can change a final status.
        let why = request.status.to_string();
        cx.effect(move |db| attention(db, &order, &request.id, &why));
    }
    Ok(())
}

/// Keeps one row per payment, of payouts too. A Request ships the order, not its payment.
async fn on_payment(payment: Stored<Payment>, cx: Context<Sqlite>) -> Result<(), BoxError> {
    cx.effect(move |db| {
        let row = "INSERT INTO payments VALUES (?1, ?2, ?3)
            ON CONFLICT (id) DO UPDATE SET status = excluded.status";
        db.execute(row, (&payment.id, &payment.client_order_id, payment.status.as_str()))
    });
    Ok(())
}

/// An error rolls everything back. The notification is retried, and becomes a dead letter in the end.
fn ship(db: &Connection, order: &str, request: &PaymentRequest) -> Result<(), BoxError> {
    let price = "SELECT amount, currency FROM orders WHERE id = ?1";
    let price = db.query_row(price, [order], |row| Ok((row.get(0)?, row.get(1)?)));
    let (amount, currency): (String, String) = price.optional()?.ok_or("unknown order")?;
    if !request.is_paid_for(&amount.parse()?, &currency) {
        return Err("the amount or the currency is not that of the order".into());
    }
    let ship = "UPDATE orders SET shipped = shipped + 1, payment = ?2 WHERE id = ?1";
    db.execute(ship, (order, &request.payment_id))?;
    Ok(())
}

/// The same payment can be reported again, with more details. Another payment means that someone paid twice.
fn look_if_another_payment(
    db: &Connection,
    order: &str,
    request: &str,
    payment: Option<&str>,
) -> Result<(), BoxError> {
    let known = "SELECT payment FROM orders WHERE id = ?1";
    let known: Option<String> = db.query_row(known, [order], |row| row.get(0))?;
    if payment.is_none() || known.as_deref() != payment {
        attention(db, order, request, "paid again")?;
    }
    Ok(())
}

fn attention(db: &Connection, order: &str, request: &str, why: &str) -> Result<(), BoxError> {
    db.execute("INSERT INTO attention VALUES (?1, ?2, ?3)", (order, request, why))?;
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

async fn reload_secrets(mut hangups: Hangups, files: [SecretsFile; 2]) {
    while hangups.recv().await.is_some() {
        for file in &files {
            match file.reload() {
                Ok(()) => tracing::info!("reloaded {}", file.path.display()),
                // The former secrets stay.
                Err(error) => tracing::error!(%error, "secrets not reloaded"),
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- server

/// Like `axum::serve`, with limits on connections and request heads.
async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    // HTTP/1.1 only: telling the version of a silent client has no timeout.
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
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

/// The inbox sets its gauges whenever its statistics are read. The recorder drops old samples on upkeep.
async fn update_metrics(inbox: Inbox<Sqlite>, metrics: PrometheusHandle) {
    let mut ticks = interval(Duration::from_secs(15));
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
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

async fn is_true(mut flag: watch::Receiver<bool>) {
    _ = flag.wait_for(|flag| *flag).await;
}

#[cfg(unix)]
type Hangups = tokio::signal::unix::Signal;

/// Registered before the server is ready, because an unhandled `SIGHUP` ends the process.
#[cfg(unix)]
fn hangups() -> io::Result<Hangups> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}

/// Elsewhere there is no such signal.
#[cfg(not(unix))]
type Hangups = tokio::sync::mpsc::Receiver<()>;

#[cfg(not(unix))]
fn hangups() -> io::Result<Hangups> {
    Ok(tokio::sync::mpsc::channel(1).1)
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
