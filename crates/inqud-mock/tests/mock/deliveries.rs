//! Tests of lifecycles, signatures, orders, repeats, retries and faults.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support;
use crate::support::{SECRET, layer, secret};
use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_mock::{
    Answer, Delivery, Fault, Lifecycle, Message, MockInqud, Round, Scenario, SentBody,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower::service_fn;
use tower_inqud::{
    Ack, Amount, Authorization, Checkout, Event, EventKind, Invoice, Notification, OnRampCheckout,
    OrderKey, Payment, PaymentRequest, Rejection, RejectionKind, RequestStatus, Secret,
    Subscription, Webhook, contract,
};

const PATH: &str = "/webhooks/inqud/request";

fn inqud() -> MockInqud {
    MockInqud::new(secret(), Uri::from_static(PATH))
}

/// A merchant that records every notification and its headers, in order of arrival.
#[derive(Clone, Default)]
struct Log {
    seen: Arc<Mutex<Vec<Webhook<PaymentRequest>>>>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Log {
    fn app(&self) -> Router {
        let log = self.clone();
        let handler = async move |head: HeaderMap, webhook: Webhook<PaymentRequest>| {
            log.heads.lock().unwrap().push(head);
            log.seen.lock().unwrap().push(webhook);
            Ack::Done
        };
        Router::new().route(PATH, post(handler).layer(layer::<PaymentRequest>()))
    }

    fn statuses(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|it| it.status.to_string()).collect()
    }
}

/// Serves on a free port and returns the webhook's URL.
async fn serve(app: Router) -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}{PATH}").parse().unwrap()
}

fn client() -> Client<hyper_util::client::legacy::connect::HttpConnector, SentBody> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Responds with these statuses one after another and repeats the last one. Has no layer.
fn answering(statuses: &[u16]) -> Router {
    let mut left = statuses.to_vec();
    left.reverse();
    let left = Arc::new(Mutex::new(left));
    let handler = async move || {
        let mut left = left.lock().unwrap();
        let status = if left.len() > 1 { left.pop() } else { left.first().copied() };
        StatusCode::from_u16(status.unwrap()).unwrap()
    };
    Router::new().route(PATH, post(handler))
}

fn requests(lifecycle: Lifecycle) -> Vec<PaymentRequest> {
    lifecycle.into_iter().map(|message| serde_json::from_slice(message.body()).unwrap()).collect()
}

fn json(message: &Message) -> serde_json::Value {
    serde_json::from_slice(message.body()).unwrap()
}

// Lifecycles

#[test]
fn each_status_of_a_request_supersedes_the_previous() {
    let scenarios = [
        (Scenario::Success, "WAITING_PAYMENT PENDING_PAYMENT SUCCESS"),
        (Scenario::Overpaid, "WAITING_PAYMENT PENDING_PAYMENT SUCCESS"),
        (Scenario::Conflict, "WAITING_PAYMENT PENDING_PAYMENT CONFLICT"),
        (Scenario::ResolvedConflict, "WAITING_PAYMENT PENDING_PAYMENT CONFLICT SUCCESS"),
        (Scenario::Expired, "WAITING_PAYMENT EXPIRED"),
    ];
    for (scenario, statuses) in scenarios {
        let lifecycle = requests(Lifecycle::new(scenario));
        let words = lifecycle.iter().map(|request| request.status.as_str()).collect::<Vec<_>>();
        assert_eq!(words.join(" "), statuses);
        assert!(
            lifecycle[0].last_updated_at.is_none(),
            "{scenario}: no update in the first status"
        );
        assert!(lifecycle.iter().all(|request| request.created_at == lifecycle[0].created_at));
        for pair in lifecycle.windows(2) {
            assert!(order_key(&pair[1]).supersedes(&order_key(&pair[0])), "{scenario}: {pair:#?}");
            assert!(pair[1].last_updated_at > pair[1].created_at);
        }
        assert!(lifecycle.iter().all(|request| !matches!(request.status, RequestStatus::Other(_))));
    }
}

#[test]
fn paid_amounts_are_exact() {
    let last = |scenario| {
        let lifecycle = Lifecycle::new(scenario).amount("99.4629100000000001".parse().unwrap());
        requests(lifecycle).pop().unwrap()
    };
    let paid = |scenario| last(scenario).paid_amount.map(|amount| amount.to_string());
    assert_eq!(paid(Scenario::Success).as_deref(), Some("99.4629100000000001"));
    assert_eq!(paid(Scenario::Overpaid).as_deref(), Some("100.4629100000000001"));
    assert_eq!(paid(Scenario::Conflict).as_deref(), Some("49.73145500000000005"));
    assert_eq!(paid(Scenario::Expired), None);
    assert_eq!(last(Scenario::Overpaid).overpaid, Some(true));
    assert_eq!(last(Scenario::Success).overpaid, Some(false));
    assert_eq!(last(Scenario::Conflict).reason.unwrap().as_str(), "UNDERPAID");
    assert!(last(Scenario::Success).tx_hash.is_some());

    // Also amounts that a `Decimal` cannot hold.
    for odd in ["1e400", "0.5e-400", &"9".repeat(60)] {
        let amount: Amount = odd.parse().unwrap();
        let paid = |scenario| {
            requests(Lifecycle::new(scenario).amount(amount.clone()))
                .pop()
                .unwrap()
                .paid_amount
                .unwrap()
        };
        assert_eq!(paid(Scenario::Success).to_string(), odd);
        assert!(paid(Scenario::Overpaid) > amount, "{odd}");
        assert!(paid(Scenario::Conflict) < amount, "{odd}");
    }
}

