//! Notifications that are processed again.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::claims::{LEASE, claim, dead, minute, record, retry, settle};
use crate::{claims, postgres};
use inqud_inbox::{
    Claim, Context, Filter, Inbox, Key, Outcome, Record, Settled, Sqlite, State, Storable, Store,
    Stored,
};
use tempfile::TempDir;
use tower_inqud::{Payment, PaymentRequest, Verdict};

/// What a handler was called with: the id, the minute, the verdict, and whether it was told of a replay.
type Log = Arc<Mutex<Vec<(String, u32, Verdict, bool)>>>;

of_each_store! {
    reprocesses_a_day_after_a_bug
    replays_from_the_earliest_to_the_newest
    replays_in_the_order_of_processing
    new_notifications_come_after_replays
    newest_only_runs_replays_first
    newest_only_replays_do_not_wait_for_a_retry
    object_that_is_handled_is_left
    expired_lease_does_not_hold_up_a_replay
    pruned_bodies_are_not_replayed
    dead_replay_is_redriven_with_what_followed
    dead_replays_of_one_object_are_all_counted
    reprocesses_only_what_was_processed
    dry_run_requeues_nothing
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

async fn process<S: Store>(inbox: &Inbox<S>) -> Vec<(String, u32, Verdict, bool)> {
    process_as(inbox, false).await
}

async fn process_as<S: Store>(
    inbox: &Inbox<S>,
    newest_only: bool,
) -> Vec<(String, u32, Verdict, bool)> {
    let log = Log::default();
    let its = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<S>| {
        let at = minute(request.raw_body());
        its.lock().unwrap().push((request.id.clone(), at, cx.verdict(), cx.is_replay()));
        async { Ok::<_, Infallible>(()) }
    };
    let runner = inbox.process(handler).concurrency(1);
    let runner = if newest_only { runner.newest_only() } else { runner };
    runner.run_until_idle().await.unwrap();
    std::mem::take(&mut *log.lock().unwrap())
}

fn minutes(log: &[(String, u32, Verdict, bool)]) -> Vec<u32> {
    log.iter().map(|(_, minute, ..)| *minute).collect()
}

async fn key_of(inbox: &Inbox<impl Store>, minute: u32) -> Key {
    let all = inbox.list(Filter::new().with_bodies(), 99).await.unwrap().entries;
    all.iter().find(|it| claims::minute(&it.body) == minute).unwrap().key
}

fn payment(id: u32) -> Record {
    Record::decode::<Payment>(format!(r#"{{"id":"PMT-{id}","status":"SUCCESS"}}"#)).unwrap()
}

/// A handler had a bug for a day. After one call, the end state is right, and a handler that must not run twice did not.
async fn reprocesses_a_day_after_a_bug<S: Store>(inbox: &Inbox<S>) {
    let orders = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let write = |is_fixed: bool| {
        let orders = Arc::clone(&orders);
        move |request: Stored<PaymentRequest>, _: Context<S>| {
            let status = if is_fixed { request.status.as_str() } else { "wrong" };
            orders.lock().unwrap().insert(request.id.clone(), status.to_owned());
            async { Ok::<_, Infallible>(()) }
        }
    };
    let sent = Arc::new(Mutex::new(0));
    let store = inbox.store();
    let day = (0..3).flat_map(|minute| (0..40).map(move |id| record(id, minute)));
    store.insert(day.chain((0..5).map(payment)).collect()).await.unwrap();
    inbox.process(write(false)).run_until_idle().await.unwrap();
    let mails = {
        let sent = Arc::clone(&sent);
        move |_: Stored<Payment>, _: Context<S>| {
            *sent.lock().unwrap() += 1;
            async { Ok::<_, Infallible>(()) }
        }
    };
    inbox.process(mails.clone()).run_until_idle().await.unwrap();
    assert!(orders.lock().unwrap().values().all(|it| it == "wrong"));

    let reprocessed = inbox.reprocess_all(Filter::new(), false).await.unwrap();
    assert_eq!(reprocessed.requeued, 125);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 125);
    let report = inbox.process(write(true)).run_until_idle().await.unwrap();
    assert_eq!((report.done, report.skipped), (120, 0));
    let orders = orders.lock().unwrap().clone();
    let last = inqud_status(2);
    assert_eq!(orders.len(), 40);
    assert!(orders.values().all(|it| *it == last), "{orders:?}");

    let report = inbox.process(mails).skip_replays().run_until_idle().await.unwrap();
    assert_eq!((report.done, report.skipped, *sent.lock().unwrap()), (0, 5, 5));
    let skipped = inbox.list(State::Skipped, 99).await.unwrap().entries;
    assert_eq!(skipped.len(), 5);
    assert!(skipped.iter().all(|it| it.error.contains("not run again") && it.replays == 1));
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.skipped()), (0, 5));
}

