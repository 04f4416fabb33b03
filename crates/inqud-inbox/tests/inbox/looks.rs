//! Looks and stored notifications: dead letters, reviews, and bodies that are decoded meanwhile.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::claims::{claim, dead, record, settle};
use crate::postgres;
use crate::reconcile::{
    Api, at_once, fetched, file, handled, payment, push, reconcile, report, request,
};
use bytes::Bytes;
use inqud_inbox::__private::{Arrived, Next, Reach, Scheduled};
use inqud_inbox::{
    Claimed, Fetch, Fetched, Filter, Inbox, InboxErrorKind, LookOutcome, Outcome, Record, Source,
    Sqlite, Storable, Store, WatchList,
};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::{Checkout, Event, Payment, PaymentRequest, Verdict};

of_each_store! {
    body_decoded_during_the_fetch_is_not_overtaken
    fetched_state_that_is_read_before_its_look_ends_moves_nothing
    look_ends_no_later_entry_of_its_object
    arrival_after_what_a_look_has_stored_moves_the_look
    dead_letter_of_the_future_hides_nothing
    dead_letter_is_not_stored_again
    dead_replay_is_not_set_back
    pushed_arrival_goes_before_a_fetched_one
    reviews_are_asked_about_beyond_the_first_page
    ended_look_is_kept_until_its_notification_is_read
    arrival_that_is_read_twice_moves_no_look
    hastens_only_looks_that_wait_for_nothing
}

fn of(body: &str) -> Record {
    let event: PaymentRequest = serde_json::from_str(body).unwrap();
    Record::new(&event, body.to_owned().into())
}

/// Fetches, and lets a body become decodable before it answers.
struct Decoding<S> {
    inbox: Inbox<S>,
    claimed: Mutex<Option<Claimed>>,
}

impl<S: Store> Fetch<PaymentRequest> for Decoding<S> {
    async fn fetch(&self, _: &str) -> Fetched {
        let claimed = self.claimed.lock().unwrap().take().unwrap();
        let decoded = of(&request("SUCCESS", "10:05:00.250"));
        settle(self.inbox.store(), &claimed, Outcome::Decoded(decoded)).await;
        // One millisecond apart, so that the keys differ.
        Fetched::Found(Bytes::from(request("SUCCESS", "10:05:00.251")))
    }
}

/// Its number is lower than that of the last notification that was known.
async fn body_decoded_during_the_fetch_is_not_overtaken<S: Store + WatchList>(inbox: &Inbox<S>) {
    let store = inbox.store();
    // Stands for one that could not be decoded, which is of an object of its own.
    let Record { key, object, .. } = record(9, 1);
    let undecodable = Record { key, object, ..of(&request("SUCCESS", "10:05:00.250")) };
    store.insert(vec![undecodable]).await.unwrap();
    push::<PaymentRequest>(inbox, &request("PENDING_PAYMENT", "10:01:00")).await;
    let mut claimed = claim(store).await;
    let other = claimed.iter().position(|it| &*it.ticket.object == "CAPD-9").unwrap();
    let other = claimed.swap_remove(other);
    settle(store, &claimed[0], Outcome::Done(vec![])).await;
    let fetch = Decoding { inbox: inbox.clone(), claimed: Mutex::new(Some(other)) };
    let look = inbox.reconcile(fetch).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Later);
    let handled = handled::<_, PaymentRequest>(inbox).await;
    assert_eq!(handled, [("SUCCESS".to_owned(), Source::Pushed, Verdict::Newer)]);
}

/// Another reconciler, or the next turn of the same one, can read it then.
async fn fetched_state_that_is_read_before_its_look_ends_moves_nothing(
    inbox: &Inbox<impl Store + WatchList>,
) {
    let store = inbox.store();
    let api = Api::default();
    let (hour, kind) = (Duration::from_secs(3600), PaymentRequest::KIND);
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH).await.unwrap();
    let unscheduled = store.claim_looks(kind, 1, hour).await.unwrap();
    let due = Next::At { look_at: 0, looks: 0, failures: 0, stored: None };
    store.end_looks(vec![(unscheduled[0].clone(), due)]).await.unwrap();
    let look = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    assert_eq!(look.looks, Some(0));
    // What the look stores.
    api.set("CAPD-1", request("WAITING_PAYMENT", "10:01:00"));
    let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
    let stored = reconciler.look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(stored.outcome, LookOutcome::Recovered);
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[]), "it is leased");
    let next = Next::At { look_at: 0, looks: 1, failures: 0, stored: None };
    store.end_looks(vec![(look, next)]).await.unwrap();
    let look = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    assert_eq!(look.looks, Some(1), "the schedule did not start again");
}

