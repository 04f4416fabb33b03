//! Tests of authentic bodies that cannot be decoded: rejected by default, or stored until they can be
//! decoded.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{postgres, support};
use axum::Router;
use axum::routing::{post, post_service};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_inbox::{
    Claim, Context, Entry, Filter, Inbox, Key, Record, Sqlite, State, Storable, Store, Stored,
};
use jiff::Timestamp;
use serde::Deserialize;
use tempfile::TempDir;
use tower::Layer;
use tower_inqud::{
    Ack, Checkout, Notification, PaymentRequest, Verifier, Webhook, WebhookLayer, danger,
};

/// The type of one release of the shop. The next release knows that an amount can be a string.
#[derive(Debug, Deserialize)]
struct First {
    id: String,
    status: String,
    #[serde(rename = "amount")]
    _amount: u32,
}

#[derive(Debug, Deserialize)]
struct Next {
    id: String,
    status: String,
    at: Timestamp,
}

macro_rules! notification {
    ($type:ident, $last_update:expr) => {
        impl Notification for $type {
            fn id(&self) -> &str {
                &self.id
            }
            fn status_text(&self) -> &str {
                &self.status
            }
            fn last_update(&self) -> Option<Timestamp> {
                $last_update(self)
            }
        }
        impl Storable for $type {
            const KIND: &'static str = "shop";
        }
    };
}

notification!(First, |_| None);
notification!(Next, |it: &Self| Some(it.at));

/// Returns a body that [`First`] cannot decode.
fn body(id: u32, minute: u32) -> String {
    format!(
        r#"{{"id":"S-{id}","status":"M{minute}","amount":"7","at":"2026-11-22T10:{minute:02}:00Z"}}"#
    )
}

