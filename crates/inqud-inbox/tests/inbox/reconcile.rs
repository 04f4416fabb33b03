//! Reconciliation: what no webhook brought is found and handled, on each store.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::postgres;
use bytes::Bytes;
use inqud_inbox::{
    Context, Erase, Fetch, Fetched, Inbox, InboxErrorKind, Inserted, LookOutcome, ReconcileReport,
    Reconciled, Reconciler, Record, RunReport, Source, Sqlite, Storable, Store, Stored, Sweep,
    WatchList,
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::{Payment, PaymentRequest, Verdict};

pub(crate) fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

/// Plays the API: an answer for each id, and what was asked.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    answers: HashMap<String, Fetched>,
    asked: Vec<String>,
    /// How many final statuses no webhook brings.
    lost: usize,
}

impl Api {
    pub(crate) fn set(&self, id: &str, answer: impl Into<Answer>) -> &Self {
        self.0.lock().unwrap().answers.insert(id.to_owned(), answer.into().0);
        self
    }

    /// The ids that were asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

pub(crate) struct Answer(Fetched);

impl From<&str> for Answer {
    fn from(body: &str) -> Self {
        Self(Fetched::Found(Bytes::from(body.to_owned())))
    }
}

impl From<String> for Answer {
    fn from(body: String) -> Self {
        Self::from(&*body)
    }
}

impl From<Fetched> for Answer {
    fn from(answer: Fetched) -> Self {
        Self(answer)
    }
}

impl<T> Fetch<T> for Api {
    async fn fetch(&self, id: &str) -> Fetched {
        let mut shared = self.0.lock().unwrap();
        shared.asked.push(id.to_owned());
        let answer = shared.answers.get(id).cloned().unwrap_or(Fetched::Missing);
        drop(shared);
        assert_ne!(answer, later(None, "panic"), "the fetcher panics");
        answer
    }
}

pub(crate) fn later(after: Option<Duration>, reason: &str) -> Fetched {
    Fetched::Later { after, reason: reason.to_owned() }
}

pub(crate) const NOW: [Duration; 1] = [Duration::ZERO];

/// Looks at everything at once.
pub(crate) fn at_once<S: Store + WatchList, T: Storable>(
    inbox: &Inbox<S>,
    api: &Api,
) -> Reconciler<S, T> {
    inbox.reconcile(api.clone()).schedule(NOW).confirm_after(Duration::ZERO)
}

pub(crate) async fn reconcile<T: Storable>(
    inbox: &Inbox<impl Store + WatchList>,
    api: &Api,
) -> ReconcileReport {
    at_once::<_, T>(inbox, api).run_until_idle().await.unwrap()
}

pub(crate) fn report(outcomes: &[(LookOutcome, usize)]) -> ReconcileReport {
    let mut report = ReconcileReport::default();
    for (outcome, count) in outcomes {
        (0..*count).for_each(|_| report.add(*outcome));
    }
    report
}

pub(crate) fn request(status: &str, time: &str) -> String {
    format!(r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":"2026-11-22T{time}Z"}}"#)
}

pub(crate) fn payment(status: &str) -> String {
    format!(r#"{{"id":"PMT-1","status":"{status}","amount":7}}"#)
}

pub(crate) async fn push<T: Storable>(inbox: &Inbox<impl Store>, body: &str) -> Inserted {
    let event: T = serde_json::from_str(body).unwrap();
    let record = Record::new(&event, body.to_owned().into());
    inbox.store().insert(vec![record]).await.unwrap()[0]
}

/// Handles everything, and returns the status, source and verdict of each.
pub(crate) async fn handled<S: Store, T: Storable>(
    inbox: &Inbox<S>,
) -> Vec<(String, Source, Verdict)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&seen);
    let handler = move |event: Stored<T>, cx: Context<S>| {
        its.lock().unwrap().push((event.status_text().to_owned(), event.source(), cx.verdict()));
        async { Ok::<_, Infallible>(()) }
    };
    inbox.process(handler).run_until_idle().await.unwrap();
    std::mem::take(&mut *seen.lock().unwrap())
}

pub(crate) fn fetched(status: &str, verdict: Verdict) -> (String, Source, Verdict) {
    (status.to_owned(), Source::Fetched, verdict)
}

fn pushed(status: &str, verdict: Verdict) -> (String, Source, Verdict) {
    (status.to_owned(), Source::Pushed, verdict)
}

const PAST: Timestamp = Timestamp::UNIX_EPOCH;

of_each_store! {
    recovers_what_no_webhook_brought
    late_webhook_is_a_duplicate_of_what_was_fetched
    fetch_agrees_with_the_webhook_in_fewer_digits
    api_that_is_behind_changes_nothing
    other_fields_of_the_api_are_no_news
    larger_amount_is_recovered_as_amended
    payment_that_came_back_is_recovered
    fetched_state_without_a_time_is_not_for_review
    webhook_during_the_fetch_is_not_overtaken
    confirmed_review_is_handled
    contradicted_review_is_discarded
    missing_object_stays_on_the_list
    failing_api_holds_up_all_looks
    useless_answers_spoil_one_look
    tenants_have_their_own_client
    dry_run_changes_nothing
    waits_for_the_first_look
    webhook_moves_the_look
    final_status_is_confirmed_once
    status_without_a_body_is_confirmed
    crashed_look_is_repeated
    reconciler_ends_with_a_closed_store
    two_reconcilers_share_the_looks
    many_arrivals_are_all_enrolled
    fetched_state_enrols_nothing_again
    look_after_rows_were_deleted_agrees
    look_after_an_erasure_stores_nothing
    confirm_mode_handles_what_the_api_shows
    confirm_mode_handles_no_state_again
    confirm_mode_answers_reviews
    confirm_mode_is_limited
    unanswered_review_is_asked_about_once_an_hour
    heals_lost_webhooks_in_spite_of_crashes
}

async fn recovers_what_no_webhook_brought(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[]), "nobody knows of it");

    inbox.expect::<PaymentRequest>("CAPD-1", PAST).await.unwrap();
    assert_eq!(
        reconcile::<PaymentRequest>(inbox, &api).await,
        report(&[(LookOutcome::Recovered, 1)])
    );
    let handled = handled::<_, PaymentRequest>(inbox).await;
    assert_eq!(handled, [fetched("SUCCESS", Verdict::Newer)]);
    assert_eq!(api.asked().len(), 1);
}

