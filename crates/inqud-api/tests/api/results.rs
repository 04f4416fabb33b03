//! What each response becomes, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _, to_bytes};
use http::{Request, Response, StatusCode};
use inqud_api::{ApiClient, Credentials, RequestBody, member};
use inqud_inbox::{Fetch, Fetched};
use inqud_mock::{ApiFault, MockApi, Scenario};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tower::Service;
use tower_inqud::{Checkout, EventKind, Notification, OnRampCheckout, Payment, PaymentRequest};

use crate::support::{
    TOKEN_ID, TOKEN_SECRET, api, api_with_payment, fast, http, is_found, last, later, plain, serve,
    signed,
};

async fn fetches<T>(scenario: Scenario, credentials: Credentials)
where
    T: DeserializeOwned + Notification,
{
    let api = api();
    let (message, id) = last(scenario);
    api.publish(&message);
    let client = fast(credentials, &serve(&api).await).build(http()).unwrap();

    let Fetched::Found(body) = Fetch::<T>::fetch(&client, &id).await else { panic!("{scenario}") };
    let fetched: T = serde_json::from_slice(&body).unwrap();
    let pushed: T = serde_json::from_slice(message.body()).unwrap();
    assert_eq!(fetched.delivery_key(), pushed.delivery_key(), "{scenario}");
    assert_eq!(api.requests_for(&id), 1);

    let other = format!("{id}-other");
    assert_eq!(Fetch::<T>::fetch(&client, &other).await, Fetched::Missing);
    assert_eq!(api.refused(), 0);
}

#[tokio::test]
async fn fetches_each_kind_with_either_credentials() {
    for credentials in [signed(), plain()] {
        fetches::<Payment>(Scenario::Payment, credentials.clone()).await;
        fetches::<PaymentRequest>(Scenario::Success, credentials.clone()).await;
        fetches::<Checkout>(Scenario::Checkout, credentials.clone()).await;
        fetches::<OnRampCheckout>(Scenario::OnRamp, credentials).await;
    }
}

#[tokio::test]
async fn wrong_credentials_are_later_with_advice() {
    let wrong = [
        Credentials::signed(TOKEN_ID, "another secret"),
        Credentials::signed("TKN-another", TOKEN_SECRET),
        Credentials::plain(TOKEN_ID, "another-secret"),
        Credentials::plain("TKN-another", TOKEN_SECRET),
    ];
    for (credentials, number) in wrong.into_iter().zip(1..) {
        let (api, id) = api_with_payment();
        let client = fast(credentials.unwrap(), &serve(&api).await).build(http()).unwrap();
        let (after, reason) = later(client.get(&id).await);
        assert!(reason.starts_with("status 401: check the API token"), "{number}: {reason}");
        assert!(after.is_some(), "{number}");
        assert_eq!((api.refused(), api.requests_for(&id)), (1, 0), "{number}");
        // No more requests with credentials that do not work.
        later(client.get(&id).await);
        assert_eq!(api.requests(), 1, "{number}");
    }
}

/// Whether a failure pauses the requests that follow.
#[derive(Clone, Copy, Eq, PartialEq, Debug)]
enum Then {
    GoesOn,
    Pauses,
}

#[tokio::test]
async fn each_failure_is_later() {
    let status = |code| ApiFault::Status(StatusCode::from_u16(code).unwrap());
    let elsewhere = "http://127.0.0.1:9/".parse().unwrap();
    let cases = [
        (status(500), "status 500", Then::Pauses),
        (status(503), "status 503", Then::Pauses),
        (status(408), "status 408", Then::Pauses),
        (status(403), "status 403: check the API token", Then::Pauses),
        (ApiFault::too_many_requests(Duration::from_secs(2)), "status 429", Then::Pauses),
        (status(204), "status 204", Then::GoesOn),
        (status(400), "status 400", Then::GoesOn),
        (status(410), "status 410", Then::GoesOn),
        (ApiFault::Redirect(elsewhere), "status 307: redirects are not followed", Then::GoesOn),
        (ApiFault::Hang, "no complete response within 300ms", Then::Pauses),
        (ApiFault::Stalled, "no complete response within 300ms", Then::Pauses),
        (ApiFault::Truncated, "the response broke off: ", Then::Pauses),
        (ApiFault::Endless, "the response is larger than 262144 bytes", Then::GoesOn),
        (ApiFault::NotJson, "the response is not one JSON object", Then::GoesOn),
        (ApiFault::WrongId, "the response is another object", Then::GoesOn),
    ];
    for (fault, expected, then) in cases {
        let (api, id) = api_with_payment();
        let url = serve(&api).await;
        // Only what never ends waits for the timeout.
        let is_endless = matches!(fault, ApiFault::Hang | ApiFault::Stalled);
        let timeout = Duration::from_millis(if is_endless { 300 } else { 20_000 });
        let client = fast(signed(), &url).timeout(timeout).build(http()).unwrap();
        api.fault(fault.clone());
        let began = Instant::now();
        let (after, reason) = later(client.get(&id).await);
        assert!(reason.starts_with(expected), "{fault:?}: {reason}");
        assert!(began.elapsed() < Duration::from_secs(10), "{fault:?}");
        assert_eq!(after.is_some(), then == Then::Pauses, "{fault:?}");

        let failed = Instant::now();
        api.recover();
        let now = client.get(&id).await;
        // A machine that is busy may have outlasted the pause.
        if after.is_none_or(|after| failed.elapsed() < after) {
            assert_eq!(is_found(&now), then == Then::GoesOn, "{fault:?}: {now:?}");
        }
    }
}

