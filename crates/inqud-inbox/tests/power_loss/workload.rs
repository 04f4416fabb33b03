//! What an inbox does until the power fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use inqud_inbox::{
    Admin, Context, Erase, Inbox, InboxError, RunReport, Runner, Sqlite, SqliteOptions, Storable,
    Stored, Sweep, rusqlite,
};
use tokio::task::JoinSet;
use tower::Layer;
use tower_inqud::PaymentRequest;

use crate::disk::Disk;
use crate::history::{Log, Name, body, key, name};
use crate::{support, vfs};

const ROUNDS: u32 = 12;
/// Objects that have a notification in each round.
const OBJECTS: u32 = 6;
/// The first of the objects that have only one.
const SINGLE: u32 = 100;

pub(crate) fn open(disk: &Disk) -> Result<Inbox<Sqlite>, InboxError> {
    vfs::install();
    SqliteOptions::new(disk.file()).allow_tmpfs().open()
}

pub(crate) async fn create_table(inbox: &Inbox<Sqlite>) -> Result<(), InboxError> {
    let create = "CREATE TABLE IF NOT EXISTS paid (id INTEGER, minute INTEGER)";
    inbox.write(move |db| db.execute_batch(create)).await
}

pub(crate) fn pay(cx: &Context<Sqlite>, (id, minute): Name) {
    cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1, ?2)", [id, minute]));
}

/// Delivers a webhook.
pub(crate) async fn put(inbox: &Inbox<Sqlite>, log: &Log, name: Name) -> StatusCode {
    let service = support::layer::<PaymentRequest>().layer(inbox.receiver::<PaymentRequest>());
    log.asks_to_put(name);
    let response = support::call(service, support::signed(body(name))).await;
    if response.status() == StatusCode::OK {
        log.answers_put(name);
    }
    response.status()
}

pub(crate) async fn put_all(inbox: &Inbox<Sqlite>, log: &Log, names: Vec<Name>) -> Vec<StatusCode> {
    let mut calls = JoinSet::new();
    for name in names {
        let (inbox, log) = (inbox.clone(), log.clone());
        calls.spawn(async move { put(&inbox, &log, name).await });
    }
    calls.join_all().await
}

/// Handles what is due. Some notifications fail at first, and some until they are repaired.
pub(crate) async fn run(
    inbox: &Inbox<Sqlite>,
    log: &Log,
    is_repaired: bool,
) -> Result<RunReport, InboxError> {
    let its = log.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let name = name(&request);
        its.handles(name);
        pay(&cx, name);
        let is_broken = is_broken(name) && !is_repaired;
        let fails = is_broken || (name.0 + name.1).is_multiple_of(5) && cx.attempt() == 1;
        if !fails {
            its.accepts(name);
        }
        async move { if fails { Err("not now") } else { Ok(()) } }
    };
    let runner: Runner<_, _, _> = inbox.process(handler).concurrency(4).max_attempts(2);
    let ran =
        runner.handle_stale().backoff(Duration::ZERO, Duration::ZERO).run_until_idle().await?;
    let dead: Vec<_> = log.history().puts.into_keys().filter(|it| is_broken(*it)).collect();
    log.is_idle(if is_repaired { &[] } else { &dead });
    Ok(ran)
}

fn is_broken((id, minute): Name) -> bool {
    (id + minute) % 7 == 3
}

/// Does everything that an inbox can do.
pub(crate) async fn work(disk: &Arc<Disk>) -> Log {
    let log = Log::new(Arc::clone(disk));
    let mut inbox = open(disk).unwrap();
    create_table(&inbox).await.unwrap();
    for round in 0..ROUNDS {
        let mut names: Vec<_> = (0..OBJECTS).map(|id| (id, round)).collect();
        names.push((SINGLE + round, 0));
        // Inqud repeats one.
        names.push((1, round.saturating_sub(1)));
        for status in put_all(&inbox, &log, names).await {
            assert_eq!(status, StatusCode::OK);
        }
        run(&inbox, &log, false).await.unwrap();
        match round {
            2 | 6 | 10 => redrive(&inbox, &log).await,
            3 => {
                inbox.close().await;
                drop(inbox);
                inbox = open(disk).unwrap();
            }
            4 | 8 => sweep(&inbox).await,
            5 | 9 => erase(&inbox, &log, SINGLE + round).await,
            7 => {
                let folder = tempfile::tempdir().unwrap();
                let copy = folder.path().join("copy.db");
                inbox.back_up(&copy).await.unwrap();
                assert_eq!(integrity(&rusqlite::Connection::open(copy).unwrap()).unwrap(), "ok");
            }
            _ => {}
        }
    }
    // What is in flight at the end was claimed by nobody yet.
    put_all(&inbox, &log, (0..OBJECTS).map(|id| (id, ROUNDS)).collect()).await;
    inbox.close().await;
    log
}

async fn redrive(inbox: &Inbox<Sqlite>, log: &Log) {
    let dead = inbox.dead(100).await.unwrap();
    assert!(!dead.is_empty());
    let names: Vec<_> = log.history().puts.into_keys().collect();
    for name in names {
        if dead.iter().any(|it| it.key == key(name)) {
            log.asks_to_redrive(name);
        }
    }
    inbox.redrive(dead.iter().map(|it| it.key)).await.unwrap();
    log.answers();
    let ran = run(inbox, log, true).await.unwrap();
    assert_eq!(ran.done, dead.len() as u64, "{ran:?}");
}

/// As a retention does, but without a least age.
async fn sweep(inbox: &Inbox<Sqlite>) {
    inbox.store().sweep_batch(Sweep::Bodies(Duration::ZERO), 10).await.unwrap();
    let sweep = Sweep::Notifications { age: Duration::ZERO, includes_reviews: false, after: 0 };
    assert!(inbox.store().sweep_batch(sweep, 1000).await.unwrap().count > 0);
}

async fn erase(inbox: &Inbox<Sqlite>, log: &Log, id: u32) {
    log.asks_to_erase(id);
    let erase = Erase::object(PaymentRequest::KIND, &format!("CAPD-{id:04}")).force();
    assert_eq!(inbox.erase(erase).await.unwrap(), 1);
    log.answers();
}

pub(crate) fn integrity(db: &rusqlite::Connection) -> rusqlite::Result<String> {
    db.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}

/// Handles everything that an image has, and returns what was handled.
pub(crate) async fn finish(inbox: &Inbox<Sqlite>) -> Result<Vec<Name>, InboxError> {
    let (called, is_repeated) =
        (Arc::new(std::sync::Mutex::new(Vec::new())), AtomicBool::new(false));
    loop {
        let its = Arc::clone(&called);
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
            let name = name(&request);
            its.lock().unwrap().push(name);
            pay(&cx, name);
            async { Ok::<_, std::convert::Infallible>(()) }
        };
        inbox.process(handler).handle_stale().run_until_idle().await?;
        let dead = inbox.dead(1000).await?;
        if dead.is_empty() || is_repeated.swap(true, Ordering::SeqCst) {
            break;
        }
        inbox.redrive(dead.iter().map(|it| it.key)).await?;
    }
    let called = called.lock().unwrap().clone();
    Ok(called)
}
