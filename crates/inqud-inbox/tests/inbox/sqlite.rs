//! What only the store in a SQLite file does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::env;
use std::future::{Future, pending, poll_fn, ready};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::claims::*;
use crate::{crash, postgres, support};
use http::StatusCode;
use inqud_inbox::{
    Admin, Claim, Context, Inbox, InboxError, InboxErrorKind, Outcome, Settled, Sqlite, State,
    Storable, Store, Stored, rusqlite,
};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, timeout};

use tower::Layer;
use tower_inqud::{PaymentRequest, Verdict, WebhookService};

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

fn received<S: Store>(
    inbox: &Inbox<S>,
) -> WebhookService<inqud_inbox::Receiver<S, PaymentRequest>, PaymentRequest> {
    support::layer().layer(inbox.receiver())
}

fn why<B>(response: &http::Response<B>) -> Option<InboxErrorKind> {
    response.extensions().get::<InboxError>().map(InboxError::kind)
}

#[tokio::test]
async fn effects_commit_with_done_and_fail_alone() {
    let (inbox, _folder) = file();
    inbox.write(|db| db.execute_batch("CREATE TABLE paid (id TEXT)")).await.unwrap();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0)]).await;
    let insert = |id: String| {
        move |db: &rusqlite::Connection| db.execute("INSERT INTO paid VALUES (?1)", [&id])
    };
    // All four end together, and so are settled in few commits.
    let together = Arc::new(Barrier::new(4));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let together = together.clone();
        async move {
            let id = request.id.clone();
            cx.effect(insert(id.clone()));
            match (&*id, cx.attempt()) {
                ("CAPD-2", _) => cx.effect(|db| db.execute("INSERT INTO nowhere VALUES (1)", [])),
                ("CAPD-3", 1) => cx.effect(|_| -> Result<(), Infallible> { panic!("a bug") }),
                _ => {}
            }
            if cx.attempt() == 1 {
                together.wait().await;
            }
            if id == "CAPD-4" && cx.attempt() == 1 {
                return Err("after it asked for its effect");
            }
            Ok(())
        }
    };
    let runner = inbox.process(handler).max_attempts(2).backoff(NO_WAIT, NO_WAIT);
    runner.run_until(drained(inbox.clone())).await.unwrap();

    let all = |db: &rusqlite::Connection| {
        let mut all = db.prepare("SELECT id FROM paid ORDER BY id")?;
        all.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    };
    assert_eq!(inbox.write(all).await.unwrap(), ["CAPD-1", "CAPD-3", "CAPD-4"]);
    let letters = inbox.dead(9).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].error.contains("nowhere"), "{}", letters[0].error);
}

#[tokio::test]
async fn inbox_survives_an_effect_that_ends_the_transaction() {
    let (inbox, _folder) = file();
    for (id, sql) in [(1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT; BEGIN")] {
        insert(&inbox, &[(id, 0)]).await;
        let handler = move |_: Stored<PaymentRequest>, cx: Context<Sqlite>| {
            cx.effect(move |db| db.execute_batch(sql));
            ready(Ok::<_, Infallible>(()))
        };
        let runner = inbox.process(handler).max_attempts(2).backoff(NO_WAIT, NO_WAIT);
        timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
        assert_eq!(inbox.stats().await.unwrap().dead(), u64::from(id), "{sql}: not done");
    }
    insert(&inbox, &[(4, 0)]).await;
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn rejects_second_inbox_and_requeues_on_reopen() {
    let (inbox, folder) = file();
    let path = folder.path().join("inbox.db");
    insert(&inbox, &[(1, 0), (2, 0)]).await;
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[1], retry(Duration::from_secs(60))).await;
    for _ in 0..2 {
        let error = Inbox::sqlite(&path).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::InUse);
    }
    let output = this_test("second_process", &path).output().await.unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("opened: Some(InUse)"), "{output}");

    inbox.close().await;
    assert_eq!(claim_error(&inbox).await, InboxErrorKind::Closed);
    let output = this_test("second_process", &path).output().await.unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("opened: None"), "{output}");
    let inbox = Inbox::sqlite(&path).unwrap();
    let again = lapse(inbox.store(), PaymentRequest::KIND).await;
    assert_eq!(shown(&again), [("CAPD-1", 0, Verdict::Newer, 2)], "the other still waits");
}