/// Inqud's support resolves a conflict: SUCCESS with 50 of 100 paid.
#[test]
fn a_resolved_conflict_is_a_success_but_not_paid() {
    let last = |scenario| requests(Lifecycle::new(scenario)).pop().unwrap();
    let hundred: Amount = "100".parse().unwrap();
    let settled = last(Scenario::ResolvedConflict);
    assert_eq!(settled.status, RequestStatus::Success);
    assert!(settled.status.is_successful() && !settled.is_paid());
    assert_eq!(settled.compare_paid(), Some(std::cmp::Ordering::Less));
    assert!(!settled.is_paid_for(&hundred, "USD"));
    assert!(!settled.is_paid_for(&"50".parse().unwrap(), "USDT"));
    for scenario in [Scenario::Success, Scenario::Overpaid] {
        let paid = last(scenario);
        assert!(paid.is_paid() && paid.is_paid_for(&hundred, "USD"), "{scenario}");
    }
    for scenario in [Scenario::Conflict, Scenario::Expired] {
        assert!(!last(scenario).is_paid(), "{scenario}");
    }
}

#[test]
fn ids_are_derived_from_the_order() {
    let ids = |order: &str| {
        let lifecycle = requests(Lifecycle::new(Scenario::ResolvedConflict).client_order_id(order));
        lifecycle.into_iter().map(|request| request.id).collect::<HashSet<_>>()
    };
    assert_eq!(ids("shop-1").len(), 1);
    assert_eq!(ids("shop-1"), ids("shop-1"));
    let many = (0..1000).flat_map(|number| ids(&format!("shop-{number}"))).collect::<HashSet<_>>();
    assert_eq!(many.len(), 1000, "each order has ids of its own");
    // The order id cannot inject JSON or template names.
    let odd = r#"@status","status":"SUCCESS "#;
    let lifecycle = requests(Lifecycle::new(Scenario::Expired).client_order_id(odd));
    assert_eq!(lifecycle[1].client_order_id.as_deref(), Some(odd));
    assert_eq!(lifecycle[1].status, RequestStatus::Expired);
}

#[test]
fn a_lifecycle_accepts_any_status() {
    let lifecycle = Lifecycle::new(Scenario::Success).statuses(["CONFLICT", "A_WORD_OF_TOMORROW"]);
    let lifecycle = requests(lifecycle);
    assert_eq!(lifecycle[0].status, RequestStatus::Conflict);
    assert!(
        lifecycle[0].last_updated_at > lifecycle[0].created_at,
        "CONFLICT is not the first status of a Request"
    );
    assert_eq!(lifecycle[1].status.as_str(), "A_WORD_OF_TOMORROW");
    assert!(requests(Lifecycle::new(Scenario::Success).statuses([""; 0])).is_empty());
}

#[test]
fn timestamps_follow_the_pace() {
    let begins = "2026-11-22T10:00:00Z".parse().unwrap();
    let lifecycle =
        Lifecycle::new(Scenario::ResolvedConflict).starts_at(begins).pace(Duration::from_secs(1));
    let updates =
        requests(lifecycle).iter().filter_map(|it| it.last_updated_at).collect::<Vec<_>>();
    let expected = ["2026-11-22T10:00:01Z", "2026-11-22T10:00:02Z", "2026-11-22T10:00:03Z"];
    assert_eq!(updates, expected.map(|text| text.parse().unwrap()));

    let lifecycle = Lifecycle::new(Scenario::Success).starts_at(begins).pace(Duration::MAX);
    assert!(requests(lifecycle)[1].last_updated_at > Some(begins));
}

#[test]
fn a_lifecycle_ends_at_the_given_time() {
    let ends = "2026-11-22T10:00:00Z".parse().unwrap();
    let of = |statuses: &[&str]| {
        let lifecycle =
            Lifecycle::new(Scenario::Success).statuses(statuses.iter().copied()).ends_at(ends);
        requests(lifecycle.pace(Duration::from_secs(60)))
    };
    for statuses in [&["WAITING_PAYMENT", "SUCCESS"][..], &["SUCCESS"], &["CONFLICT", "SUCCESS"]] {
        let lifecycle = of(statuses);
        assert_eq!(lifecycle.last().unwrap().last_updated_at, Some(ends));
        assert!(lifecycle.iter().all(|it| it.created_at < Some(ends)));
        assert!(lifecycle.windows(2).all(|it| it[1].last_updated_at > it[0].last_updated_at));
    }
    assert_eq!(of(&["WAITING_PAYMENT"])[0].created_at, Some(ends));
    let endless = Lifecycle::new(Scenario::Success).ends_at(ends).pace(Duration::MAX);
    assert!(requests(endless)[0].created_at < Some(ends));
}

