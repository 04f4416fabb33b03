//! Deliveries to a server that is killed again and again, and what is in its file afterwards. Shared by
//! a test, which is small, and an example, which is as large as you like.
#![allow(dead_code, unreachable_pub, reason = "shared, and some of it only printed")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "all sizes are its own"
)]

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post_service;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::inbox::{Cx, Inbox, Key, Notified, Sqlite, Storable, rusqlite};
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer, contract, sign};

pub type BoxError = Box<dyn Error + Send + Sync>;

const SECRET: &str = "whsec-kiln-and-clay";
const STATES: u64 = 4;
/// So long without progress is not slow any more.
const STUCK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many Requests; each has four notifications, and one of them comes twice.
    pub requests: u64,
    pub kills: usize,
    pub connections: usize,
}

#[derive(Debug)]
pub struct Report {
    pub deliveries: usize,
    pub distinct: usize,
    pub kills: usize,
    pub acknowledged_but_not_stored: usize,
    pub effects: usize,
    pub skipped: usize,
    pub dead: usize,
    pub effects_missing_or_repeated: usize,
    pub order_violations: usize,
    pub integrity: String,
}

impl Report {
    pub fn is_right(&self) -> bool {
        self.acknowledged_but_not_stored == 0
            && self.effects_missing_or_repeated == 0
            && self.order_violations == 0
            && self.dead == 0
            && self.effects > 0
            && self.effects + self.skipped == self.distinct
            && self.integrity == "ok"
    }
}

/// The process that is killed: a server and a runner on the file in `folder`.
pub async fn serve(folder: &Path) -> Result<(), BoxError> {
    let inbox = Inbox::sqlite(folder.join("inbox.db"))?;
    let table = "CREATE TABLE IF NOT EXISTS effect (
        seq INTEGER PRIMARY KEY, key BLOB NOT NULL, object TEXT NOT NULL, version TEXT NOT NULL)";
    inbox.write(move |db| db.execute_batch(table)).await?;

    let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new(SECRET)?);
    let receiver = inbox.receiver::<PaymentRequest>();
    let app = Router::new().route("/", post_service(receiver).layer(webhooks));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    #[allow(clippy::print_stdout, reason = "how the parent learns the address")]
    {
        println!("listening on {}", listener.local_addr()?);
    }
    tokio::spawn(axum::serve(listener, app).into_future());

    let handler = async |request: Notified<PaymentRequest>, cx: Cx<Sqlite>| {
        let key = cx.key();
        let version = request.last_update().map(|time| time.to_string()).unwrap_or_default();
        let object = request.id.clone();
        cx.effect(move |db| {
            db.execute(
                "INSERT INTO effect (key, object, version) VALUES (?1, ?2, ?3)",
                rusqlite::params![key.as_bytes(), object, version],
            )
        });
        // One in five attempts fails, after it has asked for its effect.
        let attempt = u8::try_from(cx.attempt() % 251)?;
        if key.as_bytes()[0].wrapping_add(attempt.wrapping_mul(83)) % 5 == 0 {
            return Err::<_, BoxError>("the handler failed".into());
        }
        Ok(())
    };
    let runner = inbox.process(handler).attempts(10_000).concurrency(32);
    let runner = runner.backoff(Duration::from_millis(1), Duration::from_millis(50));
    runner.run_until(std::future::pending()).await?;
    Ok(())
}

