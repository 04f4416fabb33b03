//! What the store notices about its files.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use inqud_inbox::{Context, Inbox, InboxErrorKind, Inserted, Sqlite, Store, Stored};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_inqud::PaymentRequest;

use crate::{LONG, Place, chain, number, records};

/// Inserts from eight tasks. Calls `act` after a while, and returns how many inserts began after it and were
/// acknowledged.
async fn acknowledged_after(inbox: &Inbox<Sqlite>, act: impl FnOnce()) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let (is_done, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let (inbox, next) = (inbox.clone(), Arc::clone(&next));
        let (is_done, is_over) = (Arc::clone(&is_done), Arc::clone(&is_over));
        senders.spawn(async move {
            let mut after = 0;
            while !is_over.load(Ordering::SeqCst) {
                let id = next.fetch_add(1, Ordering::SeqCst);
                let was_done = is_done.load(Ordering::SeqCst);
                let inserted = inbox.store().insert(records(id..id + 1)).await;
                after += usize::from(was_done && inserted.is_ok());
                tokio::task::yield_now().await;
            }
            after
        });
    }
    sleep(Duration::from_millis(100)).await;
    assert!(next.load(Ordering::SeqCst) > 8);
    act();
    is_done.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(200)).await;
    is_over.store(true, Ordering::SeqCst);
    timeout(LONG, senders.join_all()).await.unwrap().into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledges_nothing_after_a_file_is_removed() {
    for suffix in ["", "-wal", "-shm"] {
        let place = Place::new();
        let inbox = place.open().unwrap();
        let after =
            acknowledged_after(&inbox, || fs::remove_file(place.file(suffix)).unwrap()).await;
        assert_eq!(after, 0, "{suffix:?}");
        let error = inbox.store().insert(records(0..1)).await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::FileMoved);
        assert!(chain(&error).contains("inbox.db"), "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledges_nothing_while_the_file_is_away() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let away = place.file("-away");
    assert_eq!(acknowledged_after(&inbox, || fs::rename(place.file(""), &away).unwrap()).await, 0);
    // Another file in its place.
    fs::write(place.file(""), "").unwrap();
    assert_eq!(acknowledged_after(&inbox, || ()).await, 0);
    inbox.store().insert(records(900_000..900_001)).await.unwrap_err();
    fs::rename(&away, place.file("")).unwrap();
    assert_eq!(inbox.store().insert(records(900_000..900_001)).await.unwrap(), [Inserted::New]);
    inbox.close().await;
    drop(inbox);
    let again = place.open().unwrap();
    assert_eq!(
        again.store().insert(records(900_000..900_001)).await.unwrap(),
        [Inserted::Duplicate]
    );
}

/// It is committed, but nobody is told so before the file is back.
#[tokio::test]
async fn file_moved_during_a_commit_is_an_error() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let (away, file) = (place.file("-away"), place.file(""));
    let (from, to) = (file.clone(), away.clone());
    let write = move |db: &inqud_inbox::rusqlite::Connection| {
        fs::rename(&from, &to).unwrap();
        db.execute_batch("CREATE TABLE paid (id TEXT)")
    };
    let error = inbox.write(write).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::FileMoved);
    fs::rename(&away, &file).unwrap();
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 0);
}

/// The runner keeps the outcome, and settles again.
#[tokio::test]
async fn settles_again_after_the_file_is_back() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    inbox.write(|db| db.execute_batch("CREATE TABLE paid (id TEXT)")).await.unwrap();
    inbox.store().insert(records(0..1)).await.unwrap();
    let (away, file) = (place.file("-away"), place.file(""));
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, from, to) = (Arc::clone(&calls), file.clone(), away.clone());
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        counted.fetch_add(1, Ordering::SeqCst);
        let id = request.id.clone();
        cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1)", [&id]));
        fs::rename(&from, &to).unwrap();
        async { Ok::<_, Infallible>(()) }
    };
    let settled = async {
        while inbox.stats().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        while inbox.stats().await.unwrap().backlog() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let back = async {
        sleep(Duration::from_millis(500)).await;
        fs::rename(&away, &file).unwrap();
    };
    let runner = inbox.process(handler).run_until(settled);
    let (ran, ()) = timeout(LONG, async { tokio::join!(runner, back) }).await.unwrap();
    ran.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(number(&inbox, "SELECT count(*) FROM paid").await, 1);
}

#[tokio::test]
async fn second_opener_takes_over_and_no_effect_happens_twice() {
    const COUNT: usize = 50;
    const PAID: i64 = 50;
    let place = Place::new();
    let first = place.open().unwrap();
    first.write(|db| db.execute_batch("CREATE TABLE paid (id TEXT)")).await.unwrap();
    first.store().insert(records(0..COUNT)).await.unwrap();
    let handler = |request: Stored<PaymentRequest>, cx: Context<Sqlite>| async move {
        let id = request.id.clone();
        cx.effect(move |db| db.execute("INSERT INTO paid VALUES (?1)", [&id]));
        sleep(Duration::from_millis(20)).await;
        Ok::<_, Infallible>(())
    };
    let old = first.clone();
    let slow =
        tokio::spawn(async move { old.process(handler).concurrency(5).run_until_idle().await });
    sleep(Duration::from_millis(30)).await;
    fs::remove_file(place.file("-inqud-lock")).unwrap();
    let second = place.open().unwrap();
    second.process(handler).run_until_idle().await.unwrap();
    let error = timeout(LONG, slow).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::TakenOver);
    second.process(handler).run_until_idle().await.unwrap();
    assert_eq!(number(&second, "SELECT count(*) FROM paid").await, PAID);
    assert_eq!(number(&second, "SELECT count(DISTINCT id) FROM paid").await, PAID);

    for _ in 0..2 {
        let error = first.store().insert(records(COUNT..COUNT + 1)).await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::TakenOver, "and it stays closed");
    }
    assert_eq!(first.stats().await.unwrap_err().kind(), InboxErrorKind::TakenOver);
    first.close().await;
    drop(first);
    assert_eq!(second.stats().await.unwrap().backlog(), 0, "nothing of the first was stored");
    second.store().insert(records(COUNT..COUNT + 1)).await.unwrap();
}

#[tokio::test]
async fn engine_refuses_a_second_object_with_the_same_id() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    inbox.store().insert(records(0..1)).await.unwrap();
    let again = "INSERT INTO inqud_inbox_object (kind, id) SELECT kind, id FROM inqud_inbox_object";
    let error = inbox.write(move |db| db.execute(again, []).map(drop)).await.unwrap_err();
    assert!(chain(&error).contains("UNIQUE constraint failed"), "{}", chain(&error));
}