#[test]
fn every_other_kind_has_its_ids_and_statuses() {
    let kinds = [
        (Scenario::Checkout, "CCO-", "NEW REQUEST_CREATED PAYMENT_DETECTED SUCCESS"),
        (Scenario::Payment, "PMT-", "NEW PENDING SUCCESS"),
        (Scenario::OnRamp, "ORCO-", "PENDING SUCCESS"),
        (Scenario::Subscription, "SUB-", "INITIATED ACTIVE CANCELLED"),
        (Scenario::Renewal, "SUB-", "INITIATED ACTIVE ACTIVE"),
        (Scenario::Invoice, "", "NEW PENDING SUCCESS"),
        (Scenario::Authorization, "AGR-", "GRANTED REVOKED_BY_MERCHANT"),
    ];
    for (scenario, prefix, statuses) in kinds {
        let lifecycle = Lifecycle::new(scenario).into_iter().collect::<Vec<_>>();
        let words =
            lifecycle.iter().map(|message| json(message)["status"].as_str().unwrap().to_owned());
        assert_eq!(words.collect::<Vec<_>>().join(" "), statuses);
        for message in &lifecycle {
            let body = json(message);
            assert_eq!(body["status"], message.label());
            assert!(body["id"].as_str().unwrap().starts_with(prefix), "{body}");
            assert!(!message.body().contains(&b'\n') && !message.body().contains(&b'@'));
        }
    }
    let checkout = Lifecycle::new(Scenario::Checkout).into_iter().collect::<Vec<_>>();
    assert!(json(&checkout[0])["request"].is_null());
    let request = &json(&checkout[2])["request"];
    assert_eq!(request["status"], "PENDING_PAYMENT");
    assert_eq!(request["checkoutId"], json(&checkout[2])["id"]);
    let nested = |at: usize| json(&checkout[at])["request"].clone();
    assert_eq!(nested(1)["status"], "WAITING_PAYMENT");
    assert!(nested(1)["lastUpdatedAt"].is_null(), "no update in the first status");
    for (at, paid) in [(2, "PENDING"), (3, "SUCCESS")] {
        assert_eq!(nested(at)["lastUpdatedAt"], json(&checkout[at])["lastUpdatedAt"]);
        assert_eq!(nested(at)["paymentStatus"], paid);
    }
    assert!(serde_json::from_str::<PaymentRequest>(&request.to_string()).is_ok());
}

/// Asserts that the bodies of a scenario decode as `T` and as an `Event` of this kind.
fn tells_of<T>(scenario: Scenario, kind: EventKind)
where
    T: DeserializeOwned + Notification + Serialize,
{
    let lifecycle = Lifecycle::new(scenario).into_iter().collect::<Vec<_>>();
    let known: Vec<T> =
        lifecycle.iter().map(|it| serde_json::from_slice(it.body()).unwrap()).collect::<Vec<_>>();
    let events: Vec<Event> =
        lifecycle.iter().map(|it| serde_json::from_slice(it.body()).unwrap()).collect::<Vec<_>>();
    for ((message, known), event) in lifecycle.iter().zip(&known).zip(&events) {
        assert_eq!(event.kind(), kind, "{scenario}");
        // Serializing gives the same JSON: no field is lost or missing.
        assert_eq!(serde_json::to_value(event).unwrap(), json(message), "{scenario}");
        assert_eq!(serde_json::to_value(known).unwrap(), json(message), "{scenario}");
    }
    let order_keys: [Vec<OrderKey>; 2] = [
        known.iter().zip(&lifecycle).map(|(it, sent)| OrderKey::new(it, sent.body())).collect(),
        events.iter().zip(&lifecycle).map(|(it, sent)| OrderKey::new(it, sent.body())).collect(),
    ];
    assert_eq!(order_keys[0], order_keys[1], "{scenario}: the key is the same for `T` and `Event`");
    for (pair, status) in order_keys[0].windows(2).zip(&lifecycle[1..]) {
        assert!(pair[1].supersedes(&pair[0]), "{scenario}: {}", status.label());
    }
    let distinct = order_keys[0].iter().collect::<HashSet<_>>();
    assert_eq!(
        distinct.len(),
        scenario.statuses().len(),
        "{scenario}: every notification has its own key"
    );
}

#[test]
fn every_body_decodes_as_its_kind_and_supersedes_the_previous() {
    for scenario in Scenario::ALL.iter().copied() {
        match scenario {
            Scenario::Checkout => tells_of::<Checkout>(scenario, EventKind::Checkout),
            Scenario::Payment | Scenario::ReversedPayment | Scenario::PartialPayment => {
                tells_of::<Payment>(scenario, EventKind::Payment);
            }
            Scenario::OnRamp => tells_of::<OnRampCheckout>(scenario, EventKind::OnRampCheckout),
            Scenario::Subscription | Scenario::Renewal => {
                tells_of::<Subscription>(scenario, EventKind::Subscription);
            }
            Scenario::Invoice => tells_of::<Invoice>(scenario, EventKind::Invoice),
            Scenario::Authorization => {
                tells_of::<Authorization>(scenario, EventKind::Authorization)
            }
            _ => tells_of::<PaymentRequest>(scenario, EventKind::Request),
        }
    }
}