/// A reconciler can be suspended for so long that its object leaves the list and is added again.
async fn look_ends_no_later_entry_of_its_object(inbox: &Inbox<impl Store + WatchList>) {
    let (store, kind, hour) = (inbox.store(), PaymentRequest::KIND, Duration::from_secs(3600));
    let add = || inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH);
    add().await.unwrap();
    let suspended = store.claim_looks(kind, 1, Duration::ZERO).await.unwrap().remove(0);
    let repeated = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    store.end_looks(vec![(repeated, Next::Done)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    add().await.unwrap();
    let look = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    assert_eq!(look.claim, suspended.claim, "claims are counted from the start");
    store.end_looks(vec![(suspended, Next::Done)]).await.unwrap();
    let next = Next::At { look_at: 0, looks: 7, failures: 0, stored: None };
    store.end_looks(vec![(look, next)]).await.unwrap();
    let looks = store.claim_looks(kind, 1, hour).await.unwrap();
    assert_eq!(looks.iter().map(|it| it.looks).collect::<Vec<_>>(), [Some(7)]);
}

/// What a look has stored is true now, also if a notification with a later time is stored: that one can be wrong.
async fn arrival_after_what_a_look_has_stored_moves_the_look(
    inbox: &Inbox<impl Store + WatchList>,
) {
    let (store, kind, hour) = (inbox.store(), PaymentRequest::KIND, Duration::from_secs(3600));
    let arrives = async |position, look_at| {
        let due = Scheduled::new("CAPD-1".to_owned(), position, 0, look_at);
        store.schedule(kind, Reach::new(0, 0), vec![due]).await.unwrap();
        store.claim_looks(kind, 1, hour).await.unwrap().pop()
    };
    let look = arrives((10, 1), 0).await.unwrap();
    let next = Next::At { look_at: i64::MAX - 1, looks: 1, failures: 0, stored: Some((5, 2)) };
    store.end_looks(vec![(look, next)]).await.unwrap();
    assert!(arrives((5, 2), 0).await.is_none(), "the arrival was stored by the look itself");
    assert!(arrives((7, 3), 0).await.is_some());
}

/// With a leaked secret, anyone can store a notification with any time.
async fn dead_letter_of_the_future_hides_nothing(inbox: &Inbox<impl Store + WatchList>) {
    let forged = request("SUCCESS", "10:05:00").replace("2026", "2099");
    push::<PaymentRequest>(inbox, &forged).await;
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[0], dead()).await;
    let api = Api::default();
    api.set("CAPD-1", request("PENDING_PAYMENT", "10:01:00"));
    for outcome in [LookOutcome::Recovered, LookOutcome::Agreed] {
        let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
        assert_eq!(reconciler.look_at(None, "CAPD-1").await.unwrap().outcome, outcome);
    }
    assert_eq!(inbox.discard([claimed[0].key]).await.unwrap(), 1);
    api.set("CAPD-1", request("EXPIRED", "10:06:00"));
    for outcome in [LookOutcome::Recovered, LookOutcome::Agreed] {
        let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
        assert_eq!(reconciler.look_at(None, "CAPD-1").await.unwrap().outcome, outcome);
    }
    let handled = handled::<_, PaymentRequest>(inbox).await;
    let both = ["PENDING_PAYMENT", "EXPIRED"].map(|status| fetched(status, Verdict::Newer));
    assert_eq!(handled, both);
}

