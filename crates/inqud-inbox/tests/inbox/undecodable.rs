//! What is authentic and cannot be decoded: refused unless asked for, and then kept until it can be.
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
use inqud_inbox::{Context, Inbox, Key, Record, Sqlite, Storable, Store, Stored};
use jiff::Timestamp;
use serde::Deserialize;
use tempfile::TempDir;
use tower::Layer;
use tower_inqud::{Ack, Checkout, Notification, PaymentRequest, Webhook, WebhookLayer, danger};

/// What a release of the shop expects; the next one knows that an amount may be a text.
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

/// Of no use to [`First`].
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

fn handing_on() -> WebhookLayer<First> {
    support::layer().forward_undecodable()
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

/// A Request's inbox, behind a URL that was pasted into the row of payments too.
#[tokio::test]
async fn what_is_of_another_kind_is_kept_as_a_dead_letter() {
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

    // Nor is it handled as a Request later.
    redrive_all(&inbox).await;
    assert!(processed::<PaymentRequest, _>(&inbox).await.is_empty());
    assert_eq!(inbox.stats().await.unwrap().dead(), 1);
}

async fn receive<S: Store>(inbox: &Inbox<S>, request: Request<Full<Bytes>>) -> StatusCode {
    support::call(handing_on().layer(inbox.receiver::<First>()), request).await.status()
}

async fn redrive_all<S: Store>(inbox: &Inbox<S>) -> usize {
    let letters = inbox.dead(100).await.unwrap();
    inbox.redrive(letters.iter().map(|letter| letter.key)).await.unwrap()
}

type Log = Arc<Mutex<Vec<String>>>;

/// Until nothing is open. Gives what was handled, in order.
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

macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Inbox::memory()).await;
            })*
        }
                mod in_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = super::postgres::shared() {
                    super::$name(&server.inbox(stringify!($name)).await).await;
                }
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (inbox, _folder) = super::file();
                super::$name(&inbox).await;
            })*
        }
    };
}

of_each_store! {
    what_cannot_be_decoded_is_kept_as_a_dead_letter_once
    what_is_of_unknown_origin_is_never_kept
    a_redriven_one_that_decodes_by_now_is_processed_in_its_order_and_once
    a_redriven_one_that_still_does_not_decode_is_dead_again
    a_dead_record_makes_nothing_due
}

