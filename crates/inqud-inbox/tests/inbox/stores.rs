//! What each store guarantees, and that they behave alike.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::claims::*;
use crate::postgres;
use bytes::Bytes;
use inqud_inbox::{
    Claim, Claimed, Entry, Filter, Inbox, Inserted, Key, Outcome, Record, Settled, Sqlite, State,
    Storable, Store, Ticket,
};
use inqud_inbox::{Postgres, tokio_postgres::NoTls};
use proptest::prelude::*;
use tempfile::TempDir;
use tower_inqud::{Checkout, OrderKey, Payment, PaymentRequest, Verdict};

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

/// Returns one database for all cases, emptied, because creating a database is slow.
async fn database_emptied(server: &postgres::Server) -> Inbox<Postgres> {
    static IS_MADE: AtomicBool = AtomicBool::new(false);
    if !IS_MADE.swap(true, Ordering::SeqCst) {
        return server.inbox("cases").await;
    }
    let config = server.config("cases");
    let truncate = "TRUNCATE inqud_inbox.notification, inqud_inbox.object, inqud_inbox.runner, inqud_inbox.tally";
    postgres::connect(&config).await.batch_execute(truncate).await.unwrap();
    Inbox::postgres(config, NoTls).await.unwrap()
}

of_each_store! {
    detects_duplicates_within_a_batch
    claims_one_per_object_oldest_first
    claim_reports_stale_and_separates_kinds
    retry_delays_only_its_object
    object_continues_after_a_dead_letter
    discarded_dead_letter_is_still_a_duplicate
    expired_claim_settles_nothing
    claim_settles_once
    suspects_come_one_at_a_time
    newest_first_does_not_wait_for_a_retry
    newest_first_is_the_last_to_arrive_without_times
    arrival_during_a_retry_keeps_the_order
    settling_tells_whether_the_object_is_due
    discarded_review_can_be_delivered_again
    prune_deletes_bodies_and_keeps_keys
    claims_longest_due_first
}

async fn detects_duplicates_within_a_batch(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let batch = vec![record(1, 0), record(2, 0), record(1, 0), record(1, 1)];
    assert_eq!(
        store.insert(batch).await.unwrap(),
        [Inserted::New, Inserted::New, Inserted::Duplicate, Inserted::New],
        "and the neighbours of a duplicate are stored"
    );
    let rendered_anew = |old: &str, new: &str| {
        let body = body(2, 0).replace(old, new);
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into())
    };
    let batch = vec![
        rendered_anew("{", "{ "),
        record(3, 0),
        rendered_anew(":00Z", ":00.000999Z"),
        // One millisecond apart: the first was floored, and this one rounded.
        rendered_anew(":00Z", ":00.001Z"),
        rendered_anew(":00Z", ":00.002Z"),
        rendered_anew("{", r#"{"payAmount":7,"#),
    ];
    let (differs, new) = (Inserted::DuplicateDiffers, Inserted::New);
    assert_eq!(store.insert(batch).await.unwrap(), [differs, new, differs, differs, new, new]);
    assert_eq!(store.stats().await.unwrap().backlog(), 6);
}

async fn claims_one_per_object_oldest_first(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 2), record(1, 0), record(2, 5), record(1, 1)]).await.unwrap();
    let first = claim(store).await;
    let newer = Verdict::Newer;
    assert_eq!(shown(&first), [("CAPD-1", 0, newer, 1), ("CAPD-2", 5, newer, 1)]);
    assert!(claim(store).await.is_empty(), "both are leased");

    assert!(matches!(settle(store, &first[0], Outcome::Done(vec![])).await, Settled::Done { .. }));
    let second = claim(store).await;
    assert_eq!(shown(&second), [("CAPD-1", 1, newer, 1)]);
    assert!(matches!(settle(store, &second[0], Outcome::Done(vec![])).await, Settled::Done { .. }));
    assert_eq!(shown(&claim(store).await), [("CAPD-1", 2, newer, 1)]);
}