async fn claim_error(inbox: &Inbox<Sqlite>) -> InboxErrorKind {
    inbox.store().claim(Claim::new(PaymentRequest::KIND, 1, LEASE)).await.unwrap_err().kind()
}

const FILE: &str = "INBOX_TEST_FILE";

/// Returns a command that runs one of the parts below in its own process. They are marked as ignored, because
/// they do nothing without the test that starts them.
fn this_test(name: &str, path: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::{name}");
    command.args([&*name, "--exact", "--ignored", "--nocapture"]).env(FILE, path);
    command
}

#[test]
#[ignore = "a part of another test"]
fn second_process() {
    let opened = Inbox::sqlite(env::var_os(FILE).unwrap());
    println!("opened: {:?}", opened.err().map(|error| error.kind()));
}

/// Does what the command line does beside the server.
#[tokio::test]
#[ignore = "a part of another test"]
async fn attached_process() {
    let inbox = Inbox::attach(env::var_os(FILE).unwrap()).unwrap();
    let stats = inbox.stats().await.unwrap();
    let (open, dead) = (stats.backlog(), stats.dead());
    let letters = inbox.list(State::Dead, 999).await.unwrap().entries;
    let discarded = inbox.discard(letters.last().map(|letter| letter.key)).await.unwrap();
    let redriven = inbox.redrive(letters.iter().map(|letter| letter.key)).await.unwrap();
    let some = inbox.prune(NO_WAIT, 300).await.unwrap();
    let rest = inbox.prune(NO_WAIT, 9999).await.unwrap();
    println!("attached: open {open}, dead {dead}, discarded {discarded}, redriven {redriven}");
    println!("pruned {some} and {rest}");
}

/// Aborts 300 ms after its start. Each handler takes longer than that.
#[tokio::test]
#[ignore = "a part of another test"]
async fn aborting_process() {
    let inbox = Inbox::sqlite(env::var_os(FILE).unwrap()).unwrap();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| {
        sleep(Duration::from_millis(400)).await;
        Ok::<_, Infallible>(())
    };
    let _runner = tokio::spawn(inbox.process(handler).run_until(pending()));
    sleep(Duration::from_millis(300)).await;
    std::process::abort();
}

/// Something else ends the process, and not what it handles.
#[tokio::test]
async fn crashes_in_a_row_make_no_dead_letter() {
    let (inbox, folder) = file();
    insert(&inbox, &(1..=20).map(|id| (id, 0)).collect::<Vec<_>>()).await;
    inbox.close().await;
    let path = folder.path().join("inbox.db");
    for _ in 0..21 {
        let status = this_test("aborting_process", &path).output().await.unwrap().status;
        assert!(!status.success());
    }
    let inbox = Inbox::sqlite(&path).unwrap();
    let crashes = "SELECT max(crashes), sum(crashes) FROM inqud_inbox_object";
    let crashes = inbox.write(|db| db.query_row(crashes, [], |row| Ok((row.get(0)?, row.get(1)?))));
    let (most, all): (u32, u32) = crashes.await.unwrap();
    assert!(all >= 16 + 20 && most < 10, "{most}, {all}");
    let handler = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| Ok::<_, Infallible>(());
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.dead(), stats.backlog()), (0, 0));
}