async fn dead_letter_is_not_stored_again(inbox: &Inbox<impl Store + WatchList>) {
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[0], dead()).await;
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[(LookOutcome::Agreed, 1)]));
    assert_eq!(inbox.discard([claimed[0].key]).await.unwrap(), 1);
    let look = at_once::<_, PaymentRequest>(inbox, &api).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Agreed, "the operator has decided");
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
}

/// It was processed before, so an older state of the API is only late.
async fn dead_replay_is_not_set_back(inbox: &Inbox<impl Store + WatchList>) {
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    assert_eq!(handled::<_, PaymentRequest>(inbox).await.len(), 1);
    let key = inbox.list(Filter::new(), 9).await.unwrap().entries[0].key;
    assert_eq!(inbox.reprocess([key]).await.unwrap().requeued, 1);
    let claimed = claim(inbox.store()).await;
    settle(inbox.store(), &claimed[0], dead()).await;
    let api = Api::default();
    api.set("CAPD-1", request("PENDING_PAYMENT", "10:01:00"));
    let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
    assert_eq!(reconciler.look_at(None, "CAPD-1").await.unwrap().outcome, LookOutcome::Ahead);
    assert_eq!(inbox.discard([key]).await.unwrap(), 1);
    assert_eq!(reconciler.look_at(None, "CAPD-1").await.unwrap().outcome, LookOutcome::Ahead);
}

/// Schedules a look, which counts from the position.
fn scheduled(id: u32, position: i64, is_fetched: bool) -> Scheduled {
    let mut it = Scheduled::new(format!("CAPD-{id}"), (position, 1), position, 0);
    it.is_fetched = is_fetched;
    it
}

async fn pushed_arrival_goes_before_a_fetched_one(inbox: &Inbox<impl Store + WatchList>) {
    let store = inbox.store();
    let kind = PaymentRequest::KIND;
    let looks = vec![
        scheduled(1, 5, true),
        scheduled(1, 3, false),
        scheduled(2, 3, false),
        scheduled(2, 5, true),
        scheduled(3, 3, true),
        scheduled(3, 5, true),
    ];
    store.schedule(kind, Reach::new(0, 0), looks).await.unwrap();
    let mut looks = store.claim_looks(kind, 9, Duration::from_secs(3600)).await.unwrap();
    looks.sort_by(|a, b| a.object.cmp(&b.object));
    let since: Vec<_> = looks.iter().map(|it| (&*it.object, it.since)).collect();
    assert_eq!(since, [("CAPD-1", 3), ("CAPD-2", 3), ("CAPD-3", 5)]);
}

/// Otherwise what the look has stored would enrol the object again.
async fn ended_look_is_kept_until_its_notification_is_read(inbox: &Inbox<impl Store + WatchList>) {
    const NEVER: i64 = i64::MAX;
    let store = inbox.store();
    let (kind, other, hour) = (PaymentRequest::KIND, Payment::KIND, Duration::from_secs(3600));
    let ended = Scheduled::new("CAPD-1".to_owned(), (5, 7), 5, NEVER);
    store.schedule(kind, Reach::new(0, 6), vec![ended]).await.unwrap();
    // Another kind has been read further.
    store.schedule(other, Reach::new(0, 9), vec![]).await.unwrap();
    store.schedule(kind, Reach::new(6, 6), vec![scheduled(1, 5, true)]).await.unwrap();
    assert!(store.claim_looks(kind, 9, hour).await.unwrap().is_empty(), "it is known");
    store.schedule(kind, Reach::new(6, 7), vec![]).await.unwrap();
    store.schedule(kind, Reach::new(7, 7), vec![scheduled(1, 5, true)]).await.unwrap();
    assert_eq!(store.claim_looks(kind, 9, hour).await.unwrap().len(), 1, "it was forgotten");
}