fn inqud_status(minute: u32) -> String {
    let body = record(1, minute).body;
    serde_json::from_slice::<PaymentRequest>(&body).unwrap().status.as_str().to_owned()
}

async fn replays_from_the_earliest_to_the_newest(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((0..4).map(|minute| record(1, minute)).collect()).await.unwrap();
    store.insert(vec![record(2, 0)]).await.unwrap();
    let first: Vec<_> = process(inbox).await.into_iter().filter(|it| it.0 == "CAPD-1").collect();
    for times in 1..3 {
        let key = key_of(inbox, 1).await;
        let reprocessed = inbox.reprocess([key]).await.unwrap();
        assert_eq!(reprocessed.requeued, 3, "not that before it");
        let again = inbox.reprocess([key]).await.unwrap();
        assert_eq!((again.requeued, again.unprocessed), (0, vec![]), "it is open already");
        let expected =
            first[1..].iter().map(|(id, at, verdict, _)| (id.clone(), *at, *verdict, true));
        assert_eq!(process(inbox).await, expected.collect::<Vec<_>>());
        let entry = inbox.show(key).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.replays, entry.attempts), (State::Done, times, 0));
    }
    // What counts as processed has not moved back.
    let late = claims::body(1, 2).replacen('{', r#"{"paidAmount":1,"#, 1);
    store.insert(vec![Record::decode::<PaymentRequest>(late).unwrap()]).await.unwrap();
    assert!(process(inbox).await.is_empty());
}

/// Those without a time are processed as they arrive, and one with an earlier time can have been handled before.
async fn replays_in_the_order_of_processing<S: Store>(inbox: &Inbox<S>) {
    let of = |status: &str| {
        let body = format!(r#"{{"id":"PMT-1","status":"{status}"}}"#);
        Record::decode::<Payment>(body).unwrap()
    };
    let log = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&log);
    let handler = move |payment: Stored<Payment>, cx: Context<S>| {
        let said = (payment.status.as_str().to_owned(), cx.verdict(), cx.is_replay());
        its.lock().unwrap().push(said);
        async { Ok::<_, Infallible>(()) }
    };
    for status in ["PENDING", "SUCCESS", "FAILED", "REFUNDED"] {
        inbox.store().insert(vec![of(status)]).await.unwrap();
        inbox.process(handler.clone()).run_until_idle().await.unwrap();
    }
    let first = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(first.len(), 4);
    inbox.reprocess_all(Filter::new().status("PENDING"), false).await.unwrap();
    inbox.process(handler).run_until_idle().await.unwrap();
    let again: Vec<_> =
        first.into_iter().map(|(status, verdict, _)| (status, verdict, true)).collect();
    assert_eq!(*log.lock().unwrap(), again);
}

async fn new_notifications_come_after_replays(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 1), record(1, 2)]).await.unwrap();
    process(inbox).await;
    inbox.reprocess([key_of(inbox, 1).await]).await.unwrap();
    store.insert(vec![record(1, 0), record(1, 3)]).await.unwrap();
    assert_eq!(minutes(&process(inbox).await), [1, 2, 3], "and the first is stale");
    let stale = inbox.list(State::Skipped, 9).await.unwrap().entries;
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].replays, 0);
}

async fn newest_only_runs_replays_first(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 1)]).await.unwrap();
    process(inbox).await;
    store.insert(vec![record(1, 2)]).await.unwrap();
    process(inbox).await;
    inbox.reprocess([key_of(inbox, 1).await]).await.unwrap();
    store.insert(vec![record(1, 3)]).await.unwrap();
    assert_eq!(minutes(&process_as(inbox, true).await), [1, 2, 3]);
}

