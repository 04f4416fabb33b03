//! What a retention deletes, what it keeps, and what becomes of notifications that come after that.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::time::Duration;

use crate::claims::*;
use crate::postgres;
use inqud_inbox::{
    Admin, Claim, Context, Filter, Inbox, Inserted, Memory, Outcome, Record, Retention, Sqlite,
    Storable, Store, Stored, Sweep, Swept,
};
use tempfile::TempDir;
use tokio::time::sleep;
use tower_inqud::{Payment, PaymentRequest, Verdict, contract};

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

of_each_store! {
    keeps_what_is_not_settled
    late_repeats_are_known_by_what_was_processed
    late_repeats_of_a_payment_are_handled_unless_known
    reviews_are_deleted_only_if_included
    forgets_objects_last
    keeps_all_within_the_duplicate_window
    batch_that_is_not_full_is_the_last
    full_batch_of_bodies_is_not_the_last
}

/// Deletes whatever a retention may delete, regardless of its age.
async fn sweep_all(store: &impl Store, includes_reviews: bool) -> usize {
    let mut count = 0;
    let mut next = Some(Sweep::Notifications { age: NO_WAIT, includes_reviews, after: i64::MIN });
    while let Some(sweep) = next {
        // Several batches.
        let batch = store.sweep_batch(sweep, 2).await.unwrap();
        count += batch.count;
        next = batch.next;
    }
    count
}

async fn forget_all(store: &impl Store) -> usize {
    store.sweep_batch(Sweep::Objects(NO_WAIT), 100).await.unwrap().count
}

/// Claims and settles all that is due as done, or as skipped if it is stale.
async fn handle(store: &impl Store, kind: &'static str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    loop {
        let claimed = store.claim(Claim::new(kind, 100, LEASE)).await.unwrap();
        if claimed.is_empty() {
            return verdicts;
        }
        for claimed in claimed {
            let verdict = claimed.ticket.verdict;
            let outcome =
                if verdict.should_handle() { Outcome::Done(vec![]) } else { Outcome::Skipped };
            settle(store, &claimed, outcome).await;
            verdicts.push(verdict);
        }
    }
}

const REQUEST: &str = PaymentRequest::KIND;

async fn keeps_what_is_not_settled(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    // Two done and one skipped of the first object, and one each of the others.
    insert(inbox, &[(1, 2)]).await;
    handle(store, REQUEST).await;
    insert(inbox, &[(1, 0), (1, 3), (2, 2), (3, 0), (4, 0), (5, 2)]).await;
    let claimed = store.claim(Claim::new(REQUEST, 100, LEASE)).await.unwrap();
    for claimed in &claimed {
        match &*claimed.ticket.object {
            "CAPD-1" => _ = settle(store, claimed, Outcome::Skipped).await,
            "CAPD-2" => _ = settle(store, claimed, dead()).await,
            "CAPD-3" => _ = settle(store, claimed, retry(LEASE)).await,
            "CAPD-5" => _ = settle(store, claimed, Outcome::Done(vec![])).await,
            // Leased until the end.
            _ => {}
        }
    }
    // An object with a dead letter keeps what it has processed, too.
    insert(inbox, &[(2, 4)]).await;
    handle(store, REQUEST).await;
    // Waits.
    insert(inbox, &[(6, 0)]).await;

    assert_eq!(sweep_all(store, false).await, 4, "three of the first object, and the fifth");
    assert_eq!(forget_all(store).await, 2);
    assert_eq!(sweep_all(store, true).await, 0);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead(), stats.skipped()), (3, 1, 0));
    assert_eq!(store.insert(vec![record(2, 4)]).await.unwrap(), [Inserted::Duplicate]);
    let key = inbox.dead(9).await.unwrap()[0].key;
    assert_eq!(inbox.show(key).await.unwrap().unwrap().body, body(2, 2));
    inbox.redrive([key]).await.unwrap();
    assert_eq!(handle(store, REQUEST).await, [Verdict::Newer, Verdict::Stale]);
}

async fn late_repeats_are_known_by_what_was_processed(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    insert(inbox, &[(1, 0), (1, 1), (1, 2)]).await;
    handle(store, REQUEST).await;
    insert(inbox, &[(9, 0)]).await;
    assert_eq!(sweep_all(store, false).await, 3);

    let late = vec![record(1, 2), record(1, 0), record(1, 2), record(1, 5)];
    let (new, duplicate) = (Inserted::New, Inserted::Duplicate);
    assert_eq!(store.insert(late).await.unwrap(), [duplicate, new, duplicate, new]);
    assert_eq!(store.insert(vec![record(1, 2)]).await.unwrap(), [duplicate], "on its own");
    let mut verdicts = handle(store, REQUEST).await;
    verdicts.sort_by_key(|it| it.as_str());
    assert_eq!(verdicts, [Verdict::Newer, Verdict::Newer, Verdict::Stale]);
    assert_eq!(store.insert(vec![record(1, 5), record(1, 0)]).await.unwrap(), [duplicate; 2]);
}

