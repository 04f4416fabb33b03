//! The crash test: delivers to a server that is killed repeatedly, then checks what it has stored. Used by
//! small tests and by an example that can be large.
#![allow(dead_code, unreachable_pub, reason = "shared, and some of it only printed")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "all sizes are its own"
)]

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use inqud_inbox::{Context, Inbox, Record, Sqlite, Store, Stored, rusqlite};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer, contract, sign};

pub type BoxError = Box<dyn Error + Send + Sync>;

const SECRET: &str = "whsec-kiln-and-clay";
const STATES: u64 = 4;
/// The time without progress after which a run fails.
const STUCK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The number of Requests. Each has four notifications, one of which is delivered twice.
    pub requests: u64,
    pub kills: usize,
    pub connections: usize,
}

/// The location of the inbox.
pub enum Place {
    Folder(PathBuf),
    Server(super::postgres::Server),
}

impl Place {
    /// The argument for the process that [`serve`]s it.
    pub fn argument(&self) -> OsString {
        match self {
            Self::Folder(folder) => folder.into(),
            Self::Server(server) => server.url("postgres").into(),
        }
    }

    /// The number of times that the database server is killed.
    fn server_kills(&self) -> usize {
        match self {
            Self::Folder(_) => 0,
            Self::Server(_) => 2,
        }
    }

    fn kill_server(&self) {
        match self {
            Self::Folder(_) => {}
            Self::Server(server) => {
                server.kill();
                server.run();
            }
        }
    }
}

#[derive(Debug)]
pub struct Report {
    pub deliveries: usize,
    pub distinct: usize,
    pub kills: usize,
    pub server_kills: usize,
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

/// Runs the process that is killed: a server and a runner on the given [`Place::argument`].
pub async fn serve(place: &OsStr) -> Result<(), BoxError> {
    if let Some(url) = place.to_str().filter(|place| place.starts_with("postgres:")) {
        return in_postgres::serve(url).await;
    }
    let inbox = Inbox::sqlite(Path::new(place).join("inbox.db"))?;
    let table = "CREATE TABLE IF NOT EXISTS effect (
        seq INTEGER PRIMARY KEY, key BLOB NOT NULL, object TEXT NOT NULL, version TEXT NOT NULL)";
    inbox.write(move |db| db.execute_batch(table)).await?;
    receive(&inbox).await?;
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let key = cx.key();
        let (object, version) = effect(&request);
        cx.effect(move |db| {
            db.execute(
                "INSERT INTO effect (key, object, version) VALUES (?1, ?2, ?3)",
                rusqlite::params![key.as_bytes(), object, version],
            )
        });
        fail_now_and_then(&cx)
    };
    let runner = inbox.process(handler).max_attempts(10_000).concurrency(32);
    let runner = runner.backoff(Duration::from_millis(1), Duration::from_millis(50));
    runner.run_until(std::future::pending()).await?;
    Ok(())
}

async fn receive<S: Store>(inbox: &Inbox<S>) -> Result<(), BoxError> {
    let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new(SECRET)?);
    let receiver = inbox.receiver::<PaymentRequest>();
    let app = Router::new().route("/", post_service(receiver).layer(webhooks));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    #[allow(clippy::print_stdout, reason = "how the parent learns the address")]
    {
        println!("listening on {}", listener.local_addr()?);
    }
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(())
}

/// Returns the object and the version for the row that the effect writes.
fn effect(request: &PaymentRequest) -> (String, String) {
    let version = request.last_update().map(|time| time.to_string()).unwrap_or_default();
    (request.id.clone(), version)
}

/// Fails one in five attempts. Called after the handler has asked for its effect.
fn fail_now_and_then<S: Store>(cx: &Context<S>) -> Result<(), BoxError> {
    let attempt = u8::try_from(cx.attempt() % 251)?;
    if cx.key().as_bytes()[0].wrapping_add(attempt.wrapping_mul(83)) % 5 == 0 {
        return Err("the handler failed".into());
    }
    Ok(())
}

