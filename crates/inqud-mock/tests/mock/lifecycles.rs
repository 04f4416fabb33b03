//! Tests of forged digests, reversals, partial payments, amendments and other kinds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::support;
use crate::support::{SECRET, layer, secret};
use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use inqud_mock::{Fault, Lifecycle, Message, MockInqud, Scenario, SentBody};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::{ServiceExt, service_fn};
use tower_inqud::{
    Ack, Amount, Authorization, Checkout, Diagnosis, Event, EventKind, History, Notification,
    OnRampCheckout, OrderKey, Payment, PaymentRequest, RejectionKind, RequestStatus, Subscription,
    Verifier, Webhook, contract,
};

const PATH: &str = "/webhooks/inqud/request";

fn inqud() -> MockInqud {
    MockInqud::new(secret(), Uri::from_static(PATH))
}

fn digest(inqud: &MockInqud, message: &Message) -> String {
    let request = inqud.request(message);
    request.headers()[contract::DIGEST_HEADER].to_str().unwrap().to_owned()
}

// Forged calls

#[test]
fn a_forged_digest_matches_no_body_under_the_secret() {
    let message = Lifecycle::new(Scenario::Success).into_iter().last().unwrap();
    let body = message.body();
    let text = std::str::from_utf8(body).unwrap();
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let uri = PATH.as_bytes();
    let mut texts: Vec<Vec<u8>> = vec![
        body.to_vec(),
        Vec::new(),
        text.trim_end_matches('}').into(),
        text.to_uppercase().into(),
        text.to_lowercase().into(),
        serde_json::to_vec(&value).unwrap(),
        serde_json::to_vec_pretty(&value).unwrap(),
        body.iter().rev().copied().collect(),
        body[..body.len() / 2].to_vec(),
        [body, body].map(|it| it.to_vec()).concat(),
        [uri, body].concat(),
        [body, uri].concat(),
        [SECRET.as_bytes(), body].concat(),
        [body, SECRET.as_bytes()].concat(),
    ];
    // One extra byte of each value at either end, and line ends.
    texts.extend((0..=u8::MAX).map(|byte| [&body[..], &[byte]].concat()));
    texts.extend((0..=u8::MAX).map(|byte| [&[byte], &body[..]].concat()));
    texts.extend(["\r\n", "\n\n", "  "].map(|end| [&body[..], end.as_bytes()].concat()));

    let verifier = Verifier::new(secret());
    for forger in (0..20).map(|_| inqud().fault(Fault::Forged)) {
        let digest = digest(&forger, &message);
        // The digest is well-formed, so the rejection proves that the body was checked.
        let rejection = Verifier::new(secret()).verify(&digest, body.clone()).unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::DigestMismatch);
        assert_eq!(rejection.diagnosis(), Some(Diagnosis::Unexplained));
        for text in &texts {
            let verified = verifier.verify(&digest, text.clone());
            assert!(verified.is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }
}

#[test]
fn each_mock_forges_with_its_own_key() {
    let message = Lifecycle::new(Scenario::Success).into_iter().next().unwrap();
    let forger = inqud().fault(Fault::Forged);
    assert_eq!(digest(&forger, &message), digest(&forger.clone(), &message));
    let others = (0..20).map(|_| digest(&inqud().fault(Fault::Forged), &message));
    assert_eq!(others.collect::<HashSet<_>>().len(), 20);
}

// Lifecycles

fn of<T: DeserializeOwned>(lifecycle: Lifecycle) -> Vec<T> {
    lifecycle.into_iter().map(|it| serde_json::from_slice(it.body()).unwrap()).collect()
}

fn amount(text: &str) -> Option<Amount> {
    Some(text.parse().unwrap())
}

/// The paid amount of each message, or `-` if it has none.
fn paid(lifecycle: Lifecycle) -> Vec<String> {
    let text = |it: PaymentRequest| it.paid_amount.map_or("-".to_owned(), |it| it.to_string());
    of(lifecycle).into_iter().map(text).collect()
}

#[test]
fn requests_and_checkouts_start_without_a_last_update() {
    let sample: Value = serde_json::from_str(support::REQUEST).unwrap();
    assert!(sample["lastUpdatedAt"].is_null());
    for scenario in Scenario::ALL.iter().copied() {
        let first: Value = of(Lifecycle::new(scenario)).remove(0);
        let id = first["id"].as_str().unwrap();
        if id.starts_with("CAPD-") || id.starts_with("CCO-") {
            assert_eq!(first["lastUpdatedAt"], Value::Null, "{scenario}");
        } else if id.starts_with("ORCO-") {
            // As in the sample of an on-ramp checkout.
            assert_eq!(first["modifiedAt"], first["createdAt"], "{scenario}");
        }
        if id.starts_with("CAPD-") {
            // Has the keys and the nulls of the sample.
            let keys = |it: &Value| it.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&first), keys(&sample), "{scenario}");
            for (key, value) in sample.as_object().unwrap() {
                assert_eq!(first[key].is_null(), value.is_null(), "{scenario}: {key}");
            }
        }
    }
}