async fn claim_reports_stale_and_separates_kinds(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let json = br#"{"id":"CCO-1","status":"NEW","lastUpdatedAt":"2026-11-22T09:00:00Z"}"#;
    let mut checkout: Checkout = serde_json::from_slice(json).unwrap();
    checkout.id = "CAPD-1".to_owned(); // Inqud's kinds share no ids, but a store must not rely on that
    store.insert(vec![record(1, 2)]).await.unwrap();
    let newest = claim(store).await;
    // Equal in everything that orders them.
    let amended = body(1, 2).replace('{', r#"{"paidAmount":99.46291,"#);
    let amended =
        Record::new(&serde_json::from_str::<PaymentRequest>(&amended).unwrap(), amended.into());
    let other_kind = Record::new(&checkout, Bytes::from_static(json));
    store.insert(vec![record(1, 1), amended, other_kind]).await.unwrap();
    assert!(claim(store).await.is_empty(), "the object is leased");
    settle(store, &newest[0], Outcome::Done(vec![])).await;

    let older = claim(store).await;
    assert_eq!(shown(&older), [("CAPD-1", 1, Verdict::Stale, 1)]);
    settle(store, &older[0], Outcome::Skipped).await;
    let amended = claim(store).await;
    assert_eq!(shown(&amended), [("CAPD-1", 2, Verdict::Amended, 1)]);
    settle(store, &amended[0], Outcome::Done(vec![])).await;
    assert!(claim(store).await.is_empty());
    for (list, listed) in
        [(Filter::from(State::Skipped), &older[0]), (Filter::from(Verdict::Amended), &amended[0])]
    {
        let entries = inbox.list(&list, 9).await.unwrap().entries;
        assert_eq!(entries.iter().map(|it| it.key).collect::<Vec<_>>(), [listed.key], "{list:?}");
    }
    assert!(inbox.list(Verdict::Unordered, 9).await.unwrap().entries.is_empty());

    let checkouts = store.claim(Claim::new(Checkout::KIND, 9, LEASE)).await.unwrap();
    assert_eq!(checkouts[0].ticket.verdict, Verdict::Newer);
}

async fn retry_delays_only_its_object(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(1, 1), record(2, 0)]).await.unwrap();
    let claimed = claim(store).await;
    settle(store, &claimed[0], retry(LEASE)).await;
    settle(store, &claimed[1], retry(NO_WAIT)).await;
    let again = claim(store).await;
    assert_eq!(shown(&again), [("CAPD-2", 0, Verdict::Newer, 2)], "nothing of CAPD-1");
    assert_eq!(store.stats().await.unwrap().backlog(), 3);
}

async fn object_continues_after_a_dead_letter(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(1, 1)]).await.unwrap();
    let claimed = claim(store).await;
    settle(store, &claimed[0], dead()).await;
    let letters = listed(store, State::Dead).await;
    let Entry { key, object, attempts, error, body, .. } = &letters[0];
    assert_eq!((&**object, *attempts, &**error), ("CAPD-1", 1, "never"));
    assert_eq!((letters.len(), minute(body)), (1, 0));
    assert_eq!(shown(&claim(store).await), [("CAPD-1", 1, Verdict::Newer, 1)]);

    assert_eq!(inbox.redrive([*key, *key, Key::from_bytes([0; 16])]).await.unwrap(), 1);
    assert!(claim(store).await.is_empty(), "the object is leased");
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead(), stats.oldest().is_some()), (2, 0, true));
}

async fn discarded_dead_letter_is_still_a_duplicate(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(1, 1), record(2, 0)]).await.unwrap();
    let claimed = claim(store).await;
    settle(store, &claimed[0], dead()).await;
    let (letter, open) = (claimed[0].key, claimed[1].key);
    let unknown = Key::from_bytes([0; 16]);
    assert_eq!(inbox.discard([letter, letter, open, unknown]).await.unwrap(), 1);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (2, 0), "the open one is not touched");
    assert_eq!(stats.skipped(), 1);
    let skipped = inbox.list(State::Skipped, 9).await.unwrap().entries;
    assert_eq!(skipped.iter().map(|it| it.key).collect::<Vec<_>>(), [letter], "but it is listed");
    assert_eq!(inbox.redrive([letter]).await.unwrap(), 0);
    assert_eq!(store.insert(vec![record(1, 0)]).await.unwrap(), [Inserted::Duplicate]);
    assert_eq!(shown(&claim(store).await), [("CAPD-1", 1, Verdict::Newer, 1)]);
    assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 1);
}