const WHAT_IS_NO_FIRST: [(&[u8], StatusCode); 4] = [
    (b"{\"id\":\"\xff\"}", StatusCode::BAD_REQUEST),
    (b"hello", StatusCode::BAD_REQUEST),
    (b"[]", StatusCode::UNPROCESSABLE_ENTITY),
    (br#"{"id":"S-1","status":"PAID","amount":"seven"}"#, StatusCode::UNPROCESSABLE_ENTITY),
];

fn forwarding_layer() -> WebhookLayer<First> {
    support::layer().forward_undecodable()
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

/// The URL for Requests was also configured for payments.
#[tokio::test]
async fn another_kind_becomes_a_dead_letter() {
    let inbox = Inbox::memory();
    let layer = || support::layer::<PaymentRequest>();
    let payment = r#"{"id":"PMT-1","status":"SUCCESS","orderType":"PAYOUT"}"#;
    let refusing = layer().layer(inbox.receiver::<PaymentRequest>());
    assert_eq!(support::call(refusing, support::signed(payment)).await.status(), 422);
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);

    let keeping = layer().forward_undecodable().layer(inbox.receiver::<PaymentRequest>());
    assert_eq!(support::call(keeping, support::signed(payment)).await.status(), 200);
    let letters = inbox.dead(10).await.unwrap();
    let why = "expected a `request`, found a `payment`";
    assert!(letters[0].error.contains(why), "{}", letters[0].error);

    // It is not handled as a Request later either.
    redrive_all(&inbox).await;
    assert!(processed::<PaymentRequest, _>(&inbox).await.is_empty());
    assert_eq!(inbox.stats().await.unwrap().dead(), 1);
}

async fn receive<S: Store>(inbox: &Inbox<S>, request: Request<Full<Bytes>>) -> StatusCode {
    support::call(forwarding_layer().layer(inbox.receiver::<First>()), request).await.status()
}

async fn redrive_all<S: Store>(inbox: &Inbox<S>) -> usize {
    let letters = inbox.dead(100).await.unwrap();
    inbox.redrive(letters.iter().map(|letter| letter.key)).await.unwrap()
}

type Log = Arc<Mutex<Vec<String>>>;

/// Runs until nothing is open. Returns what was handled, in order.
async fn processed<T: Storable, S: Store>(inbox: &Inbox<S>) -> Vec<String> {
    let log = Log::default();
    let log_of = Arc::clone(&log);
    let handler = move |event: Stored<T>, _: Context<S>| {
        log_of.lock().unwrap().push(format!("{} {}", event.id(), event.status_text()));
        ready(Ok::<_, Infallible>(()))
    };
    let drained = async {
        while inbox.stats().await.unwrap().backlog() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    inbox.process(handler).run_until(drained).await.unwrap();
    log.lock().unwrap().clone()
}

of_each_store! {
    undecodable_body_becomes_one_dead_letter
    unauthenticated_body_is_never_stored
    redriven_undecodable_is_processed_once_in_order
    redriven_undecodable_can_die_again
    dead_record_makes_nothing_due
}

async fn undecodable_body_becomes_one_dead_letter(inbox: &Inbox<impl Store>) {
    for _ in 0..2 {
        for (body, _) in WHAT_IS_NO_FIRST {
            assert_eq!(receive(inbox, support::signed(body)).await, StatusCode::OK);
        }
    }
    let letters = dead(inbox).await;
    assert_eq!(letters.len(), WHAT_IS_NO_FIRST.len());
    for (letter, (body, _)) in letters.iter().zip(WHAT_IS_NO_FIRST) {
        assert_eq!(letter.body, body, "byte for byte");
        assert_eq!((&*letter.kind, letter.attempts), ("shop", 0));
        assert_eq!(letter.key, Key::of_undecodable("shop", body));
        assert_eq!(letter.object, format!("undecodable:{}", letter.key));
    }
    let error = &letters[3].error;
    assert!(
        error.contains("at amount") && !error.contains("seven"),
        "where, and no value: {error}"
    );
    assert_eq!(inbox.stats().await.unwrap().backlog(), 0);
    assert_eq!(inbox.prune(Duration::ZERO, 9).await.unwrap(), 0, "not before it was processed");
}

async fn unauthenticated_body_is_never_stored(inbox: &Inbox<impl Store>) {
    for (body, status) in WHAT_IS_NO_FIRST {
        let mut forged = support::signed("another");
        *forged.body_mut() = Full::from(body);
        assert_eq!(receive(inbox, forged).await, StatusCode::UNAUTHORIZED);

        // Without a digest the sender is unknown, so it is rejected with either setting.
        let unsigned = danger::unsigned::<First>().forward_undecodable();
        let request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
        let response = support::call(unsigned.layer(inbox.receiver::<First>()), request).await;
        assert_eq!(response.status(), status);
    }
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

async fn redriven_undecodable_is_processed_once_in_order(inbox: &Inbox<impl Store>) {
    let bodies = [body(1, 2), body(1, 0), body(1, 1), body(2, 0), body(3, 0)];
    for body in &bodies {
        assert_eq!(receive(inbox, support::signed(body.clone())).await, StatusCode::OK);
    }
    // The next release receives two itself: a newer one of S-2, and that of S-3 again.
    for body in [body(2, 1), body(3, 0)] {
        let service = support::layer::<Next>().layer(inbox.receiver::<Next>());
        let status = support::call(service, support::signed(body)).await.status();
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(processed::<Next, _>(inbox).await, ["S-2 M1", "S-3 M0"]);

    // Those of S-1 in this order. Another test redrives them together.
    for (body, status) in [(&bodies[1], "M0"), (&bodies[2], "M1"), (&bodies[0], "M2")] {
        let key = Key::of_undecodable("shop", body.as_bytes());
        assert_eq!(inbox.redrive([key]).await.unwrap(), 1);
        assert_eq!(processed::<Next, _>(inbox).await, [format!("S-1 {status}")]);
    }
    assert_eq!(redrive_all(inbox).await, 2);
    let late = processed::<Next, _>(inbox).await;
    assert!(late.is_empty(), "the one is older than what was processed, the other was: {late:?}");
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);

    // Each row is now that of its notification, except that of S-3, which is a duplicate.
    let records = bodies.iter().map(|body| {
        let event: Next = serde_json::from_str(body).unwrap();
        Record::new(&event, Bytes::from(body.clone()))
    });
    let inserted = inbox.store().insert(records.collect()).await.unwrap();
    assert_eq!(inserted, [inqud_inbox::Inserted::Duplicate; 5]);
    assert_eq!(inbox.prune(Duration::ZERO, 99).await.unwrap(), 7, "a row for each delivery");
}

async fn dead(inbox: &Inbox<impl Store>) -> Vec<Entry> {
    inbox.list(Filter::from(State::Dead).with_bodies(), 9).await.unwrap().entries
}

async fn redriven_undecodable_can_die_again(inbox: &Inbox<impl Store>) {
    receive(inbox, support::signed(body(1, 0))).await;
    let before = dead(inbox).await.remove(0);
    assert_eq!(redrive_all(inbox).await, 1);
    assert!(processed::<First, _>(inbox).await.is_empty());
    let after = dead(inbox).await;
    assert_eq!((after.len(), after[0].key, after[0].attempts), (1, before.key, 1));
    assert_eq!((&after[0].error, &after[0].body), (&before.error, &before.body));
}

async fn dead_record_makes_nothing_due(inbox: &Inbox<impl Store>) {
    let event: Next = serde_json::from_str(&body(1, 0)).unwrap();
    let dead = Some("never".to_owned());
    let record = Record { dead, ..Record::new(&event, Bytes::from(body(1, 0))) };
    inbox.store().insert(vec![record]).await.unwrap();
    let claim = async || inbox.store().claim(Claim::new("shop", 9, Duration::ZERO)).await.unwrap();
    assert!(claim().await.is_empty());
    assert_eq!(inbox.dead(9).await.unwrap()[0].error, "never");
    assert_eq!(redrive_all(inbox).await, 1);
    assert_eq!(claim().await.len(), 1);
}

/// All notifications of one object are redriven together.
#[tokio::test(start_paused = true)]
async fn redriven_together_oldest_is_first() {
    let inbox = Inbox::memory();
    for body in [body(1, 2), body(1, 0), body(1, 1)] {
        receive(&inbox, support::signed(body)).await;
    }
    assert_eq!(redrive_all(&inbox).await, 3);
    assert_eq!(processed::<Next, _>(&inbox).await, ["S-1 M0", "S-1 M1", "S-1 M2"]);
}

/// It is stored again under its object, which is that of the tenant.
#[tokio::test]
async fn decoded_body_stays_with_its_tenant() {
    let inbox = Inbox::memory();
    let verifier = || Verifier::new(support::secret());
    for tenant in ["acme", ""] {
        let layer = WebhookLayer::<First>::per_tenant(move |_| {
            Some(if tenant.is_empty() { verifier() } else { verifier().tenant(tenant) })
        });
        let service = layer.forward_undecodable().layer(inbox.receiver::<First>());
        let response = support::call(service, support::signed(body(1, 0))).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(redrive_all(&inbox).await, 2);
    assert_eq!(processed::<Next, _>(&inbox).await, ["S-1 M0", "S-1 M0"]);
    let done = inbox.list(Filter::from(State::Done), 9).await.unwrap().entries;
    let mut done: Vec<_> = done.into_iter().map(|it| (it.tenant, it.object)).collect();
    done.sort();
    let object = || "S-1".to_owned();
    assert_eq!(done, [(None, object()), (Some("acme".to_owned()), object())]);
}

#[tokio::test]
async fn undecodable_body_is_rejected_by_default() {
    let inbox = Inbox::memory();
    for (body, status) in WHAT_IS_NO_FIRST {
        let service = support::layer::<First>().layer(inbox.receiver::<First>());
        assert_eq!(support::call(service, support::signed(body)).await.status(), status);
    }
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test]
async fn receiver_of_another_type_rejects_it() {
    let inbox = Inbox::memory();
    let service = forwarding_layer().layer(inbox.receiver::<Checkout>());
    let response = support::call(service, support::signed("hello")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

/// With `forward_undecodable` and without it, a plain handler gives the same response.
#[tokio::test]
async fn receiver_stores_undecodable_and_handler_rejects_it() {
    let (inbox, _folder) = file();
    let refusing = support::layer::<First>;
    let receiver = || inbox.receiver::<First>();
    let handler = || post(async |_: Webhook<First>| Ack::Done);
    let optional = || post(async |_: Option<Webhook<First>>| Ack::Done);
    let app = Router::new()
        .route("/inbox", post_service(receiver()).layer(forwarding_layer()))
        .route("/handler", handler().layer(forwarding_layer()))
        .route("/optional", optional().layer(forwarding_layer()))
        .route("/refusing", handler().layer(refusing()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let send = async |path: &str, mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = format!("http://{address}{path}").parse().unwrap();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers.get("content-type").cloned(), text)
    };
    for (body, status) in WHAT_IS_NO_FIRST {
        assert_eq!(send("/inbox", support::signed(body)).await.0, StatusCode::OK);
        let refused = send("/refusing", support::signed(body)).await;
        assert_eq!(refused.0, status);
        for path in ["/handler", "/optional"] {
            assert_eq!(send(path, support::signed(body)).await, refused, "{path}");
        }
        let mut forged = support::signed("another");
        *forged.body_mut() = Full::from(body);
        assert_eq!(send("/inbox", forged).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(inbox.dead(9).await.unwrap().len(), WHAT_IS_NO_FIRST.len());
    server.abort();
}