/// Delivers to the process that `command` starts, which must [`serve`] the same place, and checks the place
/// at the end.
pub async fn run(
    size: Size,
    place: &Place,
    command: impl Fn() -> Command,
) -> Result<Report, BoxError> {
    let deliveries = Arc::new(deliveries(size.requests));
    let count = deliveries.len();
    if let Place::Folder(folder) = place {
        in_sqlite::fill(folder).await?;
    }
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
                // Retries until it is acknowledged, like Inqud, but sooner.
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

    // Kills the process, and the database server in between.
    let part = |nth: usize, of: usize| count.saturating_mul(nth) / of.saturating_add(1);
    let kills = (1..=size.kills).map(|kill| (part(kill, size.kills), false));
    let server_kills = place.server_kills();
    let server_kills = (1..=server_kills).map(|kill| (part(kill, server_kills), true));
    let mut all: Vec<_> = kills.chain(server_kills).collect();
    all.sort_unstable();
    let (mut kills, mut server_kills) = (0, 0);
    for (at, is_server) in all {
        while done.load(Ordering::Relaxed) < at {
            sleep(Duration::from_millis(1)).await;
        }
        if is_server {
            // Blocks only this task; those of the client continue on other threads.
            tokio::task::block_in_place(|| place.kill_server());
            server_kills += 1;
            continue;
        }
        child.kill().await?;
        kills += 1;
        let started = start(&command).await?;
        child = started.0;
        address.send_replace(started.1);
    }
    while let Some(sender) = senders.join_next().await {
        sender?;
    }
    let mut left = i64::MAX;
    let mut since = Instant::now();
    loop {
        let now = open(place).await?;
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
    let found = match place {
        Place::Folder(folder) => {
            let forgotten = in_sqlite::forgotten(folder).await?;
            let mut found = in_sqlite::found(folder)?;
            if forgotten > 0 {
                found.integrity += &format!("; {forgotten} of before are not known any more");
            }
            found
        }
        Place::Server(server) => in_postgres::found(&server.config("postgres")).await?,
    };
    judge(found, &deliveries, (kills, server_kills))
}

/// Returns the number of notifications that are not yet settled.
async fn open(place: &Place) -> Result<i64, BoxError> {
    match place {
        Place::Folder(folder) => Ok(in_sqlite::open(folder)?),
        Place::Server(server) => in_postgres::open(&server.config("postgres")).await,
    }
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
    // The timeout of Inqud.
    timeout(contract::RESPONSE_TIMEOUT, answered).await.unwrap_or(false)
}

/// Returns each state of each Request, one in four twice, in random order.
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

/// What is stored at the end.
struct Found {
    /// By state: 1 done, 2 skipped, 3 dead, 4 kept for review.
    states: HashMap<[u8; 16], i64>,
    /// Key, object and version in the order of the effects.
    effects: Vec<([u8; 16], String, String)>,
    integrity: String,
}

fn judge(
    found: Found,
    acknowledged: &[String],
    (kills, server_kills): (usize, usize),
) -> Result<Report, BoxError> {
    let Found { states, effects: all, integrity } = found;
    let mut distinct = HashSet::new();
    for body in acknowledged {
        let request: PaymentRequest = serde_json::from_str(body)?;
        distinct.insert(*Record::new(&request, body.clone().into()).key.as_bytes());
    }
    let mut effects = HashMap::<[u8; 16], usize>::new();
    let mut latest = HashMap::<String, String>::new();
    let mut order_violations = 0;
    for (key, object, version) in all {
        *effects.entry(key).or_default() += 1;
        if latest.insert(object, version.clone()).is_some_and(|before| before >= version) {
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
        server_kills,
        acknowledged_but_not_stored: distinct
            .iter()
            .filter(|key| !states.contains_key(*key))
            .count(),
        effects: effects.values().sum(),
        skipped: states.values().filter(|state| **state == 2).count(),
        dead: states.values().filter(|state| **state > 2).count(),
        effects_missing_or_repeated: states.iter().filter(wrong).count() + strange,
        order_violations,
        integrity,
    })
}

mod in_sqlite {
    use inqud_inbox::{Inserted, Record};
    use tower_inqud::Invoice;

    use super::{BoxError, Duration, Found, Inbox, Path, Store, rusqlite};

    const TWINS: &str = "SELECT count(*) FROM
        (SELECT 1 FROM inqud_inbox_object GROUP BY kind, id HAVING count(*) > 1)";
    const MISCOUNTED: &str = "SELECT count(*) FROM inqud_inbox_count AS its
        WHERE (open, dead) <> (SELECT sum(state = 0), sum(state = 3)
            FROM inqud_inbox_notification AS it WHERE it.kind = its.kind)";

    /// Enough objects for an index of several levels.
    const FILLED: u32 = 20_000;

    pub(super) async fn fill(folder: &Path) -> Result<(), BoxError> {
        let inbox = Inbox::sqlite(folder.join("inbox.db"))?;
        for some in 0..10 {
            let records = (some * FILLED / 10..(some + 1) * FILLED / 10).map(filler).collect();
            inbox.store().insert(records).await?;
        }
        inbox.close().await;
        Ok(())
    }

    /// Returns the number of filler objects that are not found any more.
    pub(super) async fn forgotten(folder: &Path) -> Result<usize, BoxError> {
        let inbox = Inbox::sqlite(folder.join("inbox.db"))?;
        let again = inbox.store().insert((0..FILLED).step_by(50).map(filler).collect()).await?;
        inbox.close().await;
        Ok(again.iter().filter(|inserted| **inserted != Inserted::Duplicate).count())
    }

    fn filler(id: u32) -> Record {
        let body = format!(r#"{{"id":"{id}","status":"NEW"}}"#);
        let invoice: Invoice = serde_json::from_str(&body).expect("an invoice");
        let dead = Some("put away".to_owned());
        Record { dead, ..Record::new(&invoice, body.into()) }
    }

    pub(super) fn open(folder: &Path) -> rusqlite::Result<i64> {
        let open = "SELECT count(*) FROM inqud_inbox_notification WHERE state = 0";
        database(folder)?.query_row(open, [], |row| row.get(0))
    }

    pub(super) fn found(folder: &Path) -> rusqlite::Result<Found> {
        let database = database(folder)?;
        let mut integrity: String =
            database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        for check in [TWINS, MISCOUNTED] {
            let wrong: i64 = database.query_row(check, [], |row| row.get(0))?;
            if wrong > 0 {
                integrity += &format!("; {wrong} of {check}");
            }
        }
        let mut states = database.prepare(
            "SELECT key, state FROM inqud_inbox_notification
             WHERE kind = 'request'",
        )?;
        let states = states.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut effects =
            database.prepare("SELECT key, object, version FROM effect ORDER BY seq")?;
        let effects = effects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(Found {
            states: states.collect::<Result<_, _>>()?,
            effects: effects.collect::<Result<_, _>>()?,
            integrity,
        })
    }

    /// Opens the file for writing too, because the log of a killed process has to be recovered.
    fn database(folder: &Path) -> rusqlite::Result<rusqlite::Connection> {
        let database = rusqlite::Connection::open(folder.join("inbox.db"))?;
        database.busy_timeout(Duration::from_secs(5))?;
        Ok(database)
    }
}

mod in_postgres {
    use inqud_inbox::Postgres;
    use inqud_inbox::tokio_postgres::{Config, NoTls, Row};

    use super::super::postgres::connect;
    use super::{BoxError, Context, Duration, Found, Inbox, PaymentRequest, Stored};

    pub(super) async fn serve(url: &str) -> Result<(), BoxError> {
        let config: Config = url.parse()?;
        Inbox::migrate(&config, NoTls).await?;
        let table = "CREATE TABLE IF NOT EXISTS effect (
            seq bigserial, key bytea NOT NULL, object text NOT NULL, version text NOT NULL)";
        connect(&config).await.batch_execute(table).await?;
        let inbox = Inbox::postgres(config, NoTls).await?;
        super::receive(&inbox).await?;
        let handler = async |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            let (object, version) = super::effect(&request);
            let transaction = cx.transaction().await?;
            let insert = "INSERT INTO effect (key, object, version) VALUES ($1, $2, $3)";
            let key = cx.key();
            transaction.execute(insert, &[&&key.as_bytes()[..], &object, &version]).await?;
            super::fail_now_and_then(&cx)
        };
        let runner = inbox.process(handler).max_attempts(10_000).concurrency(32);
        // A short lease, so that interrupted notifications are taken over soon.
        let runner = runner.handler_timeout(Duration::from_secs(1));
        let runner = runner.backoff(Duration::from_millis(1), Duration::from_millis(50));
        runner.run_until(std::future::pending()).await?;
        Ok(())
    }

    pub(super) async fn open(config: &Config) -> Result<i64, BoxError> {
        let open = "SELECT count(*) FROM inqud_inbox.notification WHERE state = 0";
        Ok(connect(config).await.query_one(open, &[]).await?.try_get(0)?)
    }

    pub(super) async fn found(config: &Config) -> Result<Found, BoxError> {
        // Checks that each index of the inbox agrees with its table.
        const CHECK: &str = "SELECT bt_index_check(indexrelid, true) FROM pg_index
            JOIN pg_class ON pg_class.oid = indrelid
            WHERE relnamespace = 'inqud_inbox'::regnamespace";
        let client = connect(config).await;
        client.batch_execute("CREATE EXTENSION amcheck").await?;
        let checked = client.query(CHECK, &[]).await;
        let integrity = match checked {
            Ok(indexes) if indexes.len() > 4 => "ok".to_owned(),
            Ok(indexes) => format!("{} indexes", indexes.len()),
            Err(error) => format!("{error:?}"),
        };
        let key = |row: &Row| <[u8; 16]>::try_from(row.get::<_, &[u8]>(0));
        let mut found = Found { states: Default::default(), effects: Vec::new(), integrity };
        let states = "SELECT key, state::bigint FROM inqud_inbox.notification";
        for row in client.query(states, &[]).await? {
            found.states.insert(key(&row)?, row.get(1));
        }
        let effects = "SELECT key, object, version FROM effect ORDER BY seq";
        for row in client.query(effects, &[]).await? {
            found.effects.push((key(&row)?, row.get(1), row.get(2)));
        }
        Ok(found)
    }
}