#[tokio::test]
async fn unreachable_api_is_later() {
    // Nothing listens on this port, because it was just freed.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = fast(signed(), &format!("http://127.0.0.1:{port}")).build(http()).unwrap();
    let (after, reason) = later(client.get("PMT-1").await);
    assert!(reason.starts_with("the request failed: "), "{reason}");
    assert!(reason.contains("refused"), "{reason}");
    assert!(after.is_some());
}

#[tokio::test]
async fn recovers_without_a_restart() {
    let (api, id) = api_with_payment();
    let client = fast(signed(), &serve(&api).await).build(http()).unwrap();
    api.fault(ApiFault::RetryAfter(StatusCode::SERVICE_UNAVAILABLE, "2".to_owned()));
    let (after, _) = later(client.get(&id).await);
    let after = after.unwrap();
    assert!(after <= Duration::from_secs(2), "{after:?}");
    api.recover();

    let (left, reason) = later(client.get(&id).await);
    assert!(left.unwrap() <= after, "{left:?}");
    assert_eq!(reason, "requests pause, because the API failed");
    assert_eq!(api.requests(), 1, "nothing is sent during a pause");

    sleep(after).await;
    assert!(is_found(&client.get(&id).await));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (api, id) = api_with_payment();
    let (other, _) = api_with_payment();
    let url = format!("{}/v1/user/payments/{id}", serve(&other).await);
    api.fault(ApiFault::Redirect(url.parse().unwrap()));
    let client = fast(signed(), &serve(&api).await).build(http()).unwrap();
    later(client.get(&id).await);
    assert_eq!((api.requests(), other.requests()), (1, 0));
}

#[tokio::test]
async fn slow_api_is_waited_for_until_the_timeout() {
    let (api, id) = api_with_payment();
    let url = serve(&api).await;
    api.delay(Duration::from_millis(200));
    let patient = fast(signed(), &url).timeout(Duration::from_secs(5)).build(http()).unwrap();
    assert!(is_found(&patient.get(&id).await));
    let hasty = fast(signed(), &url).timeout(Duration::from_millis(50)).build(http()).unwrap();
    let (_, reason) = later(hasty.get(&id).await);
    assert_eq!(reason, "no complete response within 50ms");
}

#[tokio::test]
async fn object_can_be_inside_another() {
    let (api, id) = api_with_payment();
    api.envelope("data");
    let url = serve(&api).await;
    let top_level = fast(signed(), &url).build(http()).unwrap();
    assert_eq!(later(top_level.get(&id).await).1, "the response has no `id`");

    let inside = fast(signed(), &url).extract(|_, body| member(&body, "data"));
    assert!(is_found(&inside.build(http()).unwrap().get(&id).await));
    let elsewhere = fast(signed(), &url).extract(|_, body| member(&body, "result"));
    let (_, reason) = later(elsewhere.build(http()).unwrap().get(&id).await);
    assert_eq!(reason, "the response does not contain the object");
}

/// A service that answers with a body and keeps the requests.
#[derive(Clone)]
struct Answering {
    body: String,
    seen: Arc<Mutex<Vec<Request<RequestBody>>>>,
}

impl Service<Request<RequestBody>> for Answering {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.seen.lock().unwrap().push(request);
        ready(Ok(Response::new(self.body.clone())))
    }
}

fn answering(body: impl Into<String>) -> Answering {
    Answering { body: body.into(), seen: Arc::default() }
}