async fn late_webhook_is_a_duplicate_of_what_was_fetched(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    // Fewer fraction digits, another order of the keys.
    api.set(
        "CAPD-1",
        r#"{"lastUpdatedAt":"2026-11-22T10:05:00.250Z","status":"SUCCESS","id":"CAPD-1"}"#,
    );
    let now = at_once::<_, PaymentRequest>(inbox, &api).reconcile_now(["CAPD-1"]).await.unwrap();
    assert_eq!(now[0].outcome, LookOutcome::Recovered);
    let late = request("SUCCESS", "10:05:00.250123456");
    assert_eq!(push::<PaymentRequest>(inbox, &late).await, Inserted::DuplicateDiffers);
    // Rounded up to the millisecond.
    let late = request("SUCCESS", "10:05:00.249999");
    assert_eq!(push::<PaymentRequest>(inbox, &late).await, Inserted::DuplicateDiffers);
    let handled = handled::<_, PaymentRequest>(inbox).await;
    assert_eq!(handled, [fetched("SUCCESS", Verdict::Newer)]);
}

async fn fetch_agrees_with_the_webhook_in_fewer_digits(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00.250987654")).await;
    for time in ["10:05:00.250987", "10:05:00.250", "10:05:00.251"] {
        api.set("CAPD-1", request("SUCCESS", time));
        let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
        let now = reconciler.reconcile_now(["CAPD-1"]).await.unwrap();
        assert_eq!(now[0].outcome, LookOutcome::Agreed, "{time}");
    }
    let handled = handled::<_, PaymentRequest>(inbox).await;
    assert_eq!(handled, [pushed("SUCCESS", Verdict::Newer)]);
}

async fn api_that_is_behind_changes_nothing(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    api.set("CAPD-1", request("PENDING_PAYMENT", "10:01:00"));
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[(LookOutcome::Ahead, 1)]));
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

async fn other_fields_of_the_api_are_no_news(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    let other = request("SUCCESS", "10:05:00").replace('{', r#"{"network":"ETH","paidAmount":5,"#);
    api.set("CAPD-1", other);
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[(LookOutcome::Agreed, 1)]));
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

