//! What the inbox costs beside its floor: what a plain program does, the statements on the same tables,
//! committed in groups by a plain thread with nothing around it.
//!
//! `cargo bench -p inqud-inbox --bench inbox --all-features`, with `-- report` to write `INBOX.md`, or with
//! `-- --smoke` for a run that only checks that all is stored and processed.
//!
//! *Puts* are calls of the receiver, in process, with web hooks that were verified before. *Consumption*
//! is a runner with a concurrency of 64 whose handler does nothing, or has one effect. Inbox and floor
//! take turns, and each pair of turns gives one ratio; the medians count.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::future::{poll_fn, ready};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use inqud_inbox::{Cx, Inbox, Notified, Put, Receiver, Record, Store};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tower::{Layer, Service, service_fn};
use tower_inqud::{PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, sign};

#[cfg(feature = "postgres")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;

const SECRET: &str = "whsec-kiln-and-clay";
const REQUEST: &str = include_str!("../../../../tests/fixtures/request-waiting_payment.json");
/// How many a runner handles at once, and the floor claims and settles in one commit.
const CONCURRENCY: usize = 64;
/// How many the floor puts in one commit at most, as the inbox does.
const GROUP: usize = 256;

/// A store, and its floor. A value is a place with tables of its own, which inbox and floor use in turn.
trait Engine: Sized {
    type Store: Store;
    const NAME: &'static str;

    /// Whether it can be had on this machine.
    async fn is_there() -> bool;

    /// A place without rows, with the tables of the inbox and a table `effect (object TEXT)`.
    async fn new() -> Self;

    async fn inbox(&self) -> Inbox<Self::Store>;

    async fn close(inbox: Inbox<Self::Store>);

    /// Has a row inserted into `effect`.
    fn effect(cx: &Cx<Self::Store>, object: String) -> impl Future<Output = ()> + Send;

    /// The floor of puts: commits what has come together, and answers then. Ends with its senders.
    async fn put_plainly(&self) -> mpsc::Sender<Waiting>;

    /// The floor of consumption: claims and settles so many in each commit until `count` are settled.
    async fn consume_plainly(&self, count: usize, has_effect: bool);

    async fn rows(&self) -> Rows;

    /// What is open is as if it had been processed.
    async fn process_all(&self);
}

/// A record, and who waits for its commit.
type Waiting = (Record, oneshot::Sender<Put>);

/// What is in a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rows {
    open: usize,
    done: usize,
    effects: usize,
}

#[derive(Clone, Copy)]
struct Size {
    /// Even, so that neither side is first more often.
    rounds: usize,
    /// How many are processed or open before.
    rows: usize,
    /// How many puts a round has, for so many clients.
    puts: [(usize, usize); 3],
    consumed: usize,
}

const FULL: Size = Size {
    rounds: 6,
    rows: 500_000,
    // The last are enough for SQLite to write its log into the file twice at least.
    puts: [(1, 1_500), (32, 10_000), (128, 60_000)],
    consumed: 10_000,
};
const SMOKE: Size =
    Size { rounds: 2, rows: 2_000, puts: [(1, 20), (32, 320), (128, 640)], consumed: 500 };

#[tokio::main]
async fn main() {
    let has = |word: &str| std::env::args().any(|it| it == word);
    let size = if has("--smoke") { SMOKE } else { FULL };
    let mut report = head(size);
    #[cfg(feature = "sqlite")]
    compare::<sqlite::Sqlite>(size, &mut report).await;
    #[cfg(feature = "postgres")]
    compare::<in_postgres::Postgres>(size, &mut report).await;
    if has("report") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/INBOX.md");
        fs::write(path, report).unwrap();
    }
}

fn say(report: &mut String, line: &str) {
    println!("{line}");
    writeln!(report, "{line}").unwrap();
}

fn head(size: Size) -> String {
    let mut report = String::new();
    let text = "# The inbox beside its floor\n\n\
        Written by `cargo bench --bench inbox --features sqlite,postgres -- report`. The floor is \
        what a plain\nprogram does: the statements on the same tables in a plain thread or task, with nothing \
        around them. In SQLite it\nwrites the entry of each new id into the index at once; the inbox has the \
        latest 16,384 in memory first, so with\nnothing before it writes none for as many. What a round has \
        put stays where there was something before: 500,000\nrows are 930,000 in the end. Postgres has \
        `shared_buffers` of 1 GB and `max_wal_size` of 4 GB.";
    say(&mut report, text);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (rounds, syncs) = (size.rounds, syncs(if size.rounds > 2 { 300 } else { 10 }));
    let line = format!(
        "Medians of {rounds} rounds of each, in turn. {cores} shared cores; a lone write of 4 KiB and its \
         fdatasync: {syncs:.0}/s."
    );
    say(&mut report, &line);
    report
}