#[tokio::test]
#[ignore = "a part of another test"]
async fn crash_server() {
    crash::serve(&env::var_os(FILE).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_kills_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let report = crash(&crash::Place::Folder(folder.path().to_owned())).await;
    assert_eq!(report.server_kills, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_kills_of_postgres() {
    if let Some(server) = postgres::Server::start() {
        let report = crash(&crash::Place::Server(server)).await;
        assert_eq!(report.server_kills, 2);
    }
}

async fn crash(place: &crash::Place) -> crash::Report {
    let size = crash::Size { requests: 150, kills: 4, connections: 16 };
    let argument = place.argument();
    let command = || this_test("crash_server", Path::new(&argument));
    let report = crash::run(size, place, command).await.unwrap();
    assert!(report.is_right(), "{report:#?}");
    assert_eq!((report.kills, report.distinct, report.deliveries), (4, 600, 750));
    report
}

#[tokio::test]
async fn writer_syncs_and_file_is_private() {
    let (inbox, folder) = file();
    let pragmas = |db: &rusqlite::Connection| {
        let synchronous: i64 = db.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        // Not set by the inbox, because it belongs to the merchant.
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>((synchronous, mode, version))
    };
    assert_eq!(inbox.write(pragmas).await.unwrap(), (2, "wal".to_owned(), 0));
    #[cfg(unix)]
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn rejects_tables_of_a_later_version() {
    let (inbox, folder) = file();
    let later = |db: &rusqlite::Connection| {
        db.execute("INSERT INTO inqud_inbox_version VALUES (99, 99)", [])
    };
    inbox.write(later).await.unwrap();
    inbox.close().await;
    let error = Inbox::sqlite(folder.path().join("inbox.db")).unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::SchemaTooNew);
}

#[tokio::test]
async fn failed_write_is_rolled_back() {
    let (inbox, _folder) = file();
    let half = |db: &rusqlite::Connection| db.execute_batch("CREATE TABLE half (c); CREATE TABEL");
    let error = inbox.write(half).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("TABEL"), "{source}");
    inbox.write(|db| db.execute_batch("CREATE TABLE half (c)")).await.unwrap();
}

#[tokio::test]
async fn locked_database_is_503_until_it_is_free() {
    let (inbox, folder) = file();
    let other = rusqlite::Connection::open(folder.path().join("inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0, "readers are not held up");
    other.execute_batch("COMMIT").unwrap();
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn close_does_not_wait_for_a_lock() {
    let (inbox, folder) = file();
    let other = rusqlite::Connection::open(folder.path().join("inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let work = async { inbox.store().insert(vec![record(1, 0)]).await };
    let (stored, closed) = tokio::join!(work, timeout(LONG, inbox.close()));
    assert_eq!(stored.unwrap_err().kind(), InboxErrorKind::Store, "it was enqueued before");
    assert!(closed.is_ok(), "close waits forever");
    assert_eq!(claim_error(&inbox).await, InboxErrorKind::Closed);
    other.execute_batch("COMMIT").unwrap();
    Inbox::sqlite(folder.path().join("inbox.db")).unwrap();
}

#[tokio::test]
async fn effect_that_breaks_the_commit_fails_alone() {
    const TABLES: &str = "CREATE TABLE shop (id TEXT PRIMARY KEY);
        CREATE TABLE paid (id TEXT UNIQUE, shop TEXT REFERENCES shop DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO paid VALUES ('taken', NULL)";
    let (inbox, _folder) = file();
    inbox.write(|db| db.execute_batch(TABLES)).await.unwrap();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]).await;
    let effect = [
        "INSERT INTO paid VALUES ('1', NULL)",
        "INSERT INTO paid VALUES ('2', 'no shop')",
        "INSERT INTO paid VALUES ('3', NULL)",
        "INSERT OR ROLLBACK INTO paid VALUES ('taken', NULL)",
        "INSERT INTO paid VALUES ('5', NULL)",
    ];
    // The handlers wait for each other, so that they are settled together.
    let together = Arc::new(Barrier::new(5));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let together = together.clone();
        async move {
            let number: usize = request.id.trim_start_matches("CAPD-").parse().unwrap();
            cx.effect(move |db| db.execute_batch(effect[number - 1]));
            if cx.attempt() == 1 {
                together.wait().await;
            }
            Ok::<_, Infallible>(())
        }
    };
    let runner = inbox.process(handler).max_attempts(3).backoff(NO_WAIT, NO_WAIT);
    timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
    let letters = inbox.dead(9).await.unwrap();
    let dead: Vec<_> = letters.iter().map(|it| (&*it.object, it.attempts)).collect();
    assert_eq!(dead, [("CAPD-2", 3), ("CAPD-4", 1)], "each by attempts of its own");
    assert!(letters[0].error.contains("FOREIGN KEY"), "{}", letters[0].error);
    assert!(letters[1].error.contains("OR ROLLBACK"), "{}", letters[1].error);
    assert!(letters[1].error.contains("UNIQUE"), "{}", letters[1].error);
    let all = |db: &rusqlite::Connection| {
        let mut all = db.prepare("SELECT id FROM paid ORDER BY id")?;
        all.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    };
    assert_eq!(inbox.write(all).await.unwrap(), ["1", "3", "5", "taken"]);
}

/// Each is in a transaction of its own, because it can be run only once.
#[tokio::test]
async fn write_that_breaks_the_commit_fails_alone() {
    const TABLES: &str = "CREATE TABLE shop (id TEXT PRIMARY KEY);
        CREATE TABLE paid (id TEXT, shop TEXT REFERENCES shop DEFERRABLE INITIALLY DEFERRED)";
    let (inbox, _folder) = file();
    inbox.write(|db| db.execute_batch(TABLES)).await.unwrap();
    // The first one occupies the writer until the others wait for it.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let occupy = inbox.write(move |_| {
        wait.recv().unwrap_err();
        Ok::<_, Infallible>(())
    });
    let pay = |sql| inbox.write(move |db| db.execute_batch(sql));
    let broken = pay("INSERT INTO paid VALUES ('1', 'no shop')");
    let paid = pay("INSERT INTO paid VALUES ('2', NULL)");
    let go = async { drop(go) };
    let all = async { tokio::join!(biased; occupy, broken, paid, go) };
    let (occupied, broken, paid, ()) = timeout(LONG, all).await.unwrap();
    occupied.unwrap();
    paid.unwrap();
    let error = format!("{:?}", broken.unwrap_err());
    assert!(error.contains("FOREIGN KEY"), "{error}");
    let count = |db: &rusqlite::Connection| {
        db.query_row("SELECT group_concat(id) FROM paid", [], |row| row.get::<_, String>(0))
    };
    assert_eq!(inbox.write(count).await.unwrap(), "2");
}

/// Panics when it is formatted as an error, and when it is dropped as anything else.
#[derive(Debug)]
struct Nasty;

impl std::fmt::Display for Nasty {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it cannot be shown")
    }
}

impl std::error::Error for Nasty {}

#[derive(Clone)]
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "it cannot be dropped");
    }
}