async fn larger_amount_is_recovered_as_amended(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let conflict =
        |paid| request("CONFLICT", "10:05:00").replace('{', &format!(r#"{{"paidAmount":{paid},"#));
    push::<PaymentRequest>(inbox, &conflict("50")).await;
    api.set("CAPD-1", conflict("99.46291"));
    for outcome in [LookOutcome::Recovered, LookOutcome::Agreed] {
        let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
        assert_eq!(reconciler.look_at(None, "CAPD-1").await.unwrap().outcome, outcome);
    }
    let handled = handled::<_, PaymentRequest>(inbox).await;
    let amended = fetched("CONFLICT", Verdict::Amended);
    assert_eq!(handled, [pushed("CONFLICT", Verdict::Newer), amended]);
}

/// A repeat by webhook would be kept for review, because it may be late. What is fetched is true now.
async fn payment_that_came_back_is_recovered(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<Payment>(inbox, &payment("SUCCESS")).await;
    push::<Payment>(inbox, &payment("FAILED")).await;
    assert_eq!(handled::<_, Payment>(inbox).await.len(), 2);
    api.set("PMT-1", payment("SUCCESS"));
    for outcome in [LookOutcome::Recovered, LookOutcome::Agreed] {
        let look = at_once::<_, Payment>(inbox, &api).look_at(None, "PMT-1").await.unwrap();
        assert_eq!(look.outcome, outcome);
    }
    let handled = handled::<_, Payment>(inbox).await;
    assert_eq!(handled, [fetched("SUCCESS", Verdict::Unordered)]);
    assert_eq!(push::<Payment>(inbox, &payment("SUCCESS")).await, Inserted::Duplicate);
}

async fn fetched_state_without_a_time_is_not_for_review(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("PENDING_PAYMENT", "10:01:00")).await;
    assert_eq!(handled::<_, PaymentRequest>(inbox).await.len(), 1);
    api.set("CAPD-1", r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":null}"#);
    let look = at_once::<_, PaymentRequest>(inbox, &api).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Recovered);
    let handled = handled::<_, PaymentRequest>(inbox).await;
    assert_eq!(handled, [fetched("SUCCESS", Verdict::Unordered)]);
}

async fn look_after_rows_were_deleted_agrees(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    assert_eq!(handled::<_, PaymentRequest>(inbox).await.len(), 1);
    push::<Payment>(inbox, &payment("SUCCESS")).await;
    assert_eq!(handled::<_, Payment>(inbox).await.len(), 1);
    // SQLite keeps the row with the last number.
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-2"))
        .await;
    let rows =
        Sweep::Notifications { age: Duration::ZERO, includes_reviews: false, after: i64::MIN };
    assert_eq!(inbox.store().sweep_batch(rows, 100).await.unwrap().count, 2);

    let extra = request("SUCCESS", "10:05:00").replace('{', r#"{"network":"ETH","#);
    api.set("CAPD-1", extra).set("PMT-1", payment("SUCCESS"));
    let look = at_once::<_, PaymentRequest>(inbox, &api).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Agreed);
    let look = at_once::<_, Payment>(inbox, &api).look_at(None, "PMT-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Agreed);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);

    api.set("CAPD-1", request("CONFLICT", "10:06:00"));
    let look = at_once::<_, PaymentRequest>(inbox, &api).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Recovered, "it is news");
}

async fn look_after_an_erasure_stores_nothing(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    assert_eq!(handled::<_, PaymentRequest>(inbox).await.len(), 1);
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
    let reconciler = reconciler.confirm_after(Duration::from_secs(1));
    // It is on the list, and not due yet.
    assert_eq!(reconciler.run_until_idle().await.unwrap(), report(&[]));
    let erase = Erase::object(PaymentRequest::KIND, "CAPD-1");
    assert_eq!(inbox.erase(erase).await.unwrap(), 1);
    sleep(Duration::from_millis(1_500)).await;
    let extra = request("SUCCESS", "10:05:00").replace('{', r#"{"network":"ETH","#);
    api.set("CAPD-1", extra);
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[]), "not on the list");
    let look = at_once::<_, PaymentRequest>(inbox, &api).look_at(None, "CAPD-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Agreed);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
}

/// Fetches, and lets a webhook arrive before it answers.
struct Overtaken<S> {
    inbox: Inbox<S>,
    webhook: String,
    answer: String,
}

impl<S: Store> Fetch<Payment> for Overtaken<S> {
    async fn fetch(&self, _: &str) -> Fetched {
        push::<Payment>(&self.inbox, &self.webhook).await;
        Fetched::Found(Bytes::from(self.answer.clone()))
    }
}

async fn webhook_during_the_fetch_is_not_overtaken<S: Store + WatchList>(inbox: &Inbox<S>) {
    push::<Payment>(inbox, &payment("PENDING")).await;
    let (webhook, answer) = (payment("FAILED"), payment("SUCCESS"));
    let fetch = Overtaken { inbox: inbox.clone(), webhook, answer };
    let look = inbox.reconcile(fetch).look_at(None, "PMT-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Later);
    let handled = handled::<_, Payment>(inbox).await;
    assert_eq!(handled.last().unwrap(), &pushed("FAILED", Verdict::Newer));
}

async fn with_review(inbox: &Inbox<impl Store + WatchList>) {
    for status in ["SUCCESS", "FAILED", "SUCCESS"] {
        push::<Payment>(inbox, &payment(status)).await;
    }
    assert_eq!(inbox.stats().await.unwrap().review(), 1);
    assert_eq!(handled::<_, Payment>(inbox).await.len(), 2);
}

async fn confirmed_review_is_handled(inbox: &Inbox<impl Store + WatchList>) {
    with_review(inbox).await;
    let api = Api::default();
    api.set("PMT-1", payment("SUCCESS"));
    let reconciler = at_once::<_, Payment>(inbox, &api);
    // Its look is not due yet, but the review makes it so.
    let reconciler = reconciler.schedule([Duration::from_secs(3600)]);
    let outcomes = reconciler.confirm_after(Duration::from_secs(3600)).run_until_idle().await;
    assert_eq!(outcomes.unwrap(), report(&[(LookOutcome::Agreed, 1)]));
    let handled = handled::<_, Payment>(inbox).await;
    assert_eq!(handled, [pushed("SUCCESS", Verdict::Unordered)]);
    assert_eq!(inbox.stats().await.unwrap().review(), 0);
}

async fn contradicted_review_is_discarded(inbox: &Inbox<impl Store + WatchList>) {
    with_review(inbox).await;
    let api = Api::default();
    api.set("PMT-1", payment("REFUNDED"));
    assert_eq!(reconcile::<Payment>(inbox, &api).await, report(&[(LookOutcome::Recovered, 1)]));
    let handled = handled::<_, Payment>(inbox).await;
    assert_eq!(handled, [fetched("REFUNDED", Verdict::Unordered)]);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.review(), stats.skipped()), (0, 1));
}

async fn missing_object_stays_on_the_list(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::now()).await.unwrap();
    let again = [0, 500, 1000, 60_000].map(Duration::from_millis);
    let reconcile =
        || inbox.reconcile::<PaymentRequest>(api.clone()).schedule(again).run_until_idle();
    let outcomes = reconcile().await.unwrap();
    // It was created just now.
    assert!(outcomes.later > 0 && outcomes.missing == 0, "{outcomes:?}");
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(reconcile().await.unwrap(), report(&[(LookOutcome::Recovered, 1)]));
    let reconciler = at_once::<_, PaymentRequest>(inbox, &api);
    assert_eq!(reconciler.look_at(None, "CAPD-2").await.unwrap().outcome, LookOutcome::Missing);
}

