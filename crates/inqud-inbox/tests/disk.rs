//! Tests of the SQLite store on full, locked and read-only disks, and of its syncs.
//!
//! They are in a binary of their own because they trace the process and fill disks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::error::Error;
use std::fs;
use std::path::Path;

use inqud_inbox::{Inbox, InboxError, InboxErrorKind, Sqlite, SqliteOptions};

#[path = "../../../tests/support/mod.rs"]
mod support;

/// The disks of these tests are on tmpfs, and the temporary directory can be.
fn open(path: impl AsRef<Path>) -> Result<Inbox<Sqlite>, InboxError> {
    SqliteOptions::new(path).allow_tmpfs().open()
}

/// Returns the kind of the error and its text with all sources.
fn refused(path: &Path) -> (InboxErrorKind, String) {
    let error = open(path).unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    (error.kind(), text)
}

#[track_caller]
fn assert_says(path: &Path, kind: InboxErrorKind, what: &str) {
    let (found, text) = refused(path);
    assert_eq!(found, kind, "{text}");
    assert!(text.contains(what), "{text}");
}

#[test]
fn rejects_and_keeps_a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let text = "id,status\nCAPD-1,SUCCESS\n".repeat(100);
    fs::write(&file, &text).unwrap();
    assert_says(&file, InboxErrorKind::Store, "file is not a database");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    let inner = folder.path().join("folder");
    fs::create_dir(&inner).unwrap();
    assert_says(&inner, InboxErrorKind::Store, "unable to open database file");
}