async fn expired_claim_settles_nothing(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(2, 0)]).await.unwrap();
    let lapsed = lapse(store, PaymentRequest::KIND).await;
    let sound = claim(store).await;
    assert_eq!(shown(&sound), [("CAPD-2", 0, Verdict::Newer, 1)], "no suspect");
    let taken_over = lapse(store, PaymentRequest::KIND).await;
    assert_eq!((taken_over[0].failures, taken_over[0].crashes), (0, 1), "no failure");
    assert_eq!(settle(store, &lapsed[0], Outcome::Done(vec![])).await, Settled::LeaseExpired);
    let done = Settled::Done { next_is_due: false };
    assert_eq!(settle(store, &taken_over[0], Outcome::Done(vec![])).await, done);
    assert_eq!(settle(store, &sound[0], Outcome::Done(vec![])).await, done);
    assert_eq!(settle(store, &sound[0], Outcome::Done(vec![])).await, Settled::LeaseExpired);
}

/// A runner settles again if it lost the answer.
async fn claim_settles_once(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0)]).await.unwrap();
    let claimed = claim(store).await;
    let due = Settled::Done { next_is_due: true };
    assert_eq!(settle(store, &claimed[0], retry(NO_WAIT)).await, due);
    for outcome in [retry(NO_WAIT), Outcome::Done(vec![]), dead()] {
        assert_eq!(settle(store, &claimed[0], outcome).await, Settled::LeaseExpired);
    }
    assert_eq!(shown(&claim(store).await), [("CAPD-1", 0, Verdict::Newer, 2)], "one failure");
}

async fn suspects_come_one_at_a_time(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(2, 0), record(3, 0)]).await.unwrap();
    let lapsed = store.claim(Claim::new(PaymentRequest::KIND, 2, NO_WAIT)).await.unwrap();
    assert_eq!(lapsed.len(), 2);
    let all = Claim::new(PaymentRequest::KIND, 9, LEASE).with_suspect(true);
    let (first, second) = (store.claim(all).await.unwrap(), store.claim(all).await.unwrap());
    let of = |claimed: &[Claimed]| claimed.iter().map(|it| it.crashes).collect::<Vec<_>>();
    assert_eq!((of(&first), of(&second)), (vec![1], vec![1]));
    assert_ne!(first[0].key, second[0].key);
    assert_eq!(of(&store.claim(all).await.unwrap()), [0]);
    // A settlement ends the suspicion, even if it is a failure.
    settle(store, &first[0], retry(NO_WAIT)).await;
    let again = claim(store).await;
    assert_eq!((again[0].key, again[0].failures, again[0].crashes), (first[0].key, 1, 0));
}

async fn newest_first_does_not_wait_for_a_retry(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let newest = Claim::new(PaymentRequest::KIND, 9, LEASE).newest_first(true);
    store.insert(vec![record(1, 0), record(1, 1)]).await.unwrap();
    let first = store.claim(newest).await.unwrap();
    assert_eq!(shown(&first), [("CAPD-1", 1, Verdict::Newer, 1)]);
    let settled = settle(store, &first[0], retry(LEASE)).await;
    assert_eq!(settled, Settled::Done { next_is_due: false }, "the older one does not overtake it");
    assert_eq!(store.claim(newest).await.unwrap().len(), 0);
    store.insert(vec![record(1, 2)]).await.unwrap();
    let second = store.claim(newest).await.unwrap();
    assert_eq!(shown(&second), [("CAPD-1", 2, Verdict::Newer, 1)]);
    settle(store, &second[0], Outcome::Done(vec![])).await;
    // Those that it has made stale: the one that waits for its retry too, but not before that.
    assert_eq!(store.claim(newest).await.unwrap().len(), 0);
}