async fn failing_api_holds_up_all_looks(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    for id in 0..50 {
        let id = format!("CAPD-{id}");
        inbox.expect::<PaymentRequest>(&id, PAST).await.unwrap();
        api.set(&id, later(Some(Duration::MAX), "429"));
    }
    let reconciler = at_once::<_, PaymentRequest>(inbox, &api).concurrency(3);
    let outcomes = reconciler.run_until_idle().await.unwrap();
    let asked = api.asked().len();
    assert!(asked <= 5, "{asked} of 50 requests");
    assert_eq!(outcomes.later, asked as u64);
}

async fn useless_answers_spoil_one_look(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let padded = |size| {
        let body = request("SUCCESS", "10:05:00");
        body.replace('{', &format!(r#"{{"more":"{}","#, "x".repeat(size - body.len() - 10)))
    };
    let limit = 256 * 1024;
    let largest = padded(limit);
    assert_eq!(largest.len(), limit);
    let answers = [
        Answer::from(later(None, "panic")),
        Answer::from(request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-9")),
        Answer::from("{}"),
        Answer::from("<html>"),
        Answer::from(padded(limit + 1).replace("CAPD-1", "CAPD-6")),
    ];
    for (id, answer) in answers.into_iter().enumerate() {
        let id = format!("CAPD-{}", id + 2);
        inbox.expect::<PaymentRequest>(&id, PAST).await.unwrap();
        api.set(&id, answer.0);
    }
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::now()).await.unwrap();
    api.set("CAPD-1", largest);
    assert_eq!(
        reconcile::<PaymentRequest>(inbox, &api).await,
        report(&[(LookOutcome::Recovered, 1), (LookOutcome::Later, 5)])
    );
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

async fn tenants_have_their_own_client(inbox: &Inbox<impl Store + WatchList>) {
    let (own, acme) = (Api::default(), Api::default());
    own.set("CAPD-1", request("EXPIRED", "10:05:00"));
    acme.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect_of_tenant::<PaymentRequest>("acme", "CAPD-1", PAST).await.unwrap();
    inbox.expect_of_tenant::<PaymentRequest>("other", "CAPD-1", PAST).await.unwrap();
    let none = || report(&[(LookOutcome::Later, 2)]);
    assert_eq!(reconcile::<PaymentRequest>(inbox, &own).await, none());
    assert!(own.asked().is_empty(), "with the credentials of another merchant");
    let clients = HashMap::from([(None, own), (Some("acme"), acme)]);
    let clients: HashMap<_, _> =
        clients.into_iter().map(|(tenant, api)| (tenant, Arc::new(api))).collect();
    let reconciler: Reconciler<_, PaymentRequest> =
        inbox.reconcile_per_tenant(move |tenant| clients.get(&tenant).cloned());
    let look: Reconciled = reconciler.look_at(Some("acme"), "CAPD-1").await.unwrap();
    assert_eq!((look.outcome, look.tenant.as_deref()), (LookOutcome::Recovered, Some("acme")));
    let handler = async |_: Stored<PaymentRequest>, cx: Context<_>| {
        assert_eq!(cx.tenant(), Some("acme"));
        Ok::<_, Infallible>(())
    };
    assert_eq!(inbox.process(handler).run_until_idle().await.unwrap().done, 1);
}

async fn dry_run_changes_nothing(inbox: &Inbox<impl Store + WatchList>) {
    with_review(inbox).await;
    let api = Api::default();
    api.set("PMT-1", payment("REFUNDED"))
        .set("PMT-2", payment("SUCCESS").replace("PMT-1", "PMT-2"));
    let before = inbox.stats().await.unwrap();
    for _ in 0..2 {
        let reconciler = at_once::<_, Payment>(inbox, &api).dry_run();
        let looks = reconciler.reconcile_now(["PMT-1", "PMT-2", "PMT-3"]).await.unwrap();
        let outcomes: Vec<_> = looks.iter().map(|it| it.outcome.as_str()).collect();
        assert_eq!(outcomes, ["recovered", "recovered", "missing"]);
        assert_eq!(looks[0].status.as_deref(), Some("REFUNDED"));
        assert_eq!(reconciler.run_until_idle().await.unwrap(), report(&[]));
    }
    assert_eq!(inbox.stats().await.unwrap(), before);
}

async fn waits_for_the_first_look(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", Timestamp::now()).await.unwrap();
    let waits = [Duration::from_millis(300)];
    let reconcile = || at_once::<_, PaymentRequest>(inbox, &api).schedule(waits).run_until_idle();
    assert_eq!(reconcile().await.unwrap(), report(&[]));
    sleep(Duration::from_millis(400)).await;
    assert_eq!(reconcile().await.unwrap(), report(&[(LookOutcome::Recovered, 1)]));

    // The payer has an hour.
    let in_an_hour = Timestamp::now() + Duration::from_secs(3600);
    let waiting = |id| {
        format!(r#"{{"id":"CAPD-{id}","status":"WAITING_PAYMENT","expiresAt":"{in_an_hour}"}}"#)
    };
    push::<PaymentRequest>(inbox, &waiting(2)).await;
    push::<PaymentRequest>(inbox, &waiting(3).replace("WAITING", "PENDING")).await;
    api.asked();
    reconcile().await.unwrap();
    sleep(Duration::from_millis(400)).await;
    reconcile().await.unwrap();
    assert_eq!(api.asked(), ["CAPD-3"]);
}

async fn webhook_moves_the_look(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let waits = [Duration::from_millis(400)];
    let reconcile = || at_once::<_, PaymentRequest>(inbox, &api).schedule(waits).run_until_idle();
    let began = Instant::now();
    push::<PaymentRequest>(inbox, &request("PENDING_PAYMENT", "10:01:00")).await;
    reconcile().await.unwrap();
    let mut last = Instant::now();
    for minute in 2..5 {
        sleep(Duration::from_millis(200)).await;
        push::<PaymentRequest>(inbox, &request("PENDING_PAYMENT", &format!("10:0{minute}:00")))
            .await;
        last = Instant::now();
        // One that is late does not.
        push::<PaymentRequest>(inbox, &request("WAITING_PAYMENT", &format!("09:0{minute}:00")))
            .await;
        reconcile().await.unwrap();
    }
    if last.elapsed() < Duration::from_millis(400) {
        assert!(began.elapsed() > Duration::from_millis(400));
        assert!(api.asked().is_empty());
    }
    sleep(Duration::from_millis(500)).await;
    reconcile().await.unwrap();
    assert_eq!(api.asked().len(), 1);
}

async fn final_status_is_confirmed_once(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    let soon = [1, 2, 3].map(Duration::from_millis);
    let reconcile = || at_once::<_, PaymentRequest>(inbox, &api).schedule(soon).run_until_idle();
    let mut agreed = 0;
    for _ in 0..5 {
        agreed += reconcile().await.unwrap().agreed;
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(agreed, 1);

    // It expires, and is paid late.
    push::<PaymentRequest>(
        inbox,
        &request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-2").replace("SUCCESS", "EXPIRED"),
    )
    .await;
    api.set("CAPD-2", request("EXPIRED", "10:05:00").replace("CAPD-1", "CAPD-2"));
    let later = [1, 400].map(Duration::from_millis);
    let reconcile =
        || inbox.reconcile::<PaymentRequest>(api.clone()).schedule(later).run_until_idle();
    reconcile().await.unwrap();
    sleep(Duration::from_millis(20)).await;
    assert_eq!(reconcile().await.unwrap().recovered, 0);
    api.set("CAPD-2", request("SUCCESS", "11:05:00").replace("CAPD-1", "CAPD-2"));
    sleep(Duration::from_millis(600)).await;
    assert_eq!(reconcile().await.unwrap(), report(&[(LookOutcome::Recovered, 1)]));
}

/// Its body was deleted before a reconciler read it.
async fn status_without_a_body_is_confirmed(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00")).await;
    assert_eq!(handled::<_, PaymentRequest>(inbox).await.len(), 1);
    let bodies = Sweep::Bodies(Duration::ZERO);
    assert_eq!(inbox.store().sweep_batch(bodies, 100).await.unwrap().count, 1);
    // The body does not say which object it belongs to.
    let body = request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-2");
    let decoded = Record::decode::<PaymentRequest>(body).unwrap();
    let undecodable = Record { body: "<html>".into(), ..decoded };
    inbox.store().insert(vec![undecodable]).await.unwrap();
    api.set("CAPD-1", request("CONFLICT", "10:06:00"));
    let recovered = report(&[(LookOutcome::Recovered, 1)]);
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, recovered);
}

async fn reconciler_ends_with_a_closed_store(inbox: &Inbox<impl Store + WatchList>) {
    inbox.close().await;
    let api = Api::default();
    let running = at_once::<_, PaymentRequest>(inbox, &api).run_until(pending());
    let error = timeout(crate::claims::LONG, running).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Closed);
}

async fn crashed_look_is_repeated(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", PAST).await.unwrap();
    let store = inbox.store();
    let claim = || store.claim_looks(PaymentRequest::KIND, 9, Duration::from_millis(50));
    // It is scheduled, then due.
    let first = claim().await.unwrap();
    assert_eq!((first.len(), first[0].looks), (1, None));
    assert!(claim().await.unwrap().is_empty(), "it is leased");
    sleep(Duration::from_millis(60)).await;
    assert_eq!(
        reconcile::<PaymentRequest>(inbox, &api).await,
        report(&[(LookOutcome::Recovered, 1)])
    );
    use inqud_inbox::__private::Next;
    store.end_looks(vec![(first[0].clone(), Next::Done)]).await.unwrap();
}

async fn two_reconcilers_share_the_looks(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    for id in 1..=40 {
        let id = format!("CAPD-{id}");
        inbox.expect::<PaymentRequest>(&id, PAST).await.unwrap();
        api.set(&id, request("SUCCESS", "10:05:00").replace("CAPD-1", &id));
    }
    let (one, other) = tokio::join!(
        reconcile::<PaymentRequest>(inbox, &api),
        reconcile::<PaymentRequest>(inbox, &api)
    );
    assert_eq!(one.recovered + other.recovered, 40, "{one:?} {other:?}");
    let mut asked = api.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 40);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 40);
}

async fn many_arrivals_are_all_enrolled(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let body = |id| request("PENDING_PAYMENT", "10:01:00").replace("CAPD-1", &format!("CAPD-{id}"));
    let records = (0..1200).map(|id| {
        let event: PaymentRequest = serde_json::from_str(&body(id)).unwrap();
        Record::new(&event, body(id).into())
    });
    inbox.store().insert(records.collect()).await.unwrap();
    for id in 0..1200 {
        api.set(
            &format!("CAPD-{id}"),
            body(id).replace("PENDING_PAYMENT", "CONFLICT").replace("10:01", "10:02"),
        );
    }
    let outcomes = at_once::<_, PaymentRequest>(inbox, &api).concurrency(32).run_until_idle().await;
    assert_eq!(outcomes.unwrap(), report(&[(LookOutcome::Recovered, 1200)]));
}

async fn fetched_state_enrols_nothing_again(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", PAST).await.unwrap();
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await.recovered, 1);
    for _ in 0..3 {
        assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[]));
    }
    // A webhook does.
    push::<PaymentRequest>(inbox, &request("SUCCESS", "10:07:00")).await;
    assert_eq!(reconcile::<PaymentRequest>(inbox, &api).await, report(&[(LookOutcome::Ahead, 1)]));
}