#[tokio::test]
async fn merchant_panics_do_not_stop_the_writer() {
    let (inbox, _folder) = file();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0)]).await;
    let handler = async |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        match &*request.id {
            "CAPD-1" => cx.effect(|_| Err::<(), _>(Nasty)),
            "CAPD-2" => {
                let conversion = || rusqlite::Error::ToSqlConversionFailure(Box::new(Nasty));
                cx.effect(move |_| Err::<(), _>(conversion()));
            }
            "CAPD-3" => cx.effect(|_| -> Result<(), Infallible> {
                std::panic::panic_any(Mine);
            }),
            _ => {
                for mine in [Mine, Mine] {
                    cx.effect(move |_| {
                        let _ = &mine;
                        Ok::<_, Infallible>(())
                    });
                }
            }
        }
        Ok::<_, Infallible>(())
    };
    let runner = inbox.process(handler).max_attempts(2).backoff(NO_WAIT, NO_WAIT);
    timeout(LONG, runner.run_until(drained(inbox.clone()))).await.unwrap().unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 3);

    // A result that nobody waits for any more, behind slow work.
    let (begun, begin) = std::sync::mpsc::channel::<()>();
    let mut slow = Box::pin(inbox.write(move |_| begin.recv().map_err(|_| "left")));
    assert!(poll_fn(|cx| Poll::Ready(slow.as_mut().poll(cx).is_pending())).await);
    let mut left = Box::pin(inbox.write(|_| Ok::<_, Infallible>(Mine)));
    assert!(poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await);
    drop(left);
    let mine = Mine;
    let mut left = Box::pin(inbox.write(move |_| {
        let _ = &mine;
        Err::<(), _>(Nasty)
    }));
    assert!(poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await);
    drop(left);
    begun.send(()).unwrap();
    slow.await.unwrap();
    insert(&inbox, &[(5, 0)]).await;
}

#[tokio::test]
async fn limits_of_an_effect_do_not_outlast_it() {
    let (inbox, _folder) = file();
    let breaks = |db: &rusqlite::Connection| {
        // A limit on the length of SQL that even a ROLLBACK exceeds.
        db.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_SQL_LENGTH, 5).map(drop)
    };
    for id in 1..=2 {
        // Whether or not it is committed itself.
        let _ = inbox.write(breaks).await;
        insert(&inbox, &[(id, 0)]).await;
        let synchronous = |db: &rusqlite::Connection| {
            db.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))
        };
        assert_eq!(inbox.write(synchronous).await.unwrap(), 2);
    }
    let claimed = claim(inbox.store()).await;
    assert_eq!(claimed.len(), 2);
    let _ = inbox.write(breaks).await;
    assert!(claim(inbox.store()).await.is_empty(), "leases are kept");
    let settled = settle(inbox.store(), &claimed[0], Outcome::Done(vec![])).await;
    assert!(matches!(settled, Settled::Done { .. }), "{settled:?}");
}