#[test]
fn sub_statuses_are_known_or_absent() {
    let lifecycle = |statuses: &[&str]| {
        let lifecycle = Lifecycle::new(Scenario::Subscription).statuses(statuses.iter().copied());
        lifecycle
            .into_iter()
            .map(|it| serde_json::from_slice::<Subscription>(it.body()).unwrap())
            .collect::<Vec<_>>()
    };
    let all = lifecycle(&["INITIATED", "ACTIVE", "ACTIVE", "CANCELLED", "EXPIRED", "A_NEW_WORD"]);
    let words = all.iter().map(|it| it.sub_status.as_ref().map_or("-", |sub| sub.as_str()));
    let expected = ["-", "ACTIVE", "ACTIVE", "CANCELLED_BY_MERCHANT", "-", "-"];
    assert_eq!(words.collect::<Vec<_>>(), expected);
    let days = all.iter().map(|it| {
        let after = it.next_write_off_at()?.duration_since(it.created_at?);
        Some(after.as_hours() / 24)
    });
    assert_eq!(days.collect::<Vec<_>>(), [None, Some(30), Some(60), None, None, None]);
}

#[test]
fn every_scenario_has_a_unique_name_and_a_status() {
    let names = Scenario::ALL.iter().map(|scenario| scenario.as_str()).collect::<HashSet<_>>();
    assert_eq!(names.len(), Scenario::ALL.len());
    assert!(Scenario::ALL.iter().all(|scenario| !scenario.statuses().is_empty()));
    assert!(names.iter().all(|name| name.len() > 3), "{names:?}");
    assert_eq!(Scenario::ReversedPayment.as_str(), "reversed-payment");
    assert_eq!(format!("{:>8}", Scenario::OnRamp), " on-ramp");
}

// Deliveries