/// How many writes of a page the disk takes in a second when each is waited for.
fn syncs(count: usize) -> f64 {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let write = |file: &mut File| {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    };
    write(&mut file);
    let began = Instant::now();
    for _ in 0..count {
        write(&mut file);
    }
    count as f64 / began.elapsed().as_secs_f64()
}

async fn compare<E: Engine>(size: Size, report: &mut String) {
    if !E::is_there().await {
        return;
    }
    let mut ids = Ids(0);
    let mut all = Vec::new();
    for rows in [Before::Nothing, Before::Processed(size.rows), Before::Open(size.rows)] {
        all.push(Sides::<E>::new(rows, &mut ids).await);
    }
    let columns = "inbox/floor | inbox to nothing | floor | inbox to processed | floor |";

    say(report, &format!("\n## Durable puts, {}\n", E::NAME));
    say(
        report,
        &format!("| clients | before | inbox/s | p50 | p99 | floor/s | p50 | p99 | {columns}"),
    );
    say(report, &format!("| ---: | --- |{}", " ---: |".repeat(11)));
    for (clients, count) in size.puts {
        let mut rounds = Vec::new();
        for round in 0..size.rounds {
            let mut speeds = Vec::new();
            for sides in &mut all {
                speeds.push(put_round(sides, round, clients, count, &mut ids).await);
            }
            rounds.push(speeds);
        }
        for (at, sides) in all.iter().enumerate() {
            let mut line = format!("| {clients} | {} |", sides.before);
            for side in [0, 1] {
                let rate = middle(&rounds, |it| it[at][side].rate);
                let p50 = middle(&rounds, |it| it[at][side].p50.as_secs_f64() * 1e3);
                let p99 = middle(&rounds, |it| it[at][side].p99.as_secs_f64() * 1e3);
                write!(line, " {rate:.0} | {p50:.2} ms | {p99:.2} ms |").unwrap();
            }
            line.push_str(&ratios(&rounds, at, |speeds| speeds.each_ref().map(|it| it.rate)));
            say(report, &line);
        }
    }

    say(report, &format!("\n## Consumption, {}\n", E::NAME));
    say(report, &format!("| the handler does | before | inbox/s | floor/s | {columns}"));
    say(report, &format!("| --- | --- |{}", " ---: |".repeat(7)));
    for (what, has_effect) in [("nothing", false), ("one effect", true)] {
        let mut rounds = Vec::new();
        for round in 0..size.rounds {
            let mut rates = Vec::new();
            for sides in &mut all {
                rates.push(consume_round(sides, round, size.consumed, has_effect, &mut ids).await);
            }
            rounds.push(rates);
        }
        for (at, sides) in all.iter().enumerate() {
            let [inbox, floor] = [0, 1].map(|side| middle(&rounds, |round| round[at][side]));
            let mut line = format!("| {what} | {} | {inbox:.0} | {floor:.0} |", sides.before);
            line.push_str(&ratios(&rounds, at, |rates| *rates));
            say(report, &line);
        }
    }
}

/// Of the inbox to the floor, and of both to what they were before with less in their tables.
fn ratios<T>(rounds: &[Vec<T>], at: usize, rates: impl Fn(&T) -> [f64; 2]) -> String {
    let ratio = |one: &dyn Fn(&Vec<T>) -> f64, other: &dyn Fn(&Vec<T>) -> f64| {
        format!(" {:.2} |", middle(rounds, |round| one(round) / other(round)))
    };
    let rate = |at: usize, side: usize| {
        let rates = &rates;
        move |round: &Vec<T>| rates(&round[at])[side]
    };
    let mut line = ratio(&rate(at, 0), &rate(at, 1));
    for less in [0, 1] {
        for side in [0, 1] {
            line += &if less < at {
                ratio(&rate(at, side), &rate(less, side))
            } else {
                " |".to_owned()
            };
        }
    }
    line
}

/// The median.
fn middle<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut all: Vec<_> = rounds.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
}

// ------------------------------------------------------------------ notifications

/// Ids that are new, and in no order, as those of Inqud are.
struct Ids(u64);