/// Such as by two reconcilers, or after a crash.
async fn arrival_that_is_read_twice_moves_no_look(inbox: &Inbox<impl Store + WatchList>) {
    let store = inbox.store();
    let (kind, hour) = (PaymentRequest::KIND, Duration::from_secs(3600));
    store.schedule(kind, Reach::new(0, 0), vec![scheduled(1, 5, false)]).await.unwrap();
    let look = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    store.schedule(kind, Reach::new(0, 0), vec![scheduled(1, 5, false)]).await.unwrap();
    assert!(store.claim_looks(kind, 1, hour).await.unwrap().is_empty(), "it is leased");
    let next = Next::At { look_at: 0, looks: 1, failures: 0, stored: None };
    store.end_looks(vec![(look, next)]).await.unwrap();
    store.schedule(kind, Reach::new(0, 0), vec![scheduled(1, 5, false)]).await.unwrap();
    assert_eq!(store.claim_looks(kind, 1, hour).await.unwrap()[0].looks, Some(1));
}

#[tokio::test(start_paused = true)]
async fn first_turn_leaves_out_what_is_older_than_the_horizon_in_memory() {
    let inbox = Inbox::memory();
    let (store, kind, hour) = (inbox.store(), PaymentRequest::KIND, Duration::from_secs(3600));
    store.insert(vec![record(1, 0)]).await.unwrap();
    tokio::time::advance(hour).await;
    push::<Payment>(&inbox, &payment("SUCCESS")).await;
    let objects =
        |arrived: &Arrived| arrived.arrivals.iter().map(|it| it.object.clone()).collect::<Vec<_>>();
    let all = store.arrived(kind, 9, hour).await.unwrap();
    assert_eq!(objects(&all), ["CAPD-1"]);
    let none = store.arrived(kind, 9, hour / 2).await.unwrap();
    assert_eq!((objects(&none), none.reach), (vec![], all.reach));
    store.schedule(kind, none.reach, vec![]).await.unwrap();
    store.insert(vec![record(2, 0)]).await.unwrap();
    tokio::time::advance(hour).await;
    // It has arrived since, however long no reconciler was there.
    let since = store.arrived(kind, 9, hour / 2).await.unwrap();
    assert_eq!(objects(&since), ["CAPD-2"]);
}

async fn hastens_only_looks_that_wait_for_nothing(inbox: &Inbox<impl Store + WatchList>) {
    const LATER: i64 = 4_000_000_000_000_000;
    let store = inbox.store();
    let (kind, hour) = (PaymentRequest::KIND, Duration::from_secs(3600));
    let looks = (1..=3).map(|id| scheduled(id, 5, false)).collect();
    store.schedule(kind, Reach::new(0, 0), looks).await.unwrap();
    let mut looks = store.claim_looks(kind, 9, hour).await.unwrap();
    looks.sort_by(|a, b| a.object.cmp(&b.object));
    // The first one is leased, the API could not answer the second, and it has answered the third.
    let ended = [1, 0].into_iter().zip(looks.into_iter().skip(1)).map(|(failures, look)| {
        (look, Next::At { look_at: LATER, looks: 1, failures, stored: None })
    });
    store.end_looks(ended.collect()).await.unwrap();
    let all = || (1..=3).map(|id| format!("CAPD-{id}")).collect::<Vec<_>>();
    store.hasten(kind, all(), hour).await.unwrap();
    assert!(store.claim_looks(kind, 9, hour).await.unwrap().is_empty());
    store.hasten(kind, all(), Duration::ZERO).await.unwrap();
    let looks = store.claim_looks(kind, 9, hour).await.unwrap();
    assert_eq!(looks.iter().map(|it| &*it.object).collect::<Vec<_>>(), ["CAPD-3"]);
}

#[tokio::test]
async fn fetched_arrival_does_not_move_what_is_expected_meanwhile_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("expected_meanwhile").await;
    let kind = PaymentRequest::KIND;
    let mut client = postgres::connect(&server.config("expected_meanwhile")).await;
    let transaction = client.transaction().await.unwrap();
    let expect = "SELECT inqud_inbox.expect('request', 'CAPD-1')";
    transaction.execute(expect, &[]).await.unwrap();
    let its = inbox.clone();
    let schedule = tokio::spawn(async move {
        its.store().schedule(kind, Reach::new(0, 0), vec![scheduled(1, 5, true)]).await
    });
    // Until it waits for the transaction.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!schedule.is_finished());
    transaction.commit().await.unwrap();
    schedule.await.unwrap().unwrap();
    let looks = inbox.store().claim_looks(kind, 9, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(looks[0].looks, None, "the first look is not scheduled yet");
}

