//! What confirm mode does if the API's answer is no clear yes or no, and whom it asks.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::reconcile::{Api, payment, push, request};
use bytes::Bytes;
use inqud_inbox::{
    Context, Fetch, Fetched, Filter, Inbox, Key, Memory, Record, RunReport, Runner, State, Store,
    Stored,
};
use tokio::time::Instant;
use tower_inqud::{PaymentRequest, Verdict};

const LONG: Duration = Duration::from_secs(600);

type Seen = Arc<Mutex<Vec<String>>>;

/// A handler that records the status of each confirmed notification.
async fn confirmed(inbox: &Inbox<Memory>, api: impl Fetch<PaymentRequest>) -> (RunReport, Seen) {
    let seen = Seen::default();
    let its = Arc::clone(&seen);
    let handler = move |request: Stored<PaymentRequest>, _: Context<Memory>| {
        its.lock().unwrap().push(request.status.as_str().to_owned());
        async { Ok::<_, Infallible>(()) }
    };
    let runner = inbox.process(handler).confirm_with(api, 60).backoff(LONG, LONG);
    let report = runner.handler_timeout(Duration::from_secs(8)).run_until_idle().await.unwrap();
    (report, seen)
}

/// The reasons why notifications wait.
async fn reasons(inbox: &Inbox<Memory>) -> Vec<String> {
    let page = inbox.list(Filter::from(State::Open), 9).await.unwrap();
    page.entries.into_iter().map(|entry| entry.error).collect()
}

#[tokio::test]
async fn useless_answer_confirms_nothing() {
    for (answer, reason) in [
        ("hello".to_owned(), "cannot decode the answer"),
        (payment("SUCCESS"), "cannot decode the answer"),
        (request("SUCCESS", "10:05:00").replace("CAPD-1", "CAPD-2"), "another object"),
    ] {
        let inbox = Inbox::memory();
        let api = Api::default();
        api.set("CAPD-1", answer);
        push::<PaymentRequest>(&inbox, &request("SUCCESS", "10:05:00")).await;
        let (report, seen) = confirmed(&inbox, api).await;
        assert_eq!((report.retried, seen.lock().unwrap().len()), (1, 0));
        let why = reasons(&inbox).await.remove(0);
        assert!(why.starts_with("not confirmed: ") && why.contains(reason), "{why}");
    }
}

/// The lease is for twice as long as the handler may take, and the handler needs its time too.
#[tokio::test(start_paused = true)]
async fn confirmation_takes_at_most_half_of_the_time() {
    struct Hangs;
    impl Fetch<PaymentRequest> for Hangs {
        async fn fetch(&self, _: &str) -> Fetched {
            pending().await
        }
    }
    let inbox = Inbox::memory();
    push::<PaymentRequest>(&inbox, &request("SUCCESS", "10:05:00")).await;
    let began = Instant::now();
    let (report, seen) = confirmed(&inbox, Hangs).await;
    assert_eq!((report.retried, seen.lock().unwrap().len()), (1, 0));
    assert_eq!(began.elapsed().as_secs(), 4);
    assert_eq!(reasons(&inbox).await, ["not confirmed: the API did not answer in time"]);
}

/// Otherwise the fetched state would be stored after a webhook that the answer did not know.
#[tokio::test]
async fn webhook_during_the_confirmation_is_not_overtaken() {
    struct Pushing(Inbox<Memory>);
    impl Fetch<PaymentRequest> for Pushing {
        async fn fetch(&self, _: &str) -> Fetched {
            push::<PaymentRequest>(&self.0, &request("CONFLICT", "10:05:00")).await;
            Fetched::Found(Bytes::from(request("SUCCESS", "10:04:00")))
        }
    }
    let inbox = Inbox::memory();
    push::<PaymentRequest>(&inbox, &request("PENDING_PAYMENT", "10:01:00")).await;
    let (report, seen) = confirmed(&inbox, Pushing(inbox.clone())).await;
    assert_eq!((report.retried, report.done, seen.lock().unwrap().len()), (1, 0, 0));
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2, "the fetched state is not stored");
    let reasons = reasons(&inbox).await;
    assert!(reasons.iter().any(|it| it.ends_with("a webhook arrived meanwhile")), "{reasons:?}");
}

/// The API is behind the newest webhook, but knows that the oldest one is over.
#[tokio::test]
async fn state_between_two_webhooks_skips_the_older() {
    let inbox = Inbox::memory();
    let api = Api::default();
    api.set("CAPD-1", request("PENDING_PAYMENT", "10:03:00"));
    push::<PaymentRequest>(&inbox, &request("WAITING_PAYMENT", "10:01:00")).await;
    push::<PaymentRequest>(&inbox, &request("SUCCESS", "10:05:00")).await;
    let (report, seen) = confirmed(&inbox, api).await;
    assert_eq!((report.skipped, report.retried, seen.lock().unwrap().len()), (1, 1, 0));
    let waits = "not confirmed: the API does not show the state of the notification yet";
    assert_eq!(reasons(&inbox).await, [waits]);
}

#[tokio::test]
async fn confirms_with_the_client_of_the_tenant() {
    let inbox = Inbox::memory();
    let api = Arc::new(Api::default());
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    for tenant in ["acme", "globex"] {
        let event: PaymentRequest = serde_json::from_str(&request("SUCCESS", "10:05:00")).unwrap();
        let record = Record::new(&event, request("SUCCESS", "10:05:00").into());
        inbox.store().insert(vec![record.of_tenant(tenant)]).await.unwrap();
    }
    push::<PaymentRequest>(&inbox, &request("SUCCESS", "10:05:00")).await;
    let clients = HashMap::from([("acme".to_owned(), Arc::clone(&api))]);
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        assert_eq!((cx.tenant(), cx.verdict()), (Some("acme"), Verdict::Newer));
        Ok::<_, Infallible>(())
    };
    let runner: Runner<_, PaymentRequest, _> = inbox.process(handler);
    let runner = runner.confirm_per_tenant(move |it| clients.get(it?).cloned(), 60);
    let report = runner.backoff(LONG, LONG).run_until_idle().await.unwrap();
    assert_eq!((report.done, report.retried), (1, 2));
    assert_eq!(api.asked(), ["CAPD-1"], "with the credentials of another merchant");
    let why = "not confirmed: no client for the tenant of the object";
    assert_eq!(reasons(&inbox).await, [why, why]);
}

/// Nothing tells which object to ask about. When the body can be decoded, its notification is asked about.
#[tokio::test]
async fn asks_about_an_undecodable_body_when_it_is_decoded() {
    let inbox = Inbox::memory();
    let api = Api::default();
    api.set("CAPD-1", request("SUCCESS", "10:05:00"));
    let body = request("SUCCESS", "10:05:00");
    let event: PaymentRequest = serde_json::from_str(&body).unwrap();
    let key = Key::of_undecodable("request", body.as_bytes());
    let record = Record::new(&event, body.into());
    let object = format!("undecodable:{key}");
    inbox.store().insert(vec![Record { key, object, ..record }]).await.unwrap();
    let (report, seen) = confirmed(&inbox, api.clone()).await;
    assert_eq!(*seen.lock().unwrap(), ["SUCCESS"], "{report:?}");
    assert_eq!(api.asked(), ["CAPD-1"]);
}
