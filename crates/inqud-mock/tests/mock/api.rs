//! Tests of the API that the mock plays, over real sockets, and of lost deliveries.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_mock::{Answer, ApiFault, Lifecycle, Message, MockApi, MockInqud, Report, Scenario};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower::service_fn;
use tower_inqud::{
    Algorithm, Event, History, Notification, OrderKey, PaymentRequest, Secret, Verdict,
};

use crate::support::secret;

const TOKEN: &str = "TKN-of-a-test";
const TOKEN_SECRET: &str = "a secret of the API";

/// A served API, and a client for it.
struct World {
    api: MockApi,
    url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

async fn world() -> World {
    let api = MockApi::new(TOKEN, TOKEN_SECRET).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback_service(api.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    World { api, url, client: Client::builder(TokioExecutor::new()).build_http() }
}

impl World {
    async fn send(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
        let mut request = Request::get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let headers = [("x-token-api-id", TOKEN), ("x-token-api-secret", TOKEN_SECRET)];
        self.send(path, &headers).await
    }

    /// Publishes the last message of a scenario. Returns the path of its object.
    fn publish(&self, scenario: Scenario) -> String {
        let message = Lifecycle::new(scenario).into_iter().last().unwrap();
        self.api.publish(&message);
        path(&message)
    }
}

fn id(message: &Message) -> String {
    serde_json::from_slice::<Event>(message.body()).unwrap().id().to_owned()
}

fn path(message: &Message) -> String {
    format!("/v1/any/{}", id(message))
}

fn signature(secret: &str, salt: &str) -> String {
    let secret = Secret::new(secret).unwrap();
    Algorithm::HmacSha256.sign(&secret, salt.as_bytes()).to_string()
}

/// Responds to every delivery with 200.
fn acknowledging()
-> impl tower::Service<Request<inqud_mock::SentBody>, Response = Response<String>, Error = Infallible>
{
    service_fn(async |_: Request<inqud_mock::SentBody>| Ok(Response::new(String::new())))
}

fn inqud() -> MockInqud {
    MockInqud::new(secret(), Uri::from_static("/hook")).seed(42)
}

#[tokio::test]
async fn accepts_both_ways_of_authentication() {
    let world = world().await;
    let path = world.publish(Scenario::Success);
    let right = signature(TOKEN_SECRET, "salt");
    let upper = right.to_uppercase();
    for headers in [
        &[("x-token-api-id", TOKEN), ("x-token-api-secret", TOKEN_SECRET)][..],
        &[("x-token-api-id", TOKEN), ("x-hmac-sha256-signature", &right), ("x-salt", "salt")],
        &[("x-token-api-id", TOKEN), ("x-hmac-sha256-signature", &upper), ("x-salt", "salt")],
    ] {
        assert_eq!(world.send(&path, headers).await.0, 200, "{headers:?}");
    }
    assert_eq!(world.api.refused(), 0);
}

#[tokio::test]
async fn refuses_what_does_not_prove_its_sender() {
    let world = world().await;
    let path = world.publish(Scenario::Success);
    let right = signature(TOKEN_SECRET, "salt");
    let (another, empty) = (signature("another", "salt"), signature(TOKEN_SECRET, ""));
    let id = ("x-token-api-id", TOKEN);
    let (secret, signed) = ("x-token-api-secret", "x-hmac-sha256-signature");
    let salt = ("x-salt", "salt");
    let cases = [
        &[][..],
        &[id],
        &[id, (secret, "another")],
        &[id, (secret, "a secret of the AP")],
        &[(secret, TOKEN_SECRET)],
        &[("x-token-api-id", "TKN-another"), (secret, TOKEN_SECRET)],
        &[id, ("x-token-api-id", "TKN-another"), (secret, TOKEN_SECRET)],
        &[id, (secret, TOKEN_SECRET), (secret, TOKEN_SECRET)],
        &[id, (signed, &right)],
        &[id, (signed, &right), ("x-salt", "another")],
        &[id, (signed, &right), salt, salt],
        &[id, (signed, &right), (signed, &right), salt],
        &[id, (signed, &another), salt],
        &[id, (signed, &empty), ("x-salt", "")],
        &[id, (signed, ""), salt],
        &[id, (signed, &right[..63]), salt],
        &[(signed, &right), salt],
        &[id, (secret, TOKEN_SECRET), (signed, &right), salt],
    ];
    for (headers, number) in cases.iter().zip(1..) {
        assert_eq!(world.send(&path, headers).await, (StatusCode::UNAUTHORIZED, String::new()));
        assert_eq!(world.api.refused(), number, "{headers:?}");
    }
    // A fault does not replace the refusal.
    world.api.fault(ApiFault::server_error());
    assert_eq!(world.send(&path, &[id]).await.0, 401);
}

#[tokio::test]
async fn object_is_that_of_the_latest_message_due() {
    let world = world().await;
    let lifecycle = || Lifecycle::new(Scenario::Success).client_order_id("order-1");
    let last = lifecycle().into_iter().last().unwrap();
    for shuffled in [false, true] {
        let mut inqud = inqud().api(&world.api).drop_share(1.0).times(3);
        if shuffled {
            inqud = inqud.shuffled();
        }
        let report = inqud.deliver(lifecycle(), acknowledging()).await;
        assert_eq!(report.lost().count(), 3, "{report}");
        let (status, body) = world.get(&path(&last)).await;
        assert_eq!(status, 200);
        let fetched: PaymentRequest = serde_json::from_str(&body).unwrap();
        assert_eq!(fetched.status.as_str(), "SUCCESS");
    }
    // It changes with each message, not at the end of the run.
    let (world, mut seen) = (&world, Vec::new());
    let first = path(&last);
    for message in lifecycle() {
        world.api.publish(&message);
        let (_, body) = world.get(&first).await;
        seen.push(serde_json::from_str::<Value>(&body).unwrap()["status"].clone());
    }
    assert_eq!(seen, ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"]);
    assert_eq!(world.api.requests_for(&id(&last)), 5);
}

#[tokio::test]
async fn has_every_kind_with_an_id() {
    let world = world().await;
    for scenario in Scenario::ALL.iter().copied() {
        let path = world.publish(scenario);
        assert_eq!(world.get(&path).await.0, 200, "{scenario}");
    }
    assert_eq!(world.get("/v1/any/PMT-unknown").await.0, 404);
    let path = world.publish(Scenario::Payment);
    world.api.forget(path.rsplit('/').next().unwrap());
    assert_eq!(world.get(&path).await.0, 404);
    world.api.publish(&Message::new("nonsense", "{"));
}

#[tokio::test]
async fn finds_the_payments_of_an_order() {
    let world = world().await;
    let payment = |order| {
        Lifecycle::new(Scenario::Payment).client_order_id(order).into_iter().last().unwrap()
    };
    let (first, second) = (payment("order-1"), payment("order-2"));
    world.api.publish(&first);
    world.api.publish(&second);
    world.publish(Scenario::Success);
    let order = serde_json::from_slice::<Value>(first.body()).unwrap()["orderId"].clone();
    let order = order.as_str().unwrap();
    for query in [order.to_owned(), order.replace('-', "%2D")] {
        let (status, body) = world.get(&format!("/v1/user/payments/search?orderId={query}")).await;
        assert_eq!(status, 200);
        let found: Vec<Value> = serde_json::from_str(&body).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["id"], id(&first));
    }
    assert_eq!(world.get("/v1/user/payments/search?orderId=ORD-1").await.1, "[]");
    assert_eq!(world.get("/v1/user/payments/search").await.0, 404);
}

#[tokio::test]
async fn times_are_shorter_and_the_notification_is_the_same() {
    let world = world().await;
    for scenario in Scenario::ALL.iter().copied() {
        let message = Lifecycle::new(scenario).into_iter().last().unwrap();
        world.api.publish(&message);
        let (_, body) = world.get(&path(&message)).await;
        let event = |body: &[u8]| serde_json::from_slice::<Event>(body).unwrap();
        let [pushed, fetched] = [&message.body()[..], body.as_bytes()];
        let mut history = History::default();
        let pushed_key = OrderKey::new(&event(pushed), pushed);
        assert_eq!(history.receive_order_key(pushed_key), Verdict::Newer);
        let fetched_key = OrderKey::new(&event(fetched), fetched);
        assert_eq!(history.receive_order_key(fetched_key), Verdict::Duplicate, "{scenario}");
    }
    let path = world.publish(Scenario::Success);
    for (digits, expected) in [(0, "12:00:00Z"), (3, "12:00:00.207Z"), (9, "12:00:00.207141577Z")] {
        world.api.fraction_digits(digits);
        let (_, body) = world.get(&path).await;
        assert!(body.contains(expected), "{digits}: {body}");
    }
}

#[tokio::test]
async fn answers_with_each_fault_until_it_recovers() {
    let world = world().await;
    let path = world.publish(Scenario::Payment);
    let status = |fault: ApiFault| {
        world.api.fault(fault);
        world.get(&path)
    };
    assert_eq!(status(ApiFault::server_error()).await.0, 500);
    assert_eq!(status(ApiFault::not_found()).await.0, 404);
    assert_eq!(status(ApiFault::too_many_requests(Duration::from_secs(7))).await.0, 429);
    assert_eq!(status(ApiFault::Redirect("/elsewhere".parse().unwrap())).await.0, 307);
    assert!(status(ApiFault::NotJson).await.1.starts_with("<html>"));
    assert!(status(ApiFault::WrongId).await.1.contains("CAPD-another"));
    for fault in [ApiFault::Hang, ApiFault::Stalled, ApiFault::Endless] {
        world.api.fault(fault.clone());
        let response = timeout(Duration::from_millis(100), world.get(&path));
        assert!(response.await.is_err(), "{fault:?}");
    }
    world.api.recover();
    assert_eq!(world.get(&path).await.0, 200);
    world.api.envelope("data");
    assert!(world.get(&path).await.1.starts_with(r#"{"data":{"id":"PMT-"#));
    let post = Request::post(format!("{}{path}", world.url))
        .header("x-token-api-id", TOKEN)
        .header("x-token-api-secret", TOKEN_SECRET);
    let response = world.client.request(post.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 405);
}

#[tokio::test]
async fn share_of_faults_depends_on_the_seed_only() {
    let mut runs = BTreeSet::new();
    for seed in [1, 1, 2] {
        let world = world().await;
        let path = world.publish(Scenario::Payment);
        world.api.seed(seed);
        world.api.fault_share(ApiFault::server_error(), 0.2);
        world.api.fault_share(ApiFault::not_found(), 0.2);
        let mut statuses = Vec::new();
        for _ in 0..200 {
            statuses.push(world.get(&path).await.0.as_u16());
        }
        let count = |status| statuses.iter().filter(|it| **it == status).count();
        assert!((20..60).contains(&count(500)), "{}", count(500));
        assert!((15..55).contains(&count(404)), "{}", count(404));
        runs.insert(statuses);
    }
    assert_eq!(runs.len(), 2);
}

fn dropped(report: &Report) -> Vec<(String, String)> {
    let dropped = report.deliveries().iter().filter(|it| *it.answer() == Answer::Dropped);
    dropped.map(|it| (id(it.message()), it.message().label().to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn loses_the_same_share_of_messages_for_ever() {
    let orders = || {
        (0..300).flat_map(|order| {
            Lifecycle::new(Scenario::Success).client_order_id(format!("order-{order}"))
        })
    };
    let run = async |inqud: MockInqud| {
        let report = inqud.deliver(orders(), acknowledging()).await;
        assert!(!report.all_acknowledged());
        let mut lost = dropped(&report);
        lost.sort();
        (lost, report.deliveries().len())
    };
    let (lost, deliveries) = run(inqud().drop_share(0.3)).await;
    assert!((230..310).contains(&lost.len()), "{}", lost.len());
    assert_eq!(deliveries, 900);
    // Repeats, retries and another order change nothing, but another seed does.
    let retries = [Duration::from_secs(60)];
    let (again, _) = run(inqud().drop_share(0.3).times(2).retries(&retries).shuffled()).await;
    assert_eq!(lost, again);
    assert_ne!(lost, run(inqud().seed(43).drop_share(0.3)).await.0);
    // Some orders lose every message.
    let whole = lost.chunk_by(|a, b| a.0 == b.0).filter(|messages| messages.len() == 3).count();
    assert!(whole > 0);
}

#[tokio::test]
async fn lost_messages_never_reach_the_service() {
    let inqud = inqud().drop_share(1.0);
    let report = inqud.deliver(
        Lifecycle::new(Scenario::Success),
        service_fn(
            async |_: Request<inqud_mock::SentBody>| -> Result<Response<String>, Infallible> {
                panic!("delivered")
            },
        ),
    );
    let report = report.await;
    assert_eq!(dropped(&report).len(), 3);
    assert!(!report.all_rejected(), "nothing was rejected");
    assert_eq!(report.deliveries()[0].to_string(), "WAITING_PAYMENT  dropped");
}