impl Ids {
    fn body(&mut self) -> String {
        self.0 += 1;
        // A permutation of the numbers: splitmix64.
        let mut z = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let (_, rest) = REQUEST.split_once(r#""id":"CAPD-"#).unwrap();
        let (_, rest) = rest.split_once('"').unwrap();
        format!(r#"{{"id":"CAPD-{z:016x}-1c17149d4395"{rest}"#)
    }

    fn record(&mut self) -> Record {
        let body = self.body();
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into())
    }

    fn records(&mut self, count: usize) -> Vec<Record> {
        (0..count).map(|_| self.record()).collect()
    }

    async fn webhooks(&mut self, count: usize) -> Vec<Webhook<PaymentRequest>> {
        let secret = Secret::new(SECRET).unwrap();
        let seen = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let noted = Arc::clone(&seen);
        let note = move |request: Request<WebhookBody<Full<Bytes>>>| {
            let webhook = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
            noted.lock().unwrap().push(webhook.clone());
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        };
        let layer = WebhookLayer::<PaymentRequest>::new(secret.clone());
        let mut service = layer.layer(service_fn(note));
        for _ in 0..count {
            let body = self.body();
            let digest = sign(&secret, body.as_bytes()).to_string();
            let request = Request::post("/").header(contract::DIGEST_HEADER, digest);
            let request = request.body(Full::from(body)).unwrap();
            assert_eq!(service.call(request).await.unwrap().status(), StatusCode::OK);
        }
        std::mem::take(&mut *seen.lock().unwrap())
    }
}

/// What is in the tables before a round.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Processed(usize),
    Open(usize),
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Processed(count) => write!(f, "{count} processed"),
            Self::Open(count) => write!(f, "{count} open"),
        }
    }
}

/// Where the inbox works, and where the floor does.
struct Sides<E> {
    before: Before,
    places: [E; 2],
}

impl<E: Engine> Sides<E> {
    async fn new(before: Before, ids: &mut Ids) -> Self {
        let places = [E::new().await, E::new().await];
        if let Before::Processed(count) | Before::Open(count) = before {
            for place in &places {
                fill(place, count, ids).await;
            }
        }
        Self { before, places }
    }

    /// What a round before left is gone, or processed, or stays open with the rest.
    async fn next(&mut self) -> [(&E, Rows); 2] {
        match self.before {
            Before::Nothing => self.places = [E::new().await, E::new().await],
            Before::Processed(_) => {
                for place in &self.places {
                    place.process_all().await;
                }
            }
            Before::Open(_) => {}
        }
        let [inbox, floor] = &self.places;
        [(inbox, inbox.rows().await), (floor, floor.rows().await)]
    }
}

/// By big transactions.
async fn fill<E: Engine>(place: &E, count: usize, ids: &mut Ids) {
    let before = place.rows().await.open;
    let inbox = place.inbox().await;
    let mut rest = count;
    while rest > 0 {
        let records = ids.records(rest.min(10_000));
        rest -= records.len();
        let answers = inbox.store().put(records).await.unwrap();
        assert!(answers.iter().all(|it| *it == Put::New));
    }
    E::close(inbox).await;
    assert_eq!(place.rows().await.open, before + count);
}

// --------------------------------------------------------------------------- puts

struct Speed {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

async fn put_round<E: Engine>(
    sides: &mut Sides<E>,
    round: usize,
    clients: usize,
    count: usize,
    ids: &mut Ids,
) -> [Speed; 2] {
    let sides = sides.next().await;
    let [(inbox_place, _), (floor_place, _)] = sides;
    let webhooks = ids.webhooks(count).await;
    let records = ids.records(count);
    let of_inbox = async {
        let inbox = inbox_place.inbox().await;
        let speed = clients_put(clients, webhooks, inbox.receiver()).await;
        E::close(inbox).await;
        speed
    };
    let of_floor = async { clients_put(clients, records, floor_place.put_plainly().await).await };
    let speeds = in_turn(round, of_inbox, of_floor).await;
    for (place, before) in sides {
        let after = Rows { open: before.open + count, ..before };
        assert_eq!(place.rows().await, after);
    }
    speeds
}

/// One of the two is first in every other round.
async fn in_turn<R>(
    round: usize,
    inbox: impl Future<Output = R>,
    floor: impl Future<Output = R>,
) -> [R; 2] {
    if round.is_multiple_of(2) {
        let inbox = inbox.await;
        [inbox, floor.await]
    } else {
        let floor = floor.await;
        [inbox.await, floor]
    }
}

trait Client<T>: Clone + Send + 'static {
    fn put(&mut self, one: T) -> impl Future<Output = ()> + Send;
}