#[tokio::test]
async fn empty_batches_are_harmless() {
    let (inbox, _folder) = file();
    for id in 0..9 {
        assert_eq!(inbox.store().insert(Vec::new()).await.unwrap(), []);
        insert(&inbox, &[(id, 0)]).await;
    }
}

#[tokio::test]
async fn opening_reports_changed_tables() {
    let (inbox, folder) = file();
    inbox.write(|db| db.execute_batch("DROP TABLE inqud_inbox_object")).await.unwrap();
    inbox.close().await;
    for _ in 0..2 {
        let error = Inbox::sqlite(folder.path().join("inbox.db")).unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::Store, "and it leaves no lock");
    }
}

/// Returns the latest time of the file.
async fn clock(inbox: &Inbox<Sqlite>) -> i64 {
    let at = |db: &rusqlite::Connection| {
        db.query_row("SELECT at FROM inqud_inbox_clock", [], |row| row.get(0))
    };
    inbox.write(at).await.unwrap()
}

#[tokio::test]
async fn earlier_wrong_clock_delays_nothing() {
    const MINUTE: i64 = 60_000_000;
    for ahead in [30 * MINUTE, 10 * 366 * 24 * 60 * MINUTE] {
        let (inbox, folder) = file();
        insert(&inbox, &[(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]).await;
        let claimed = claim(inbox.store()).await;
        settle(inbox.store(), &claimed[1], retry(Duration::from_millis(500))).await;
        settle(inbox.store(), &claimed[2], Outcome::Done(vec![])).await;
        settle(inbox.store(), &claimed[3], retry(LEASE)).await;
        let shift = format!(
            "UPDATE inqud_inbox_notification SET received_at = received_at + {ahead},
                 settled_at = settled_at + {ahead}, retry_at = retry_at + {ahead};
             UPDATE inqud_inbox_object SET due_at = due_at + {ahead};
             UPDATE inqud_inbox_clock SET at = at + {ahead}"
        );
        inbox.close().await;
        let path = folder.path().join("inbox.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(&shift).unwrap();

        let inbox = Inbox::sqlite(&path).unwrap();
        insert(&inbox, &[(5, 0)]).await;
        // The first was claimed when the file was closed.
        let suspect = Claim::new(PaymentRequest::KIND, 1, LEASE).with_suspect(true);
        let mut due = inbox.store().claim(suspect).await.unwrap();
        settle(inbox.store(), &due[0], Outcome::Done(vec![])).await;
        let began = Instant::now();
        while due.len() < 4 {
            assert!(began.elapsed() < LONG, "{:?}", shown(&due));
            due.extend(claim(inbox.store()).await);
            sleep(Duration::from_millis(10)).await;
        }
        let mut due: Vec<_> = shown(&due).into_iter().map(|it| (it.0, it.1)).collect();
        due.sort_unstable();
        assert_eq!(due, [("CAPD-1", 0), ("CAPD-1", 1), ("CAPD-2", 0), ("CAPD-5", 0)], "not 4");
        assert_eq!(inbox.prune(LEASE, 9).await.unwrap(), 0);
        assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn each_commit_stores_the_latest_time() {
    let (inbox, _folder) = file();
    let mut times = vec![clock(&inbox).await];
    insert(&inbox, &[(1, 0)]).await;
    times.push(clock(&inbox).await);
    let claimed = claim(inbox.store()).await;
    times.push(clock(&inbox).await);
    settle(inbox.store(), &claimed[0], retry(NO_WAIT)).await;
    times.push(clock(&inbox).await);
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    let claimed = claim(inbox.store()).await;
    assert_eq!(claimed.len(), 1);
    let latest = clock(&inbox).await;
    assert!(claim(inbox.store()).await.is_empty());
    assert_eq!(clock(&inbox).await, latest, "reading writes nothing");
}

#[tokio::test]
async fn discarding_starts_the_age_of_the_body() {
    let (inbox, _folder) = file();
    insert(&inbox, &[(1, 0)]).await;
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[0], dead()).await;
    let day = 24 * 3600 * 1_000_000_i64;
    let a_day_ago = format!("UPDATE inqud_inbox_notification SET settled_at = settled_at - {day}");
    inbox.write(move |db| db.execute_batch(&a_day_ago)).await.unwrap();
    assert_eq!(inbox.discard([claimed[0].key]).await.unwrap(), 1);
    assert_eq!(inbox.prune(LEASE, 9).await.unwrap(), 0);
    assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 1);
}

/// The system clock was set forward after the owning process opened the file.
#[tokio::test]
async fn prune_uses_the_clock_of_the_file() {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    let (inbox, folder) = file();
    insert(&inbox, &[(1, 0)]).await;
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[0], Outcome::Done(vec![])).await;
    inbox.close().await;
    let path = folder.path().join("inbox.db");
    let back = 40 * 24 * 3600 * 1_000_000_i64;
    let set_back = format!(
        "UPDATE inqud_inbox_notification SET settled_at = settled_at - {back};
         UPDATE inqud_inbox_clock SET at = at - {back}"
    );
    rusqlite::Connection::open(&path).unwrap().execute_batch(&set_back).unwrap();
    let attached = Inbox::attach(&path).unwrap();
    assert_eq!(attached.prune(MONTH, 9).await.unwrap(), 0);
    assert_eq!(attached.prune(NO_WAIT, 9).await.unwrap(), 1);
}

#[tokio::test]
async fn attaches_beside_the_owning_process() {
    let (inbox, folder) = file();
    let path = folder.path().join("inbox.db");
    insert(&inbox, &(0..700).map(|id| (id, 0)).collect::<Vec<_>>()).await;
    let claimed = inbox.store().claim(Claim::new(PaymentRequest::KIND, 699, LEASE)).await.unwrap();
    let outcomes = claimed.iter().enumerate().map(|(at, it)| match at {
        0..=1 => settlement(it, dead()),
        // One is still leased.
        2 => settlement(it, retry(LEASE)),
        3.. => settlement(it, Outcome::Done(vec![])),
    });
    let held = claimed.last().unwrap();
    for mut settlement in outcomes.take(698) {
        inbox.store().settle(&mut settlement).await.unwrap();
    }

    let mut attached = this_test("attached_process", &path);
    let attached = tokio::spawn(async move { attached.output().await.unwrap() });
    // The owning process continues in the meantime.
    let mut slowest = Duration::ZERO;
    let mut id = 1000_u32;
    while !attached.is_finished() {
        let began = Instant::now();
        insert(&inbox, &[(id, 0)]).await;
        slowest = slowest.max(began.elapsed());
        id += 1;
    }
    let output = attached.await.unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let (open, rest) = output.split_once("attached: open ").unwrap().1.split_once(", ").unwrap();
    assert!(open.parse::<usize>().unwrap() >= 3, "{output}");
    let told = "dead 2, discarded 1, redriven 1\npruned 300 and 396\n";
    assert!(rest.starts_with(told), "{output}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");

    let due = inbox.store().claim(Claim::new(PaymentRequest::KIND, 99_999, LEASE)).await.unwrap();
    let due: Vec<_> = due.iter().map(|it| (&*it.ticket.object, it.attempt())).collect();
    assert_eq!(
        due.len(),
        2 + usize::try_from(id - 1000).unwrap(),
        "neither the leased, the waiting nor the discarded one"
    );
    assert!(due.contains(&("CAPD-0", 1)), "{due:?}");
    assert!(matches!(
        settle(inbox.store(), held, Outcome::Done(vec![])).await,
        Settled::Done { .. }
    ));
}

#[tokio::test]
async fn attach_rejects_other_files_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let kind = || Inbox::attach(&path).unwrap_err().kind();
    assert_eq!(kind(), InboxErrorKind::NotFound);
    assert!(!path.exists());
    let shop = rusqlite::Connection::open(&path).unwrap();
    shop.execute_batch("CREATE TABLE paid (id TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(kind(), InboxErrorKind::NotFound);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(shop);
    std::fs::write(&path, "no database at all, but long enough for one").unwrap();
    assert_eq!(kind(), InboxErrorKind::Store);

    let (inbox, folder) = file();
    let path = folder.path().join("inbox.db");
    let later = |db: &rusqlite::Connection| {
        db.execute("INSERT INTO inqud_inbox_version VALUES (99, 99)", [])
    };
    inbox.write(later).await.unwrap();
    assert_eq!(Inbox::attach(&path).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
}