#[test]
fn a_reversed_request_is_paid_in_full() {
    let lifecycle: Vec<PaymentRequest> = of(Lifecycle::new(Scenario::Reversed));
    let [.., paid, reversed] = &lifecycle[..] else { panic!("{lifecycle:#?}") };
    assert!(paid.is_paid() && !reversed.is_paid());
    assert_eq!(reversed.status, RequestStatus::Conflict);
    assert!(reversed.last_updated_at > paid.last_updated_at);
    // The reason is not public, and the full amount stays paid.
    assert_eq!(reversed.reason, None);
    assert_eq!(reversed.paid_amount, amount("100"));
}

#[test]
fn an_amendment_changes_only_the_paid_amount() {
    let [.., before, after] = &of::<Value>(Lifecycle::new(Scenario::Amended))[..] else { panic!() };
    let differing = before.as_object().unwrap().keys().filter(|key| before[*key] != after[*key]);
    assert_eq!(differing.collect::<Vec<_>>(), ["overpaid", "paidAmount"]);
    assert_eq!(paid(Lifecycle::new(Scenario::Amended)), ["-", "100", "100", "101"]);
    let times = |lifecycle: &[PaymentRequest]| {
        lifecycle
            .windows(2)
            .map(|it| it[0].last_updated_at < it[1].last_updated_at)
            .collect::<Vec<_>>()
    };
    let lifecycle = of(Lifecycle::new(Scenario::Amended));
    assert_eq!(times(&lifecycle), [true, true, false]);
    assert_eq!(verdicts(Lifecycle::new(Scenario::Amended)), "newer newer newer amended");

    // Several amendments, followed by another change.
    let words = ["CONFLICT", "CONFLICT", "CONFLICT", "SUCCESS", "SUCCESS"];
    let lifecycle = || Lifecycle::new(Scenario::Amended).statuses(words);
    assert_eq!(paid(lifecycle()), ["100", "101", "102", "100", "101"]);
    assert_eq!(times(&of(lifecycle())), [false, false, true, false]);
    // In other scenarios, a repeated status is a change of its own.
    assert_eq!(times(&of(Lifecycle::new(Scenario::Conflict).statuses(words))), [true; 4]);
    let ends = "2026-11-22T10:00:00Z".parse().unwrap();
    let last: PaymentRequest = of(lifecycle().ends_at(ends)).pop().unwrap();
    assert_eq!(last.last_updated_at, Some(ends));
}

#[test]
fn a_resolved_conflict_is_half_paid() {
    assert_eq!(paid(Lifecycle::new(Scenario::ResolvedConflict)), ["-", "50", "50", "50"]);
    let settled: PaymentRequest = of(Lifecycle::new(Scenario::ResolvedConflict)).pop().unwrap();
    assert_eq!(settled.status, RequestStatus::Success);
    assert_eq!((settled.pay_amount.clone(), settled.reason.clone()), (amount("100"), None));
    assert!(!settled.is_paid());
    let conflict: PaymentRequest = of(Lifecycle::new(Scenario::ResolvedConflict)).remove(2);
    assert_eq!(conflict.reason.unwrap().as_str(), "UNDERPAID");
}

#[test]
fn payments_can_be_reversed_or_partial() {
    let amounts = |lifecycle: Lifecycle| {
        let amount = |it: Payment| it.amount.unwrap().to_string();
        of(lifecycle).into_iter().map(amount).collect::<Vec<_>>()
    };
    assert_eq!(amounts(Lifecycle::new(Scenario::ReversedPayment)), ["100"; 4]);
    assert_eq!(verdicts(Lifecycle::new(Scenario::ReversedPayment)), "newer newer newer unordered");
    assert_eq!(
        amounts(Lifecycle::new(Scenario::PartialPayment)),
        ["100", "100", "40", "90", "100"]
    );
    assert_eq!(
        verdicts(Lifecycle::new(Scenario::PartialPayment)),
        "newer newer newer amended unordered"
    );
    let odd = Lifecycle::new(Scenario::PartialPayment).amount("99.46291".parse().unwrap());
    assert_eq!(amounts(odd)[2..], ["39.785164", "89.516619", "99.46291"]);
    // In any scenario.
    let part = Lifecycle::new(Scenario::Payment).statuses(["PARTIAL_SUCCESS"]);
    assert_eq!(amounts(part), ["40"]);
}