async fn full_batch_of_bodies_is_not_the_last(inbox: &Inbox<impl Store>) {
    insert(inbox, &[(1, 2), (2, 2), (3, 2)]).await;
    handle(inbox.store(), REQUEST).await;
    let bodies = Sweep::Bodies(NO_WAIT);
    for (limit, count, next) in [(0, 0, None), (2, 2, Some(bodies)), (2, 1, None)] {
        let batch = inbox.store().sweep_batch(bodies, limit).await.unwrap();
        assert_eq!((batch.count, batch.next), (count, next), "at most {limit}");
    }
}

/// By a setting, and with the time that it asks for.
#[tokio::test(start_paused = true)]
async fn sweep_deletes_all_in_batches() {
    let inbox = Inbox::memory();
    let records = (0..300).map(|id| (id, 2)).chain([(0, 3)]).collect::<Vec<_>>();
    insert(&inbox, &records).await;
    handle(inbox.store(), REQUEST).await;
    let age = contract::DUPLICATE_WINDOW;
    let retention = Retention::new().bodies(age).and_then(|it| it.notifications(age));
    let retention = retention.and_then(|it| it.objects(age)).unwrap();
    tokio::time::advance(age - Duration::from_secs(1)).await;
    assert_eq!(inbox.sweep(&retention).await.unwrap(), Swept::default());
    tokio::time::advance(Duration::from_secs(1)).await;
    let swept = inbox.sweep(&retention).await.unwrap();
    assert_eq!(swept.to_string(), "301 bodies, 301 notifications and 300 objects deleted");
    assert_eq!(inbox.sweep(&retention).await.unwrap(), Swept::default());
}

#[tokio::test(start_paused = true)]
async fn runner_deletes_what_is_too_old() {
    let age = contract::DUPLICATE_WINDOW;
    let retention = Retention::new().notifications(age).unwrap();
    let inbox = Inbox::memory().retention(retention).capacity(10);
    insert(&inbox, &[(1, 2)]).await;
    handle(inbox.store(), REQUEST).await;
    let count = async || inbox.list(Filter::new(), 9).await.unwrap().entries.len();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| Ok::<_, Infallible>(());
    let minute = Duration::from_secs(60);
    tokio::time::advance(age - minute).await;
    let shutdown = async {
        sleep(minute / 2).await;
        assert_eq!(count().await, 1);
        sleep(minute * 2).await;
        assert_eq!(count().await, 0);
    };
    inbox.process(handler).run_until(shutdown).await.unwrap();
}