async fn newest_first_is_the_last_to_arrive_without_times(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    for body in [r#"{"id":"PMT-1","status":"PENDING"}"#, r#"{"id":"PMT-1","status":"SUCCESS"}"#] {
        store.insert(vec![Record::decode::<Payment>(body).unwrap()]).await.unwrap();
    }
    let newest = Claim::new(Payment::KIND, 9, LEASE).newest_first(true);
    let claimed = store.claim(newest).await.unwrap();
    assert!(claimed[0].body.ends_with(br#""SUCCESS"}"#), "{:?}", claimed[0].body);
}

async fn arrival_during_a_retry_keeps_the_order(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 1)]).await.unwrap();
    let first = claim(store).await;
    settle(store, &first[0], retry(LEASE)).await;
    store.insert(vec![record(1, 2)]).await.unwrap();
    assert_eq!(claim(store).await.len(), 0, "it waits behind the first");
    assert_eq!(claim(store).await.len(), 0);
    store.insert(vec![record(1, 0)]).await.unwrap();
    assert_eq!(
        shown(&claim(store).await),
        [("CAPD-1", 0, Verdict::Newer, 1)],
        "an older one does not"
    );
}

async fn settling_tells_whether_the_object_is_due(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(1, 1)]).await.unwrap();
    let first = claim(store).await;
    let next = Settled::Done { next_is_due: true };
    assert_eq!(settle(store, &first[0], retry(NO_WAIT)).await, next);
    let first = claim(store).await;
    store.insert(vec![record(1, 2)]).await.unwrap();
    assert_eq!(settle(store, &first[0], Outcome::Done(vec![])).await, next);
    let second = claim(store).await;
    assert_eq!(settle(store, &second[0], dead()).await, next);
    let third = claim(store).await;
    let done = Settled::Done { next_is_due: false };
    assert_eq!(settle(store, &third[0], Outcome::Done(vec![])).await, done);
}

/// It was kept for review because it has no time.
async fn discarded_review_can_be_delivered_again(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 1)]).await.unwrap();
    settle(store, &claim(store).await[0], Outcome::Done(vec![])).await;
    let untimed = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    let request: PaymentRequest = serde_json::from_str(untimed).unwrap();
    for _ in 0..3 {
        let record = Record::new(&request, untimed.into());
        let inserted = store.insert(vec![record]).await.unwrap();
        assert_eq!(inserted, [Inserted::New]);
        let claimed = claim(store).await;
        assert_eq!(claimed[0].ticket.verdict, Verdict::Review);
        settle(store, &claimed[0], Outcome::Review).await;
        let keys = inbox.review(9).await.unwrap().into_iter().map(|it| it.key);
        assert_eq!(inbox.discard(keys).await.unwrap(), 1);
    }
    assert_eq!(inbox.stats().await.unwrap().skipped(), 3);
}

async fn prune_deletes_bodies_and_keeps_keys(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(2, 0), record(3, 0), record(4, 0)]).await.unwrap();
    let claimed = claim(store).await;
    settle(store, &claimed[0], Outcome::Done(vec![])).await;
    settle(store, &claimed[1], Outcome::Skipped).await;
    settle(store, &claimed[2], dead()).await;
    assert_eq!(inbox.prune(LEASE, 9).await.unwrap(), 0, "none is so old");
    assert_eq!(inbox.prune(NO_WAIT, 1).await.unwrap(), 1);
    assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 1, "not the dead and the open one");
    assert_eq!(
        store.insert(vec![record(1, 0), record(2, 0)]).await.unwrap(),
        [Inserted::Duplicate; 2]
    );
    assert!(inbox.dead(9).await.unwrap()[0].body_len > 0);
}