/// The verdicts of a history on a lifecycle, in order.
fn verdicts(lifecycle: Lifecycle) -> String {
    let mut history = History::default();
    let verdict = |message: Message| {
        let event: Event = serde_json::from_slice(message.body()).unwrap();
        history.receive_order_key(OrderKey::new(&event, message.body())).as_str()
    };
    lifecycle.into_iter().map(verdict).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_message_of_a_lifecycle_is_a_duplicate_or_stale() {
    for scenario in Scenario::ALL.iter().copied() {
        let verdicts = verdicts(Lifecycle::new(scenario));
        assert_eq!(verdicts.split(' ').count(), scenario.statuses().len());
        for verdict in verdicts.split(' ') {
            assert!(["newer", "amended", "unordered"].contains(&verdict), "{scenario}: {verdicts}");
        }
    }
}

// Another kind's URL

/// Delivers each scenario to a handler for one kind.
async fn only_of_its_kind<T>(own: EventKind)
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    for scenario in Scenario::ALL.iter().copied() {
        let calls = Arc::new(Mutex::new(0));
        let count = calls.clone();
        let handler = async move |_: Webhook<T>| {
            *count.lock().unwrap() += 1;
            Ack::Done
        };
        let app = Router::new().route(PATH, post(handler).layer(layer::<T>()));
        let report = inqud().deliver(Lifecycle::new(scenario), app).await;

        let first: Event = of(Lifecycle::new(scenario)).remove(0);
        let found = first.kind();
        if found == own {
            assert!(report.all_acknowledged(), "{scenario}: {report}");
            assert_eq!(*calls.lock().unwrap(), scenario.statuses().len());
        } else if found != EventKind::Invoice {
            // Invoices are left out: their id prefix is not public, so nothing identifies them.
            assert!(report.all_rejected(), "{scenario} sent to {own}: {report}");
            assert_eq!(*calls.lock().unwrap(), 0);
            for delivery in report.deliveries() {
                let rejection = delivery.rejection().unwrap();
                assert_eq!(rejection.status(), StatusCode::UNPROCESSABLE_ENTITY);
                let kind = rejection.kind();
                assert_eq!(kind, RejectionKind::WrongKind { expected: own, found }, "{scenario}");
            }
        }
    }
}

#[tokio::test]
async fn a_layer_rejects_lifecycles_of_another_kind() {
    only_of_its_kind::<PaymentRequest>(EventKind::Request).await;
    only_of_its_kind::<Checkout>(EventKind::Checkout).await;
    only_of_its_kind::<Payment>(EventKind::Payment).await;
    only_of_its_kind::<OnRampCheckout>(EventKind::OnRampCheckout).await;
    only_of_its_kind::<Subscription>(EventKind::Subscription).await;
    only_of_its_kind::<Authorization>(EventKind::Authorization).await;
}

// Any order

/// A merchant with a row for each object, and a [`History`] beside it.
#[derive(Clone, Default)]
struct Shop(Arc<Mutex<Objects>>);

type Objects = BTreeMap<String, (History, Option<Bytes>)>;

impl Shop {
    fn app(&self) -> Router {
        let Self(objects) = self.clone();
        let handler = async move |webhook: Webhook<Event>| {
            let mut objects = objects.lock().unwrap();
            let (history, body) = objects.entry(webhook.id().to_owned()).or_default();
            if history.receive(&webhook).should_handle() {
                *body = Some(webhook.raw_body().clone());
            }
            Ack::Done
        };
        Router::new().route(PATH, post(handler).layer(layer::<Event>()))
    }

    /// The latest body of each object.
    fn state(&self) -> Vec<Bytes> {
        let objects = self.0.lock().unwrap();
        objects.values().map(|(_, body)| body.clone().unwrap()).collect()
    }
}