/// The statuses and sources of what is handled after the API has confirmed it.
async fn confirmed<S: Store + WatchList, T: Storable>(
    inbox: &Inbox<S>,
    api: &Api,
    per_minute: u32,
) -> (RunReport, Vec<(String, Source)>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&seen);
    let handler = move |event: Stored<T>, _: Context<S>| {
        its.lock().unwrap().push((event.status_text().to_owned(), event.source()));
        async { Ok::<_, Infallible>(()) }
    };
    let runner = inbox.process(handler).confirm_with(api.clone(), per_minute);
    let report = runner.backoff(LONG, LONG).run_until_idle().await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

const LONG: Duration = Duration::from_secs(600);

async fn confirm_mode_handles_what_the_api_shows(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let with_id = |id: &str, status, time| request(status, time).replace("CAPD-1", id);
    let ids = ["CAPD-1", "CAPD-2", "CAPD-3", "CAPD-4", "CAPD-5"];
    for id in ids {
        push::<PaymentRequest>(inbox, &with_id(id, "SUCCESS", "10:05:00.250987")).await;
    }
    api.set(ids[0], with_id(ids[0], "SUCCESS", "10:05:00.250"));
    api.set(ids[1], with_id(ids[1], "CONFLICT", "10:06:00"));
    api.set(ids[2], with_id(ids[2], "PENDING_PAYMENT", "10:01:00"));
    api.set(ids[3], later(None, "429"));
    let (report, seen) = confirmed::<_, PaymentRequest>(inbox, &api, 60).await;
    assert_eq!((report.done, report.skipped, report.retried), (2, 1, 3));
    let mut seen: Vec<_> =
        seen.into_iter().map(|(status, source)| (status, source.as_str())).collect();
    seen.sort();
    let expected = [("CONFLICT", "fetched"), ("SUCCESS", "pushed")];
    assert_eq!(seen, expected.map(|(status, source)| (status.to_owned(), source)));
    let mut asked = api.asked();
    asked.sort();
    assert_eq!(asked, ids, "each once, and what was fetched is not confirmed again");
}