impl<S: Store> Client<Webhook<PaymentRequest>> for Receiver<S, PaymentRequest> {
    async fn put(&mut self, webhook: Webhook<PaymentRequest>) {
        let mut request = Request::new(());
        request.extensions_mut().insert(webhook);
        let Ok(()) = poll_fn(|cx| Service::<Request<()>>::poll_ready(self, cx)).await;
        let Ok(response) = self.call(request).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

impl Client<Record> for mpsc::Sender<Waiting> {
    async fn put(&mut self, record: Record) {
        let (answer, answered) = oneshot::channel();
        self.send((record, answer)).await.unwrap();
        assert_eq!(answered.await.unwrap(), Put::New);
    }
}

/// Each client puts one after the other.
async fn clients_put<T: Send + 'static>(clients: usize, all: Vec<T>, put: impl Client<T>) -> Speed {
    let count = all.len();
    let mut shares: Vec<_> = (0..clients).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        shares[at % clients].push(one);
    }
    // Not timed: a connection is made, and statements are prepared.
    for share in &mut shares {
        if let Some(first) = share.pop() {
            put.clone().put(first).await;
        }
    }
    let count = count - clients;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for share in shares {
        let mut put = put.clone();
        running.spawn(async move {
            let mut times = Vec::with_capacity(share.len());
            for one in share {
                let began = Instant::now();
                put.put(one).await;
                times.push(began.elapsed());
            }
            times
        });
    }
    drop(put);
    let mut times: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let [p50, p99] = [times[count / 2], times[count * 99 / 100]];
    Speed { rate, p50, p99 }
}

// -------------------------------------------------------------------- consumption

async fn consume_round<E: Engine>(
    sides: &mut Sides<E>,
    round: usize,
    count: usize,
    has_effect: bool,
    ids: &mut Ids,
) -> [f64; 2] {
    for (place, _) in sides.next().await {
        fill(place, count, ids).await;
    }
    let [inbox_place, floor_place] = &sides.places;
    let before = [inbox_place.rows().await, floor_place.rows().await];
    let handled = AtomicUsize::new(0);
    let of_inbox = async {
        let (seconds, all) = consume::<E>(inbox_place, count, has_effect).await;
        handled.store(all, Ordering::Relaxed);
        all as f64 / seconds
    };
    let of_floor = async {
        let began = Instant::now();
        floor_place.consume_plainly(count, has_effect).await;
        count as f64 / began.elapsed().as_secs_f64()
    };
    let rates = in_turn(round, of_inbox, of_floor).await;
    let handled = [handled.into_inner(), count];
    for ((place, before), handled) in sides.places.iter().zip(before).zip(handled) {
        let after = Rows {
            open: before.open - handled,
            done: before.done + handled,
            effects: before.effects + if has_effect { handled } else { 0 },
        };
        assert_eq!(place.rows().await, after);
    }
    rates
}

/// Handles `count`, and what was claimed by then; how long it took, and how many it were.
async fn consume<E: Engine>(place: &E, count: usize, has_effect: bool) -> (f64, usize) {
    let inbox = place.inbox().await;
    let (handled, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, rings) = (Arc::clone(&handled), Arc::clone(&enough));
    let handler = move |request: Notified<PaymentRequest>, cx: Cx<E::Store>| {
        let (counted, rings) = (Arc::clone(&counted), Arc::clone(&rings));
        async move {
            if has_effect {
                E::effect(&cx, request.into_event().id).await;
            }
            if counted.fetch_add(1, Ordering::Relaxed) + 1 == count {
                rings.notify_one();
            }
            Ok::<_, Infallible>(())
        }
    };
    let began = Instant::now();
    let runner = inbox.process(handler).concurrency(CONCURRENCY);
    // As beside a server.
    tokio::spawn(runner.run_until(enough.notified_owned())).await.unwrap().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    E::close(inbox).await;
    (seconds, handled.load(Ordering::Relaxed))
}

// ------------------------------------------------------------------------- engines