/// The server crashes, and the claim of a look is lost because it was not flushed.
#[tokio::test]
async fn look_that_was_lost_in_a_crash_ends_no_other_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("lost_claim").await;
    let (store, kind) = (inbox.store(), PaymentRequest::KIND);
    let hour = Duration::from_secs(3600);
    store.schedule(kind, Reach::new(0, 0), vec![scheduled(1, 3, false)]).await.unwrap();
    let lost = store.claim_looks(kind, 1, hour).await.unwrap().remove(0);
    let client = postgres::connect(&server.config("lost_claim")).await;
    let crash = "UPDATE inqud_inbox.watch SET claim = claim - 1, leased = false, look_at = 0";
    assert_eq!(client.execute(crash, &[]).await.unwrap(), 1);
    store.schedule(kind, Reach::new(0, 0), vec![scheduled(1, 5, false)]).await.unwrap();
    store.end_looks(vec![(lost, Next::Done)]).await.unwrap();
    let looks = store.claim_looks(kind, 1, hour).await.unwrap();
    assert_eq!(looks.iter().map(|it| it.since).collect::<Vec<_>>(), [5]);
}

async fn reviews_are_asked_about_beyond_the_first_page(inbox: &Inbox<impl Store + WatchList>) {
    const COUNT: usize = 130;
    let api = Api::default();
    let ids = (0..COUNT).map(|id| format!("PMT-{id}"));
    let mut records = Vec::new();
    for id in ids {
        let body = |status| payment(status).replace("PMT-1", &id);
        for status in ["SUCCESS", "FAILED", "SUCCESS"] {
            let event: Payment = serde_json::from_str(&body(status)).unwrap();
            records.push(Record::new(&event, body(status).into()));
        }
        api.set(&id, body("SUCCESS"));
    }
    inbox.store().insert(records).await.unwrap();
    assert_eq!(handled::<_, Payment>(inbox).await.len(), 2 * COUNT);
    assert_eq!(inbox.stats().await.unwrap().review(), COUNT as u64);
    let hour = Duration::from_secs(3600);
    let reconciler = at_once::<_, Payment>(inbox, &api).schedule([hour]).confirm_after(hour);
    let outcomes = reconciler.concurrency(16).run_until_idle().await.unwrap();
    assert_eq!(outcomes, report(&[(LookOutcome::Agreed, COUNT)]));
    assert_eq!(inbox.stats().await.unwrap().review(), 0);
}

const SOON: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(10);

/// Moves the file of the inbox away.
fn moved(folder: &Path) {
    fs::rename(folder.join("inbox.db"), folder.join("away")).unwrap();
}

/// Answers after something happened to the file.
struct Meanwhile<F>(F);

impl<F: Fn() -> R + Send + Sync + 'static, R: Future + Send> Fetch<PaymentRequest>
    for Meanwhile<F>
{
    async fn fetch(&self, _: &str) -> Fetched {
        (self.0)().await;
        Fetched::Found(Bytes::from(request("SUCCESS", "10:05:00")))
    }
}

#[tokio::test]
async fn reconciler_outlasts_a_store_that_fails() {
    let (inbox, folder) = file();
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH).await.unwrap();
    moved(folder.path());
    let idle = at_once::<_, PaymentRequest>(&inbox, &api).run_until_idle().await.unwrap_err();
    assert_eq!(idle.kind(), InboxErrorKind::Store);

    let healed = async {
        sleep(Duration::from_millis(50)).await;
        assert!(api.asked().is_empty(), "no look is leased");
        fs::rename(folder.path().join("away"), folder.path().join("inbox.db")).unwrap();
        let stored = async {
            while inbox.stats().await.unwrap().backlog() == 0 {
                sleep(SOON).await;
            }
        };
        timeout(LONG, stored).await.unwrap();
    };
    let reconciler = at_once::<_, PaymentRequest>(&inbox, &api).poll_interval(SOON);
    reconciler.run_until(healed).await.unwrap();
}

