//! Tests of the guarantees of the inbox: what is acknowledged is stored, and effects happen once and in
//! order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::env;
use std::future::{Future, pending, poll_fn, ready};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use crate::{crash, postgres, support};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use inqud_inbox::__private::Sealed;
use inqud_inbox::{
    Admin, Claimed, Context, Entry, Inbox, InboxError, InboxErrorKind, Inserted, Key, List, Memory,
    Outcome, Record, Settled, Settlement, Sqlite, Stats, Storable, Store, Stored, Ticket, rusqlite,
};
use inqud_inbox::{Postgres, tokio_postgres::NoTls};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Barrier, Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_inqud::{
    Checkout, Notification, OrderKey, Payment, PaymentRequest, Subscription, Verdict,
    WebhookService,
};

const LEASE: Duration = Duration::from_secs(3600);
const NO_WAIT: Duration = Duration::ZERO;
/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(30);

fn body(id: u32, minute: u32) -> String {
    let status = match minute {
        0 => "WAITING_PAYMENT",
        1 => "PENDING_PAYMENT",
        _ => "SUCCESS",
    };
    format!(
        r#"{{"id":"CAPD-{id}","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    )
}

/// The notification about Request `id` at `minute`.
fn record(id: u32, minute: u32) -> Record {
    let body = body(id, minute);
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

fn minute(body: &[u8]) -> u32 {
    let request: PaymentRequest = serde_json::from_slice(body).unwrap();
    let minute = request.last_updated_at.unwrap().to_string();
    minute[14..16].parse().unwrap()
}

fn settlement<E>(claimed: &Claimed, outcome: Outcome<E>) -> Settlement<E> {
    Settlement { ticket: claimed.ticket.clone(), outcome }
}

fn retry<E>(after: Duration) -> Outcome<E> {
    Outcome::Retry { after, error: "not now".to_owned() }
}

fn dead<E>() -> Outcome<E> {
    Outcome::Dead { error: "never".to_owned() }
}

async fn claim(store: &impl Store) -> Vec<Claimed> {
    store.claim(PaymentRequest::KIND, 100, LEASE).await.unwrap()
}

async fn settle<S: Store>(store: &S, claimed: &Claimed, outcome: Outcome<S::Effect>) -> Settled {
    store.settle(vec![settlement(claimed, outcome)]).await.unwrap().remove(0)
}

fn shown(claimed: &[Claimed]) -> Vec<(&str, u32, Verdict, u32)> {
    let show = |it: &'_ Claimed| (minute(&it.body), it.ticket.verdict, it.attempt);
    claimed
        .iter()
        .map(|it| (&*it.ticket.object, show(it)))
        .map(|(object, (minute, verdict, attempt))| (object, minute, verdict, attempt))
        .collect()
}

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
    let truncate = "TRUNCATE inqud_inbox.notification, inqud_inbox.object, inqud_inbox.runner";
    postgres::connect(&config).await.batch_execute(truncate).await.unwrap();
    Inbox::postgres(config, NoTls).await.unwrap()
}

// -------------------------------------------------------- the same of each store

of_each_store! {
    detects_duplicates_within_a_batch
    claims_one_per_object_oldest_first
    claim_reports_stale_and_separates_kinds
    retry_delays_only_its_object
    object_continues_after_a_dead_letter
    discarded_dead_letter_is_still_a_duplicate
    expired_claim_settles_nothing
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

    assert_eq!(settle(store, &first[0], Outcome::Done(vec![])).await, Settled::Done);
    let second = claim(store).await;
    assert_eq!(shown(&second), [("CAPD-1", 1, newer, 1)]);
    assert_eq!(settle(store, &second[0], Outcome::Done(vec![])).await, Settled::Done);
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
    for (list, listed) in [(List::Skipped, &older[0]), (List::Amended, &amended[0])] {
        let entries = inbox.list(list, 9).await.unwrap();
        assert_eq!(entries.iter().map(|it| it.key).collect::<Vec<_>>(), [listed.key], "{list:?}");
    }
    assert!(inbox.list(List::Unordered, 9).await.unwrap().is_empty());

    let checkouts = store.claim(Checkout::KIND, 9, LEASE).await.unwrap();
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
    let letters = inbox.dead(9).await.unwrap();
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
    let skipped = inbox.list(List::Skipped, 9).await.unwrap();
    assert_eq!(skipped.iter().map(|it| it.key).collect::<Vec<_>>(), [letter], "but it is listed");
    assert_eq!(inbox.redrive([letter]).await.unwrap(), 0);
    assert_eq!(store.insert(vec![record(1, 0)]).await.unwrap(), [Inserted::Duplicate]);
    assert_eq!(shown(&claim(store).await), [("CAPD-1", 1, Verdict::Newer, 1)]);
    assert_eq!(inbox.prune(NO_WAIT, 9).await.unwrap(), 1);
}

async fn expired_claim_settles_nothing(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert(vec![record(1, 0), record(2, 0)]).await.unwrap();
    let lapsed = store.claim(PaymentRequest::KIND, 9, NO_WAIT).await.unwrap();
    let taken_over = claim(store).await;
    assert_eq!(taken_over.len(), 2);
    assert_eq!(taken_over[0].attempt, 2, "what ends the process counts");
    let batch = vec![
        settlement(&lapsed[0], Outcome::Done(vec![])),
        settlement(&taken_over[1], Outcome::Done(vec![])),
        settlement(&taken_over[1], Outcome::Done(vec![])),
    ];
    let settled = store.settle(batch).await.unwrap();
    assert_eq!(settled, [Settled::LeaseExpired, Settled::Done, Settled::LeaseExpired]);
    assert_eq!(settle(store, &taken_over[0], Outcome::Done(vec![])).await, Settled::Done);
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
    assert!(!inbox.dead(9).await.unwrap()[0].body.is_empty());
}

async fn claims_longest_due_first(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((1..=5).map(|id| record(id, 0)).collect()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let claimed = store.claim(PaymentRequest::KIND, 2, LEASE).await.unwrap();
        ids.push(claimed.iter().map(|it| it.ticket.object.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(ids, [vec!["CAPD-1", "CAPD-2"], vec!["CAPD-3", "CAPD-4"], vec!["CAPD-5"]]);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<What>),
    Claim(&'static str, usize),
    /// Settles one of the claims: which, and with which outcome.
    Settle(usize, u8),
    Redrive(List),
    Discard(List),
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
                Record { key, kind: Payment::KIND, object, order_key, body, dead }
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
    let list = || prop::sample::select(&[List::Dead, List::Review][..]);
    let kind = prop::sample::select(&[PaymentRequest::KIND, Payment::KIND][..]);
    prop_oneof![
        3 => prop::collection::vec(what(), 1..5).prop_map(Step::Insert),
        3 => (kind, 1..5_usize).prop_map(|(kind, count)| Step::Claim(kind, count)),
        6 => (0..3_usize, 0..6_u8).prop_map(|(which, how)| Step::Settle(which, how)),
        2 => list().prop_map(Step::Redrive),
        1 => list().prop_map(Step::Discard),
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
            Step::Claim(kind, count) => {
                let new = store.claim(kind, *count, LEASE).await.unwrap();
                for Claimed { ticket, key, body, attempt, .. } in &new {
                    // Without the `seq`, which each store numbers in its own way.
                    let Ticket { kind, object, claim, verdict, .. } = ticket;
                    said.push(format!(
                        "{kind} {object} {claim} {key} {verdict} {body:?} {attempt}"
                    ));
                }
                claimed.extend(new);
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

/// Lists, sorted by key, because notifications that arrived together have no fixed order.
async fn listed(store: &impl Store, list: List) -> Vec<Entry> {
    let mut entries = store.list(list, 999).await.unwrap();
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
    for list in [List::Dead, List::Review, List::Skipped, List::Amended, List::Unordered] {
        for entry in listed(store, list).await {
            let Entry { key, kind, object, body, attempts, error, .. } = entry;
            said += &format!("{list:?} {key} {kind} {object} {body:?} {attempts} {error}\n");
        }
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

// ------------------------------------------------------------------- the receiver

/// A store in memory that can be delayed and made to fail.
#[derive(Debug)]
struct Moody {
    memory: Memory,
    gate: Semaphore,
    /// Gets a permit for each insert that begins.
    begun: Semaphore,
    fails: AtomicBool,
    /// The number of bytes of bodies in each commit.
    commits: Mutex<Vec<usize>>,
    /// The number of claims that each call settles.
    settled: Mutex<Vec<usize>>,
    panics: AtomicBool,
}

impl Moody {
    fn inbox(gate: usize) -> Inbox<Self> {
        Inbox::new(Self {
            memory: Memory::default(),
            gate: Semaphore::new(gate),
            begun: Semaphore::new(0),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            commits: Mutex::default(),
            settled: Mutex::default(),
        })
    }

    fn mood(&self) -> Result<(), InboxError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(InboxError::caused_by(InboxErrorKind::Store, "the disk is full"));
        }
        Ok(())
    }
}

impl Sealed for Moody {}

impl Admin for Moody {
    async fn stats(&self) -> Result<Stats, InboxError> {
        self.memory.stats().await
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        self.memory.unclaimed(since).await
    }

    async fn list(&self, list: List, count: usize) -> Result<Vec<Entry>, InboxError> {
        self.memory.list(list, count).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.redrive(keys).await
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        self.memory.discard(keys).await
    }

    async fn prune(&self, age: Duration, count: usize) -> Result<usize, InboxError> {
        self.memory.prune(age, count).await
    }
}

impl Store for Moody {
    type Effect = <Memory as Store>::Effect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.begun.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        assert!(!self.panics.load(Ordering::SeqCst), "a bug");
        self.mood()?;
        self.commits.lock().unwrap().push(records.iter().map(|it| it.body.len()).sum());
        self.memory.insert(records).await
    }

    async fn claim(
        &self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, InboxError> {
        self.mood()?;
        self.memory.claim(kind, count, lease).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settlement<Self::Effect>>,
    ) -> Result<Vec<Settled>, InboxError> {
        self.mood()?;
        self.settled.lock().unwrap().push(settlements.len());
        self.memory.settle(settlements).await
    }

    async fn commit(&self, key: Key, effects: Vec<Self::Effect>) -> Result<(), InboxError> {
        self.memory.commit(key, effects).await
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

type Received<S> = WebhookService<inqud_inbox::Receiver<S, PaymentRequest>, PaymentRequest>;

fn received<S: Store>(inbox: &Inbox<S>) -> Received<S> {
    support::layer().layer(inbox.receiver())
}

fn why<B>(response: &http::Response<B>) -> Option<InboxErrorKind> {
    response.extensions().get::<InboxError>().map(InboxError::kind)
}

#[tokio::test]
async fn stores_before_200_and_accepts_duplicates() {
    let (inbox, _folder) = file();
    for _ in 0..3 {
        let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    }
    let response = support::call(received(&inbox), support::signed(body(1, 1))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let claimed = claim(inbox.store()).await;
    assert_eq!(claimed[0].body, body(1, 0), "byte for byte");
}

#[tokio::test]
async fn failing_store_is_503_until_it_works() {
    let inbox = Moody::inbox(100);
    inbox.store().fails.store(true, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[http::header::RETRY_AFTER], "60");
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
    assert!(!support::text(response).await.contains("disk"), "the sender does not see the cause");

    inbox.store().fails.store(false, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn full_queue_is_503_after_8_seconds() {
    let inbox = Moody::inbox(0).capacity(1);
    let began = Instant::now();
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let mut second = received(&inbox);
    let second_ready =
        poll_fn(|cx| Poll::Ready(Service::<Request<Full<Bytes>>>::poll_ready(&mut second, cx)));
    assert!(second_ready.await.is_pending());

    let second = support::call(second, support::signed(body(2, 0))).await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why(&second), Some(InboxErrorKind::Full));
    let first = first.await.unwrap();
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why(&first), Some(InboxErrorKind::Timeout));
    assert_eq!(began.elapsed().as_secs(), 8, "both together");

    // There is room again when the store is done with the first.
    inbox.store().gate.add_permits(2);
    let third = support::call(received(&inbox), support::signed(body(3, 0))).await;
    assert_eq!(third.status(), StatusCode::OK);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2, "the first and the third");
}

#[tokio::test(start_paused = true)]
async fn timeout_covers_room_and_commit() {
    let inbox = Moody::inbox(0).capacity(1);
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let second = tokio::spawn(support::call(received(&inbox), support::signed(body(2, 0))));
    sleep(Duration::from_secs(5)).await;
    inbox.store().gate.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(why(&second.await.unwrap()), Some(InboxErrorKind::Timeout));
    assert_eq!(began.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn late_readiness_is_refused_at_once() {
    let inbox = Moody::inbox(0).capacity(1);
    let (mut first, mut second) = (received(&inbox), received(&inbox));
    for service in [&mut first, &mut second] {
        poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(service, cx)).await.unwrap();
    }
    let _first = tokio::spawn(first.call(support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let second = second.call(support::signed(body(2, 0))).await.unwrap();
    assert_eq!(why(&second), Some(InboxErrorKind::Full));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Whether it is ready on a single poll.
async fn is_ready<S: Service<Request<Full<Bytes>>>>(service: &mut S) -> bool {
    poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_ready())).await
}

#[tokio::test(start_paused = true)]
async fn load_shedding_holds_no_place_and_no_timeout() {
    let inbox = Moody::inbox(0).capacity(1);
    let mut shedding = ServiceBuilder::new().load_shed().service(received(&inbox));
    for id in [10, 20] {
        let first = tokio::spawn(support::call(received(&inbox), support::signed(body(id, 0))));
        tokio::task::yield_now().await;
        assert!(is_ready(&mut shedding).await);
        let shed = shedding.call(support::signed(body(id, 1))).await.unwrap_err();
        assert!(shed.is::<tower::load_shed::error::Overloaded>(), "{shed}");
        let of_clone = shedding.clone();

        sleep(Duration::from_secs(5)).await;
        inbox.store().gate.add_permits(2);
        assert_eq!(first.await.unwrap().status(), StatusCode::OK);
        let other = support::call(received(&inbox), support::signed(body(id, 2)));
        let other = timeout(Duration::from_secs(1), other).await.expect("the place is free");
        assert_eq!(other.status(), StatusCode::OK);

        sleep(Duration::from_secs(2)).await;
        let service = if id == 10 { std::mem::replace(&mut shedding, of_clone) } else { of_clone };
        let slow = tokio::spawn(support::call(service, support::signed(body(id, 3))));
        sleep(Duration::from_secs(7)).await;
        inbox.store().gate.add_permits(1);
        assert_eq!(slow.await.unwrap().status(), StatusCode::OK, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_wait_is_not_continued() {
    let inbox = Moody::inbox(0).capacity(1);
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let buffer = ServiceBuilder::new().buffer(8).service(received(&inbox));
    let left = tokio::spawn(support::call(buffer.clone(), support::signed(body(2, 0))));
    sleep(Duration::from_secs(5)).await;
    left.abort();
    assert_eq!(why(&first.await.unwrap()), Some(InboxErrorKind::Timeout));
    sleep(Duration::from_secs(60)).await;

    let next = tokio::spawn(support::call(buffer, support::signed(body(3, 0))));
    sleep(Duration::from_secs(7)).await;
    inbox.store().gate.add_permits(2);
    assert_eq!(next.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn buffer_and_limit_cause_no_503() {
    let inbox = Moody::inbox(0).capacity(4);
    let service = ServiceBuilder::new().buffer(64).concurrency_limit(4).service(received(&inbox));
    let calls: Vec<_> = (0..32)
        .map(|id| tokio::spawn(support::call(service.clone(), support::signed(body(id, 0)))))
        .collect();
    let store = inbox.clone();
    let slowly = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            store.store().gate.add_permits(1);
        }
    });
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    slowly.abort();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 32);
}

#[tokio::test(start_paused = true)]
async fn freed_place_wakes_all_waiters() {
    let inbox = Moody::inbox(0).capacity(1);
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    // Waiters that are dropped do not hold up others.
    let mut left: Vec<_> = (0..50).map(|_| received(&inbox)).collect();
    for service in &mut left {
        assert!(!is_ready(service).await);
    }
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let mut service = received(&inbox);
            tokio::spawn(async move {
                poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx)).await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    inbox.store().gate.add_permits(1);
    for ready in waiting {
        ready.await.unwrap().unwrap();
    }
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(began.elapsed(), Duration::ZERO);
    for service in &mut left {
        assert!(is_ready(service).await);
    }
}

#[test]
fn another_runtime_stores_what_one_left() {
    for (capacity, distinct) in [(8, 3), (2, 3), (1, 2)] {
        let first = tokio::runtime::Runtime::new().unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let second = builder.enable_all().build().unwrap();
        let inbox = Moody::inbox(0).capacity(capacity);
        let call = |id| support::call(received(&inbox), support::signed(body(id, 0)));
        let slow = first.spawn(call(1));
        second.block_on(inbox.store().begun.acquire()).unwrap().forget();
        let waiting: Vec<_> = (2..=distinct).map(|id| second.spawn(call(id))).collect();
        // They wait behind the insert, or for room.
        second.block_on(tokio::task::yield_now());
        drop(first);
        assert!(second.block_on(slow).unwrap_err().is_cancelled());
        inbox.store().gate.add_permits(100);
        for call in waiting {
            let response = second.block_on(async { timeout(LONG, call).await }).unwrap().unwrap();
            assert_eq!(response.status(), StatusCode::OK, "a queue for {capacity}");
        }
        let open = second.block_on(inbox.stats()).unwrap().backlog();
        assert_eq!(
            open,
            u64::from(distinct),
            "stored without a waiting caller too: capacity {capacity}"
        );
    }
}

#[tokio::test]
async fn run_until_idle_ends_with_the_error_of_the_store() {
    let inbox = Moody::inbox(100);
    inbox.store().fails.store(true, Ordering::SeqCst);
    let handler = async |_: Stored<PaymentRequest>, _: Context<Moody>| Ok::<_, Infallible>(());
    let error = timeout(LONG, inbox.process(handler).run_until_idle()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Store);
}

#[tokio::test]
async fn panicking_store_is_503_until_it_works() {
    let inbox = Moody::inbox(100);
    inbox.store().panics.store(true, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
    inbox.store().panics.store(false, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn stores_after_the_sender_disconnects() {
    let inbox = Moody::inbox(0);
    for id in 1..=3 {
        let mut service = received(&inbox);
        let call = service.call(support::signed(body(id, 0)));
        // Polled once, which enqueues the notification, and then dropped.
        let mut call = Box::pin(call);
        assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
        drop(call);
    }
    inbox.store().gate.add_permits(100);
    let response = support::call(received(&inbox), support::signed(body(4, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 4);
    assert!(inbox.store().gate.available_permits() >= 98, "what waited was stored together");
}

/// `block_on` returns with the answer. Tasks that are left in that runtime do not continue.
#[test]
fn idle_runtime_does_not_block_the_queue() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (inbox, _folder) = file();
    for (id, runtime) in [(1, &first), (2, &second), (3, &second), (4, &first), (5, &second)] {
        let response =
            runtime.block_on(support::call(received(&inbox), support::signed(body(id, 0))));
        assert_eq!(response.status(), StatusCode::OK, "{:?}", why(&response));
    }
}

#[tokio::test]
async fn commits_are_batched_within_limits() {
    const MOST: usize = 8 * 1024 * 1024 + 256 * 1024;
    let inbox = Moody::inbox(0);
    let mut calls = JoinSet::new();
    for id in 0..1000 {
        let more = "x".repeat(if id < 900 { 1 } else { 200_000 });
        let body = format!(r#"{{"id":"CAPD-{id}","status":"SUCCESS","more":"{more}"}}"#);
        calls.spawn(support::call(received(&inbox), support::signed(body)));
    }
    // All but the first wait and share a commit.
    tokio::task::yield_now().await;
    inbox.store().gate.add_permits(1000);
    while let Some(response) = calls.join_next().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    let commits = inbox.store().commits.lock().unwrap().clone();
    assert!(commits.iter().all(|bytes| *bytes < MOST), "{commits:?}");
    assert!(commits.len() < 12, "{commits:?}");
}

#[tokio::test]
async fn alternating_clients_share_commits() {
    let inbox = Moody::inbox(0);
    let mut clients = JoinSet::new();
    for client in 0..2 {
        let service = received(&inbox);
        clients.spawn(async move {
            for nth in 0..10 {
                let body = format!(r#"{{"id":"CAPD-{client}-{nth}","status":"SUCCESS"}}"#);
                let response = support::call(service.clone(), support::signed(body)).await;
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
        if client == 0 {
            // The second arrives during the commit of the first.
            inbox.store().begun.acquire().await.unwrap().forget();
        }
    }
    tokio::task::yield_now().await;
    let ended = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
    let each_commit_is_let_through = async {
        loop {
            inbox.store().gate.add_permits(1);
            inbox.store().begun.acquire().await.unwrap().forget();
        }
    };
    tokio::select! {
        () = ended => {}
        () = each_commit_is_let_through => {}
    }
    let commits = inbox.store().commits.lock().unwrap().len();
    assert!(commits < 13, "{commits} commits for twice ten");
}

#[tokio::test]
async fn missing_answers_of_a_store_are_503() {
    #[derive(Debug)]
    struct Terse;

    impl Sealed for Terse {}

    impl Admin for Terse {
        async fn stats(&self) -> Result<Stats, InboxError> {
            Ok(Stats::default())
        }
        async fn unclaimed(&self, _: Duration) -> Result<Vec<String>, InboxError> {
            Ok(Vec::new())
        }
        async fn list(&self, _: List, _: usize) -> Result<Vec<Entry>, InboxError> {
            Ok(Vec::new())
        }
        async fn redrive(
            &self,
            _: impl IntoIterator<Item = Key> + Send,
        ) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn discard(
            &self,
            _: impl IntoIterator<Item = Key> + Send,
        ) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn prune(&self, _: Duration, _: usize) -> Result<usize, InboxError> {
            Ok(0)
        }
    }

    impl Store for Terse {
        type Effect = ();
        async fn insert(&self, _: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
            Ok(Vec::new())
        }
        async fn claim(
            &self,
            _: &'static str,
            _: usize,
            _: Duration,
        ) -> Result<Vec<Claimed>, InboxError> {
            Ok(Vec::new())
        }
        async fn settle(&self, _: Vec<Settlement<()>>) -> Result<Vec<Settled>, InboxError> {
            Ok(Vec::new())
        }
        async fn commit(&self, _: Key, _: Vec<()>) -> Result<(), InboxError> {
            Ok(())
        }
        async fn close(&self) {}
    }

    let response = support::call(received(&Inbox::new(Terse)), support::signed(body(1, 0))).await;
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
}

#[tokio::test]
async fn receiver_without_layer_says_what_to_add() {
    let inbox = Inbox::memory();
    let receiver = inbox.receiver::<Checkout>();
    let response = support::call(receiver, Request::new(())).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.body().contains("Checkout"), "{}", response.body());

    // The same behind a layer that decodes another type.
    let service = support::layer::<PaymentRequest>().layer(inbox.receiver::<Checkout>());
    let response = support::call(service, support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

// --------------------------------------------------------------------- the runner

async fn insert<S: Store>(inbox: &Inbox<S>, records: &[(u32, u32)]) {
    let records = records.iter().map(|(id, minute)| record(*id, *minute)).collect();
    inbox.store().insert(records).await.unwrap();
}

/// Waits until nothing is open.
async fn drained<S: Store>(inbox: Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

type Log = Arc<Mutex<Vec<(String, u32, Verdict, u32)>>>;

fn note<S: Store>(log: &Log, request: &Stored<PaymentRequest>, cx: &Context<S>) {
    let line = (request.id.clone(), minute(request.raw_body()), cx.verdict(), cx.attempt());
    log.lock().unwrap().push(line);
}

fn noted(log: &Log, id: u32) -> Vec<u32> {
    let id = format!("CAPD-{id}");
    log.lock().unwrap().iter().filter(|line| line.0 == id).map(|line| line.1).collect()
}

#[tokio::test(start_paused = true)]
async fn handles_objects_concurrently_and_each_in_order() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 2), (2, 0), (1, 0), (3, 0), (1, 1), (2, 1), (3, 1)]).await;
    let (log, together) = (Log::default(), Arc::new(Barrier::new(3)));
    let inside = Arc::new(Mutex::new(BTreeSet::new()));
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let (log, together, inside) = (log_of.clone(), together.clone(), inside.clone());
        async move {
            assert!(inside.lock().unwrap().insert(request.id.clone()), "one at a time");
            if minute(request.raw_body()) == 0 {
                // Passed only once all three are running.
                together.wait().await;
            }
            note(&log, &request, &cx);
            inside.lock().unwrap().remove(&request.id);
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(noted(&log, 1), [0, 1, 2]);
    assert_eq!(noted(&log, 2), [0, 1]);
    assert_eq!(noted(&log, 3), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_limited() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most_of = Arc::clone(&most);
    let handler = move |_: Stored<PaymentRequest>, _| {
        let (now, most) = (now.clone(), most_of.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).concurrency(2).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn retries_failures_then_dead_letters() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1), (4, 0)]).await;
    let log = Log::default();
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let log = log_of.clone();
        async move {
            note(&log, &request, &cx);
            match (&*request.id, minute(request.raw_body())) {
                ("CAPD-1", 0) => Err("the shop is closed"),
                ("CAPD-2", 0) => panic!("a bug"),
                ("CAPD-3", 0) => pending().await,
                ("CAPD-4", _) if cx.attempt() < 3 => Err("not yet"),
                _ => Ok(()),
            }
        }
    };
    let began = Instant::now();
    let runner = inbox.process(handler).max_attempts(3).handler_timeout(Duration::from_secs(5));
    runner.run_until(drained(inbox.clone())).await.unwrap();

    assert_eq!(noted(&log, 1), [0, 0, 0, 1], "then the object goes on");
    assert_eq!(noted(&log, 2), [0, 0, 0, 1]);
    assert_eq!(noted(&log, 3), [0, 0, 0, 1]);
    assert_eq!(noted(&log, 4), [0, 0, 0]);
    assert!(began.elapsed() >= Duration::from_secs(15 + 1), "three timeouts, two waits");
    let errors: BTreeSet<_> =
        inbox.dead(9).await.unwrap().into_iter().map(|it| (it.object, it.error)).collect();
    let expected = [
        ("CAPD-1", "the shop is closed"),
        ("CAPD-2", "the handler panicked"),
        ("CAPD-3", "the handler timed out"),
    ];
    assert_eq!(errors, expected.map(|(id, error)| (id.to_owned(), error.to_owned())).into());

    // The others of CAPD-1 were processed in the meantime, so it is stale now.
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|letter| letter.key).collect();
    assert_eq!(inbox.redrive(keys).await.unwrap(), 3);
    let handler = async |_: Stored<PaymentRequest>, _| Err::<(), _>("it is called");
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test(start_paused = true)]
async fn skips_stale_by_default() {
    for (asked_for, expected) in [(false, vec![2]), (true, vec![2, 1])] {
        let inbox = Inbox::memory();
        insert(&inbox, &[(1, 2)]).await;
        let log = Log::default();
        let log_of = Arc::clone(&log);
        let late = inbox.clone();
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
            let (log, late) = (log_of.clone(), late.clone());
            async move {
                // The older one arrives while the newer is handled.
                insert(&late, &[(1, 1)]).await;
                note(&log, &request, &cx);
                Ok::<_, Infallible>(())
            }
        };
        let runner = inbox.process(handler);
        let runner = if asked_for { runner.handle_stale() } else { runner };
        runner.run_until(drained(inbox.clone())).await.unwrap();
        assert_eq!(noted(&log, 1), expected);
        let claimed = inbox.store().insert(vec![record(1, 1)]).await.unwrap();
        assert_eq!(claimed, [Inserted::Duplicate], "its row is kept");
    }
}

/// A merchant's type without a last update.
#[derive(serde::Deserialize)]
struct Undated {
    id: String,
    status: String,
}

impl Notification for Undated {
    fn id(&self) -> &str {
        &self.id
    }
    fn status_text(&self) -> &str {
        &self.status
    }
    fn last_update(&self) -> Option<jiff::Timestamp> {
        None
    }
}

impl Storable for Undated {
    const KIND: &'static str = "undated";
}

/// Returns which are handled, if each arrives after the one before was settled.
async fn handled_in_turn<T: Storable>(bodies: &[&'static str]) -> Vec<String> {
    let inbox = Inbox::memory();
    let log = Arc::new(Mutex::new(Vec::new()));
    for body in bodies {
        let event: T = serde_json::from_str(body).unwrap();
        let record = Record::new(&event, Bytes::from_static(body.as_bytes()));
        assert_eq!(inbox.store().insert(vec![record]).await.unwrap(), [Inserted::New]);
        let log = Arc::clone(&log);
        let handler = move |event: Stored<T>, _: Context<Memory>| {
            log.lock().unwrap().push(event.status_text().to_owned());
            ready(Ok::<_, Infallible>(()))
        };
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    }
    log.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn handles_unordered_without_last_update() {
    let bodies = [r#"{"id":"1","status":"WAITING"}"#, r#"{"id":"1","status":"PAID"}"#];
    assert_eq!(handled_in_turn::<Undated>(&bodies).await, ["WAITING", "PAID"]);
}

/// A merchant's type with a bug.
struct Fragile(Undated);

impl<'de> serde::Deserialize<'de> for Fragile {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let event = <Undated as serde::Deserialize>::deserialize(json)?;
        assert_ne!(event.status, "BUG");
        Ok(Self(event))
    }
}

impl Notification for Fragile {
    fn id(&self) -> &str {
        self.0.id()
    }
    fn status_text(&self) -> &str {
        self.0.status_text()
    }
    fn last_update(&self) -> Option<jiff::Timestamp> {
        None
    }
}

impl Storable for Fragile {
    const KIND: &'static str = "fragile";
}

#[tokio::test(start_paused = true)]
async fn panicking_deserializer_stops_nothing_else() {
    let inbox = Inbox::memory();
    let records = [("1", "BUG"), ("2", "PAID")].map(|(id, status)| {
        let body = format!(r#"{{"id":"{id}","status":"{status}"}}"#);
        let event = Fragile(Undated { id: id.to_owned(), status: status.to_owned() });
        Record::new(&event, body.into())
    });
    inbox.store().insert(records.into()).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let handled_of = Arc::clone(&handled);
    let handler = move |event: Stored<Fragile>, _: Context<Memory>| {
        handled_of.lock().unwrap().push(event.id().to_owned());
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).max_attempts(2).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(*handled.lock().unwrap(), ["2"]);
    let dead = inbox.dead(9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].object, dead[0].attempts), ("1", 2));
}

#[tokio::test(start_paused = true)]
async fn handles_unordered_of_a_subscription() {
    let bodies = [r#"{"id":"S-1","status":"SUSPENDED"}"#, r#"{"id":"S-1","status":"ACTIVE"}"#];
    let handled = handled_in_turn::<Subscription>(&bodies).await;
    assert_eq!(handled, ["SUSPENDED", "ACTIVE"]);
}

#[tokio::test(start_paused = true)]
async fn takes_over_after_the_lease_expires() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let begun = Arc::new(Notify::new());
    let lost = {
        let begun = begun.clone();
        let handler = move |_: Stored<PaymentRequest>, _| {
            begun.notify_one();
            pending::<Result<(), Infallible>>()
        };
        let runner = inbox.process(handler).handler_timeout(Duration::from_secs(30));
        tokio::spawn(runner.run_until(pending()))
    };
    begun.notified().await;
    let began = Instant::now();
    lost.abort();

    let attempts = Arc::new(Mutex::new(Vec::new()));
    let attempts_of = Arc::clone(&attempts);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        attempts_of.lock().unwrap().push((cx.attempt(), began.elapsed().as_secs()));
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let attempts = attempts.lock().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].0, 2);
    assert!((60..=61).contains(&attempts[0].1), "twice the timeout, plus a poll: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_crashing_notification_without_a_call() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    for _ in 0..3 {
        inbox.store().claim(PaymentRequest::KIND, 1, NO_WAIT).await.unwrap();
    }
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| {
        panic!("it is called");
        #[allow(unreachable_code, reason = "a type for the error")]
        Ok::<_, Infallible>(())
    };
    inbox.process(handler).max_attempts(3).run_until(drained(inbox.clone())).await.unwrap();
    assert!(inbox.dead(1).await.unwrap()[0].error.contains("without a result"));
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_handlers_and_starts_none() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (1, 1), (2, 0)]).await;
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let shut_down = Arc::new(Mutex::new(Some(shut_down)));
    let handler = move |_: Stored<PaymentRequest>, _| {
        drop(shut_down.lock().unwrap().take());
        async move {
            sleep(Duration::from_secs(5)).await;
            Ok::<_, Infallible>(())
        }
    };
    let runner = inbox.process(handler).concurrency(1);
    runner.run_until(async { drop(shutdown.await) }).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2, "one of three is done");
    assert_eq!(shown(&claim(inbox.store()).await).len(), 2, "and no lease is left");
}

/// There is always more to settle without a handler: dead letters that still cannot be decoded.
#[tokio::test]
async fn settling_without_handlers_does_not_starve_others() {
    let (inbox, _folder) = file();
    let count = 4000;
    insert(&inbox, &[(1, 0)]).await;
    let records: Vec<_> = (0..count)
        .map(|id| Record { body: r#"{"id":17}"#.into(), ..record(100 + id, 0) })
        .collect();
    inbox.store().insert(records).await.unwrap();
    let handled = Arc::new(Notify::new());
    let says = Arc::clone(&handled);
    let handler = move |_: Stored<PaymentRequest>, _: Context<Sqlite>| {
        says.notify_one();
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(handled.notified()).await.unwrap();
    let open = inbox.stats().await.unwrap().backlog();
    assert!(open > u64::from(count) / 2, "it stops at shutdown with work left: {open}");
}

#[tokio::test(start_paused = true)]
async fn runner_survives_a_failing_store() {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(1, 0)]).await;
    let errors = Arc::new(AtomicUsize::new(0));
    let errors_of = Arc::clone(&errors);
    let store = inbox.clone();
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Moody>| {
        // The store fails to settle the first attempt.
        store.store().fails.store(cx.attempt() == 1, Ordering::SeqCst);
        ready(Ok::<_, Infallible>(()))
    };
    let runner = inbox.process(handler).on_error(move |error| {
        assert_eq!(error.kind(), InboxErrorKind::Store);
        errors_of.fetch_add(1, Ordering::SeqCst);
    });
    let repaired = async {
        sleep(Duration::from_secs(10)).await;
        assert!(errors.load(Ordering::SeqCst) > 5, "it polls repeatedly");
        inbox.store().fails.store(false, Ordering::SeqCst);
        drained(inbox.clone()).await;
    };
    runner.run_until(repaired).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn body_that_no_longer_decodes_is_a_dead_letter() {
    let inbox = Inbox::memory();
    let unreadable = Record { body: r#"{"id":17}"#.into(), ..record(1, 0) };
    inbox.store().insert(vec![unreadable]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let letters = inbox.dead(1).await.unwrap();
    let error = &letters[0].error;
    assert!(error.contains("at id") && !error.contains("17"), "where, and no value: {error}");
}

#[tokio::test(start_paused = true)]
async fn handler_can_be_a_service_with_layers() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0)]).await;
    let (sender, mut calls) = mpsc::unbounded_channel();
    let service = service_fn(move |(request, cx): (Stored<PaymentRequest>, Context<Memory>)| {
        let sender = sender.clone();
        async move {
            sender.send((request.id.clone(), cx.attempt())).unwrap();
            if cx.attempt() == 1 {
                sleep(Duration::from_secs(5)).await;
            }
            Ok::<_, Infallible>(())
        }
    });
    let service =
        ServiceBuilder::new().concurrency_limit(1).timeout(Duration::from_secs(1)).service(service);
    inbox.process_with(service).run_until(drained(inbox.clone())).await.unwrap();
    let mut all = Vec::new();
    while let Some(call) = calls.recv().await {
        all.push(call);
    }
    all.sort();
    let expected = [("CAPD-1", 1), ("CAPD-1", 2), ("CAPD-2", 1), ("CAPD-2", 2)];
    assert_eq!(all, expected.map(|(id, attempt)| (id.to_owned(), attempt)));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_is_no_attempt() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0)]).await;
    let service = service_fn(async |_: (Stored<PaymentRequest>, Context<Memory>)| {
        sleep(Duration::from_secs(5)).await;
        Ok::<_, Infallible>(())
    });
    let service = ServiceBuilder::new().concurrency_limit(1).service(service);
    let runner =
        inbox.process_with(service).max_attempts(1).handler_timeout(Duration::from_secs(6));
    let began = Instant::now();
    runner.run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
    assert_eq!(began.elapsed().as_secs(), 15, "one after the other");
}

#[tokio::test(start_paused = true)]
async fn retries_failed_effect_in_memory() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        let attempt = cx.attempt();
        cx.effect(move || if attempt < 3 { Err("not yet") } else { Ok(()) });
        Ok::<_, Infallible>(())
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test]
async fn handlers_ending_together_settle_in_one_commit() {
    let inbox = Moody::inbox(9);
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0)]).await;
    let together = Arc::new(Barrier::new(4));
    let turns = Arc::new(AtomicUsize::new(0));
    let handler = move |_: Stored<PaymentRequest>, _: Context<Moody>| {
        let (together, turns) = (together.clone(), turns.fetch_add(1, Ordering::Relaxed));
        async move {
            together.wait().await;
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(*inbox.store().settled.lock().unwrap(), [4]);
}

// --------------------------------------------------------------------- SQLite alone

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
    let again = claim(inbox.store()).await;
    assert_eq!(shown(&again), [("CAPD-1", 0, Verdict::Newer, 2)], "the other still waits");
}

async fn claim_error(inbox: &Inbox<Sqlite>) -> InboxErrorKind {
    inbox.store().claim(PaymentRequest::KIND, 1, LEASE).await.unwrap_err().kind()
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
    let letters = inbox.list(List::Dead, 999).await.unwrap();
    let discarded = inbox.discard(letters.last().map(|letter| letter.key)).await.unwrap();
    let redriven = inbox.redrive(letters.iter().map(|letter| letter.key)).await.unwrap();
    let some = inbox.prune(NO_WAIT, 300).await.unwrap();
    let rest = inbox.prune(NO_WAIT, 9999).await.unwrap();
    println!("attached: open {open}, dead {dead}, discarded {discarded}, redriven {redriven}");
    println!("pruned {some} and {rest}");
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
    let later =
        |db: &rusqlite::Connection| db.execute("INSERT INTO inqud_inbox_version VALUES (99)", []);
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
    assert_eq!(dead, [("CAPD-2", 3), ("CAPD-4", 3)], "each by attempts of its own");
    assert!(letters[0].error.contains("FOREIGN KEY"), "{}", letters[0].error);
    assert!(letters[1].error.contains("UNIQUE"), "{}", letters[1].error);
    let all = |db: &rusqlite::Connection| {
        let mut all = db.prepare("SELECT id FROM paid ORDER BY id")?;
        all.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    };
    assert_eq!(inbox.write(all).await.unwrap(), ["1", "3", "5", "taken"]);
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
async fn replaces_connection_that_cannot_roll_back() {
    let (inbox, _folder) = file();
    let breaks = |db: &rusqlite::Connection| {
        // A limit on the length of SQL that even a ROLLBACK exceeds.
        db.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_SQL_LENGTH, 5).map(drop)
    };
    for id in 1..=2 {
        let error = inbox.write(breaks).await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::Store);
        insert(&inbox, &[(id, 0)]).await;
        let synchronous = |db: &rusqlite::Connection| {
            db.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))
        };
        assert_eq!(inbox.write(synchronous).await.unwrap(), 2);
    }
    let claimed = claim(inbox.store()).await;
    assert_eq!(claimed.len(), 2);
    assert!(inbox.write(breaks).await.is_err());
    assert!(claim(inbox.store()).await.is_empty(), "leases are kept");
    let settled = settle(inbox.store(), &claimed[0], Outcome::Done(vec![])).await;
    assert_eq!(settled, Settled::Done);
}

#[tokio::test]
async fn empty_batches_are_harmless() {
    let (inbox, _folder) = file();
    for id in 0..9 {
        assert_eq!(inbox.store().settle(Vec::new()).await.unwrap(), []);
        // An empty batch does not wait for the writer. `stats` gives a writer that wrongly ends time to end.
        inbox.stats().await.unwrap();
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
                 settled_at = settled_at + {ahead};
             UPDATE inqud_inbox_object SET due_at = due_at + {ahead};
             UPDATE inqud_inbox_clock SET at = at + {ahead}"
        );
        inbox.close().await;
        let path = folder.path().join("inbox.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(&shift).unwrap();

        let inbox = Inbox::sqlite(&path).unwrap();
        insert(&inbox, &[(5, 0)]).await;
        let mut due = claim(inbox.store()).await;
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
    let claimed = inbox.store().claim(PaymentRequest::KIND, 699, LEASE).await.unwrap();
    let outcomes = claimed.iter().enumerate().map(|(at, it)| match at {
        0..=1 => settlement(it, dead()),
        // One is still leased.
        2 => settlement(it, retry(LEASE)),
        3.. => settlement(it, Outcome::Done(vec![])),
    });
    let held = claimed.last().unwrap();
    inbox.store().settle(outcomes.take(698).collect()).await.unwrap();

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

    let due = inbox.store().claim(PaymentRequest::KIND, 99_999, LEASE).await.unwrap();
    let due: Vec<_> = due.iter().map(|it| (&*it.ticket.object, it.attempt)).collect();
    assert_eq!(
        due.len(),
        2 + usize::try_from(id - 1000).unwrap(),
        "neither the leased, the waiting nor the discarded one"
    );
    assert!(due.contains(&("CAPD-0", 1)), "{due:?}");
    assert_eq!(settle(inbox.store(), held, Outcome::Done(vec![])).await, Settled::Done);
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
    let later =
        |db: &rusqlite::Connection| db.execute("INSERT INTO inqud_inbox_version VALUES (99)", []);
    inbox.write(later).await.unwrap();
    assert_eq!(Inbox::attach(&path).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
}