/// What an object keeps of the notification that was handled last.
fn processed(seq: i64, version: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes()[..], version].concat()
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::path::PathBuf;
    use std::thread;

    use inqud_inbox::rusqlite::{Connection, Result, Statement, params};
    use inqud_inbox::{Cx, Inbox, Put, Record};
    use tempfile::TempDir;
    use tokio::sync::mpsc;
    use tower_inqud::PaymentRequest;

    use super::{CONCURRENCY, Engine, GROUP, Rows, Waiting, processed};

    pub(super) struct Sqlite {
        folder: TempDir,
    }

    const EFFECT: &str = "INSERT INTO effect (object) VALUES (?1)";

    impl Engine for Sqlite {
        type Store = inqud_inbox::Sqlite;
        const NAME: &'static str = "SQLite";

        async fn is_there() -> bool {
            true
        }

        async fn new() -> Self {
            // On the disk that things are built on: a temporary folder may be in memory.
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let place = Self { folder };
            let inbox = place.inbox().await;
            let table = "CREATE TABLE effect (seq INTEGER PRIMARY KEY, object TEXT)";
            inbox.write(|db| db.execute_batch(table)).await.unwrap();
            Self::close(inbox).await;
            place
        }

        async fn inbox(&self) -> Inbox<inqud_inbox::Sqlite> {
            Inbox::sqlite(self.file()).unwrap()
        }

        async fn close(inbox: Inbox<inqud_inbox::Sqlite>) {
            inbox.close().await;
        }

        async fn effect(cx: &Cx<inqud_inbox::Sqlite>, object: String) {
            cx.effect(move |db| db.execute(EFFECT, [&object]));
        }

        async fn put_plainly(&self) -> mpsc::Sender<Waiting> {
            let (sender, mut receiver) = mpsc::channel::<Waiting>(GROUP);
            let connection = self.connect();
            thread::spawn(move || {
                let mut plain = Statements::new(&connection).unwrap();
                let mut group = Vec::new();
                while let Some(first) = receiver.blocking_recv() {
                    group.push(first);
                    while let (true, Ok(next)) = (group.len() < GROUP, receiver.try_recv()) {
                        group.push(next);
                    }
                    plain.begin().unwrap();
                    let puts: Vec<_> = group.iter().map(|it| plain.put(&it.0).unwrap()).collect();
                    plain.commit().unwrap();
                    for ((_, answer), put) in group.drain(..).zip(puts) {
                        answer.send(put).unwrap();
                    }
                }
            });
            sender
        }

        async fn consume_plainly(&self, count: usize, has_effect: bool) {
            let connection = self.connect();
            let consume = move || {
                let mut plain = Statements::new(&connection).unwrap();
                let (mut claimed, mut settled) = (Vec::new(), 0);
                while settled < count {
                    plain.begin().unwrap();
                    for one in claimed.drain(..) {
                        plain.settle(&one, has_effect).unwrap();
                        settled += 1;
                    }
                    claimed = plain.claim((count - settled).min(CONCURRENCY)).unwrap();
                    plain.commit().unwrap();
                }
            };
            thread::spawn(consume).join().unwrap();
        }

        async fn rows(&self) -> Rows {
            let connection = Connection::open(self.file()).unwrap();
            let count = |sql| {
                let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
                usize::try_from(count).unwrap()
            };
            Rows {
                open: count("SELECT count(*) FROM inqud_inbox_notification WHERE state = 0"),
                done: count("SELECT count(*) FROM inqud_inbox_notification WHERE state = 1"),
                effects: count("SELECT count(*) FROM effect"),
            }
        }

        async fn process_all(&self) {
            let all = "UPDATE inqud_inbox_notification SET state = 1, settled_at = received_at WHERE state = 0;
                UPDATE inqud_inbox_object SET due_at = NULL WHERE due_at IS NOT NULL";
            self.connect().execute_batch(all).unwrap();
        }
    }

    impl Sqlite {
        fn file(&self) -> PathBuf {
            self.folder.path().join("inbox.db")
        }

        fn connect(&self) -> Connection {
            let connection = Connection::open(self.file()).unwrap();
            let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                PRAGMA wal_autocheckpoint = 16000";
            connection.execute_batch(set).unwrap();
            connection
        }
    }

    /// Those of the inbox (`src/inbox/sqlite/tables.rs`), and no more than them, but that the index gets each
    /// object at once.
    struct Statements<'c> {
        connection: &'c Connection,
        clock: i64,
        find: Statement<'c>,
        index: Statement<'c>,
        meet: Statement<'c>,
        insert: Statement<'c>,
        due: Statement<'c>,
        oldest: Statement<'c>,
        attempt: Statement<'c>,
        lease: Statement<'c>,
        claimed: Statement<'c>,
        close: Statement<'c>,
        process: Statement<'c>,
        go_on: Statement<'c>,
        stamp: Statement<'c>,
    }

    struct Claimed {
        seq: i64,
        object: String,
        claim: i64,
        version: Vec<u8>,
    }

    const KIND: &str = <PaymentRequest as inqud_inbox::Storable>::KIND;

    impl<'c> Statements<'c> {
        fn new(connection: &'c Connection) -> Result<Self> {
            Ok(Self {
                connection,
                clock: 0,
                find: connection.prepare("SELECT number FROM inqud_inbox_index WHERE hash = ?1")?,
                index: connection.prepare("INSERT INTO inqud_inbox_index VALUES (?1, ?2)")?,
                meet: connection.prepare(
                    "INSERT INTO inqud_inbox_object (hash, id, kind, due_at) VALUES (?1, ?2, ?3, ?4)",
                )?,
                insert: connection.prepare(
                    "INSERT INTO inqud_inbox_notification
                         (object, key, position, version, body, received_at, state, settled_at, error)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?7 = 0, NULL, ?6), ?8)",
                )?,
                due: connection.prepare(
                    "SELECT number, id, processed, claim FROM inqud_inbox_object
                     WHERE kind = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
                )?,
                oldest: connection.prepare(
                    "SELECT seq, key, version, body, attempts, received_at, reviewed
                     FROM inqud_inbox_notification
                     WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1",
                )?,
                attempt: connection.prepare(
                    "UPDATE inqud_inbox_notification SET attempts = attempts + 1 WHERE seq = ?1",
                )?,
                lease: connection.prepare(
                    "UPDATE inqud_inbox_object SET due_at = ?2, leased = 1, claim = ?3
                     WHERE number = ?1",
                )?,
                claimed: connection.prepare(
                    "SELECT number, key FROM inqud_inbox_notification
                     JOIN inqud_inbox_object ON number = object
                     WHERE seq = ?1 AND state = 0 AND claim = ?2",
                )?,
                close: connection.prepare(
                    "UPDATE inqud_inbox_notification
                     SET state = ?2, settled_at = ?3, error = coalesce(?4, error), verdict = ?5
                     WHERE seq = ?1",
                )?,
                process: connection
                    .prepare("UPDATE inqud_inbox_object SET processed = ?2 WHERE number = ?1")?,
                go_on: connection.prepare(
                    "UPDATE inqud_inbox_object SET leased = 0, due_at =
                         (SELECT received_at FROM inqud_inbox_notification
                          WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1)
                     WHERE number = ?1",
                )?,
                stamp: connection.prepare("UPDATE inqud_inbox_clock SET at = ?1")?,
            })
        }

        fn begin(&self) -> Result<()> {
            self.connection.execute_batch("BEGIN IMMEDIATE")
        }

        fn commit(&mut self) -> Result<()> {
            self.stamp.execute([self.clock])?;
            self.connection.execute_batch("COMMIT")
        }

        fn now(&mut self) -> i64 {
            self.clock = jiff::Timestamp::now().as_microsecond().max(self.clock + 1);
            self.clock
        }

        fn put(&mut self, record: &Record) -> Result<Put> {
            let Record { key, kind, object, version, body, dead } = record;
            let now = self.now();
            // As good a hash as that of the inbox, and no dearer. Each is of a new object here.
            let hash = i32::from_be_bytes(key.as_bytes()[..4].try_into().unwrap());
            std::hint::black_box(self.find.exists([hash])?);
            let number = self.meet.insert(params![hash, object, kind, now])?;
            self.index.execute(params![hash, number])?;
            let (position, version) = (version.position(), version.to_bytes());
            let state = if dead.is_some() { 3 } else { 0 };
            let row =
                params![number, key.as_bytes(), position, version, &body[..], now, state, dead];
            assert_eq!(self.insert.execute(row)?, 1);
            Ok(Put::New)
        }

        fn claim(&mut self, count: usize) -> Result<Vec<Claimed>> {
            const LEASE: i64 = 120_000_000;
            let now = self.now();
            let count = i64::try_from(count).unwrap();
            let due = self.due.query_map(params![KIND, now, count], |row| {
                let processed: Option<Vec<u8>> = row.get(2)?;
                Ok((row.get(0)?, row.get(1)?, processed, row.get(3)?))
            })?;
            let due: Vec<(i64, String, _, i64)> = due.collect::<Result<_>>()?;
            let mut all = Vec::new();
            for (number, object, _, claim) in due {
                let oldest = |row: &inqud_inbox::rusqlite::Row<'_>| {
                    let (seq, key): (i64, [u8; 16]) = (row.get(0)?, row.get(1)?);
                    // As much as a handler needs.
                    let (body, attempts): (Vec<u8>, i64) = (row.get(3)?, row.get(4)?);
                    std::hint::black_box((body, key, attempts, row.get::<_, bool>(6)?));
                    Ok((seq, row.get(2)?))
                };
                let (seq, version) = self.oldest.query_row([number], oldest)?;
                let claim = claim + 1;
                self.attempt.execute([seq])?;
                self.lease.execute([number, now + LEASE, claim])?;
                all.push(Claimed { seq, object, claim, version });
            }
            Ok(all)
        }

        fn settle(&mut self, one: &Claimed, has_effect: bool) -> Result<()> {
            let Claimed { seq, object, claim, version } = one;
            let claimed =
                self.claimed.query_row([seq, claim], |row| Ok((row.get(0)?, row.get(1)?)));
            let (number, _): (i64, [u8; 16]) = claimed?;
            let now = self.now();
            if has_effect {
                // Prepared anew each time, as the handler of the other side has it.
                self.connection.execute(EFFECT, [object])?;
            }
            self.process.execute(params![number, processed(*seq, version)])?;
            self.close.execute(params![seq, 1, now, None::<&str>, 0])?;
            self.go_on.execute([number])?;
            Ok(())
        }
    }
}