/// A payment has no times, so only the API knows that the second one is old or forged.
async fn confirm_mode_handles_no_state_again(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    api.set("PMT-1", payment("SUCCESS"));
    push::<Payment>(inbox, &payment("SUCCESS")).await;
    let (report, _) = confirmed::<_, Payment>(inbox, &api, 60).await;
    assert_eq!(report.done, 1);
    push::<Payment>(inbox, &payment("FAILED")).await;
    let (report, seen) = confirmed::<_, Payment>(inbox, &api, 60).await;
    assert_eq!((report.done, report.skipped, seen.len()), (0, 1, 0));
    let look = at_once::<_, Payment>(inbox, &api).look_at(None, "PMT-1").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Agreed);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
}

async fn confirm_mode_answers_reviews(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    let without_time = |id: &str| format!(r#"{{"id":"{id}","status":"SUCCESS"}}"#);
    for id in ["CAPD-1", "CAPD-2", "CAPD-3"] {
        let pending = request("PENDING_PAYMENT", "10:01:00").replace("CAPD-1", id);
        push::<PaymentRequest>(inbox, &pending).await;
        api.set(id, pending);
    }
    assert_eq!(confirmed::<_, PaymentRequest>(inbox, &api, 60).await.0.done, 3);
    for id in ["CAPD-1", "CAPD-2", "CAPD-3"] {
        push::<PaymentRequest>(inbox, &without_time(id)).await;
    }
    api.set("CAPD-1", without_time("CAPD-1"));
    let expired = request("EXPIRED", "10:09:00").replace("CAPD-1", "CAPD-2");
    api.set("CAPD-2", expired).set("CAPD-3", later(None, "500"));
    let (report, seen) = confirmed::<_, PaymentRequest>(inbox, &api, 60).await;
    let mut seen: Vec<_> = seen.into_iter().map(|(status, _)| status).collect();
    seen.sort();
    assert_eq!(seen, ["EXPIRED", "SUCCESS"], "{report:?}");
    assert_eq!(inbox.stats().await.unwrap().review(), 1, "nothing has answered for CAPD-3");
}

async fn confirm_mode_is_limited(inbox: &Inbox<impl Store + WatchList>) {
    let api = Api::default();
    for id in 0..20 {
        let id = format!("CAPD-{id}");
        push::<PaymentRequest>(inbox, &request("SUCCESS", "10:05:00").replace("CAPD-1", &id)).await;
        api.set(&id, request("SUCCESS", "10:05:00").replace("CAPD-1", &id));
    }
    let (report, _) = confirmed::<_, PaymentRequest>(inbox, &api, 3).await;
    assert_eq!((report.done, report.retried), (3, 17));
    assert_eq!(api.asked().len(), 3);
}

async fn unanswered_review_is_asked_about_once_an_hour(inbox: &Inbox<impl Store + WatchList>) {
    with_review(inbox).await;
    let api = Api::default();
    let hour = Duration::from_secs(3600);
    for _ in 0..3 {
        let reconciler = at_once::<_, Payment>(inbox, &api).schedule([hour, 2 * hour]);
        reconciler.confirm_after(hour).run_until_idle().await.unwrap();
    }
    assert_eq!(api.asked().len(), 1);
    assert_eq!(inbox.stats().await.unwrap().review(), 1);
}

/// Three in ten deliveries are lost for ever, and reconciler and runner end in the middle three times.
async fn heals_lost_webhooks_in_spite_of_crashes<S: Store + WatchList>(inbox: &Inbox<S>) {
    const COUNT: usize = 300;
    let api = Api::default();
    let ids: Vec<_> = (0..COUNT).map(|id| format!("CAPD-{id}")).collect();
    let mut delivered = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        inbox.expect::<PaymentRequest>(id, Timestamp::now()).await.unwrap();
        let end = ["SUCCESS", "CONFLICT", "EXPIRED"][at % 3];
        for (nth, status) in ["WAITING_PAYMENT", "PENDING_PAYMENT", end].into_iter().enumerate() {
            let time = format!("10:0{nth}:00.123456");
            let body = request(status, &time).replace("CAPD-1", id);
            if (at * 7 + nth * 5) % 10 >= 3 {
                let event: PaymentRequest = serde_json::from_str(&body).unwrap();
                delivered.push(Record::new(&event, body.into()));
            } else if nth == 2 {
                api.0.lock().unwrap().lost += 1;
            }
        }
        let now = request(end, "10:02:00.123").replace("CAPD-1", id);
        api.set(id, now);
    }
    inbox.store().insert(delivered).await.unwrap();
    let ends = Arc::new(Mutex::new(HashMap::<String, String>::new()));
    let soon = [10, 300, 600, 900, 1200].map(Duration::from_millis);
    for round in 0..4 {
        let its = Arc::clone(&ends);
        let handler = move |request: Stored<PaymentRequest>, _: Context<S>| {
            let status = request.status.as_str().to_owned();
            its.lock().unwrap().insert(request.id.clone(), status);
            async { Ok::<_, Infallible>(()) }
        };
        let reconciler = at_once::<_, PaymentRequest>(inbox, &api).schedule(soon);
        let reconciler = reconciler.poll_interval(Duration::from_millis(20)).concurrency(8);
        let reconciler = reconciler.fetch_timeout(Duration::from_millis(200));
        let runner = inbox.process(handler).handler_timeout(Duration::from_millis(500));
        if round < 3 {
            let both = async {
                tokio::join!(reconciler.run_until(pending()), runner.run_until(pending()))
            };
            timeout(Duration::from_millis(60), both).await.unwrap_err();
        } else {
            let healed = async {
                loop {
                    let is_end =
                        |status: &String| ["SUCCESS", "CONFLICT", "EXPIRED"].contains(&&**status);
                    if ends.lock().unwrap().values().filter(|it| is_end(it)).count() == COUNT {
                        break;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let runner = runner.run_until(async { drop(stopped.await) });
            let reconciler = reconciler.run_until(async {
                timeout(LONG, healed).await.unwrap();
                stop.send(()).unwrap();
            });
            let (reconciled, ran) = tokio::join!(reconciler, runner);
            reconciled.and(ran).unwrap();
        }
    }
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(ends.lock().unwrap()[id], ["SUCCESS", "CONFLICT", "EXPIRED"][at % 3], "{id}");
    }
    let mut looks = HashMap::<String, u32>::new();
    api.asked().into_iter().for_each(|id| *looks.entry(id).or_default() += 1);
    // A look that a crash interrupted is repeated, and begins again if the fetched state was stored.
    assert!(looks.values().all(|count| *count <= 12), "{looks:?}");
    assert!(api.0.lock().unwrap().lost > COUNT / 5, "{}", api.0.lock().unwrap().lost);
}

#[tokio::test(start_paused = true)]
async fn looks_go_on_when_the_pause_is_over() {
    let inbox = Inbox::memory();
    let api = Api::default();
    api.set("CAPD-1", later(Some(Duration::from_secs(300)), "status 429"));
    // Not so long ago that the look is given up.
    let since = Timestamp::now() - jiff::SignedDuration::from_secs(60);
    inbox.expect::<PaymentRequest>("CAPD-1", since).await.unwrap();
    let hour = Duration::from_secs(3600);
    let shutdown = async {
        for (pause, count) in [(1, 1), (298, 0), (10, 1)] {
            sleep(Duration::from_secs(pause)).await;
            assert_eq!(api.asked().len(), count, "after {pause} s");
        }
    };
    let reconciler = at_once::<_, PaymentRequest>(&inbox, &api).poll_interval(hour);
    reconciler.run_until(shutdown).await.unwrap();
}

#[tokio::test]
async fn expects_in_the_merchants_transaction_in_sqlite() {
    let (inbox, folder) = file();
    let expect = |id: &'static str, is_stored: bool| {
        inbox.write(move |db| {
            Sqlite::expect::<PaymentRequest>(db, id, PAST)?;
            Sqlite::expect_of_tenant::<PaymentRequest>(db, "a/b", id, PAST)?;
            if is_stored { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
        })
    };
    expect("CAPD-1", true).await.unwrap();
    expect("CAPD-2", false).await.unwrap_err();
    expects_only_the_first(&inbox).await;

    // Next to the process that has the file open.
    let attached = Inbox::attach(folder.path().join("inbox.db")).unwrap();
    let api = Api::default();
    api.set("CAPD-7", request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-7"));
    for (is_dry, outcome) in [
        (true, LookOutcome::Recovered),
        (false, LookOutcome::Recovered),
        (false, LookOutcome::Agreed),
    ] {
        let reconciler = attached.reconcile::<PaymentRequest>(api.clone());
        let reconciler = if is_dry { reconciler.dry_run() } else { reconciler };
        assert_eq!(reconciler.reconcile_now(["CAPD-7"]).await.unwrap()[0].outcome, outcome);
    }
    assert_eq!(handled::<_, PaymentRequest>(&inbox).await, [fetched("SUCCESS", Verdict::Newer)]);
}

#[tokio::test]
async fn reconciles_next_to_the_process_in_sqlite() {
    let (inbox, folder) = file();
    let attached = Inbox::attach(folder.path().join("inbox.db")).unwrap();
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    inbox.expect::<PaymentRequest>("CAPD-1", PAST).await.unwrap();
    let of_other = |body: String| body.replace("CAPD-1", "CAPD-2");
    push::<PaymentRequest>(&inbox, &of_other(request("WAITING_PAYMENT", "10:01:00"))).await;
    api.set("CAPD-2", of_other(request("EXPIRED", "10:05:00")));
    for expected in [report(&[(LookOutcome::Recovered, 2)]), report(&[])] {
        let reconciler = attached.reconcile::<PaymentRequest>(api.clone()).schedule(NOW);
        assert_eq!(reconciler.run_until_idle().await.unwrap(), expected);
    }
    assert_eq!(handled::<_, PaymentRequest>(&inbox).await.len(), 3);
    let leased = |db: &rusqlite::Connection| {
        let count = "SELECT count(*) FROM inqud_inbox_watch WHERE leased";
        db.query_row(count, [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(inbox.write(leased).await.unwrap(), 0, "all looks have ended");

    // Reviews are asked about at once.
    with_review(&inbox).await;
    api.asked();
    let reconciler = attached.reconcile::<Payment>(api.clone());
    reconciler.schedule([Duration::from_secs(3600)]).run_until_idle().await.unwrap();
    assert!(api.asked().contains(&"PMT-1".to_owned()));
}

#[tokio::test]
async fn expects_in_the_merchants_transaction_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("expects").await;
    let mut client = postgres::connect(&server.config("expects")).await;
    for (id, is_stored) in [("CAPD-1", true), ("CAPD-2", false)] {
        let transaction = client.transaction().await.unwrap();
        let own = "SELECT inqud_inbox.expect('request', $1, '1970-01-01')";
        transaction.execute(own, &[&id]).await.unwrap();
        let of_tenant = "SELECT inqud_inbox.expect('request', $1, NULL, 'a/b')";
        transaction.execute(of_tenant, &[&id]).await.unwrap();
        if is_stored {
            transaction.commit().await.unwrap();
        }
    }
    expects_only_the_first(&inbox).await;
}

async fn expects_only_the_first(inbox: &Inbox<impl Store + WatchList>) {
    let api = Arc::new(Api::default());
    let its = Arc::clone(&api);
    let tenants = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&tenants);
    let reconciler: Reconciler<_, PaymentRequest> = inbox.reconcile_per_tenant(move |tenant| {
        asked.lock().unwrap().push(tenant.map(str::to_owned));
        Some(Arc::clone(&its))
    });
    assert_eq!(reconciler.schedule(NOW).run_until_idle().await.unwrap().later, 2);
    assert_eq!(api.asked(), ["CAPD-1", "CAPD-1"]);
    tenants.lock().unwrap().sort();
    assert_eq!(*tenants.lock().unwrap(), [None, Some("a/b".to_owned())]);
}

/// A put can commit after another one whose number is higher.
#[tokio::test]
async fn reads_what_a_slow_transaction_stores_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("slow_put").await;
    let api = Api::default();
    let run = || at_once::<_, PaymentRequest>(&inbox, &api).run_until_idle();
    run().await.unwrap();
    let mut client = postgres::connect(&server.config("slow_put")).await;
    let slow = client.transaction().await.unwrap();
    let put = "
        INSERT INTO inqud_inbox.notification (kind, object, position, key, order_key, body, received_at)
        VALUES ('request', 'CAPD-2', 0, '0123456789abcdef', '', $1, now())";
    let body = request("PENDING_PAYMENT", "10:01:00").replace("CAPD-1", "CAPD-2");
    slow.execute(put, &[&body.as_bytes()]).await.unwrap();
    push::<PaymentRequest>(&inbox, &request("PENDING_PAYMENT", "10:01:00")).await;
    run().await.unwrap();
    assert!(api.asked().is_empty(), "it reads on only when the first has ended");
    slow.commit().await.unwrap();
    run().await.unwrap();
    let mut asked = api.asked();
    asked.sort();
    assert_eq!(asked, ["CAPD-1", "CAPD-2"]);
}