async fn claims_longest_due_first(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((1..=5).map(|id| record(id, 0)).collect()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let claimed = store.claim(Claim::new(PaymentRequest::KIND, 2, LEASE)).await.unwrap();
        ids.push(claimed.iter().map(|it| it.ticket.object.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(ids, [vec!["CAPD-1", "CAPD-2"], vec!["CAPD-3", "CAPD-4"], vec!["CAPD-5"]]);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<What>),
    Claim(&'static str, usize, bool),
    /// Claims one, whose lease ends at once.
    Lapse(&'static str),
    /// Settles one of the claims: which, and with which outcome.
    Settle(usize, u8),
    Redrive(State),
    Discard(State),
    /// Reprocesses one of those that are listed: which.
    Reprocess(usize),
}

/// A notification about an object, with an amount.
#[derive(Clone, Copy, Debug)]
enum What {
    Request(u32, u32, u8),
    Payment(u32, &'static str, u8),
    /// The same, stored by a release that cannot decode it.
    Undecodable(u32, &'static str, u8),
}

impl What {
    fn record(self) -> Record {
        match self {
            Self::Request(id, minute, amount) => {
                let body = body(id, minute).replace('{', &format!("{{\"paidAmount\":{amount},"));
                let request: PaymentRequest = serde_json::from_str(&body).unwrap();
                Record::new(&request, body.into())
            }
            Self::Payment(id, status, amount) => {
                let body = format!(r#"{{"id":"PMT-{id}","status":"{status}","amount":{amount}}}"#);
                payment(body.into())
            }
            Self::Undecodable(id, status, amount) => {
                let body = Self::Payment(id, status, amount).record().body;
                let key = Key::of_undecodable(Payment::KIND, &body);
                let (object, order_key) =
                    (format!("undecodable:{key}"), OrderKey::of_undecodable(&body));
                let dead = Some("wrong at amount".to_owned());
                let order_id = None;
                Record { key, object, order_key, order_id, dead, ..payment(body) }
            }
        }
    }
}

fn payment(body: Bytes) -> Record {
    Record::new(&serde_json::from_slice::<Payment>(&body).unwrap(), body)
}

fn what() -> impl Strategy<Value = What> {
    const STATUSES: [&str; 5] = ["NEW", "PENDING", "PARTIAL_SUCCESS", "SUCCESS", "FAILED"];
    let payment = || (0..3_u32, prop::sample::select(&STATUSES[..]), 0..2_u8);
    prop_oneof![
        4 => (0..3_u32, 0..4_u32, 0..2_u8).prop_map(|(id, at, amount)| What::Request(id, at, amount)),
        4 => payment().prop_map(|(id, status, amount)| What::Payment(id, status, amount)),
        1 => payment().prop_map(|(id, status, amount)| What::Undecodable(id, status, amount)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let list = || prop::sample::select(&[State::Dead, State::Review][..]);
    let kinds = || prop::sample::select(&[PaymentRequest::KIND, Payment::KIND][..]);
    let (kind, lapsing) = (kinds(), kinds());
    prop_oneof![
        3 => prop::collection::vec(what(), 1..5).prop_map(Step::Insert),
        3 => (kind, 1..5_usize, any::<bool>())
            .prop_map(|(kind, count, newest_first)| Step::Claim(kind, count, newest_first)),
        1 => lapsing.prop_map(Step::Lapse),
        6 => (0..3_usize, 0..6_u8).prop_map(|(which, how)| Step::Settle(which, how)),
        2 => list().prop_map(Step::Redrive),
        1 => list().prop_map(Step::Discard),
        2 => (0..8_usize).prop_map(Step::Reprocess),
    ]
}

/// Returns an outcome: that of a runner, or another.
fn outcome<E>(claimed: &Claimed, how: u8) -> Outcome<E> {
    match (how, claimed.ticket.verdict) {
        (3, _) => retry(NO_WAIT),
        (4, _) => dead(),
        _ if claimed.ticket.object.starts_with("undecodable:") => {
            Outcome::Decoded(payment(claimed.body.clone()))
        }
        // As `handle_stale` does.
        (5, Verdict::Stale) => Outcome::Done(vec![]),
        (_, Verdict::Stale) => Outcome::Skipped,
        (_, Verdict::Review) => Outcome::Review,
        _ => Outcome::Done(vec![]),
    }
}

/// Does the steps, and returns everything that the store answered. Awaits `tick` after each.
async fn play<S: Store>(store: &S, steps: &[Step], tick: impl AsyncFn()) -> Vec<String> {
    let mut claimed = Vec::new();
    let mut said = Vec::new();
    for step in steps {
        match step {
            Step::Insert(records) => {
                let records = records.iter().map(|what| what.record());
                said.push(format!("{:?}", store.insert(records.collect()).await.unwrap()));
            }
            Step::Claim(kind, count, newest_first) => {
                let claim = Claim::new(kind, *count, LEASE).newest_first(*newest_first);
                let new = store.claim(claim).await.unwrap();
                said.extend(new.iter().map(line));
                claimed.extend(new);
            }
            Step::Lapse(kind) => {
                said.extend(lapse(store, kind).await.iter().map(line));
            }
            Step::Settle(which, how) if *which < claimed.len() => {
                let claimed = claimed.remove(*which);
                let settled = settle(store, &claimed, outcome(&claimed, *how)).await;
                said.push(format!("{settled:?}"));
            }
            Step::Settle(..) => {}
            Step::Redrive(list) => {
                // One after the other, because objects that become due together have no fixed order.
                for entry in listed(store, *list).await {
                    said.push(format!("{}", store.redrive(vec![entry.key]).await.unwrap()));
                    tick().await;
                }
            }
            Step::Reprocess(which) => {
                if let Some(entry) = listed(store, Filter::new()).await.get(*which) {
                    said.push(format!("{:?}", store.reprocess([entry.key]).await.unwrap()));
                }
            }
            Step::Discard(list) => {
                let keys: Vec<_> =
                    listed(store, *list).await.iter().map(|it| it.key).take(1).collect();
                said.push(format!("{}", store.discard(keys).await.unwrap()));
            }
        }
        tick().await;
        said.push(summary(store).await);
    }
    said
}

/// Without the `seq`, which each store numbers in its own way.
fn line(claimed: &Claimed) -> String {
    let Claimed { ticket, key, body, failures, crashes, .. } = claimed;
    let Ticket { kind, object, claim, verdict, is_replay, .. } = ticket;
    format!("{kind} {object} {claim} {key} {verdict} {is_replay} {body:?} {failures} {crashes}")
}

/// Lists, sorted by key, because notifications that arrived together have no fixed order.
async fn listed(store: &impl Store, list: impl Into<Filter>) -> Vec<Entry> {
    let mut entries = store.list(list.into().with_bodies(), 999).await.unwrap().entries;
    entries.sort_by_key(|it| it.key);
    entries
}

/// Returns everything that the store lists and counts, except the times.
async fn summary(store: &impl Store) -> String {
    let mut said = String::new();
    for kind in store.stats().await.unwrap().kinds {
        let counts = (kind.backlog, kind.dead, kind.review, kind.skipped, kind.oldest.is_some());
        said += &format!("{} {counts:?}\n", kind.kind);
    }
    let states = [State::Dead, State::Review, State::Skipped].map(Filter::from);
    let verdicts = [Verdict::Amended, Verdict::Unordered].map(Filter::from);
    for list in states.into_iter().chain(verdicts) {
        for entry in listed(store, list.clone()).await {
            let Entry { key, kind, object, body, attempts, error, .. } = entry;
            said += &format!("{list:?} {key} {kind} {object} {body:?} {attempts} {error}\n");
        }
    }
    for entry in listed(store, Filter::new()).await {
        let Entry { key, status, state, verdict, source, replays, body_len, .. } = entry;
        said += &format!("{key} {status} {state} {verdict:?} {source} {replays} {body_len}\n");
    }
    said + &format!("{:?}", store.unclaimed(LEASE).await.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn all_stores_behave_alike(steps in prop::collection::vec(step(), 1..40)) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let said = runtime.block_on(async {
            let (inbox, _folder) = file();
            let of_memory = play(Inbox::memory().store(), &steps, tick).await;
            let of_sqlite = play(inbox.store(), &steps, tick).await;
            prop_assert_eq!(&of_memory, &of_sqlite);
            inbox.close().await;
            Ok(of_memory)
        })?;
        #[cfg(not(feature = "postgres"))]
        let _ = said;
                if let Some(server) = postgres::shared() {
            // The clock of Postgres is not paused.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let of_postgres = runtime.block_on(async {
                let inbox = database_emptied(server).await;
                play(inbox.store(), &steps, async || {}).await
            });
            prop_assert_eq!(said, of_postgres);
        }
    }
}

/// Advances Tokio's paused clock, so that no two steps have the same time.
async fn tick() {
    tokio::time::advance(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn long_waits_do_not_end_early_in_memory() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let inbox = Inbox::memory();
    let store = inbox.store();
    insert(&inbox, &[(1, 0)]).await;
    let claimed = claim(store).await;
    settle(store, &claimed[0], retry(300 * DAY)).await;
    tokio::time::advance(299 * DAY).await;
    assert!(claim(store).await.is_empty());
    tokio::time::advance(DAY).await;
    let long = Claim::new(PaymentRequest::KIND, 9, Duration::MAX).with_suspect(true);
    assert_eq!(store.claim(long).await.unwrap().len(), 1);
    tokio::time::advance(364 * DAY).await;
    assert!(store.claim(long).await.unwrap().is_empty(), "it is leased");
}