#[cfg(feature = "postgres")]
mod in_postgres {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use inqud_inbox::tokio_postgres::types::ToSql;
    use inqud_inbox::tokio_postgres::{Client, Config, Statement};
    use inqud_inbox::{Cx, Inbox, Key, Put, Storable};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tower_inqud::PaymentRequest;

    use super::postgres::{connect, shared};
    use super::{CONCURRENCY, Engine, GROUP, Rows, Waiting, processed};

    pub(super) struct Postgres {
        config: Config,
        name: String,
    }

    const KIND: &str = <PaymentRequest as Storable>::KIND;
    const EFFECT: &str = "INSERT INTO effect (object) VALUES ($1)";
    const LEASE: i64 = 120_000_000;

    impl Engine for Postgres {
        type Store = inqud_inbox::Postgres;
        const NAME: &'static str = "Postgres";

        /// With the two settings that nobody leaves as they come, on a machine of its own.
        async fn is_there() -> bool {
            let Some(server) = shared() else { return false };
            let client = connect(&server.config("postgres")).await;
            for set in ["shared_buffers = '1GB'", "max_wal_size = '4GB'"] {
                client.batch_execute(&format!("ALTER SYSTEM SET {set}")).await.unwrap();
            }
            server.kill();
            server.run();
            true
        }