/// The newest one does.
async fn newest_only_replays_do_not_wait_for_a_retry(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let newest = Claim::new(PaymentRequest::KIND, 9, LEASE).newest_first(true);
    store.insert((0..3).map(|minute| record(1, minute)).collect()).await.unwrap();
    process(inbox).await;
    store.insert(vec![record(1, 3)]).await.unwrap();
    let failed = store.claim(newest).await.unwrap();
    settle(store, &failed[0], retry(LEASE)).await;
    inbox.reprocess([key_of(inbox, 0).await]).await.unwrap();
    for at in 0..3 {
        let claimed = store.claim(newest).await.unwrap();
        assert_eq!((claimed.len(), minute(&claimed[0].body)), (1, at));
        let settled = settle(store, &claimed[0], Outcome::Done(vec![])).await;
        assert_eq!(settled, Settled::Done { next_is_due: at < 2 });
    }
    assert_eq!(store.claim(newest).await.unwrap().len(), 0);
}

/// The same, if the handler has a transaction.
#[tokio::test]
async fn newest_only_replays_do_not_wait_for_a_retry_in_a_transaction() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("newest_only_replays").await;
    let store = inbox.store();
    store.insert((0..3).map(|minute| record(1, minute)).collect()).await.unwrap();
    process(&inbox).await;
    store.insert(vec![record(1, 3)]).await.unwrap();
    let newest = Claim::new(PaymentRequest::KIND, 9, LEASE).newest_first(true);
    let failed = store.claim(newest).await.unwrap();
    settle(store, &failed[0], retry(LEASE)).await;
    inbox.reprocess([key_of(&inbox, 0).await]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, cx: Context<inqud_inbox::Postgres>| {
        cx.transaction().await?.execute("SELECT 1", &[]).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let report = inbox.process(handler).newest_only().run_until_idle().await.unwrap();
    assert_eq!(report.done, 3);
}

/// Otherwise what is being handled would be processed before the replays, and not after them again.
async fn object_that_is_handled_is_left(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0)]).await.unwrap();
    process(inbox).await;
    store.insert(vec![record(1, 1)]).await.unwrap();
    let claimed = claim(store).await;
    let key = key_of(inbox, 0).await;
    let reprocessed = inbox.reprocess([key]).await.unwrap();
    assert_eq!((reprocessed.requeued, reprocessed.busy), (0, vec![key]));
    settle(store, &claimed[0], Outcome::Done(vec![])).await;
    assert_eq!(inbox.reprocess([key]).await.unwrap().requeued, 2);
    assert_eq!(minutes(&process(inbox).await), [0, 1]);
}

async fn expired_lease_does_not_hold_up_a_replay(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0)]).await.unwrap();
    process(inbox).await;
    store.insert(vec![record(1, 1)]).await.unwrap();
    let lapsed = claims::lapse(store, PaymentRequest::KIND).await;
    assert_eq!(lapsed.len(), 1);
    let reprocessed = inbox.reprocess([key_of(inbox, 0).await]).await.unwrap();
    assert_eq!((reprocessed.requeued, reprocessed.busy), (1, vec![]));
    assert_eq!(settle(store, &lapsed[0], dead()).await, Settled::LeaseExpired);
    assert_eq!(minutes(&process(inbox).await), [0, 1]);
}

/// A lease can be claimed again at the moment when it ends, so it does not hold up a replay then.
#[tokio::test(start_paused = true)]
async fn lease_that_ends_now_does_not_hold_up_a_replay_in_memory() {
    expired_lease_does_not_hold_up_a_replay(&Inbox::memory()).await;
}

async fn pruned_bodies_are_not_replayed(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    for minute in 0..2 {
        store.insert(vec![record(1, minute)]).await.unwrap();
        process(inbox).await;
    }
    let keys = [key_of(inbox, 0).await, key_of(inbox, 1).await];
    assert_eq!(inbox.prune(Duration::ZERO, 1).await.unwrap(), 1);
    let reprocessed = inbox.reprocess(keys).await.unwrap();
    assert_eq!((reprocessed.requeued, reprocessed.pruned), (1, vec![keys[0]]));
    assert_eq!(minutes(&process(inbox).await), [1]);
    assert_eq!(inbox.prune(Duration::ZERO, 9).await.unwrap(), 1);
    let reprocessed = inbox.reprocess(keys).await.unwrap();
    assert_eq!((reprocessed.requeued, reprocessed.pruned.len()), (0, 2));
}

async fn dead_replay_is_redriven_with_what_followed(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((0..3).map(|minute| record(1, minute)).collect()).await.unwrap();
    process(inbox).await;
    let key = key_of(inbox, 1).await;
    inbox.reprocess([key]).await.unwrap();
    let claimed = claim(store).await;
    settle(store, &claimed[0], dead()).await;
    assert_eq!(minutes(&process(inbox).await), [2], "the others go on");
    assert_eq!(inbox.dead(9).await.unwrap()[0].key, key);
    assert_eq!(inbox.redrive([key]).await.unwrap(), 1);
    assert_eq!(minutes(&process(inbox).await), [1, 2], "so that the end state is the newest");
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 0));
}

