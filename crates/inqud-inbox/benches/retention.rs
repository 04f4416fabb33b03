//! What a retention that runs costs the notifications that arrive meanwhile.
//!
//! Run `cargo bench -p inqud-inbox --bench retention --all-features`. With `-- --smoke` it only checks that everything works.
//! Words choose the engine: `sqlite`, `postgres`. A number is how many settled rows there are before.
//!
//! Rounds without a retention, with one that deletes bodies, and with one that deletes rows alternate in one run. It deletes
//! without end, as a runner does while there is something to delete.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "inbox/ids.rs"]
mod ids;
#[path = "../tests/support/postgres.rs"]
mod server;

use std::env;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use inqud_inbox::tokio_postgres::NoTls;
use inqud_inbox::{Inbox, Inserted, Postgres, Receiver, Retention, Sqlite, Store};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::Service;
use tower_inqud::{PaymentRequest, Webhook};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CLIENTS: usize = 32;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Off,
    Bodies,
    Rows,
}

#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    rounds: usize,
    puts: usize,
}

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|it| it == word);
    let full = Size { rows: 1_000_000, rounds: 8, puts: 30_000 };
    let mut size = if has("--smoke") { Size { rows: 2_000, rounds: 1, puts: 640 } } else { full };
    if let Some(rows) = words.iter().find_map(|it| it.parse().ok()) {
        size.rows = rows;
    }
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if has("sqlite") || !has("postgres") {
        runtime.block_on(sqlite(size, &metrics));
    }
    if has("postgres") || !has("sqlite") {
        runtime.block_on(postgres(size, &metrics));
    }
}

async fn sqlite(size: Size, metrics: &PrometheusHandle) {
    let folder =
        tempfile::tempdir_in(env::var_os("BENCH_DIR").unwrap_or_else(|| "/var/tmp".into()));
    let folder = folder.unwrap();
    let options = inqud_inbox::SqliteOptions::new(folder.path().join("inbox.db"));
    let inbox: Inbox<Sqlite> = options.allow_tmpfs().open().unwrap();
    fill(&inbox, size.rows).await;
    let settle = "
        UPDATE inqud_inbox_notification SET state = 1, received_at = received_at - 40 * 86400000000,
            settled_at = received_at - 40 * 86400000000;
        UPDATE inqud_inbox_object SET due_at = NULL";
    inbox.write(move |db| db.execute_batch(settle)).await.unwrap();
    compare("SQLite", &inbox, size, metrics).await;
}

async fn postgres(size: Size, metrics: &PrometheusHandle) {
    let Some(server) = server::shared() else { return };
    let inbox: Inbox<Postgres> = server.inbox("retention").await;
    fill(&inbox, size.rows).await;
    let (client, connection) = server.config("retention").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let settle = "
        UPDATE inqud_inbox.notification SET state = 1, received_at = received_at - interval '40 days',
            settled_at = received_at - interval '40 days';
        UPDATE inqud_inbox.object SET due_at = NULL; DELETE FROM inqud_inbox.tally";
    client.batch_execute(settle).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    client.batch_execute("CHECKPOINT").await.unwrap();
    compare("Postgres", &inbox, size, metrics).await;
}

async fn fill(inbox: &Inbox<impl Store>, rows: usize) {
    let mut rest = rows;
    while rest > 0 {
        let some = rest.min(1000);
        inbox.store().insert(ids::records(some)).await.unwrap();
        rest -= some;
    }
}

async fn compare<S: Store>(engine: &str, inbox: &Inbox<S>, size: Size, metrics: &PrometheusHandle) {
    let modes = [Mode::Off, Mode::Bodies, Mode::Rows];
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    let mut worst = [Duration::ZERO; 3];
    let mut gone = [0; 3];
    for at in 0..size.rounds * 3 {
        // In turn each comes first.
        let mode = (at + at / 3) % 3;
        let webhooks = ids::webhooks(size.puts).await;
        let again: Vec<_> = webhooks.iter().rev().take(100).cloned().collect();
        let before = deleted(metrics);
        let sweeping = sweep_all(inbox, modes[mode]);
        let (rate, p99) = put_all(inbox.receiver(), webhooks).await;
        while mode > 0 && deleted(metrics) == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sweeping.stop().await;
        gone[mode] += deleted(metrics) - before;
        rates[mode].push(rate);
        worst[mode] = worst[mode].max(p99);
        for webhook in again {
            let body = webhook.raw_body().clone();
            let record = inqud_inbox::Record::new::<PaymentRequest>(&webhook, body);
            let inserted = inbox.store().insert(vec![record]).await.unwrap();
            assert_eq!(inserted, [Inserted::Duplicate], "known within the window");
        }
    }
    println!("{engine}, {} settled rows, {CLIENTS} clients, {} rounds", size.rows, size.rounds);
    for mode in 0..3 {
        // Each round against the one without retention beside it.
        let ratios = rates[mode].iter().zip(&rates[0]).map(|(it, off)| it / off).collect();
        println!(
            "  {:?}: {:.0} puts/s, {:.3} of those without, worst p99 {:.1?}, {} deleted",
            modes[mode],
            median(rates[mode].clone()),
            median(ratios),
            worst[mode],
            gone[mode],
        );
        assert!(mode == 0 || gone[mode] > 0);
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
}

struct Sweeping(oneshot::Sender<()>, JoinHandle<()>);

impl Sweeping {
    async fn stop(self) {
        drop(self.0);
        self.1.await.unwrap();
    }
}

/// How much was deleted since the process started.
fn deleted(metrics: &PrometheusHandle) -> u64 {
    let metrics = metrics.render();
    let lines = metrics.lines().filter(|line| line.starts_with("inqud_inbox_deleted_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Deletes until it is told to stop.
fn sweep_all<S: Store>(inbox: &Inbox<S>, mode: Mode) -> Sweeping {
    let retention = match mode {
        Mode::Off => Retention::new(),
        Mode::Bodies => Retention::new().bodies(DAY * 30).unwrap(),
        Mode::Rows => Retention::new().notifications(DAY * 30).unwrap(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let inbox = inbox.clone();
    let sweeping = tokio::spawn(async move {
        tokio::select! {
            _ = stopped => {}
            () = async { loop {
                inbox.sweep(&retention).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            } } => {}
        }
    });
    Sweeping(stop, sweeping)
}

/// Each client puts one notification after the other. Returns how many were stored in a second, and how long it took at most
/// for 99 % of them.
async fn put_all<S: Store>(
    receiver: Receiver<S, PaymentRequest>,
    all: Vec<Webhook<PaymentRequest>>,
) -> (f64, Duration) {
    let count = all.len();
    let mut shares: Vec<_> = (0..CLIENTS).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        shares[at % CLIENTS].push(one);
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for share in shares {
        let mut receiver = receiver.clone();
        running.spawn(async move {
            let mut times = Vec::with_capacity(share.len());
            for one in share {
                let began = Instant::now();
                let mut request = Request::new(());
                request.extensions_mut().insert(one);
                let Ok(()) =
                    poll_fn(|cx| Service::<Request<()>>::poll_ready(&mut receiver, cx)).await;
                let Ok(response) = receiver.call(request).await;
                assert_eq!(response.status(), StatusCode::OK);
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times = running.join_all().await.concat();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    times.sort();
    (rate, times[(times.len() - 1) * 99 / 100])
}