        async fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("place {}", COUNT.fetch_add(1, Ordering::Relaxed));
            let server = shared().unwrap();
            server.inbox(&name).await.close();
            let config = server.config(&name);
            let table = "CREATE TABLE effect (seq bigserial PRIMARY KEY, object text)";
            connect(&config).await.batch_execute(table).await.unwrap();
            Self { config, name }
        }

        async fn inbox(&self) -> Inbox<inqud_inbox::Postgres> {
            let no_tls = inqud_inbox::tokio_postgres::NoTls;
            Inbox::postgres(self.config.clone(), no_tls).await.unwrap()
        }

        async fn close(inbox: Inbox<inqud_inbox::Postgres>) {
            inbox.close();
        }

        async fn effect(cx: &Cx<inqud_inbox::Postgres>, object: String) {
            let transaction = cx.transaction().await.unwrap();
            transaction.execute(EFFECT, &[&object]).await.unwrap();
        }

        async fn put_plainly(&self) -> mpsc::Sender<Waiting> {
            let (sender, mut receiver) = mpsc::channel::<Waiting>(GROUP);
            let client = connect(&self.config).await;
            let meet = client.prepare(include_str!("../../src/postgres/meet.sql")).await.unwrap();
            let put = client.prepare(include_str!("../../src/postgres/put.sql")).await.unwrap();
            tokio::spawn(async move {
                let mut group = Vec::new();
                while receiver.recv_many(&mut group, GROUP).await > 0 {
                    put_group(&client, [&meet, &put], &group).await;
                    for (_, answer) in group.drain(..) {
                        answer.send(Put::New).unwrap();
                    }
                }
            });
            sender
        }

        async fn consume_plainly(&self, count: usize, has_effect: bool) {
            let plain = Statements::new(&self.config).await;
            let mut handlers = Vec::new();
            for _ in 0..if has_effect { CONCURRENCY } else { 0 } {
                handlers.push(Arc::new(Statements::new(&self.config).await));
            }
            let (mut claimed, mut settled) = (Vec::new(), 0);
            while settled < count {
                settled += claimed.len();
                if has_effect {
                    // A transaction each, as handlers have.
                    let mut running = JoinSet::new();
                    for (one, handler) in claimed.drain(..).zip(&handlers) {
                        let handler = Arc::clone(handler);
                        running.spawn(async move { handler.settle_with_effect(one).await });
                    }
                    running.join_all().await;
                }
                plain.client.batch_execute("BEGIN").await.unwrap();
                if !claimed.is_empty() {
                    plain.settle(&claimed).await;
                }
                claimed = plain.claim((count - settled).min(CONCURRENCY)).await;
                plain.client.batch_execute("COMMIT").await.unwrap();
            }
        }

        async fn rows(&self) -> Rows {
            let client = connect(&self.config).await;
            let count = async |sql| {
                let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
                usize::try_from(count).unwrap()
            };
            Rows {
                open: count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 0").await,
                done: count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 1").await,
                effects: count("SELECT count(*) FROM effect").await,
            }
        }