async fn dead_replays_of_one_object_are_all_counted(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((0..3).map(|minute| record(1, minute)).collect()).await.unwrap();
    process(inbox).await;
    let keys = [key_of(inbox, 0).await, key_of(inbox, 1).await];
    inbox.reprocess([keys[0]]).await.unwrap();
    for keys in [keys, [keys[1], keys[0]]] {
        for at in 0..2 {
            let claimed = claim(store).await;
            assert_eq!(minute(&claimed[0].body), at);
            settle(store, &claimed[0], dead()).await;
        }
        assert_eq!(minutes(&process(inbox).await), [2]);
        let repeated = [keys[0], keys[1], keys[0]];
        assert_eq!(inbox.redrive(repeated).await.unwrap(), 2);
    }
    assert_eq!(minutes(&process(inbox).await), [0, 1, 2]);
    assert_eq!(inbox.redrive(keys).await.unwrap(), 0);
}

async fn reprocesses_only_what_was_processed(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 1)]).await.unwrap();
    process(inbox).await;
    store.insert(vec![record(1, 0)]).await.unwrap();
    process(inbox).await;
    let stale = key_of(inbox, 0).await;
    store.insert(vec![record(2, 2)]).await.unwrap();
    let open = key_of(inbox, 2).await;
    let reprocessed = inbox.reprocess([stale, open]).await.unwrap();
    assert_eq!((reprocessed.requeued, reprocessed.unprocessed.len()), (0, 2));
    assert_eq!(minutes(&process(inbox).await), [2]);
}

async fn dry_run_requeues_nothing(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((0..3).map(|minute| record(1, minute)).collect()).await.unwrap();
    process(inbox).await;
    let filter = Filter::new().status(inqud_status(1));
    let reprocessed = inbox.reprocess_all(&filter, true).await.unwrap();
    assert_eq!(reprocessed.requeued, 2);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
    assert!(process(inbox).await.is_empty());
    assert_eq!(inbox.reprocess_all(&filter, false).await.unwrap(), reprocessed);
    assert_eq!(minutes(&process(inbox).await), [1, 2]);
}

/// An effect under an idempotency key takes place once, and a replay is no second payment.
#[tokio::test]
async fn once_keeps_its_effect() {
    let shipped = Arc::new(Mutex::new(Vec::new()));
    let inbox = Inbox::memory();
    let its = Arc::clone(&shipped);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<inqud_inbox::Memory>| {
        let (first, second) = (Arc::clone(&its), Arc::clone(&its));
        let ship = move || note(&first, "shipped");
        cx.once("ship:1", ship, move |_| note(&second, "paid again"));
        async { Ok::<_, Infallible>(()) }
    };
    ships_once(&inbox, inbox.process(handler.clone()), inbox.process(handler)).await;
    assert_eq!(*shipped.lock().unwrap(), ["shipped"]);

    let (inbox, _folder) = file();
    let its = Arc::clone(&shipped);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let (first, second) = (Arc::clone(&its), Arc::clone(&its));
        let ship = move |_: &_| note(&first, "shipped");
        cx.once("ship:1", ship, move |_, _| note(&second, "paid again"));
        async { Ok::<_, Infallible>(()) }
    };
    ships_once(&inbox, inbox.process(handler.clone()), inbox.process(handler)).await;
    assert_eq!(*shipped.lock().unwrap(), ["shipped", "shipped"], "once in each inbox");
}

fn note(log: &Mutex<Vec<&'static str>>, what: &'static str) -> Result<(), Infallible> {
    log.lock().unwrap().push(what);
    Ok(())
}

async fn ships_once<S: Store, H>(
    inbox: &Inbox<S>,
    first: inqud_inbox::Runner<S, PaymentRequest, H>,
    second: inqud_inbox::Runner<S, PaymentRequest, H>,
) where
    H: tower::Service<(Stored<PaymentRequest>, Context<S>), Response = ()> + Clone + Send + 'static,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    H::Future: Send,
{
    inbox.store().insert(vec![record(1, 2)]).await.unwrap();
    assert_eq!(first.run_until_idle().await.unwrap().done, 1);
    assert_eq!(inbox.reprocess_all(Filter::new(), false).await.unwrap().requeued, 1);
    assert_eq!(second.run_until_idle().await.unwrap().done, 1);
}