#[test]
fn does_not_create_a_missing_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert_says(&missing.join("inbox.db"), InboxErrorKind::Store, "No such file or directory");
    assert!(!missing.exists());
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{BTreeMap, BTreeSet};
    use std::convert::Infallible;
    use std::env;
    use std::fs::{self, File};
    use std::io::{self, Write};
    use std::net::SocketAddr;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::Router;
    use axum::extract::Request;
    use axum::middleware::{self, Next};
    use axum::routing::post_service;
    use bytes::Bytes;
    use http::StatusCode;
    use http::header::{HeaderName, RETRY_AFTER};
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use inqud_inbox::{
        Context, Inbox, InboxError, InboxErrorKind, Key, Record, Sqlite, Stored, rusqlite,
    };
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep, timeout};
    use tower_inqud::{PaymentRequest, contract};

    use super::{assert_says, open, support};

    /// Longer than anything that is expected to end.
    const LONG: Duration = Duration::from_secs(60);
    const FOLDER: &str = "INBOX_DISK_FOLDER";
    const PAGE: usize = 4096;

    // ------------------------------------------------------------------- processes

    /// Returns a command that runs a part of a test in its own process. Parts are marked as ignored, because
    /// they do nothing without the test that starts them.
    fn part(name: &str, folder: &Path, before: &[&str]) -> Command {
        let exe = env::current_exe().unwrap().into_os_string();
        let mut words = before.iter().map(Into::into).chain([exe]);
        let mut command = Command::new(words.next().unwrap());
        let name = format!("linux::{name}");
        command.args(words).args([&*name, "--exact", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder);
        command
    }

    fn folder() -> PathBuf {
        env::var_os(FOLDER).unwrap().into()
    }

    /// Reports that a test was not run, bypassing the capture of its output. In CI, where every test must
    /// run, it panics.
    fn cannot(what: &str, why: &str) {
        let mut terminal = io::stderr();
        let _ = writeln!(terminal, "\nNOT TESTED: {what}: {why}\n");
        assert!(env::var_os("CI").is_none(), "not tested, in CI: {what}: {why}");
    }

    /// Runs a part of a test in a mount namespace of its own.
    fn run_apart(name: &str, size: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let ways: [&[&str]; 3] =
            [&["unshare", "-m"], &["unshare", "-rm"], &["sudo", "-n", "-E", "unshare", "-m"]];
        let works = |way: &&&[&str]| {
            let mut probe = Command::new(way[0]);
            probe.args(&way[1..]).args(mount).arg(folder.path());
            probe.output().is_ok_and(|output| output.status.success())
        };
        let Some(way) = ways.iter().find(works) else {
            return cannot(name, "neither `unshare -m`, `unshare -rm` nor `sudo` can mount here");
        };
        let mut part = part(name, folder.path(), way);
        let output = part.env("INBOX_DISK_SIZE", size).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
    }

    /// Mounts a disk of the size that the test asked for on `folder`.
    fn mount_disk(folder: &Path) {
        let size = format!("size={}m", env::var("INBOX_DISK_SIZE").unwrap());
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs", folder.to_str().unwrap()]);
    }

    fn mount(arguments: &[&str]) {
        let status = Command::new("mount").args(arguments).status().unwrap();
        assert!(status.success(), "mount {arguments:?}");
    }

    /// Fills a disk completely.
    fn fill(path: &Path) {
        let mut file = File::create(path).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[7; PAGE]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    // ------------------------------------------------------------------- deliveries

    /// All ids have the same length, so that none is a prefix of another.
    fn id(number: u32) -> String {
        format!("CAPD-{number:08}")
    }

    fn body(number: u32, padding: usize) -> String {
        let (id, padding) = (id(number), "x".repeat(padding));
        format!(
            r#"{{"id":"{id}","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00Z","p":"{padding}"}}"#
        )
    }

    fn key(number: u32, padding: usize) -> Key {
        let body = body(number, padding);
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into()).key
    }

    const ID: HeaderName = HeaderName::from_static("x-id");

    /// Serves the receiver on loopback. Responses carry the header `x-id` of their request.
    async fn serve(inbox: &Inbox<Sqlite>) -> (SocketAddr, Arc<Mutex<Vec<InboxError>>>) {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&errors);
        let look = move |request: Request, next: Next| {
            let seen = Arc::clone(&seen);
            async move {
                let id = request.headers()[ID].clone();
                let mut response = next.run(request).await;
                seen.lock().unwrap().extend(response.extensions().get::<InboxError>().cloned());
                response.headers_mut().insert(ID, id);
                response
            }
        };
        let receiver = inbox.receiver::<PaymentRequest>();
        let route = post_service(receiver).layer(support::layer::<PaymentRequest>());
        let app = Router::new().route("/", route).layer(middleware::from_fn(look));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, app).into_future());
        (address, errors)
    }

    type Http = Client<HttpConnector, Full<Bytes>>;

    fn http() -> Http {
        Client::builder(TokioExecutor::new()).build_http()
    }

    /// Returns the status. Asserts that a 503 has `Retry-After`.
    async fn deliver(http: &Http, to: SocketAddr, number: u32, padding: usize) -> StatusCode {
        let body = body(number, padding);
        let request = http::Request::post(format!("http://{to}/"))
            .header(contract::DIGEST_HEADER, support::digest(&body))
            .header(ID, id(number))
            .body(Full::from(body))
            .unwrap();
        let response = timeout(LONG, http.request(request)).await.unwrap().unwrap();
        let status = response.status();
        let again = response.headers().contains_key(RETRY_AFTER);
        assert_eq!(again, status != StatusCode::OK, "{status}");
        response.into_body().collect().await.unwrap();
        status
    }

    /// Delivers new notifications, eight at once, until the given number are refused.
    async fn deliver_until_refused(
        to: SocketAddr,
        padding: usize,
        refusals: usize,
    ) -> BTreeMap<u32, StatusCode> {
        let next = Arc::new(AtomicU32::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            let (next, refused, http) = (Arc::clone(&next), Arc::clone(&refused), http());
            senders.spawn(async move {
                let mut answers = Vec::new();
                while refused.load(Ordering::SeqCst) < refusals {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    assert!(number < 20_000, "the disk is never full");
                    let status = deliver(&http, to, number, padding).await;
                    answers.push((number, status));
                    if status != StatusCode::OK {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
                answers
            });
        }
        senders.join_all().await.into_iter().flatten().collect()
    }

    fn with(answers: &BTreeMap<u32, StatusCode>, status: StatusCode) -> Vec<u32> {
        answers.iter().filter(|it| *it.1 == status).map(|it| *it.0).collect()
    }

    fn keys(numbers: &[u32], padding: usize) -> BTreeSet<[u8; 16]> {
        numbers.iter().map(|number| *key(*number, padding).as_bytes()).collect()
    }

    /// Returns the keys in the file, read through a new connection.
    fn stored(file: &Path) -> BTreeSet<[u8; 16]> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(file, flags).unwrap();
        let integrity: String =
            database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
        let mut rows = database.prepare("SELECT key FROM inqud_inbox_notification").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn assert_all_say(errors: &[InboxError], what: &str) {
        assert!(!errors.is_empty());
        for error in errors {
            let source = std::error::Error::source(error).unwrap().to_string();
            assert_eq!(error.kind(), InboxErrorKind::Store, "{source}");
            assert!(source.contains(what), "{source}");
        }
    }

    // ----------------------------------------------------------------- the full disk

    #[test]
    fn full_disk_is_503_until_there_is_room() {
        // In MB. The first disk is full while the log grows, the second after a checkpoint.
        for size in ["8", "192"] {
            run_apart("full_disk", size);
        }
    }

    #[tokio::test]
    #[ignore = "a part of another test"]
    async fn full_disk() {
        let folder = folder();
        mount_disk(&folder);
        let (file, ballast) = (folder.join("inbox.db"), folder.join("ballast"));
        // Half of the disk, because in the end the log is also copied into the file.
        let half: usize = env::var("INBOX_DISK_SIZE").unwrap().parse::<usize>().unwrap() / 2;
        fs::write(&ballast, vec![7; (half + 1) * 1024 * 1024]).unwrap();
        let inbox = open(&file).unwrap();
        let (address, errors) = serve(&inbox).await;

        let padding = half * 700;
        let answers = deliver_until_refused(address, padding, 20).await;
        let accepted = with(&answers, StatusCode::OK);
        let refused = with(&answers, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(accepted.len() + refused.len(), answers.len(), "{answers:?}");
        assert!(accepted.len() > 50, "{}", accepted.len());
        assert_all_say(&errors.lock().unwrap(), "database or disk is full");
        assert_eq!(stored(&file), keys(&accepted, padding), "exactly what was acknowledged");
        assert_eq!(inbox.stats().await.unwrap().backlog(), accepted.len() as u64);

        fs::remove_file(&ballast).unwrap();
        let http = http();
        for number in &refused {
            assert_eq!(deliver(&http, address, *number, padding).await, StatusCode::OK, "{number}");
        }
        inbox.close().await;
        drop(inbox);
        let all: Vec<_> = answers.keys().copied().collect();
        assert_eq!(stored(&file), keys(&all, padding));
        let inbox = open(&file).unwrap();
        assert_eq!(inbox.stats().await.unwrap().backlog(), all.len() as u64);
    }

    #[test]
    fn full_disk_while_settling_neither_loses_nor_doubles_effects() {
        run_apart("full_disk_while_settling", "8");
    }

    #[tokio::test]
    #[ignore = "a part of another test"]
    async fn full_disk_while_settling() {
        const COUNT: u32 = 40;
        let folder = folder();
        mount_disk(&folder);
        let (file, ballast) = (folder.join("inbox.db"), folder.join("ballast"));
        let inbox = open(&file).unwrap();
        inbox.write(|db| db.execute_batch("CREATE TABLE paid (id TEXT)")).await.unwrap();
        let (address, _) = serve(&inbox).await;
        let http = http();
        for number in 0..COUNT {
            assert_eq!(deliver(&http, address, number, 0).await, StatusCode::OK);
        }

        let calls = Arc::new(AtomicUsize::new(0));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let (counted, filled) = (Arc::clone(&calls), ballast.clone());
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                fill(&filled);
            }
            cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1)", [&request.id]));
            async { Ok::<_, Infallible>(()) }
        };
        let noted = Arc::clone(&errors);
        let runner = inbox.process(handler).concurrency(8);
        let runner = runner.on_error(move |error| noted.lock().unwrap().push(error.clone()));
        let drained = async {
            // For some rounds nothing can be settled or claimed.
            until(async || errors.lock().unwrap().len() >= 3).await;
            assert_eq!(inbox.stats().await.unwrap().backlog(), u64::from(COUNT));
            fs::remove_file(&ballast).unwrap();
            until(async || inbox.stats().await.unwrap().backlog() == 0).await;
        };
        timeout(LONG, runner.run_until(drained)).await.unwrap().unwrap();

        assert_all_say(&errors.lock().unwrap(), "database or disk is full");
        assert_eq!(calls.load(Ordering::SeqCst), COUNT as usize, "the outcomes are kept");
        assert_eq!(inbox.stats().await.unwrap().dead(), 0);
        let all = |db: &rusqlite::Connection| {
            let mut all = db.prepare("SELECT id FROM paid ORDER BY id")?;
            all.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
        };
        let paid = inbox.write(all).await.unwrap();
        assert_eq!(paid, (0..COUNT).map(id).collect::<Vec<_>>(), "each once");
    }

    async fn until(is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < LONG, "it never happens");
            sleep(Duration::from_millis(10)).await;
        }
    }

    // ------------------------------------------------------------ what cannot be opened

    #[test]
    fn opening_reports_read_only_files_and_full_disks() {
        run_apart("refused_disk", "1");
    }

    #[tokio::test]
    #[ignore = "a part of another test"]
    async fn refused_disk() {
        let folder = folder();
        mount_disk(&folder);
        let path = folder.to_str().unwrap();
        let (file, ballast) = (folder.join("inbox.db"), folder.join("ballast"));
        fill(&ballast);
        assert_says(&file, InboxErrorKind::Store, "full");
        fs::remove_file(&ballast).unwrap();

        // A read-only mount, because root ignores the mode of files.
        mount(&["-o", "remount,ro", path]);
        assert_says(&folder.join("new.db"), InboxErrorKind::Store, "Read-only file system");
        mount(&["-o", "remount,rw", path]);

        let inbox = open(&file).unwrap();
        inbox.close().await;
        drop(inbox);
        let file_path = file.to_str().unwrap();
        mount(&["--bind", file_path, file_path]);
        mount(&["-o", "remount,bind,ro", file_path]);
        assert_says(&file, InboxErrorKind::Store, "readonly database");
    }

    #[test]
    fn refuses_tmpfs_unless_asked_for() {
        run_apart("memory_disk", "8");
    }

    #[tokio::test]
    #[ignore = "a part of another test"]
    async fn memory_disk() {
        let folder = folder();
        mount_disk(&folder);
        let file = folder.join("inbox.db");
        let error = Inbox::sqlite(&file).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::MemoryFilesystem);
        assert!(error.to_string().contains("SqliteOptions::allow_tmpfs"), "{error}");
        let inbox = open(&file).unwrap();
        inbox.close().await;
        drop(inbox);
        // A command line beside a server that allowed it.
        Inbox::attach(&file).unwrap();

        let path = folder.to_str().unwrap();
        mount(&["-t", "ramfs", "ramfs", path]);
        let error = Inbox::sqlite(folder.join("inbox.db")).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::MemoryFilesystem);
    }

    // ------------------------------------------------------------ another's write lock

    #[tokio::test]
    async fn delivery_survives_death_of_the_lock_holder() {
        let folder = tempfile::tempdir().unwrap();
        let inbox = open(folder.path().join("inbox.db")).unwrap();
        let (address, _) = serve(&inbox).await;
        let mut holder: tokio::process::Command = part("lock_holder", folder.path(), &[]).into();
        let mut holder = holder.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = &mut BufReader::new(holder.stdout.take().unwrap()).lines();
        while !timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap().contains("locked")
        {
        }

        let http = http();
        let status = deliver(&http, address, 1, 0).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "after five seconds");
        let waiting = deliver(&http, address, 2, 0);
        let killed = async {
            // By now the writer waits for the lock. If it does not yet, it will find it free.
            sleep(Duration::from_millis(200)).await;
            holder.kill().await.unwrap();
        };
        assert_eq!(tokio::join!(waiting, killed).0, StatusCode::OK);
        assert_eq!(deliver(&http, address, 1, 0).await, StatusCode::OK);
        assert_eq!(inbox.stats().await.unwrap().backlog(), 2);
    }

    #[test]
    #[ignore = "a part of another test"]
    fn lock_holder() {
        let database = rusqlite::Connection::open(folder().join("inbox.db")).unwrap();
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        println!("locked");
        std::thread::sleep(2 * LONG);
    }

    // --------------------------------------------------------------------- the fsync

    const ONE_BY_ONE: u32 = 60;

    #[tokio::test]
    async fn syncs_the_disk_before_each_200() {
        const AT_ONCE: u32 = 16;
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let calls = "trace=openat,fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";
        let strace =
            ["strace", "-f", "-y", "-s", "5000", "-e", calls, "-o", trace.to_str().unwrap()];
        let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
        if !probe.as_ref().is_ok_and(|output| output.status.success()) {
            return cannot("syncs_the_disk_before_each_200", &format!("{probe:?}"));
        }
        let mut server: tokio::process::Command =
            part("traced_server", folder.path(), &strace).into();
        let server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut server = server.spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let address: SocketAddr = loop {
            let line = timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.parse().unwrap();
            }
        };
        let one = http();
        for number in 0..ONE_BY_ONE {
            assert_eq!(deliver(&one, address, number, 200).await, StatusCode::OK);
            // Until it is claimed, or else the next delivery shares the commit of the claim.
            sleep(Duration::from_millis(15)).await;
        }
        let mut senders = JoinSet::new();
        for sender in 0..AT_ONCE {
            senders.spawn(async move {
                let (http, first) = (http(), ONE_BY_ONE + sender * 5);
                for number in first..first + 5 {
                    assert_eq!(deliver(&http, address, number, 200).await, StatusCode::OK);
                }
            });
        }
        senders.join_all().await;
        // The server ends when its input ends.
        drop(server.stdin.take());
        assert!(timeout(LONG, server.wait()).await.unwrap().unwrap().success());

        let trace = Trace::read(&fs::read_to_string(&trace).unwrap());
        let folder = fs::canonicalize(folder.path()).unwrap();
        let wal = folder.join("inbox.db-wal");
        let all: Vec<_> = (0..ONE_BY_ONE + AT_ONCE * 5).map(id).collect();
        let missing: Vec<_> = all.iter().filter(|id| !trace.is_synced(id, &wal)).collect();
        assert!(missing.is_empty(), "of {} without: {missing:?}", all.len());
        // After a crash the log is found only if its directory entry was synced too.
        assert!(trace.is_name_synced(&wal, &folder, &all[0]));
        let syncs: Vec<_> = trace.calls.iter().filter(|it| it.is_sync_of(&wal)).collect();
        let count = syncs.len();
        assert!(count < all.len(), "{count}: concurrent deliveries were not committed together");
        // Each was claimed.
        let last = trace.answer_to(&id(ONE_BY_ONE - 1)).began;
        let count = syncs.iter().filter(|it| it.ended < last).count();
        assert!(count < 90, "{count}: claims were synced");
    }

    #[tokio::test]
    #[ignore = "a part of another test"]
    async fn traced_server() {
        let inbox = open(folder().join("inbox.db")).unwrap();
        let (address, _) = serve(&inbox).await;
        // Claims, and settles nothing.
        let claimed = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&claimed);
        let handler = move |_: Stored<PaymentRequest>, _: Context<Sqlite>| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<(), Infallible>>()
        };
        let runner = inbox.process(handler).concurrency(1000);
        tokio::spawn(runner.run_until(std::future::pending()));
        println!("listening on {address}");
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        while input.next_line().await.unwrap().is_some() {}
        assert!(claimed.load(Ordering::SeqCst) >= ONE_BY_ONE);
    }

    /// A system call, with the lines of the trace at which it began and ended.
    #[derive(Debug)]
    struct Call {
        began: usize,
        ended: usize,
        text: String,
    }

    impl Call {
        /// Whether it has one of the names, and the file as its first argument, as `strace -y` prints it.
        fn is(&self, names: &[&str], file: &Path) -> bool {
            let Some((name, rest)) = self.text.split_once('(') else { return false };
            let first = rest.split([',', ')']).next().unwrap_or_default();
            names.contains(&name) && first.ends_with(&format!("<{}>", file.display()))
        }

        fn is_sync_of(&self, file: &Path) -> bool {
            self.is(&["fsync", "fdatasync"], file) && self.text.ends_with("= 0")
        }

        fn is_answer_to(&self, id: &str) -> bool {
            let sends = ["write(", "writev(", "sendto(", "sendmsg("];
            sends.iter().any(|name| self.text.starts_with(name))
                && self.text.contains("HTTP/1.1 200")
                && self.text.contains(id)
        }
    }

    struct Trace {
        calls: Vec<Call>,
    }

    impl Trace {
        fn read(text: &str) -> Self {
            let mut unfinished = BTreeMap::new();
            let mut calls = Vec::new();
            for (at, line) in text.lines().enumerate() {
                let (thread, line) = line.split_once(' ').unwrap();
                let line = line.trim_start();
                if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
                    unfinished.insert(thread, (at, begun));
                } else if let Some((_, rest)) = line.split_once(" resumed>") {
                    let Some((began, begun)) = unfinished.remove(thread) else { continue };
                    calls.push(Call { began, ended: at, text: format!("{begun}{rest}") });
                } else {
                    calls.push(Call { began: at, ended: at, text: line.to_owned() });
                }
            }
            calls.sort_by_key(|call| call.began);
            Self { calls }
        }

        fn answer_to(&self, id: &str) -> &Call {
            self.calls.iter().find(|call| call.is_answer_to(id)).unwrap()
        }

        /// Whether the row was written to the log, then the log synced, and then the response sent. A later
        /// commit can write the page of the row again; that does not matter.
        fn is_synced(&self, id: &str, wal: &Path) -> bool {
            let row = format!(r#"\"id\":\"{id}\""#);
            let is_row = |call: &&Call| call.is(&["pwrite64"], wal) && call.text.contains(&row);
            let Some(written) = self.calls.iter().find(is_row) else { return false };
            let answered = self.answer_to(id).began;
            self.is_synced_between(written.ended, answered, wal)
        }

        /// Whether the directory entry of the log was synced before the first response.
        fn is_name_synced(&self, wal: &Path, folder: &Path, first: &str) -> bool {
            let name = format!("\"{}\"", wal.display());
            let is_made = |call: &&Call| {
                let text = &call.text;
                text.starts_with("openat(") && text.contains(&name) && text.contains("O_CREAT")
            };
            let Some(made) = self.calls.iter().find(is_made) else { return false };
            self.is_synced_between(made.ended, self.answer_to(first).began, folder)
        }

        fn is_synced_between(&self, after: usize, before: usize, file: &Path) -> bool {
            let is_between = |call: &&Call| call.began > after && call.ended < before;
            self.calls.iter().filter(is_between).any(|call| call.is_sync_of(file))
        }
    }
}