#[tokio::test]
async fn delivers_in_process_in_order() {
    let log = Log::default();
    let report = inqud().deliver(Lifecycle::new(Scenario::Success), log.app()).await;
    assert!(report.all_acknowledged(), "{report}");
    assert_eq!(log.statuses(), ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"]);
    let delivery = &report.deliveries()[2];
    assert_eq!((delivery.message().label(), delivery.retry()), ("SUCCESS", 0));
    assert_eq!(delivery.answer(), &Answer::Status(StatusCode::OK));
}

#[tokio::test]
async fn delivers_over_a_socket_with_repeats() {
    let log = Log::default();
    let inqud = MockInqud::new(secret(), serve(log.app()).await).times(3).shuffled();
    let report = inqud.deliver(Lifecycle::new(Scenario::Conflict), client()).await;
    assert!(report.all_acknowledged(), "{report}");
    let mut counts = BTreeMap::new();
    for status in log.statuses() {
        *counts.entry(status).or_insert(0) += 1;
    }
    let thrice = ["CONFLICT", "PENDING_PAYMENT", "WAITING_PAYMENT"].map(|it| (it.to_owned(), 3));
    assert_eq!(counts, BTreeMap::from(thrice));
    let delivered = report.deliveries().iter().map(|it| it.message().label());
    assert_eq!(delivered.collect::<Vec<_>>(), log.statuses(), "the report is in order of arrival");
}

#[tokio::test]
async fn a_seed_repeats_the_order() {
    let order = async |seed| {
        let log = Log::default();
        let report = inqud().times(4).shuffled().seed(seed);
        let report = report.deliver(Lifecycle::new(Scenario::ResolvedConflict), log.app()).await;
        assert_eq!(report.seed(), seed);
        assert!(report.to_string().ends_with(&format!("seed {seed}")));
        log.statuses()
    };
    assert_eq!(order(7).await, order(7).await);
    let mut orders = HashSet::new();
    for seed in 0..20 {
        orders.insert(order(seed).await);
    }
    assert!(orders.len() > 15, "{} orders of 20 seeds", orders.len());

    let chosen = inqud()
        .shuffled()
        .deliver(Lifecycle::new(Scenario::ResolvedConflict), Log::default().app())
        .await;
    let again = inqud().shuffled().seed(chosen.seed());
    let again =
        again.deliver(Lifecycle::new(Scenario::ResolvedConflict), Log::default().app()).await;
    let labels = |report: &inqud_mock::Report| {
        report.deliveries().iter().map(|it| it.message().label().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&chosen), labels(&again));
}

#[tokio::test]
async fn faulty_requests_are_rejected_before_the_handler() {
    let table = [
        (Fault::Forged, RejectionKind::DigestMismatch),
        (Fault::Unsigned, RejectionKind::DigestMissing),
        (Fault::Truncated, RejectionKind::BodyUnreadable),
    ];
    for (fault, kind) in table {
        let log = Log::default();
        let inqud = inqud().fault(fault);
        let report = inqud.deliver(Lifecycle::new(Scenario::Success), log.app()).await;
        assert!(report.all_rejected() && !report.all_acknowledged(), "{fault:?}: {report}");
        assert_eq!(report.lost().count(), 3);
        for delivery in report.deliveries() {
            assert_eq!(delivery.rejection().unwrap().kind(), kind);
            assert_eq!(delivery.answer(), &Answer::Status(kind.status()));
            assert_eq!(delivery.response_text(), delivery.rejection().unwrap().to_string());
        }

        // The same over a socket, with a `Content-Length` or chunked.
        for size in [None, Some(100)] {
            let (tell, mut told) = mpsc::unbounded_channel();
            let watch = map_response(move |response: Response| {
                let kind = response.extensions().get::<Rejection>().map(Rejection::kind);
                tell.send((response.status(), kind)).unwrap();
                std::future::ready(response)
            });
            let uri = serve(log.app().layer(watch)).await;
            let inqud = MockInqud::new(secret(), uri).fault(fault);
            let inqud = if let Some(size) = size { inqud.chunked(size) } else { inqud };
            let report = inqud.deliver(Lifecycle::new(Scenario::Success), client()).await;
            // A client that breaks the connection gets no response, although the server rejected the request.
            let is_answered = fault != Fault::Truncated;
            assert_eq!(report.all_rejected(), is_answered, "{fault:?}: {report}");
            for delivery in report.deliveries() {
                match delivery.answer() {
                    Answer::Status(status) => assert!(is_answered && *status == kind.status()),
                    Answer::Failed(why) => {
                        assert!(!is_answered && why.contains("truncated on purpose"), "{why}")
                    }
                    other => panic!("{fault:?}: {other}"),
                }
                let rejected = timeout(Duration::from_secs(10), told.recv()).await.unwrap();
                assert_eq!(rejected, Some((kind.status(), Some(kind))), "{fault:?}, {size:?}");
            }
        }
        assert_eq!(log.statuses(), [""; 0], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_rejections_count_as_rejected() {
    let is_rejected = async |inqud: &MockInqud, app: Router| {
        inqud.deliver(Lifecycle::new(Scenario::Expired), app).await.all_rejected()
    };
    for fault in [Fault::Forged, Fault::Unsigned] {
        let inqud = inqud().fault(fault);
        assert!(is_rejected(&inqud, answering(&[401])).await);
        // For example from a proxy, or for a wrong path.
        for status in [200, 202, 302, 400, 403, 404, 500, 503] {
            assert!(!is_rejected(&inqud, answering(&[status])).await, "{status}");
            assert!(!is_rejected(&inqud, answering(&[401, status])).await, "{status} after 401");
        }
        let endless = Router::new().route(PATH, post(std::future::pending::<()>));
        assert!(!is_rejected(&inqud, endless).await);
    }
    let inqud = inqud().fault(Fault::Truncated);
    assert!(
        is_rejected(&inqud, answering(&[400])).await
            && !is_rejected(&inqud, answering(&[500])).await
    );
}

#[tokio::test]
async fn a_chunked_body_has_no_length() {
    for size in [0, 1, 7, 100_000] {
        let log = Log::default();
        let inqud = MockInqud::new(secret(), serve(log.app()).await).chunked(size);
        let report = inqud.deliver(Lifecycle::new(Scenario::Success), client()).await;
        assert!(report.all_acknowledged(), "{report}");
        let heads = log.heads.lock().unwrap();
        assert_eq!(heads[0]["transfer-encoding"], "chunked");
        assert!(!heads[0].contains_key("content-length"));
    }
    let log = Log::default();
    let inqud = MockInqud::new(secret(), serve(log.app()).await);
    assert!(inqud.deliver(Lifecycle::new(Scenario::Success), client()).await.all_acknowledged());
    assert!(log.heads.lock().unwrap()[0].contains_key("content-length"));
}

#[tokio::test(start_paused = true)]
async fn a_body_slower_than_the_timeout_is_rejected() {
    let last = || Lifecycle::new(Scenario::Success).into_iter().take(1);
    let size = last().next().unwrap().body().len();

    // Four frames, each delayed by 2 s: 8 s in total.
    let inqud = inqud().chunked(size.div_ceil(4));
    let log = Log::default();
    let report = inqud.clone().frame_delay(Duration::from_secs(2)).deliver(last(), log.app()).await;
    assert!(report.all_acknowledged(), "{report}");
    assert_eq!(report.deliveries()[0].elapsed().as_secs(), 8);

    let report = inqud.frame_delay(Duration::from_secs(3)).deliver(last(), log.app()).await;
    assert_eq!(report.deliveries()[0].rejection().unwrap().kind(), RejectionKind::BodyTimeout);
    assert_eq!(report.deliveries()[0].elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_extends_the_response_timeout() {
    let webhooks = layer::<PaymentRequest>().body_timeout(Duration::from_secs(60));
    let handler = async |_: Webhook<PaymentRequest>| {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Ack::Done
    };
    let app = Router::new().route(PATH, post(handler).layer(webhooks));
    let last = Lifecycle::new(Scenario::Success).into_iter().skip(2);
    let inqud = inqud().chunked(300).frame_delay(Duration::from_secs(5));
    let report = inqud.deliver(last, app).await;
    assert!(report.all_acknowledged(), "{report}");
    assert!(report.deliveries()[0].elapsed() > Duration::from_secs(20));
}

#[tokio::test]
async fn a_truncated_body_ends_in_the_middle() {
    let message = Message::new("digits", "0123456789");
    for size in [1, 3, 5, 10, 100] {
        let inqud = inqud().fault(Fault::Truncated);
        for request in [inqud.request(&message), inqud.chunked(size).request(&message)] {
            let mut body = request.into_body();
            let mut came = Vec::new();
            let error = loop {
                match body.frame().await.unwrap() {
                    Ok(frame) => came.extend(frame.into_data().unwrap()),
                    Err(error) => break error,
                }
            };
            assert_eq!((came.as_slice(), error.kind()), (&b"01234"[..], ErrorKind::UnexpectedEof));
            assert!(body.frame().await.is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retries_follow_the_schedule_of_inqud() {
    let last = || Lifecycle::new(Scenario::Success).into_iter().skip(2);
    for status in [201, 202, 204, 301, 404, 410, 500, 503] {
        let inqud = inqud().retries(contract::RETRY_SCHEDULE);
        let report = inqud.deliver(last(), answering(&[status])).await;
        let minutes = report.deliveries().iter().map(|it| it.at().as_secs() / 60);
        let expected = [0, 1, 3, 8, 23, 53, 113, 233, 593, 1313, 2753];
        assert_eq!(minutes.collect::<Vec<_>>(), expected, "{status}");
        let retries = report.deliveries().iter().map(|it| it.retry());
        assert!(retries.eq(0..=contract::MAX_RETRIES));
        assert_eq!(report.lost().count(), 1);
        assert!(report.lost().all(|lost| lost.retry() == contract::MAX_RETRIES));
    }
    // An acknowledgement ends the retries.
    let inqud = inqud().retries(contract::RETRY_SCHEDULE);
    let report = inqud.deliver(last(), answering(&[503, 404, 200])).await;
    assert_eq!(report.deliveries().len(), 3);
    assert!(report.all_acknowledged() && !report.all_rejected(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn does_not_retry_by_default() {
    let report = inqud().deliver(Lifecycle::new(Scenario::Expired), answering(&[503])).await;
    assert_eq!(report.deliveries().len(), 2);
    assert_eq!(report.lost().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn retries_a_handler_that_exceeds_the_timeout() {
    let dropped = Arc::new(Mutex::new(0));
    let slow = {
        let dropped = Arc::clone(&dropped);
        async move || {
            struct OnDrop(Arc<Mutex<u32>>);
            impl Drop for OnDrop {
                fn drop(&mut self) {
                    *self.0.lock().unwrap() += 1;
                }
            }
            let _guard = OnDrop(dropped);
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
    };
    let app = Router::new().route(PATH, post(slow));
    let inqud = inqud().retries(&contract::RETRY_SCHEDULE[..2]);
    let last = Lifecycle::new(Scenario::Success).into_iter().skip(2);
    let report = inqud.deliver(last, app).await;
    let at = report.deliveries().iter().map(|it| (it.at().as_secs(), it.elapsed().as_secs()));
    assert_eq!(at.collect::<Vec<_>>(), [(0, 10), (70, 10), (200, 10)]);
    assert!(report.deliveries().iter().all(|it| it.answer() == &Answer::TimedOut));
    assert_eq!(*dropped.lock().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn other_deliveries_continue_while_a_retry_waits() {
    // The first message fails once. Its retry is due after a minute and then keeps the interval.
    let inqud = inqud().retries(contract::RETRY_SCHEDULE).interval(Duration::from_secs(25));
    let report =
        inqud.deliver(Lifecycle::new(Scenario::ResolvedConflict), answering(&[503, 200])).await;
    let came = report.deliveries().iter().map(|it| (it.message().label(), it.at().as_secs()));
    let expected = [
        ("WAITING_PAYMENT", 0),
        ("PENDING_PAYMENT", 25),
        ("CONFLICT", 50),
        ("WAITING_PAYMENT", 75),
        ("SUCCESS", 100),
    ];
    assert_eq!(came.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn late_deliveries_keep_the_interval() {
    // The first delivery takes 11 s. The later ones do not catch up.
    let calls = Arc::new(Mutex::new(0));
    let handler = async move || {
        *calls.lock().unwrap() += 1;
        if *calls.lock().unwrap() == 1 {
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
    };
    let app = Router::new().route(PATH, post(handler));
    let inqud = inqud().timeout(Duration::from_secs(60)).interval(Duration::from_secs(2));
    let report = inqud.deliver(Lifecycle::new(Scenario::ResolvedConflict), app).await;
    assert!(report.all_acknowledged(), "{report}");
    let at = report.deliveries().iter().map(|it| it.at().as_secs());
    assert_eq!(at.collect::<Vec<_>>(), [0, 11, 13, 15]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_does_not_overflow() {
    let hour = Duration::from_secs(60 * 60);
    let slow = Router::new().route(PATH, post(async move || tokio::time::sleep(hour).await));
    let last = Lifecycle::new(Scenario::Success).into_iter().skip(2);
    let report = inqud().timeout(Duration::MAX).deliver(last, slow).await;
    assert!(report.all_acknowledged() && report.deliveries()[0].elapsed() >= hour, "{report}");

    let year = hour * 24 * 365;
    let inqud = inqud().interval(Duration::MAX);
    let report = inqud.deliver(Lifecycle::new(Scenario::Expired), answering(&[200])).await;
    assert!(report.deliveries()[1].at() > 29 * year, "{:?}", report.deliveries()[1].at());
    let inqud = inqud.interval(Duration::ZERO).retries(&[Duration::MAX]);
    let report = inqud.deliver(Lifecycle::new(Scenario::Expired), answering(&[503])).await;
    assert!(report.deliveries()[2].at() > 29 * year, "{:?}", report.deliveries()[2].at());
}

/// A response body without end. Counts the frames that are read.
struct Endless {
    frame: &'static [u8],
    read: Arc<Mutex<usize>>,
}

impl Body for Endless {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        *self.read.lock().unwrap() += 1;
        Poll::Ready(Some(Ok(Frame::data(self.frame))))
    }
}

/// Delivers one message, and returns the delivery and the number of frames of the response that were read.
async fn endless_response(frame: &'static [u8]) -> (Delivery, usize) {
    let read = Arc::new(Mutex::new(0));
    let service = service_fn(|_: Request<SentBody>| {
        let body = Endless { frame, read: Arc::clone(&read) };
        std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
    });
    let last = Lifecycle::new(Scenario::Success).into_iter().skip(2);
    let report = inqud().deliver(last, service).await;
    (report.deliveries()[0].clone(), *read.lock().unwrap())
}

/// Reading a response body to its end lets the client reuse the connection, but the body may have no end.
#[tokio::test]
async fn reads_64_kib_of_a_response_and_keeps_one() {
    for (frame, expected, kept) in [
        (&[b'x'; 1024][..], 64 + 1, 1024),
        (&[b'x'; 1000], 65 + 1, 1024),
        (&[b'x'; 64 * 1024], 1 + 1, 1024),
        (b"x", 64 * 1024 + 1, 1024),
        (b"", 64 * 1024 + 1, 0),
    ] {
        let (delivery, read) = endless_response(frame).await;
        assert_eq!(read, expected, "frames of {} bytes", frame.len());
        assert_eq!(delivery.response_text(), "x".repeat(kept));
        assert_eq!(delivery.answer(), &Answer::Status(StatusCode::OK));
    }
    let (delivery, _) = endless_response(b"0123456789").await;
    assert_eq!(delivery.response_text(), "0123456789".repeat(102) + "0123");
}

#[tokio::test]
async fn reports_an_unreachable_service() {
    let uri = Uri::from_static("http://127.0.0.1:1/"); // nothing listens there
    let report =
        MockInqud::new(secret(), uri).deliver(Lifecycle::new(Scenario::Expired), client()).await;
    assert!(!report.all_rejected() && !report.all_acknowledged(), "{report}");
    assert!(
        matches!(report.deliveries()[1].answer(), Answer::Failed(why) if why.contains("refused"))
    );
}

#[tokio::test]
async fn calls_back_after_each_delivery() {
    let watched = Arc::new(Mutex::new(Vec::new()));
    let app = {
        let watched = Arc::clone(&watched);
        Router::new().route(PATH, post(async move || watched.lock().unwrap().push("call".into())))
    };
    let each = |it: Delivery| watched.lock().unwrap().push(it.message().label().to_owned());
    inqud().deliver_each(Lifecycle::new(Scenario::Expired), app, each).await;
    assert_eq!(*watched.lock().unwrap(), ["call", "WAITING_PAYMENT", "call", "EXPIRED"]);
}

#[tokio::test]
async fn an_empty_report_is_neither_acknowledged_nor_rejected() {
    let report = inqud().deliver([], Log::default().app()).await;
    assert!(!report.all_acknowledged() && !report.all_rejected());
}

#[tokio::test]
async fn no_output_shows_the_secret_or_a_digest() {
    let message = Lifecycle::new(Scenario::Success).into_iter().next().unwrap();
    let request = inqud().request(&message);
    let report = inqud().deliver(Lifecycle::new(Scenario::Success), Log::default().app()).await;
    let text = format!("{:?} {request:?} {report:?} {report} {message:?}", inqud());
    assert!(!text.contains(SECRET));
    assert!(!text.contains(&support::digest(message.body())));
}

// Any order

/// A shop that keeps the latest state of each Request and counts shipments.
#[derive(Clone, Default)]
struct Shop(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    requests: BTreeMap<String, PaymentRequest>,
    shipped: u32,
}

impl Shop {
    fn app<F>(&self, handle: F) -> Router
    where
        F: Fn(&mut State, PaymentRequest) -> Ack + Clone + Send + Sync + 'static,
    {
        let shop = self.clone();
        let handler = async move |webhook: Webhook<PaymentRequest>| {
            handle(&mut shop.0.lock().unwrap(), PaymentRequest::clone(&webhook))
        };
        Router::new().route(PATH, post(handler).layer(layer::<PaymentRequest>()))
    }

    fn state(&self) -> State {
        self.0.lock().unwrap().clone()
    }
}

fn order_key(request: &PaymentRequest) -> OrderKey {
    OrderKey::new(request, &serde_json::to_vec(request).unwrap())
}

fn newest_counts(state: &mut State, new: PaymentRequest) -> Ack {
    let old = state.requests.get(&new.id);
    if old.is_none_or(|old| order_key(&new).supersedes(&order_key(old))) {
        state.shipped += u32::from(new.is_paid());
        state.requests.insert(new.id.clone(), new);
    }
    Ack::Done
}

fn last_comer_counts(state: &mut State, new: PaymentRequest) -> Ack {
    state.requests.insert(new.id.clone(), new);
    Ack::Done
}

fn ships_for_each(state: &mut State, new: PaymentRequest) -> Ack {
    state.shipped += u32::from(new.is_paid());
    newest_counts(state, new)
}

async fn try_any_order(
    inqud: MockInqud,
    lifecycle: impl IntoIterator<Item = Message>,
    handle: fn(&mut State, PaymentRequest) -> Ack,
) -> Result<State, inqud_mock::Disagreement> {
    inqud
        .any_order(lifecycle, async |round| {
            let shop = Shop::default();
            round.deliver(shop.app(handle)).await;
            shop.state()
        })
        .await
}

#[tokio::test]
async fn any_order_accepts_a_correct_handler() {
    // A resolved conflict is only half paid.
    let three = Lifecycle::new(Scenario::ResolvedConflict)
        .into_iter()
        .chain(Lifecycle::new(Scenario::Expired).client_order_id("order-2"))
        .chain(Lifecycle::new(Scenario::Success).client_order_id("order-3"));
    let state = try_any_order(inqud(), three, newest_counts).await.unwrap();
    assert_eq!((state.requests.len(), state.shipped), (3, 1));
}

#[tokio::test]
async fn any_order_detects_last_write_wins() {
    let wrong = try_any_order(inqud(), Lifecycle::new(Scenario::Success), last_comer_counts).await;
    let wrong = wrong.unwrap_err();
    let text = format!("{wrong:?}");
    assert!(text.starts_with("this order ends in a different state"), "{text}");
    let found = text.split("in this order:").nth(1).unwrap();
    let unpaid = ["status: WaitingPayment", "status: PendingPayment"];
    assert!(unpaid.iter().any(|status| found.contains(status)), "{text}");
    assert!(text.contains(&format!(".seed({}).rounds(1)", wrong.seed())), "{text}");

    // The seed reproduces the failure.
    let inqud = inqud().seed(wrong.seed()).rounds(1);
    let again = try_any_order(inqud, Lifecycle::new(Scenario::Success), last_comer_counts).await;
    assert_eq!(again.unwrap_err().to_string(), wrong.to_string());
}

#[tokio::test]
async fn any_order_tries_at_least_one_other_order() {
    for (rounds, expected) in [(0, 2), (1, 2), (2, 3)] {
        let tried = Mutex::new(0);
        let merchant = async |round: Round| {
            round.deliver(Log::default().app()).await;
            *tried.lock().unwrap() += 1;
        };
        let lifecycle = Lifecycle::new(Scenario::Success);
        inqud().rounds(rounds).any_order(lifecycle, merchant).await.unwrap();
        assert_eq!(*tried.lock().unwrap(), expected, "{rounds}");
    }
}

#[tokio::test]
async fn any_order_detects_double_shipping() {
    let wrong = try_any_order(inqud(), Lifecycle::new(Scenario::Success), ships_for_each).await;
    assert!(wrong.unwrap_err().to_string().contains("shipped: 2"));
}

#[tokio::test]
async fn any_order_fails_if_nothing_was_accepted() {
    let stranger = MockInqud::new(Secret::new("another").unwrap(), Uri::from_static(PATH));
    let wrong = try_any_order(stranger, Lifecycle::new(Scenario::Success), newest_counts).await;
    let wrong = wrong.unwrap_err();
    assert!(wrong.to_string().starts_with("not every message was acknowledged"), "{wrong}");
    assert!(wrong.to_string().contains("the digest does not match the body"), "{wrong}");
    assert_eq!(wrong.report().lost().count(), 3);

    let wrong =
        inqud().any_order(Lifecycle::new(Scenario::Success), async |_| 1).await.unwrap_err();
    assert!(wrong.to_string().starts_with("nothing was delivered"), "{wrong}");
    assert!(try_any_order(inqud(), [], newest_counts).await.is_err());
}

/// Answers `Retry` until the first status has arrived.
fn wants_the_first_first(state: &mut State, new: PaymentRequest) -> Ack {
    if state.requests.is_empty() && new.status != RequestStatus::WaitingPayment {
        return Ack::Retry;
    }
    newest_counts(state, new)
}

#[tokio::test(start_paused = true)]
async fn any_order_follows_retries() {
    let lifecycle = || Lifecycle::new(Scenario::Success);
    let lost = try_any_order(inqud(), lifecycle(), wants_the_first_first).await.unwrap_err();
    assert!(lost.to_string().starts_with("not every message was acknowledged"), "{lost}");
    let inqud = inqud().retries(contract::RETRY_SCHEDULE);
    let state = try_any_order(inqud, lifecycle(), wants_the_first_first).await.unwrap();
    assert_eq!(state.shipped, 1);
}