#[tokio::test]
async fn body_must_be_the_object_that_was_asked_for() {
    let deep = format!(r#"{{"id":"PMT-1","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        (r#"{"id":"PMT-1","status":"SUCCESS"}"#, true),
        (" \n{\"status\":\"SUCCESS\",\"id\":\"\\u0050MT-1\"}", true),
        (r#"{"paymentId":"PMT-1","userId":"U","timestamp":1}"#, true),
        (&deep, true),
        (r#"{"id":"PMT-2","status":"SUCCESS"}"#, false),
        (r#"{"id":"PMT-2","paymentId":"PMT-1"}"#, false),
        (r#"{"id":"PMT-1","id":"PMT-1"}"#, false),
        (r#"{"id":1}"#, false),
        (r#"{"id":null}"#, false),
        (r#"{"id":"PMT-1"} {}"#, false),
        (r#"["PMT-1"]"#, false),
        (r#""PMT-1""#, false),
        ("{}", false),
        ("", false),
        ("{", false),
        ("\u{feff}{\"id\":\"PMT-1\"}", false),
    ];
    for (body, is_right) in cases {
        let service = answering(body);
        let client = fast(signed(), "https://api.test").build(service).unwrap();
        let fetched = client.get("PMT-1").await;
        let start = body.chars().take(60).collect::<String>();
        assert_eq!(is_found(&fetched), is_right, "{start}: {fetched:?}");
        if is_right {
            assert_eq!(fetched, Fetched::Found(body.to_owned().into()));
        }
    }
}

#[tokio::test]
async fn limit_of_a_response_is_exact() {
    let body = r#"{"id":"PMT-1"}"#;
    for (limit, is_right) in [(body.len(), true), (body.len().saturating_sub(1), false)] {
        let service = answering(body);
        let client =
            fast(signed(), "https://api.test").response_limit(limit).build(service).unwrap();
        assert_eq!(is_found(&client.get("PMT-1").await), is_right);
    }
}

#[tokio::test]
async fn id_is_percent_encoded() {
    let service = answering("{}");
    let seen = Arc::clone(&service.seen);
    let client = fast(signed(), "https://api.test/base/")
        .path(EventKind::Other, "/other/{id}?full=true")
        .build(service)
        .unwrap();
    for (id, address) in [
        ("PMT-1", "https://api.test/base/v1/user/payments/PMT-1"),
        ("PMT-a b?c#d%2F&e", "https://api.test/base/v1/user/payments/PMT-a%20b%3Fc%23d%252F%26e"),
        (
            "CAPD-é.{id}",
            "https://api.test/base/v1/user/crypto-acquiring/requests/CAPD-%C3%A9.%7Bid%7D",
        ),
        ("CCO-1", "https://api.test/base/v1/user/crypto-acquiring/CAP-1/checkouts/CCO-1"),
        ("ORCO-1", "https://api.test/base/v1/user/on-ramp/ORP-1/checkouts/ORCO-1"),
        ("d3b0", "https://api.test/base/other/d3b0?full=true"),
    ] {
        later(client.get(id).await);
        let request = seen.lock().unwrap().pop().unwrap();
        assert_eq!(request.uri().to_string(), address, "{id}");
        assert_eq!(request.method(), "GET");
    }
}

#[tokio::test]
async fn request_has_an_empty_body() {
    let service = answering("{}");
    let seen = Arc::clone(&service.seen);
    let client = fast(signed(), "https://api.test/").build(service).unwrap();
    later(client.get("PMT-1").await);
    let body = Body::new(seen.lock().unwrap().pop().unwrap().into_body());
    assert_eq!(body.size_hint().exact(), Some(0));
    // It is polled by services that do not ask for its size.
    assert!(to_bytes(body, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn absurd_ids_are_not_sent() {
    let service = answering("{}");
    let seen = Arc::clone(&service.seen);
    let client = fast(signed(), "https://api.test").build(service).unwrap();
    let long = format!("PMT-{}", "a".repeat(197));
    for id in [
        "",
        ".",
        "..",
        "PMT-../x",
        "PMT-1/..",
        "PMT-1/x",
        "PMT-1\\x",
        "PMT-\n",
        "PMT-\0",
        "PMT-\u{85}",
        &long,
    ] {
        let (after, reason) = later(client.get(id).await);
        assert!(reason.starts_with("the id is not sent to the API: "), "{id:?}: {reason}");
        assert_eq!(after, None);
    }
    // No path is known for these kinds.
    for id in ["SUB-1", "AGR-1", "d3b0"] {
        let (_, reason) = later(client.get(id).await);
        assert!(reason.starts_with("no path is set for an id of kind "), "{id}: {reason}");
    }
    assert!(seen.lock().unwrap().is_empty());
    later(client.get(&long[..200]).await);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn calls_the_service_that_was_polled_ready() {
    let (api, id) = api_with_payment();
    // It panics if a clone is called that was not ready.
    let limited = tower::limit::ConcurrencyLimit::new(api.clone(), 1);
    let client = fast(signed(), "https://api.test").build(limited).unwrap();
    let (first, second) = tokio::join!(client.get(&id), client.get(&id));
    assert!(is_found(&first) && is_found(&second));
}

#[tokio::test]
async fn service_that_is_never_ready_is_given_up() {
    let never = tower::limit::ConcurrencyLimit::new(api(), 0);
    let client =
        fast(signed(), "https://api.test").timeout(Duration::from_millis(50)).build(never).unwrap();
    let fetched = timeout(Duration::from_secs(5), client.get("PMT-1")).await.unwrap();
    assert_eq!(later(fetched).1, "no complete response within 50ms");
}

#[test]
fn client_is_send_and_sync_whatever_the_service_is() {
    fn fetch<T: Fetch<Payment>>(_: &T) {}
    fn send<T: Send>(_: T) {}
    // `BoxCloneService` is not `Sync`.
    let boxed = tower::util::BoxCloneService::new(api());
    let client = fast(signed(), "https://api.test").build(boxed).unwrap();
    fetch(&client);
    send(Fetch::<Payment>::fetch(&client, "PMT-1"));
    let client: ApiClient<MockApi> = fast(signed(), "https://api.test").build(api()).unwrap();
    fetch(&client.clone());
}
