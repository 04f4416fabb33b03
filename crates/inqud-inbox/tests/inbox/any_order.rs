//! Tests that an inbox reaches the same state as a handler with a [`History`], in any order of deliveries,
//! processed as they arrive or from a backlog, with each store.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::postgres;
use crate::support::{layer, secret};
use axum::Router;
use axum::routing::{post, post_service};
use bytes::Bytes;
use http::Uri;
use inqud_inbox::{Context, Inbox, Store, Stored};
use inqud_mock::{Lifecycle, Message, MockInqud, Round, Scenario};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower_inqud::{Ack, Event, History, Notification, Webhook};

const PATH: &str = "/webhooks/inqud";

/// The latest body of each object.
type Rows = BTreeMap<String, Bytes>;

/// One object for each scenario.
fn lifecycles() -> Vec<Message> {
    let lifecycle =
        |scenario: &Scenario| Lifecycle::new(*scenario).client_order_id(scenario.as_str());
    Scenario::ALL.iter().flat_map(lifecycle).collect()
}

/// The expected state: the last body of each lifecycle.
fn ends() -> Rows {
    let rows = Scenario::ALL.iter().map(|scenario| {
        let last = Lifecycle::new(*scenario)
            .client_order_id(scenario.as_str())
            .into_iter()
            .last()
            .unwrap();
        let event: Event = serde_json::from_slice(last.body()).unwrap();
        (event.id().to_owned(), last.body().clone())
    });
    rows.collect()
}

fn inqud(rounds: u32) -> MockInqud {
    MockInqud::new(secret(), Uri::from_static(PATH)).rounds(rounds)
}

async fn with_a_history(round: Round) -> Rows {
    let objects = Arc::new(Mutex::new(BTreeMap::<String, History>::new()));
    let rows = Arc::new(Mutex::new(Rows::new()));
    let kept = Arc::clone(&rows);
    let handler = async move |webhook: Webhook<Event>| {
        let mut objects = objects.lock().unwrap();
        let history = objects.entry(webhook.id().to_owned()).or_default();
        if history.receive(&webhook).should_handle() {
            kept.lock().unwrap().insert(webhook.id().to_owned(), webhook.raw_body().clone());
        }
        Ack::Done
    };
    round.deliver(Router::new().route(PATH, post(handler).layer(layer::<Event>()))).await;
    rows.lock().unwrap().clone()
}

#[derive(Clone, Copy, Debug)]
enum Processed {
    AsItComes,
    FromABacklog,
}

/// Delivers a round to a new inbox.
async fn with_an_inbox<S: Store>(inbox: Inbox<S>, processed: Processed, round: Round) -> Rows {
    let receiver = inbox.receiver::<Event>();
    let app = Router::new().route(PATH, post_service(receiver).layer(layer::<Event>()));

    let rows = Arc::new(Mutex::new(Rows::new()));
    let handled = Arc::new(Mutex::new(0_u64));
    let (kept, count) = (Arc::clone(&rows), Arc::clone(&handled));
    let runner = inbox.process(move |event: Stored<Event>, _: Context<S>| {
        *count.lock().unwrap() += 1;
        kept.lock().unwrap().insert(event.id().to_owned(), event.raw_body().clone());
        std::future::ready(Ok::<_, String>(()))
    });
    let (end, ended) = watch::channel(());
    let run = runner.run_until(async move {
        let mut ended = ended;
        _ = ended.changed().await;
    });
    let run = match processed {
        Processed::AsItComes => {
            let run = tokio::spawn(run);
            round.deliver(app).await;
            run
        }
        Processed::FromABacklog => {
            round.deliver(app).await;
            assert_eq!(*handled.lock().unwrap(), 0);
            tokio::spawn(run)
        }
    };
    let empty = async {
        while inbox.stats().await.unwrap().backlog() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), empty).await.unwrap();
    end.send(()).unwrap();
    run.await.unwrap().unwrap();

    // Nothing is lost, and nothing needs a person.
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.dead(), stats.review()), (0, 0));
    let different = u64::try_from(lifecycles().len()).unwrap();
    assert_eq!(*handled.lock().unwrap() + stats.skipped(), different);
    rows.lock().unwrap().clone()
}

async fn ends_as_a_history<S: Store>(rounds: u32, inbox: impl AsyncFn() -> Inbox<S>) {
    let expected = inqud(20).any_order(lifecycles(), with_a_history).await.unwrap();
    assert_eq!(expected, ends());
    for processed in [Processed::AsItComes, Processed::FromABacklog] {
        let inqud = inqud(rounds);
        let found = inqud.any_order(lifecycles(), async |round| {
            with_an_inbox(inbox().await, processed, round).await
        });
        let found = found.await.unwrap_or_else(|error| panic!("{processed:?}: {error}"));
        assert_eq!(found, expected, "{processed:?}");
    }
}

#[tokio::test]
async fn any_order_matches_history_in_memory() {
    ends_as_a_history(20, async || Inbox::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_matches_history_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let number = Mutex::new(0);
    ends_as_a_history(3, async || {
        *number.lock().unwrap() += 1;
        let file = format!("{}.db", number.lock().unwrap());
        Inbox::sqlite(folder.path().join(file)).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_matches_history_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let number = Mutex::new(0);
    ends_as_a_history(3, async || {
        *number.lock().unwrap() += 1;
        let database = format!("any_order_{}", number.lock().unwrap());
        server.inbox(&database).await
    })
    .await;
}