fn payment(status: &str) -> Record {
    let body = format!(r#"{{"id":"PMT-1","status":"{status}","type":"PAYIN"}}"#);
    let payment: Payment = serde_json::from_str(&body).unwrap();
    Record::new(&payment, body.into())
}

async fn late_repeats_of_a_payment_are_handled_unless_known(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    for status in ["PENDING", "SUCCESS", "FAILED"] {
        store.insert(vec![payment(status)]).await.unwrap();
        handle(store, Payment::KIND).await;
    }
    // Not all of them in SQLite, because the last number must not be used twice.
    assert!(sweep_all(store, false).await >= 2);

    let late = vec![payment("FAILED"), payment("SUCCESS"), payment("PENDING")];
    let (new, duplicate) = (Inserted::New, Inserted::Duplicate);
    assert_eq!(store.insert(late).await.unwrap(), [duplicate, new, new]);
    // Nothing tells whether it succeeded again.
    assert_eq!(handle(store, Payment::KIND).await, [Verdict::Unordered, Verdict::Stale]);
    assert_eq!(store.insert(vec![payment("SUCCESS")]).await.unwrap(), [duplicate]);
}

async fn reviews_are_deleted_only_if_included(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    for status in ["SUCCESS", "FAILED"] {
        store.insert(vec![payment(status)]).await.unwrap();
        handle(store, Payment::KIND).await;
    }
    assert_eq!(store.insert(vec![payment("SUCCESS")]).await.unwrap(), [Inserted::Review]);
    insert(inbox, &[(9, 0)]).await;
    assert_eq!(sweep_all(store, false).await, 0);
    assert_eq!(inbox.review(9).await.unwrap().len(), 1);
    assert_eq!(sweep_all(store, true).await, 3);
    assert_eq!(store.stats().await.unwrap().review(), 0);
    assert!(inbox.review(9).await.unwrap().is_empty());
}

async fn forgets_objects_last(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    insert(inbox, &[(1, 2), (2, 2)]).await;
    handle(store, REQUEST).await;
    insert(inbox, &[(9, 0)]).await;
    assert_eq!(forget_all(store).await, 0, "their notifications are known");
    assert_eq!(sweep_all(store, false).await, 2);
    insert(inbox, &[(2, 0)]).await;
    assert_eq!(forget_all(store).await, 1, "the other one has a notification again");
    insert(inbox, &[(1, 0)]).await;
    let mut verdicts = handle(store, REQUEST).await;
    verdicts.sort_by_key(|it| it.as_str());
    assert_eq!(verdicts, [Verdict::Newer, Verdict::Newer, Verdict::Stale]);
}

async fn keeps_all_within_the_duplicate_window(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    insert(inbox, &[(1, 0), (1, 2), (2, 0)]).await;
    handle(store, REQUEST).await;
    let shortest = contract::DUPLICATE_WINDOW;
    let retention = Retention::new().bodies(shortest).unwrap().notifications(shortest).unwrap();
    let retention = retention.objects(shortest).unwrap().include_reviews();
    assert_eq!(inbox.sweep(&retention).await.unwrap(), Swept::default());
    assert_eq!(store.insert(vec![record(1, 0)]).await.unwrap(), [Inserted::Duplicate]);
}

/// Otherwise a caller who deletes batch after batch never ends.
async fn batch_that_is_not_full_is_the_last(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    insert(inbox, &[(1, 0), (2, 0)]).await;
    handle(store, REQUEST).await;
    insert(inbox, &[(9, 0)]).await;
    let all = Sweep::Notifications { age: NO_WAIT, includes_reviews: false, after: i64::MIN };
    for (sweep, limit) in
        [(Sweep::Bodies(NO_WAIT), 0), (all, 0), (Sweep::Objects(NO_WAIT), 0), (all, 99)]
    {
        let batch = store.sweep_batch(sweep, limit).await.unwrap();
        assert_eq!(batch.next, None, "{sweep:?} {limit}");
    }
    assert_eq!(sweep_all(store, false).await, 0);
}

/// The age of a notification counts from when it was settled.
#[tokio::test]
async fn keeps_what_was_settled_late() {
    const HOUR: Duration = Duration::from_secs(3600);
    let sweep = Sweep::Notifications { age: HOUR, includes_reviews: false, after: i64::MIN };
    let (inbox, _folder) = file();
    insert(&inbox, &[(1, 0), (9, 0)]).await;
    let back = "UPDATE inqud_inbox_notification SET received_at = received_at - 86400000000";
    inbox.write(|db| db.execute_batch(back)).await.unwrap();
    handle(inbox.store(), REQUEST).await;
    assert_eq!(inbox.store().sweep_batch(sweep, 9).await.unwrap().count, 0);

    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("settled_late").await;
    insert(&inbox, &[(1, 0), (9, 0)]).await;
    let back = "UPDATE inqud_inbox.notification SET received_at = received_at - interval '1 day'";
    let client = postgres::connect(&server.config("settled_late")).await;
    assert_eq!(client.execute(back, &[]).await.unwrap(), 2);
    handle(inbox.store(), REQUEST).await;
    assert_eq!(inbox.store().sweep_batch(sweep, 9).await.unwrap().count, 0);
}

#[tokio::test(start_paused = true)]
async fn runner_sweeps_while_it_runs() {
    let window = contract::DUPLICATE_WINDOW;
    let retention = Retention::new().bodies(window).unwrap().notifications(window * 2).unwrap();
    let inbox = Inbox::memory().retention(retention);
    insert(&inbox, &[(1, 0), (1, 2)]).await;
    let handler = async |_: inqud_inbox::Stored<PaymentRequest>, _| Ok::<_, String>(());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runner = inbox.process(handler).run_until(async { drop(stopped.await) });
    let runner = tokio::spawn(runner);
    tokio::time::sleep(window - Duration::from_secs(600)).await;
    let differing = || {
        let body = body(1, 2).replace('{', "{ ");
        Record::new(&serde_json::from_str::<PaymentRequest>(&body).unwrap(), body.into())
    };
    let again = async || inbox.store().insert(vec![differing()]).await.unwrap()[0];
    assert_eq!(again().await, Inserted::DuplicateDiffers, "its body is known");
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert_eq!(again().await, Inserted::Duplicate, "its body is deleted");
    assert_eq!(inbox.store().insert(vec![record(1, 0)]).await.unwrap(), [Inserted::Duplicate]);
    tokio::time::sleep(window).await;
    assert_eq!(inbox.store().insert(vec![record(1, 0)]).await.unwrap(), [Inserted::New]);
    stop.send(()).unwrap();
    runner.await.unwrap().unwrap();
}