        async fn process_all(&self) {
            let client = connect(&self.config).await;
            let all = "UPDATE inqud_inbox.notification SET state = 1, settled_at = received_at WHERE state = 0;
                UPDATE inqud_inbox.object SET due_at = NULL WHERE due_at IS NOT NULL";
            client.batch_execute(all).await.unwrap();
            client.batch_execute("VACUUM ANALYZE").await.unwrap();
        }
    }

    async fn put_group(client: &Client, [meet, put]: [&Statement; 2], group: &[Waiting]) {
        let keys: Vec<&[u8]> = group.iter().map(|it| &it.0.key.as_bytes()[..]).collect();
        let kinds: Vec<&str> = group.iter().map(|it| it.0.kind).collect();
        let objects: Vec<&str> = group.iter().map(|it| &*it.0.object).collect();
        let positions: Vec<i64> = group.iter().map(|it| it.0.version.position()).collect();
        let versions: Vec<Vec<u8>> = group.iter().map(|it| it.0.version.to_bytes()).collect();
        let bodies: Vec<&[u8]> = group.iter().map(|it| &it.0.body[..]).collect();
        let dead: Vec<Option<&str>> = vec![None; group.len()];
        let plain: Vec<bool> = group.iter().map(|it| it.0.version.is_plain()).collect();
        let later: Vec<i64> = (0..group.len()).rev().map(|rest| -(rest as i64)).collect();
        let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&keys, &kinds, &objects, &positions, &versions, &bodies, &dead, &plain, &later];
        let (begun, met, rows, committed) = tokio::join!(
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            client.execute(meet, &met),
            client.query(put, &parameters),
            client.batch_execute("COMMIT"),
        );
        begun.and(committed).unwrap();
        met.unwrap();
        assert_eq!(rows.unwrap().len(), group.len());
    }

    struct Claimed {
        seq: i64,
        object: String,
        claim: i64,
        version: Vec<u8>,
    }

    /// Those of the inbox, and no more than them.
    struct Statements {
        client: Client,
        lease: Statement,
        attempt: Statement,
        lock: Statement,
        settle: Statement,
    }

    impl Statements {
        async fn new(config: &Config) -> Self {
            let client = connect(config).await;
            let prepare = async |sql| client.prepare(sql).await.unwrap();
            Self {
                lease: prepare(include_str!("../../src/postgres/lease.sql")).await,
                attempt: prepare(include_str!("../../src/postgres/attempt.sql")).await,
                lock: prepare(include_str!("../../src/postgres/lock.sql")).await,
                settle: prepare(include_str!("../../src/postgres/settle.sql")).await,
                client,
            }
        }

        async fn claim(&self, count: usize) -> Vec<Claimed> {
            let count = i64::try_from(count).unwrap();
            let leased = self.client.query(&self.lease, &[&KIND, &count, &LEASE]).await.unwrap();
            let objects: Vec<&str> = leased.iter().map(|row| row.get(0)).collect();
            let rows = self.client.query(&self.attempt, &[&KIND, &objects]).await.unwrap();
            let claims: std::collections::HashMap<&str, i64> =
                leased.iter().map(|row| (row.get(0), row.get(1))).collect();
            let claimed = rows.iter().map(|row| {
                // As much as a handler needs.
                let body: Vec<u8> = row.get(4);
                let key = Key::from_bytes(row.get::<_, &[u8]>(2).try_into().unwrap());
                std::hint::black_box((body, key, row.get::<_, bool>(7)));
                let object: String = row.get(0);
                Claimed { seq: row.get(1), claim: claims[&*object], object, version: row.get(3) }
            });
            claimed.collect()
        }

        async fn settle(&self, all: &[Claimed]) {
            let kinds = vec![KIND; all.len()];
            let objects: Vec<&str> = all.iter().map(|it| &*it.object).collect();
            let claims: Vec<i64> = all.iter().map(|it| it.claim).collect();
            let lock: [&(dyn ToSql + Sync); 3] = [&kinds, &objects, &claims];
            assert_eq!(self.client.query(&self.lock, &lock).await.unwrap().len(), all.len());
            let seqs: Vec<i64> = all.iter().map(|it| it.seq).collect();
            let (states, waits) = (vec![1_i16; all.len()], vec![None::<i64>; all.len()]);
            let (errors, verdicts) = (vec![None::<String>; all.len()], vec![0_i16; all.len()]);
            let processed: Vec<_> = all.iter().map(|it| processed(it.seq, &it.version)).collect();
            let settle: [&(dyn ToSql + Sync); 6] =
                [&seqs, &states, &waits, &errors, &verdicts, &processed];
            assert_eq!(self.client.query(&self.settle, &settle).await.unwrap().len(), all.len());
        }

        async fn settle_with_effect(&self, one: Claimed) {
            self.client.batch_execute("BEGIN").await.unwrap();
            // Prepared anew each time, as the handler of the other side has it.
            self.client.execute(EFFECT, &[&one.object]).await.unwrap();
            self.settle(&[one]).await;
            self.client.batch_execute("COMMIT").await.unwrap();
        }
    }

    impl Drop for Postgres {
        /// So that what no round needs any more takes no room; the server does it when it can.
        fn drop(&mut self) {
            let (config, name) = (shared().unwrap().config("postgres"), self.name.clone());
            tokio::spawn(async move {
                let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
                let _ = connect(&config).await.batch_execute(&drop).await;
            });
        }
    }
}