async fn any_order(messages: impl IntoIterator<Item = Message>) -> (Vec<Bytes>, Vec<Vec<Bytes>>) {
    let came = Mutex::new(Vec::new());
    let log = |request: &Request<SentBody>| {
        // The digest identifies the message.
        request.headers()[contract::DIGEST_HEADER].to_str().unwrap().to_owned()
    };
    let messages: Vec<_> = messages.into_iter().collect();
    let bodies: BTreeMap<_, _> =
        messages.iter().map(|it| (digest(&inqud(), it), it.body().clone())).collect();
    let inqud = inqud().rounds(30);
    let state = inqud.any_order(messages, async |round| {
        let shop = Shop::default();
        let round_came = Arc::new(Mutex::new(Vec::new()));
        let (app, noted) = (shop.app(), round_came.clone());
        let service = service_fn(move |request: Request<SentBody>| {
            noted.lock().unwrap().push(log(&request));
            app.clone().oneshot(request)
        });
        round.deliver(service).await;
        let round_came = round_came.lock().unwrap();
        let in_order = round_came.iter().map(|digest| bodies[digest].clone()).collect();
        came.lock().unwrap().push(in_order);
        shop.state()
    });
    let state = state.await.unwrap();
    (state, came.into_inner().unwrap())
}

#[tokio::test]
async fn a_history_ends_every_scenario_in_the_same_state() {
    for scenario in Scenario::ALL.iter().copied() {
        let last = Lifecycle::new(scenario).into_iter().last().unwrap();
        let (state, _) = any_order(Lifecycle::new(scenario)).await;
        assert_eq!(state, [last.body().clone()], "{scenario}");
    }
    // All scenarios together.
    let all = Scenario::ALL
        .iter()
        .flat_map(|scenario| Lifecycle::new(*scenario).client_order_id(scenario.as_str()));
    let (state, _) = any_order(all).await;
    assert_eq!(state.len(), Scenario::ALL.len());
}

#[tokio::test]
async fn only_notifications_without_an_order_keep_theirs() {
    /// Pairs of messages whose order is kept.
    const KEPT: &[(Scenario, &[(usize, usize)])] = &[
        (Scenario::Amended, &[(2, 3)]),
        (Scenario::ReversedPayment, &[(2, 3)]),
        (Scenario::PartialPayment, &[(2, 3)]),
        (Scenario::Subscription, &[(1, 2)]),
        (Scenario::Renewal, &[(1, 2)]),
        (Scenario::Authorization, &[(0, 1)]),
    ];
    for scenario in Scenario::ALL.iter().copied() {
        let kept = KEPT.iter().find(|it| it.0 == scenario).map_or(&[][..], |it| it.1);
        // Mixed with the messages of another object.
        let lifecycle: Vec<_> =
            Lifecycle::new(scenario).into_iter().map(|it| it.body().clone()).collect();
        let other = Lifecycle::new(Scenario::Success).client_order_id("order-2");
        let (_, rounds) = any_order(Lifecycle::new(scenario).into_iter().chain(other)).await;
        assert_eq!(rounds.len(), 31);
        for first in 0..lifecycle.len() {
            for second in first + 1..lifecycle.len() {
                let is_swapped = rounds.iter().any(|round| {
                    let at = |body| round.iter().position(|it| it == body).unwrap();
                    let last = |body| round.iter().rposition(|it| it == body).unwrap();
                    at(&lifecycle[second]) < last(&lifecycle[first])
                });
                assert_eq!(
                    !is_swapped,
                    kept.contains(&(first, second)),
                    "{scenario} {first} {second}"
                );
            }
        }
        assert!(rounds[1..].iter().any(|round| round.len() > lifecycle.len() + 5), "repeats");
    }
}

/// Random statuses of every kind, including orders that Inqud never sends.
#[tokio::test]
async fn a_history_agrees_on_any_statuses() {
    let words = [
        "WAITING_PAYMENT PENDING_PAYMENT SUCCESS CONFLICT EXPIRED A_NEW_WORD",
        "NEW PENDING PARTIAL_SUCCESS SUCCESS FAILED FROZEN REFUNDED EXPIRED",
        "INITIATED ACTIVE CANCELLED EXPIRED A_NEW_WORD",
    ];
    let mut random = fastrand::Rng::with_seed(15);
    for _ in 0..100 {
        let words: Vec<_> = words[random.usize(..words.len())].split(' ').collect();
        let statuses: Vec<_> =
            (0..random.usize(1..6)).map(|_| *random.choice(&words).unwrap()).collect();
        let scenario = *random.choice(Scenario::ALL).unwrap();
        let lifecycle = Lifecycle::new(scenario).statuses(statuses.clone());
        let inqud = inqud().rounds(10).seed(random.u64(..));
        let ended = inqud.any_order(lifecycle, async |round| {
            let shop = Shop::default();
            round.deliver(shop.app()).await;
            shop.state()
        });
        ended.await.unwrap_or_else(|error| panic!("{scenario} {statuses:?}: {error}"));
    }
}