#[tokio::test]
async fn reconciler_ends_when_the_inbox_is_closed() {
    let (inbox, _folder) = file();
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH).await.unwrap();
    let its: Inbox<Sqlite> = inbox.clone();
    let closing = Meanwhile(move || {
        let its = its.clone();
        async move { its.close().await }
    });
    let reconciler = inbox.reconcile(closing).schedule([Duration::ZERO]).poll_interval(SOON);
    let ended = timeout(LONG, reconciler.run_until(pending())).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), InboxErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn api_that_hangs_is_given_up() {
    let inbox = Inbox::memory();
    let hangs = Meanwhile(pending::<()>);
    let began = Instant::now();
    let reconciler = inbox.reconcile::<PaymentRequest>(hangs).fetch_timeout(SOON);
    let look = reconciler.look_at(None, "CAPD-1").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(look.outcome, LookOutcome::Later);
    assert_eq!(look.reason.as_deref(), Some("the fetcher timed out"));
}

#[tokio::test]
async fn dry_run_looks_at_nothing_by_itself() {
    let inbox = Inbox::memory();
    let api = Api::default();
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH).await.unwrap();
    let dry = || at_once::<_, PaymentRequest>(&inbox, &api).dry_run();
    dry().run_until(sleep(SOON)).await.unwrap();
    assert_eq!(dry().run_until_idle().await.unwrap(), report(&[]));
    assert!(api.asked().is_empty());
}

/// The payer has until then, so earlier looks would find nothing new.
#[test]
fn what_waits_for_the_payer_is_quiet_until_it_expires() {
    let at: Timestamp = "2026-11-22T11:00:00Z".parse().unwrap();
    let checkout = |status| -> Option<Timestamp> {
        let body = format!(r#"{{"id":"CCO-1","status":"{status}","expiresAt":"{at}"}}"#);
        serde_json::from_str::<Checkout>(&body).unwrap().quiet_until()
    };
    let event = |id, status| -> Option<Timestamp> {
        let body = format!(r#"{{"id":"{id}","status":"{status}","expiresAt":"{at}"}}"#);
        serde_json::from_str::<Event>(&body).unwrap().quiet_until()
    };
    assert_eq!([checkout("NEW"), checkout("REQUEST_CREATED")], [Some(at); 2]);
    assert_eq!(checkout("COMPLETED"), None);
    assert_eq!([event("CCO-1", "NEW"), event("CAPD-1", "WAITING_PAYMENT")], [Some(at); 2]);
    assert_eq!([event("CAPD-1", "SUCCESS"), event("PMT-1", "NEW")], [None; 2]);
}

#[tokio::test]
async fn reconciles_beside_the_process_that_has_the_file() {
    let (inbox, folder) = file();
    let attached = Inbox::attach(folder.path().join("inbox.db")).unwrap();
    let api = Arc::new(Api::default());
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::UNIX_EPOCH).await.unwrap();
    let pending = request("PENDING_PAYMENT", "10:01:00").replace("CAPD-1", "CAPD-2");
    push::<PaymentRequest>(&inbox, &pending).await;
    let reconciler = attached.reconcile::<PaymentRequest>((*api).clone());
    let reconciler = reconciler.schedule([Duration::ZERO]).confirm_after(Duration::ZERO);
    let looked = reconciler.run_until_idle().await.unwrap();
    assert_eq!(looked, report(&[(LookOutcome::Recovered, 1), (LookOutcome::Missing, 1)]));

    let acme = Arc::clone(&api);
    let reconciler = attached.reconcile_per_tenant::<PaymentRequest, _>(move |tenant| {
        (tenant == Some("acme")).then(|| Arc::clone(&acme))
    });
    for (tenant, outcome) in [(None, LookOutcome::Later), (Some("acme"), LookOutcome::Recovered)] {
        assert_eq!(reconciler.look_at(tenant, "CAPD-1").await.unwrap().outcome, outcome);
    }
    // One of CAPD-2, one of CAPD-1, and one of CAPD-1 of the tenant.
    assert_eq!(handled::<_, PaymentRequest>(&inbox).await.len(), 3);
}