/// Delivers to the process that `command` starts, which has to [`serve`] the same folder, and looks
/// into the file in the end.
pub async fn run(
    size: Size,
    folder: &Path,
    command: impl Fn() -> Command,
) -> Result<Report, BoxError> {
    let deliveries = Arc::new(deliveries(size.requests));
    let count = deliveries.len();
    let done = Arc::new(AtomicUsize::new(0));
    let (mut child, first) = start(&command).await?;
    let (address, watched) = watch::channel(first);
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..size.connections {
        let (deliveries, next, done) =
            (Arc::clone(&deliveries), Arc::clone(&next), Arc::clone(&done));
        let address = watched.clone();
        senders.spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            while let Some(body) = deliveries.get(next.fetch_add(1, Ordering::Relaxed)) {
                // Until it is acknowledged, as Inqud does, only sooner.
                loop {
                    let address = *address.borrow();
                    if deliver(&client, address, body).await {
                        break;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    let mut kills = 0;
    for kill in 1..=size.kills {
        let at = count.saturating_mul(kill) / (size.kills.saturating_add(1));
        while done.load(Ordering::Relaxed) < at {
            sleep(Duration::from_millis(1)).await;
        }
        child.kill().await?;
        kills = kill;
        let started = start(&command).await?;
        child = started.0;
        address.send_replace(started.1);
    }
    while let Some(sender) = senders.join_next().await {
        sender?;
    }
    let database = rusqlite::Connection::open_with_flags(
        folder.join("inbox.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )?;
    database.busy_timeout(Duration::from_secs(5))?;
    let open = "SELECT count(*) FROM inqud_inbox_notification WHERE state = 0";
    let mut left = i64::MAX;
    let mut since = Instant::now();
    loop {
        let now = database.query_row(open, [], |row| row.get(0))?;
        if now == 0 {
            break;
        }
        if now < left {
            (left, since) = (now, Instant::now());
        }
        if since.elapsed() > STUCK {
            return Err(format!("{left} notifications stay open").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    child.kill().await?;
    drop(database);
    look(folder, &deliveries, kills)
}

async fn start(command: impl Fn() -> Command) -> Result<(Child, SocketAddr), BoxError> {
    let mut child = command().stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, address)) = line.split_once("listening on ") {
            let address = address.parse()?;
            return Ok((child, address));
        }
    }
    Err("the server did not start".into())
}

async fn deliver(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    body: &str,
) -> bool {
    let secret = Secret::new(SECRET).expect("a good secret");
    let request = Request::post(format!("http://{address}/"))
        .header(contract::DIGEST_HEADER, sign(&secret, body.as_bytes()))
        .body(Full::from(body.to_owned()))
        .expect("a request");
    let answered = async {
        let Ok(response) = client.request(request).await else { return false };
        let status = response.status();
        response.into_body().collect().await.is_ok() && status == StatusCode::OK
    };
    // As long as Inqud waits, and then again.
    timeout(contract::PATIENCE, answered).await.unwrap_or(false)
}

/// Each state of each Request, one of four twice, in an order as from a bag.
fn deliveries(requests: u64) -> Vec<String> {
    let mut bodies = Vec::new();
    for request in 0..requests {
        for minute in (0..STATES).chain([request % STATES]) {
            bodies.push(body(request, minute));
        }
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..bodies.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random % (u64::try_from(at).expect("small") + 1));
        bodies.swap(at, other.expect("small"));
    }
    bodies
}

fn body(request: u64, minute: u64) -> String {
    let status = match minute {
        0 => "WAITING_PAYMENT",
        1 => "PENDING_PAYMENT",
        2 => "CONFLICT",
        _ => "SUCCESS",
    };
    format!(
        r#"{{"id":"CAPD-{request}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    )
}

fn look(folder: &Path, acknowledged: &[String], kills: usize) -> Result<Report, BoxError> {
    let database = rusqlite::Connection::open(folder.join("inbox.db"))?;
    let integrity = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let mut rows = database.prepare("SELECT key, state FROM inqud_inbox_notification")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?)))?;
    let states = rows.collect::<Result<HashMap<_, _>, _>>()?;

    let mut distinct = HashSet::new();
    for body in acknowledged {
        let request: PaymentRequest = serde_json::from_str(body)?;
        distinct.insert(*Key::new(PaymentRequest::KIND, &request.delivery_key()).as_bytes());
    }
    let mut effects = HashMap::<[u8; 16], usize>::new();
    let mut latest = HashMap::<String, String>::new();
    let mut order_violations = 0;
    let mut all = database.prepare("SELECT key, object, version FROM effect ORDER BY seq")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        *effects.entry(row.get(0)?).or_default() += 1;
        let version: String = row.get(2)?;
        if latest.insert(row.get(1)?, version.clone()).is_some_and(|before| before >= version) {
            order_violations += 1;
        }
    }
    let wrong = |(key, state): &(&[u8; 16], &i64)| {
        effects.get(*key).copied().unwrap_or_default() != usize::from(**state == 1)
    };
    let strange = effects.keys().filter(|key| !states.contains_key(*key)).count();
    Ok(Report {
        deliveries: acknowledged.len(),
        distinct: distinct.len(),
        kills,
        acknowledged_but_not_stored: distinct
            .iter()
            .filter(|key| !states.contains_key(*key))
            .count(),
        effects: effects.values().sum(),
        skipped: states.values().filter(|state| **state == 2).count(),
        dead: states.values().filter(|state| **state == 3).count(),
        effects_missing_or_repeated: states.iter().filter(wrong).count() + strange,
        order_violations,
        integrity,
    })
}