async fn what_cannot_be_decoded_is_kept_as_a_dead_letter_once(inbox: &Inbox<impl Store>) {
    for _ in 0..2 {
        for (body, _) in WHAT_IS_NO_FIRST {
            assert_eq!(receive(inbox, support::signed(body)).await, StatusCode::OK);
        }
    }
    let letters = inbox.dead(9).await.unwrap();
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

async fn what_is_of_unknown_origin_is_never_kept(inbox: &Inbox<impl Store>) {
    for (body, status) in WHAT_IS_NO_FIRST {
        let mut forged = support::signed("another");
        *forged.body_mut() = Full::from(body);
        assert_eq!(receive(inbox, forged).await, StatusCode::UNAUTHORIZED);

        // Without a digest nothing is known of who sent it, whatever the setting.
        let unsigned = danger::unsigned::<First>().forward_undecodable();
        let request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
        let response = support::call(unsigned.layer(inbox.receiver::<First>()), request).await;
        assert_eq!(response.status(), status);
    }
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

async fn a_redriven_one_that_decodes_by_now_is_processed_in_its_order_and_once(
    inbox: &Inbox<impl Store>,
) {
    let bodies = [body(1, 2), body(1, 0), body(1, 1), body(2, 0), body(3, 0)];
    for body in &bodies {
        assert_eq!(receive(inbox, support::signed(body.clone())).await, StatusCode::OK);
    }
    // The next release gets two of them itself: a newer of S-2, and that of S-3 once more.
    for body in [body(2, 1), body(3, 0)] {
        let service = support::layer::<Next>().layer(inbox.receiver::<Next>());
        let status = support::call(service, support::signed(body)).await.status();
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(processed::<Next, _>(inbox).await, ["S-2 M1", "S-3 M0"]);

    // Those of S-1 in this order, for at once would be another test.
    for (body, status) in [(&bodies[1], "M0"), (&bodies[2], "M1"), (&bodies[0], "M2")] {
        let key = Key::of_undecodable("shop", body.as_bytes());
        assert_eq!(inbox.redrive([key]).await.unwrap(), 1);
        assert_eq!(processed::<Next, _>(inbox).await, [format!("S-1 {status}")]);
    }
    assert_eq!(redrive_all(inbox).await, 2);
    let late = processed::<Next, _>(inbox).await;
    assert!(late.is_empty(), "the one is older than what was processed, the other was: {late:?}");
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);

    // Each row has become that of its notification; that of S-3 could not, because there was one.
    let records = bodies.iter().map(|body| {
        let event: Next = serde_json::from_str(body).unwrap();
        Record::new(&event, Bytes::from(body.clone()))
    });
    let inserted = inbox.store().insert(records.collect()).await.unwrap();
    assert_eq!(inserted, [inqud_inbox::Inserted::Duplicate; 5]);
    assert_eq!(inbox.prune(Duration::ZERO, 99).await.unwrap(), 7, "a row for each delivery");
}

async fn a_redriven_one_that_still_does_not_decode_is_dead_again(inbox: &Inbox<impl Store>) {
    receive(inbox, support::signed(body(1, 0))).await;
    let before = inbox.dead(9).await.unwrap().remove(0);
    assert_eq!(redrive_all(inbox).await, 1);
    assert!(processed::<First, _>(inbox).await.is_empty());
    let after = inbox.dead(9).await.unwrap();
    assert_eq!((after.len(), after[0].key, after[0].attempts), (1, before.key, 1));
    assert_eq!((&after[0].error, &after[0].body), (&before.error, &before.body));
}

async fn a_dead_record_makes_nothing_due(inbox: &Inbox<impl Store>) {
    let event: Next = serde_json::from_str(&body(1, 0)).unwrap();
    let dead = Some("never".to_owned());
    let record = Record { dead, ..Record::new(&event, Bytes::from(body(1, 0))) };
    inbox.store().insert(vec![record]).await.unwrap();
    let claim = async || inbox.store().claim("shop", 9, Duration::ZERO).await.unwrap();
    assert!(claim().await.is_empty());
    assert_eq!(inbox.dead(9).await.unwrap()[0].error, "never");
    assert_eq!(redrive_all(inbox).await, 1);
    assert_eq!(claim().await.len(), 1);
}

/// Of what the notifications of one object were at once.
#[tokio::test(start_paused = true)]
async fn redriven_at_once_the_oldest_is_processed_first() {
    let inbox = Inbox::memory();
    for body in [body(1, 2), body(1, 0), body(1, 1)] {
        receive(&inbox, support::signed(body)).await;
    }
    assert_eq!(redrive_all(&inbox).await, 3);
    assert_eq!(processed::<Next, _>(&inbox).await, ["S-1 M0", "S-1 M1", "S-1 M2"]);
}

#[tokio::test]
async fn unless_asked_for_it_is_refused() {
    let inbox = Inbox::memory();
    for (body, status) in WHAT_IS_NO_FIRST {
        let service = support::layer::<First>().layer(inbox.receiver::<First>());
        assert_eq!(support::call(service, support::signed(body)).await.status(), status);
    }
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test]
async fn a_receiver_of_another_type_does_not_take_it() {
    let inbox = Inbox::memory();
    let service = handing_on().layer(inbox.receiver::<Checkout>());
    let response = support::call(service, support::signed("hello")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

/// With a layer that hands it on, and one that does not: the answers to a handler are the same.
#[tokio::test]
async fn over_a_real_server_a_receiver_keeps_it_and_a_handler_refuses_it_as_ever() {
    let (inbox, _folder) = file();
    let refusing = support::layer::<First>;
    let receiver = || inbox.receiver::<First>();
    let handler = || post(async |_: Webhook<First>| Ack::Done);
    let optional = || post(async |_: Option<Webhook<First>>| Ack::Done);
    let app = Router::new()
        .route("/inbox", post_service(receiver()).layer(handing_on()))
        .route("/handler", handler().layer(handing_on()))
        .route("/optional", optional().layer(handing_on()))
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
