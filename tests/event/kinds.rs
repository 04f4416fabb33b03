//! All kinds of notifications, each as its own type and as an `Event`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;

use crate::support::{REQUEST, REQUEST_NO_REASON, deliver};
use jiff::Timestamp;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tower_inqud::{
    Authorization, Checkout, Event, EventKind, History, Invoice, Notification, OnRampCheckout,
    OrderKey, OtherEvent, Payment, PaymentRequest, PaymentStatus, Rejection, RejectionKind,
    Subscription, SubscriptionSubStatus, Verdict,
};

/// Bodies and their kinds.
const FIXTURES: [(&str, EventKind); 12] = [
    (REQUEST, EventKind::Request),
    (REQUEST_NO_REASON, EventKind::Request),
    (include_str!("../fixtures/checkout-new.json"), EventKind::Checkout),
    (include_str!("../fixtures/checkout-no_price.json"), EventKind::Checkout),
    (CHECKOUT, EventKind::Checkout),
    (include_str!("../fixtures/payment-new.json"), EventKind::Payment),
    (OLD_PAYMENT, EventKind::Payment),
    (include_str!("../fixtures/on_ramp-pending.json"), EventKind::OnRampCheckout),
    (include_str!("../fixtures/subscription-active.json"), EventKind::Subscription),
    (include_str!("../fixtures/subscription-renewing.json"), EventKind::Subscription),
    (INVOICE, EventKind::Invoice),
    (include_str!("../fixtures/authorization-granted.json"), EventKind::Authorization),
];
const CHECKOUT: &str = include_str!("../fixtures/checkout-payment_detected.json");
const OLD_PAYMENT: &str = include_str!("../fixtures/payment-old.json");
const INVOICE: &str = include_str!("../fixtures/invoice-pending.json");

/// A test that runs for each kind.
trait ForKind {
    fn run<T>(&self)
    where
        T: Debug + DeserializeOwned + Notification + PartialEq + Send + Serialize + Sync + 'static;
}

fn for_kind(kind: EventKind, test: &impl ForKind) {
    match kind {
        EventKind::Request => test.run::<PaymentRequest>(),
        EventKind::Checkout => test.run::<Checkout>(),
        EventKind::Payment => test.run::<Payment>(),
        EventKind::OnRampCheckout => test.run::<OnRampCheckout>(),
        EventKind::Subscription => test.run::<Subscription>(),
        EventKind::Invoice => test.run::<Invoice>(),
        EventKind::Authorization => test.run::<Authorization>(),
        EventKind::Other => test.run::<OtherEvent>(),
        _ => panic!("{kind} is new"),
    }
}

fn event(json: &str) -> Event {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// Asserts that each member of the original is equal. Times are compared as instants.
fn assert_same(original: &Value, written: &Value, at: &str) {
    if let (Value::Object(original), Value::Object(written)) = (original, written) {
        for (key, value) in original {
            assert_same(value, &written[key], &format!("{at}.{key}"));
        }
        return;
    }
    let time = |value: &Value| value.as_str()?.parse::<Timestamp>().ok();
    match (time(original), time(written)) {
        (Some(original), Some(written)) => assert_eq!(original, written, "{at}"),
        _ => assert_eq!(original, written, "{at}"),
    }
}

struct ComesBackEqual(&'static str);

impl ForKind for ComesBackEqual {
    fn run<T>(&self)
    where
        T: Debug + DeserializeOwned + Notification + PartialEq + Serialize,
    {
        let first: T = serde_json::from_str(self.0).unwrap();
        let text = written(&first);
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), first);
        let (original, again): (Value, Value) = (self.0.parse().unwrap(), text.parse().unwrap());
        assert_same(&original, &again, "");
        let id = original.get("id").unwrap_or(&original["paymentId"]);
        assert_eq!(first.id(), id);
        assert_eq!(first.status_text(), original["status"]);
        let updated = original.get("lastUpdatedAt").or(original.get("modifiedAt"));
        let updated = updated.and_then(Value::as_str).map(|time| time.parse().unwrap());
        assert_eq!(first.last_update(), updated);

        let event = event(self.0);
        assert_eq!(written(&event), text);
        assert_eq!(self::event(&text), event);
        assert_eq!(event.delivery_key(), first.delivery_key());
        assert_eq!(event.id(), first.id());
        assert_eq!(event.status_text(), first.status_text());
        assert_eq!(event.last_update(), first.last_update());
        assert_eq!(event.status_rank(), first.status_rank());
    }
}

#[test]
fn every_kind_round_trips_as_itself_and_as_event() {
    for (json, kind) in FIXTURES {
        assert_eq!(event(json).kind(), kind, "{json}");
        for_kind(kind, &ComesBackEqual(json));
    }
}

/// The content of a notification ignores its status, which the order key has, and what Inqud may compute for
/// each delivery. Everything else makes a difference.
#[test]
fn content_ignores_only_the_status_estimates_and_names() {
    for (json, kind) in FIXTURES {
        let ignored: &[&str] = match kind {
            EventKind::Request => {
                &["convertRate", "cryptoAcquiringProjectName", "maxLimit", "minLimit", "status"]
            }
            EventKind::Checkout => &[
                "cryptoCurrencies",
                "cryptoCurrenciesByBlockchain",
                "cryptoCurrencyDetails",
                "estimatedPayAmounts",
                "maxLimits",
                "merchantFixedPlatformFees",
                "merchantPercentPlatformFees",
                "minLimits",
                "name",
                "payerFixedPlatformFees",
                "payerPercentPlatformFees",
                "projectName",
                "status",
                "request.convertRate",
                "request.cryptoAcquiringProjectName",
                "request.maxLimit",
                "request.minLimit",
            ],
            EventKind::OnRampCheckout => &["name", "projectName", "status"],
            EventKind::Subscription | EventKind::Invoice => &["planName", "status"],
            _ => &["status"],
        };
        let event = event(json);
        let of = |fields: &Value| event.content(fields.to_string().as_bytes());
        let original: Value = json.parse().unwrap();
        let fields = original.as_object().unwrap().keys().cloned();
        let nested = original["request"].as_object().into_iter().flat_map(Map::keys);
        let paths = fields.chain(nested.map(|key| format!("request.{key}")));
        for path in paths.chain(ignored.iter().map(|&path| path.to_owned())) {
            let mut changed = original.clone();
            match path.split_once('.') {
                Some((_, key)) if changed["request"].is_object() => {
                    changed["request"][key] = "changed".into();
                }
                Some(_) => continue,
                None => changed[&path] = "changed".into(),
            }
            let is_ignored = ignored.contains(&&*path);
            assert_eq!(of(&changed) == of(&original), is_ignored, "{kind} {path}");
        }
    }
}

#[tokio::test]
async fn layer_decodes_every_kind_as_event() {
    for (json, kind) in FIXTURES {
        let webhook = deliver::<Event>(json).await.unwrap();
        assert_eq!(webhook.kind(), kind);
        let order: Value = json.parse().unwrap();
        assert_eq!(webhook.client_order_id(), order["clientOrderId"].as_str());
    }
}

#[test]
fn reads_every_field_of_the_fixtures() {
    for (json, kind) in FIXTURES {
        let fields: Map<String, Value> = serde_json::from_str(json).unwrap();
        let read: Map<String, Value> = serde_json::from_str(&written(&event(json))).unwrap();
        for (name, value) in fields {
            assert_eq!(
                read.get(&name).is_none_or(Value::is_null),
                value.is_null(),
                "{kind} {name}"
            );
        }
    }
}

/// An object with its `id`, if it has one, as the first or the last member.
fn with_id(fields: &Map<String, Value>, first: bool) -> String {
    let member = |(name, value): (&String, &Value)| format!("{}:{value}", json!(name));
    let mut members: Vec<_> = fields.iter().filter(|it| it.0 != "id").map(member).collect();
    if let Some(id) = fields.get_key_value("id").map(member) {
        members.insert(if first { 0 } else { members.len() }, id);
    }
    format!("{{{}}}", members.join(","))
}

fn verdict<T>(result: Result<T, Rejection>) -> Result<(), (RejectionKind, Option<String>)> {
    match result {
        Ok(_) => Ok(()),
        Err(rejection) => Err((rejection.kind(), rejection.field_path().map(str::to_owned))),
    }
}

/// An event is rejected exactly if its kind rejects it, wherever the id is. If the id is first, the path is
/// the same. If only the fields tell the kind, the event is `Other` instead.
struct RefusesTheSame(Map<String, Value>, String);

impl ForKind for RefusesTheSame {
    fn run<T>(&self)
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for id_first in [true, false] {
            let body = with_id(&self.0, id_first);
            let own = verdict(runtime.block_on(deliver::<T>(body.clone())));
            let any = runtime.block_on(deliver::<Event>(body.clone()));
            if own.is_err() && body.contains(r#""id":"try-"#) {
                assert_eq!(any.unwrap().kind(), EventKind::Other, "{body}");
                continue;
            }
            let any = verdict(any);
            if !id_first || !self.0.contains_key("id") {
                assert_eq!(any.map_err(|it| it.0), own.map_err(|it| it.0), "{body}");
                continue;
            }
            assert_eq!(any, own, "{body}");
            if let Err((kind, path)) = own {
                assert_eq!(kind, RejectionKind::UnexpectedShape);
                // serde accepts an array as a struct too, so it may fail at an item.
                let path = path.unwrap();
                assert_eq!(path.split('[').next(), Some(&*self.1), "{body}: {path}");
            }
        }
    }
}

#[test]
fn event_and_kind_reject_the_same_field() {
    let values = [json!(null), json!(true), json!(7), json!("7"), json!([7]), json!({"a": 7})];
    let mut changed = 0;
    for (json, kind) in FIXTURES {
        let fields: Map<String, Value> = serde_json::from_str(json).unwrap();
        for name in fields.keys() {
            for value in &values {
                // Other tests cover bodies that are no longer of their kind.
                if name == "id" || name == "paymentId" || (name == "status" && value.is_null()) {
                    continue;
                }
                let mut fields = fields.clone();
                fields.insert(name.clone(), value.clone());
                for_kind(kind, &RefusesTheSame(fields, name.clone()));
                changed += 1;
            }
        }
    }
    assert!(changed > 600, "{changed}");
}

/// Only the given fields can reject a notification: those about money and order.
struct RefusesOnly(Map<String, Value>, &'static [&'static str]);

impl ForKind for RefusesOnly {
    fn run<T>(&self)
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for name in self.0.keys().filter(|name| *name != "id" && *name != "status") {
            for json in ["true", "7", "1e400", r#""much""#, r#""\ud83d""#, "[]", "{}"] {
                let members = self.0.iter().map(|(key, value)| match key == name {
                    true => format!("{}:{json}", json!(key)),
                    false => format!("{}:{value}", json!(key)),
                });
                let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
                let refused = verdict(runtime.block_on(deliver::<T>(body.clone())));
                if refused.is_err() {
                    assert!(self.1.contains(&&**name), "{refused:?}: {body}");
                } else if json == "true" {
                    assert!(!self.1.contains(&&**name), "{body}");
                }
            }
        }
    }
}

#[test]
fn only_money_and_order_fields_reject() {
    for (json, kind) in FIXTURES {
        let strict: &'static [&'static str] = match kind {
            EventKind::Request => &[
                "clientOrderId",
                "currency",
                "lastUpdatedAt",
                "paidAmount",
                "payAmount",
                "processingAmount",
                "requestAmount",
                "requestAmountConverted",
                "requestAmountIn",
            ],
            EventKind::Checkout => &["clientOrderId", "fixedAmount", "lastUpdatedAt", "request"],
            // One of the fixtures has the old form, whose id is `paymentId`.
            EventKind::Payment => {
                &["amount", "clientOrderId", "currency", "orderType", "paymentId"]
            }
            EventKind::OnRampCheckout => {
                &["modifiedAt", "sourceAmount", "sourceCurrency", "targetAmount", "targetCurrency"]
            }
            _ => &[],
        };
        let mut fields: Map<String, Value> = serde_json::from_str(json).unwrap();
        fields.insert("unknown".to_owned(), json!(7));
        for_kind(kind, &RefusesOnly(fields, strict));
    }
}

#[tokio::test]
async fn error_names_the_field_wherever_the_id_is() {
    let mut fields: Map<String, Value> = serde_json::from_str(CHECKOUT).unwrap();
    fields["request"]["payAmount"] = json!("much");
    let rejection = deliver::<Event>(with_id(&fields, true)).await.unwrap_err();
    assert_eq!(rejection.field_path(), Some("request.payAmount"));
    let rejection = deliver::<Event>(with_id(&fields, false)).await.unwrap_err();
    assert_eq!(rejection.field_path(), None);
    let error = rejection.source().unwrap().to_string();
    assert!(error.starts_with("request.payAmount: "), "{error}");
}

#[test]
fn prefix_decides_the_kind_whatever_the_fields() {
    let with_prefix = [
        ("CAPD-1", EventKind::Request),
        ("CCO-1", EventKind::Checkout),
        ("PMT-1", EventKind::Payment),
        ("ORCO-1", EventKind::OnRampCheckout),
        ("SUB-1", EventKind::Subscription),
        ("AGR-1", EventKind::Authorization),
        ("CAP-1", EventKind::Other),
        ("capd-1", EventKind::Other),
        ("CAPD1", EventKind::Other),
        ("", EventKind::Other),
    ];
    for (id, kind) in with_prefix {
        assert_eq!(event(&format!(r#"{{"id":"{id}","status":"X"}}"#)).kind(), kind, "{id}");
        if kind != EventKind::Other {
            assert!(id.starts_with(kind.id_prefix().unwrap()));
            let body = format!(
                r#"{{"acquiringUrl":"a","paymentIntents":7,"status":"X","id":"{id}","h2H":true,"onRampUrl":"b"}}"#
            );
            assert_eq!(event(&body).kind(), kind, "{id}");
        }
    }
    assert_eq!(event(r#"{"id":"PMT\u002d1","status":"X"}"#).kind(), EventKind::Payment);
    assert_eq!(event(r#"{"\u0069d":"PMT-1","status":"X"}"#).kind(), EventKind::Payment);
}

#[test]
fn fields_decide_the_kind_without_a_prefix() {
    let of = |fields: &str| event(&format!(r#"{{"id":"1","status":"X",{fields}}}"#)).kind();
    assert_eq!(of(r#""paymentIntents":[]"#), EventKind::Invoice);
    assert_eq!(of(r#""authorizationId":null"#), EventKind::Invoice);
    assert_eq!(of(r#""nextWriteOfAt":null"#), EventKind::Subscription);
    // None of these starts with a prefix.
    for id in ["123-456", "1A-1", "Abc-1", "aBC-1", "ABCDEF12-3456", "-1", "É-1", "A"] {
        let invoice = format!(r#"{{"id":"{id}","status":"X","authorizationId":"AGR-1"}}"#);
        assert_eq!(event(&invoice).kind(), EventKind::Invoice, "{id}");
    }
    // The fields are of a kind whose prefix is known, of two kinds, or of none.
    assert_eq!(of(r#""h2H":true,"orderType":"PAYIN""#), EventKind::Other);
    assert_eq!(of(r#""initApprovalTx":"0x""#), EventKind::Other);
    assert_eq!(of(r#""paymentIntents":[],"subStatus":"X""#), EventKind::Other);
    assert_eq!(of(r#""amount":7,"clientOrderId":"2""#), EventKind::Other);
    // `paymentId` is the id of a payment only if there is no `id`.
    assert_eq!(of(r#""paymentId":"PMT-1","userId":"OWN-1","timestamp":null"#), EventKind::Other);
    assert_eq!(event(OLD_PAYMENT).id(), "PMT-e4f5a6b7-8c9d-4e0f-a1b2-c3d4e5f60718");
}

/// Otherwise a refund could be mistaken for incoming money.
#[test]
fn unknown_prefix_is_never_a_known_kind() {
    let fields =
        r#""status":"SUCCESS","amount":7,"orderType":"PAYIN","transactionType":"DEBIT","h2H":true"#;
    for id in ["RFD-1", "CHARGEBACK-1", "1"] {
        assert_eq!(event(&format!(r#"{{"id":"{id}",{fields}}}"#)).kind(), EventKind::Other);
        assert_eq!(event(&format!(r#"{{{fields},"id":"{id}"}}"#)).kind(), EventKind::Other);
    }
    for id in ["PLAN-1", "INV-1", "RFD-9", "A2B-1", "X_Y-1"] {
        for fields in [
            r#""status":"ACTIVE","subStatus":"ACTIVE""#,
            r#""status":"SUCCESS","authorizationId":"AGR-1""#,
            r#""status":"SUCCESS","type":"REFUND","paymentIntents":[]"#,
            r#""status":"SUCCESS","paymentId":"PMT-1","userId":"OWN-1","timestamp":"x""#,
        ] {
            assert_eq!(event(&format!(r#"{{"id":"{id}",{fields}}}"#)).kind(), EventKind::Other);
            assert_eq!(event(&format!(r#"{{{fields},"id":"{id}"}}"#)).kind(), EventKind::Other);
        }
    }
    // These have no prefix: an id in lower case, a number, and a UUID.
    for id in ["inv-1", "1", "ABCDEFAB-612D-D272-D137-1C17149D4395"] {
        let invoice = format!(r#"{{"id":"{id}","status":"SUCCESS","authorizationId":"AGR-1"}}"#);
        assert_eq!(event(&invoice).kind(), EventKind::Invoice, "{id}");
    }
}

/// A refund names its payment, and must not be mistaken for it.
#[tokio::test]
async fn old_form_of_a_payment_needs_all_its_fields() {
    let old = |fields: &str| format!(r#"{{"paymentId":"PMT-1","status":"SUCCESS"{fields}}}"#);
    let own = r#","userId":"OWN-1","timestamp":"2021-05-06T07:08:09.012Z""#;
    let odd = r#","userId":7,"timestamp":null"#;
    for (fields, is_payment) in [
        (own.to_owned(), true),
        (odd.to_owned(), true),
        (format!(r#"{own},"id":null"#), true),
        (format!(r#"{own},"orderId":"ORD-1","clientOrderId":"7","externalId":"8""#), true),
        (String::new(), false),
        (r#","refundId":"RFD-1""#.to_owned(), false),
        (r#","userId":"OWN-1""#.to_owned(), false),
        (r#","timestamp":"2021-05-06T07:08:09.012Z""#.to_owned(), false),
        (format!(r#"{own},"refundId":"RFD-1""#), false),
        (format!(r#"{own},"chargebackId":null"#), false),
    ] {
        let json = old(&fields);
        let expected = if is_payment { EventKind::Payment } else { EventKind::Other };
        assert_eq!(event(&json).kind(), expected, "{json}");
        assert_eq!(event(&written(&event(&json))), event(&json));
        let payment = deliver::<Payment>(json.clone()).await;
        assert_eq!(payment.is_ok(), is_payment, "{json}");
        if let Ok(payment) = payment {
            assert_eq!(serde_json::from_str::<Payment>(&written(&*payment)).unwrap(), *payment);
        }
    }
}

/// Such an object is never an error, because its kind is not known.
#[tokio::test]
async fn keeps_objects_without_an_id_whole() {
    for (json, status) in [
        (r"{}", ""),
        (r#"{"status":"NEW"}"#, "NEW"),
        (r#"{"id":null,"status":"NEW"}"#, "NEW"),
        (r#"{"status":"NEW","paymentId":"7"}"#, "NEW"),
        (r#"{"refundId":"RFD-1","paymentId":"PMT-1","status":"SUCCESS"}"#, "SUCCESS"),
        (r#"{"authorizationId":"AGR-1","status":"SUCCESS"}"#, "SUCCESS"),
    ] {
        let webhook = deliver::<Event>(json).await.unwrap();
        let Event::Other(other) = &*webhook else { panic!("{json}") };
        assert_eq!((other.json(), other.status_text()), (json, status));
        assert_eq!(serde_json::from_str::<OtherEvent>(json).unwrap(), **other);
        assert_eq!(written(other), json);
        assert_eq!(event(&written(other)).id(), other.id());
    }
    // The SHA-256 of `{}`.
    let empty = event(r" { } ");
    assert_eq!(
        empty.id(),
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    let (new, paid) = (event(r#"{"status":"NEW"}"#), event(r#"{"status":"PAID"}"#));
    assert_ne!(new.id(), paid.id());
    assert_ne!(paid.id(), new.id(), "distinct objects");
    assert_eq!(event(r#"{ "status": "NEW" }"#).delivery_key(), new.delivery_key());
}

#[test]
fn keeps_what_cannot_be_read_as_the_detected_kind() {
    for json in [
        r#"{"id":"1","status":{"a":7},"authorizationId":"AGR-1"}"#,
        r#"{"id":"1","status":7,"subStatus":"ACTIVE"}"#,
    ] {
        let Event::Other(other) = event(json) else { panic!("{json}") };
        assert_eq!(other.json(), json);
    }
}

#[test]
fn inferred_fields_never_reject_an_invoice() {
    let odd = json!({
        "id": "1", "status": "SUCCESS", "authorizationId": 7, "planId": {}, "planName": 3,
        "clientOrderId": [], "currency": {"code": "USD"}, "amount": {"value": 7},
        "paymentIntents": 7, "createdAt": 1_763_000_000, "modifiedAt": "yesterday"
    });
    let invoice: Invoice = serde_json::from_str(&odd.to_string()).unwrap();
    assert!(invoice.is_paid());
    assert_eq!(
        (invoice.amount, invoice.modified_at, invoice.plan_name.as_deref()),
        (None, None, None)
    );
}

#[test]
fn pay_out_is_not_incoming() {
    for (order_type, paid_in) in
        [("\"PAYIN\"", true), ("null", true), ("\"PAYOUT\"", false), ("\"REFUND\"", false)]
    {
        let json = format!(r#"{{"id":"PMT-1","status":"SUCCESS","orderType":{order_type}}}"#);
        let payment: Payment = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (payment.is_incoming_paid(), payment.is_successful()),
            (paid_in, true),
            "{json}"
        );
    }
}

fn order_key(json: &str) -> OrderKey {
    OrderKey::new(&event(json), json.as_bytes())
}

/// The verdicts of notifications about one object, in order of arrival.
fn verdicts<'j>(arrived: impl IntoIterator<Item = &'j str>) -> Vec<Verdict> {
    let mut history = History::default();
    arrived.into_iter().map(|json| history.receive_order_key(order_key(json))).collect()
}

/// Inqud's support can revert a status. Without the time of the change, the verdict says that the order is not
/// known.
#[test]
fn reverted_status_supersedes_by_its_time() {
    for (id, before, after, again) in [
        ("PMT-1", "SUCCESS", "FAILED", Verdict::Review),
        ("SUB-1", "CANCELLED", "ACTIVE", Verdict::Unordered),
        ("AGR-1", "REVOKED_BY_MERCHANT", "GRANTED", Verdict::Review),
        ("CAPD-1", "SUCCESS", "CONFLICT", Verdict::Review),
    ] {
        let at = |status: &str, time: &str| {
            format!(r#"{{"id":"{id}","status":"{status}","lastUpdatedAt":{time}}}"#)
        };
        let (early, late) = (r#""2026-11-22T10:00:00Z""#, r#""2026-11-22T10:05:00Z""#);
        let (early, late) = (at(before, early), at(after, late));
        assert!(order_key(&late).supersedes(&order_key(&early)), "{id}");
        assert!(!order_key(&early).supersedes(&order_key(&late)), "{id}");
        assert_eq!(
            verdicts([&*late, &early, &late]),
            [Verdict::Newer, Verdict::Stale, Verdict::Duplicate]
        );
        let (before, after) = (&*at(before, "null"), &*at(after, "null"));
        let told = verdicts([before, before, after, after, before]);
        let (newer, duplicate) = (Verdict::Newer, Verdict::Duplicate);
        assert_eq!(told, [newer, duplicate, Verdict::Unordered, duplicate, again], "{id}");
    }
}

#[test]
fn renewals_differ_even_if_the_day_is_not_an_instant() {
    let on = |day: &str| format!(r#"{{"id":"SUB-1","status":"ACTIVE","nextWriteOffAt":{day}}}"#);
    let (november, december) = (&*on("\"2026-11-30\""), &*on("\"2026-12-31\""));
    let read: Subscription = serde_json::from_str(november).unwrap();
    assert_eq!(read.next_write_off_at(), None);
    let amended = Verdict::Amended;
    assert_eq!(verdicts([november, december, november]), [Verdict::Newer, amended, amended]);
    // The same instant in another spelling is the same renewal.
    let (plain, fraction) = (on("\"2026-12-31T00:00:00Z\""), on("\"2026-12-31T00:00:00.000Z\""));
    assert_eq!(order_key(&plain), order_key(&fraction));
    // A missing sub-status equals `null`, but an empty one is different.
    let sub = |sub: &str| format!(r#"{{"id":"SUB-1","status":"ACTIVE"{sub}}}"#);
    let [none, null, empty] = ["", r#","subStatus":null"#, r#","subStatus":"""#].map(sub);
    assert_eq!(order_key(&none), order_key(&null));
    assert!(!order_key(&null).is_duplicate_of(&order_key(&empty)));
}

#[test]
fn other_events_differ_by_their_json() {
    let (a, b) = (r#"{"id":"NEW-1","a":1}"#, r#"{"id":"NEW-1","a":2}"#);
    assert_eq!(order_key(a), order_key(r#"{ "a" : 1.0, "id" : "NEW-1" }"#));
    let (newer, review) = (Verdict::Newer, Verdict::Review);
    assert_eq!(verdicts([a, b, b, a]), [newer, Verdict::Amended, Verdict::Duplicate, review]);
}

/// The first notification of an invoice may lack the fields that identify the kind.
#[test]
fn invoice_supersedes_its_first_state_read_as_other() {
    let new = r#"{"id":"1","status":"NEW"}"#;
    let paid = r#"{"id":"1","status":"SUCCESS","authorizationId":"AGR-1"}"#;
    assert_eq!((event(new).kind(), event(paid).kind()), (EventKind::Other, EventKind::Invoice));
    let later = r#"{"id":"1","status":"FAILED","modifiedAt":"2026-11-22T10:00:00Z"}"#;
    let (newer, unordered) = (Verdict::Newer, Verdict::Unordered);
    assert_eq!(verdicts([new, paid, later]), [newer, unordered, newer]);
    assert_eq!(verdicts([later, new]), [newer, Verdict::Stale]);
}

#[test]
fn error_of_other_json_names_what_is_expected() {
    let error = |json: &str| {
        let event = serde_json::from_str::<Event>(json).unwrap_err().to_string();
        assert_eq!(serde_json::from_str::<Payment>(json).unwrap_err().to_string(), event);
        event
    };
    assert!(error("[]").starts_with("invalid type: sequence, expected an object"));
    assert!(error("17").starts_with("invalid type: integer `17`, expected an object"));
}

#[test]
fn raw_json_is_equal_if_its_text_is() {
    let limits = |json: &str| -> Checkout {
        let json = format!(r#"{{"id":"CCO-1","status":"NEW","minLimits":{json}}}"#);
        serde_json::from_str(&json).unwrap()
    };
    assert_eq!(limits(r#"{"A":1}"#), limits(r#"{"A":1}"#));
    for other in [r#"{"A":2}"#, r#"{"A":1.0}"#, r#"{"A": 1}"#] {
        assert_ne!(limits(r#"{"A":1}"#), limits(other));
    }
}

#[test]
fn keeps_unknown_kinds_whole() {
    let json = r#"{"fee":0.1234567890123456789,"id":"NEW-1","status":"DONE","lastUpdatedAt":"2026-11-22T10:00:00Z","a":{"b": [1, 2]},"a":null}"#;
    let Event::Other(other) = event(json) else { panic!("known") };
    assert_eq!(other.json(), json);
    assert_eq!(written(&other), json);
    assert_eq!(other.status(), Some("DONE"));
    assert_eq!(other.delivery_key().to_string(), "NEW-1/DONE/2026-11-22T10:00:00Z");
    assert_eq!(event(&written(&other)), Event::Other(other));

    let Event::Other(odd) = event(r#"{"id":"NEW-1","status":7,"modifiedAt":7}"#) else {
        panic!("known")
    };
    assert_eq!((odd.status(), odd.status_text(), odd.last_update()), (None, "", None));
}

#[tokio::test]
async fn event_needs_exactly_one_string_id() {
    for (body, path) in [
        (r#"{"id":7,"status":"NEW"}"#, None),
        (r#"{"id":null,"id":null,"status":"NEW"}"#, None),
        (r#"{"id":null,"id":"PMT-1","status":"NEW"}"#, None),
        (r#"{"id":["PMT-1"],"h2H":true,"status":"NEW"}"#, None),
        (r#"{"id":"NEW-1","id":"NEW-1"}"#, None),
        (r#"{"id":"NEW-1","id":"PMT-1","status":"NEW"}"#, None),
        (r#"{"id":"PMT-1","id":"NEW-1","status":"NEW"}"#, None),
        (r#"{"id":"PMT-1","id":"CCO-1","status":"NEW"}"#, None),
        (r#"{"id":"PMT-1","i\u0064":"PMT-1","status":"NEW"}"#, None),
        (r#"{"id":"PMT-1","status":"NEW","status":"NEW"}"#, None),
        (r#"{"status":"NEW","id":"PMT-1","status":"NEW"}"#, None),
        (r#"{"status":"NEW","status":"NEW","id":"PMT-1"}"#, None),
        (r#"{"id":"PMT-1"}"#, None),
        (r#"{"paymentId":"PMT-1","userId":"7","timestamp":"now"}"#, None),
    ] {
        let refusal = verdict(deliver::<Event>(body).await).unwrap_err();
        assert_eq!(refusal, (RejectionKind::UnexpectedShape, path.map(str::to_owned)), "{body}");
    }
}

/// Reads huge bodies on a small stack, with the id first or last.
#[test]
fn deep_event_does_not_overflow_the_stack() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = r#""":0,"#.repeat(50_000);
    let thread = std::thread::Builder::new().stack_size(512 * 1024);
    let thread = thread.spawn(move || {
        for id in ["CCO-1", "NEW-1"] {
            for body in [
                format!(r#"{{"id":"{id}","status":"NEW","x":{deep}}}"#),
                format!(r#"{{"x":{deep},"status":"NEW","id":"{id}"}}"#),
                format!(r#"{{"minLimits":{deep},"status":"NEW","id":"{id}"}}"#),
                format!(r#"{{"id":"{id}",{many}"status":"NEW"}}"#),
                format!(r#"{{{many}"status":"NEW","id":"{id}"}}"#),
            ] {
                assert_eq!(event(&body).id(), id);
            }
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn keeps_an_unknown_status_of_every_kind() {
    for (json, kind) in FIXTURES {
        let mut fields: Map<String, Value> = serde_json::from_str(json).unwrap();
        fields["status"] = json!("KILN_FIRED");
        let event = event(&with_id(&fields, true));
        assert_eq!((event.kind(), event.status_text()), (kind, "KILN_FIRED"));
        let again: Value = written(&event).parse().unwrap();
        assert_eq!(again["status"], "KILN_FIRED");
    }
}

#[test]
fn cancelled_payment_reads_as_failed_and_keeps_its_spelling() {
    let payment = |status| -> Payment {
        serde_json::from_str(&format!(r#"{{"id":"PMT-1","status":"{status}"}}"#)).unwrap()
    };
    let (cancelled, failed) = (payment("CANCELLED"), payment("FAILED"));
    assert_eq!(cancelled.status, PaymentStatus::Failed);
    assert_eq!(cancelled.delivery_key(), failed.delivery_key());
    let duplicate = [Verdict::Newer, Verdict::Duplicate];
    assert_eq!(verdicts([&*written(&cancelled), &written(&failed)]), duplicate);
    assert!(written(&cancelled).contains(r#""status":"CANCELLED""#));
    assert!(written(&failed).contains(r#""status":"FAILED""#));

    let mut settled = cancelled;
    settled.status = PaymentStatus::Success;
    assert!(written(&settled).contains(r#""status":"SUCCESS""#));
}

#[test]
fn reads_both_spellings_of_the_next_write_off() {
    let of = |key: &str| -> Subscription {
        let json = format!(r#"{{"id":"SUB-1","status":"ACTIVE","{key}":"2026-12-24T00:00:00Z"}}"#);
        serde_json::from_str(&json).unwrap()
    };
    let (docs, sdk) = (of("nextWriteOfAt"), of("nextWriteOffAt"));
    assert_eq!(docs.next_write_off_at(), Some("2026-12-24T00:00:00Z".parse().unwrap()));
    assert_eq!(docs.next_write_off_at(), sdk.next_write_off_at());
    assert_eq!(docs.delivery_key(), sdk.delivery_key());
    assert!(written(&docs).contains(r#""nextWriteOfAt":"2026-12-24T00:00:00Z""#));
    let Event::Subscription(renewing) = event(FIXTURES[9].0) else { panic!("known") };
    assert_eq!(renewing.sub_status, Some(SubscriptionSubStatus::Renewing));
}

/// With times, each notification supersedes those before it, and none after it. Without times, the order of
/// arrival counts, except that an early status never follows a settled one.
#[test]
fn each_kind_has_an_order() {
    let timed = |prefix: &str, key: &str, statuses: &[&str]| -> Vec<String> {
        let of = |(i, status): (usize, &&str)| {
            format!(
                r#"{{"id":"{prefix}1","status":"{status}","{key}":"2026-11-22T10:00:{i:02}Z"}}"#
            )
        };
        statuses.iter().enumerate().map(of).collect()
    };
    for life in [
        timed(
            "CAPD-",
            "lastUpdatedAt",
            &["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "SUCCESS", "X"],
        ),
        timed("CCO-", "lastUpdatedAt", &["NEW", "SUCCESS", "CONFLICT", "NEW"]),
        timed("ORCO-", "modifiedAt", &["DONE", "PENDING", "DONE"]),
        timed("NEW-", "lastUpdatedAt", &["A", "C", "B"]),
    ] {
        let life: Vec<_> = life.iter().map(|json| order_key(json)).collect();
        for (i, earlier) in life.iter().enumerate() {
            for (j, later) in life.iter().enumerate() {
                assert_eq!(later.supersedes(earlier), j > i, "{later:?} over {earlier:?}");
                assert_eq!(later.is_duplicate_of(earlier), i == j);
            }
        }
    }

    let life = |prefix: &str, statuses: &[&str]| -> Vec<String> {
        let of = |status: &&str| format!(r#"{{"id":"{prefix}1","status":"{status}"}}"#);
        statuses.iter().map(of).collect()
    };
    let subscription = |status: &str, sub: &str, day: &str| {
        format!(r#"{{"id":"SUB-1","status":"{status}","subStatus":{sub},"nextWriteOffAt":{day}}}"#)
    };
    let (nov, dec) = (r#""2026-11-30T00:00:00Z""#, r#""2026-12-31T00:00:00Z""#);
    let invoice =
        |status: &str| format!(r#"{{"id":"1","authorizationId":"AGR-1","status":"{status}"}}"#);
    // The first letters of the verdicts in this order, and in reverse: newer, amended, unordered, stale.
    for (life, forth, back) in [
        (
            life(
                "CCO-",
                &[
                    "NEW",
                    "REQUEST_CREATED",
                    "PAYMENT_DETECTED",
                    "X",
                    "EXPIRED",
                    "CONFLICT",
                    "SUCCESS",
                ],
            ),
            "nnnnuuu",
            "nuuusss",
        ),
        (
            life(
                "PMT-",
                &[
                    "NEW",
                    "PENDING",
                    "FROZEN",
                    "X",
                    "PARTIAL_SUCCESS",
                    "EXPIRED",
                    "FAILED",
                    "SUCCESS",
                ],
            ),
            "nnnuuuuu",
            "nuuuuuss",
        ),
        (life("PMT-", &["PARTIAL_SUCCESS", "SUCCESS", "REFUNDED", "CHARGEBACK"]), "nuuu", "nuus"),
        (life("ORCO-", &["PENDING", "DONE"]), "nn", "ns"),
        (
            vec![
                subscription("INITIATED", "null", "null"),
                subscription("ACTIVE", "\"ACTIVE\"", nov),
                subscription("ACTIVE", "\"RENEWING\"", nov),
                subscription("ACTIVE", "\"ACTIVE\"", dec),
                subscription("ACTIVE", "\"X\"", dec),
                subscription("EXPIRED", "null", "null"),
                subscription("CANCELLED", "\"UNPAID\"", "null"),
            ],
            "nnaaauu",
            "nuuaaas",
        ),
        (["NEW", "PENDING", "X", "FAILED", "SUCCESS"].map(invoice).to_vec(), "nnnuu", "nuuss"),
        (life("AGR-", &["GRANTED", "X", "REVOKED_BY_MERCHANT"]), "nuu", "nuu"),
    ] {
        let told = |life: &mut dyn Iterator<Item = &String>| -> String {
            let verdicts = verdicts(life.map(|json| &**json));
            verdicts.iter().filter_map(|verdict| verdict.as_str().chars().next()).collect()
        };
        assert_eq!(told(&mut life.iter()), forth, "{life:?}");
        assert_eq!(told(&mut life.iter().rev()), back, "{life:?} back");
    }
}

/// An event of any kind, with the id anywhere. It has few ids and times, so that collisions are frequent.
fn any_event() -> impl Strategy<Value = String> {
    let prefixes = ["CAPD-", "CCO-", "PMT-", "ORCO-", "SUB-", "AGR-", "NEW-", ""];
    let statuses = ["NEW", "PENDING", "ACTIVE", "SUCCESS", "FAILED", "CANCELLED", "GRANTED"];
    let status = prop_oneof![
        prop::sample::select(statuses.to_vec()).prop_map(str::to_owned),
        any::<String>(),
    ];
    let times = prop::option::of(0..3u8);
    let texts = (any::<String>(), prop::sample::select(vec!["ACTIVE", "RENEWING", "X"]));
    let flags = (any::<bool>(), any::<bool>());
    (prop::sample::select(prefixes.to_vec()), 0..2u8, status, times, texts, flags)
        .prop_flat_map(|(prefix, id, status, time, (text, sub), (amounts, invoice))| {
            let time = time.map(|second| format!("2026-11-22T10:00:0{second}.50Z"));
            let mut members = vec![
                format!(r#""id":"{prefix}{id}""#),
                format!(r#""status":{}"#, json!(status)),
                format!(r#""lastUpdatedAt":{}"#, json!(time)),
                format!(r#""modifiedAt":{}"#, json!(time)),
                format!(r#""clientOrderId":{}"#, json!(text)),
                r#""unknown":{"id":[1, 2]}"#.to_owned(),
            ];
            if amounts {
                members.push(r#""amount":1.50"#.to_owned());
                members.push(r#""minLimits":{"a": 0.10}"#.to_owned());
                members.push(
                    r#""request":{"id":"CAPD-1","status":"NEW","payAmount":1E-8}"#.to_owned(),
                );
            }
            if prefix == "SUB-" {
                members.push(format!(r#""nextWriteOfAt":{}"#, json!(time)));
                members.push(format!(r#""subStatus":"{sub}""#));
            } else if invoice && prefix.is_empty() {
                members.push(r#""paymentIntents":[{"id": 1}]"#.to_owned());
            }
            Just(members).prop_shuffle()
        })
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn any_life() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    prop::collection::vec(any_event(), 1..10).prop_flat_map(|sent| {
        let mut arrived = sent.clone();
        arrived.extend_from_slice(&sent[..sent.len() / 2]);
        (Just(sent), Just(arrived).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn events_round_trip(json in any_event()) {
        let first = event(&json);
        let text = written(&first);
        let second = event(&text);
        prop_assert_eq!(&second, &first);
        prop_assert_eq!(written(&second), text);
        prop_assert_eq!(second.delivery_key(), first.delivery_key());
    }

    #[test]
    fn order_keys_of_events_compare_and_round_trip(a in any_event(), b in any_event()) {
        let (one, other) = (order_key(&a), order_key(&b));
        prop_assert!(one.is_duplicate_of(&one) && !one.supersedes(&one));
        prop_assert_eq!(one.is_duplicate_of(&other), other.is_duplicate_of(&one));
        prop_assert_eq!(OrderKey::from_bytes(&one.to_bytes()), Some(one.clone()));
        let read: OrderKey = serde_json::from_str(&written(&one)).unwrap();
        prop_assert_eq!(&read, &one);
        prop_assert_eq!(order_key(&format!(" {a} ")), one.clone());
        if event(&a).id() != event(&b).id() || one.is_duplicate_of(&other) {
            return Ok(());
        }
        match (one.last_update(), other.last_update()) {
            (None, None) => {}
            // One always supersedes the other. In a tie, each supersedes the other.
            _ => {
                prop_assert!(one.supersedes(&other) || other.supersedes(&one));
                let is_tie = one.position() == other.position();
                prop_assert_eq!(one.supersedes(&other) && other.supersedes(&one), is_tie);
            }
        }
    }

    /// The end state is that of the latest notification with a time. In a tie, it is that of the last to
    /// arrive. New content is never a duplicate.
    #[test]
    fn any_delivery_order_of_events_ends_in_the_same_state((_, arrived) in any_life()) {
        let mut objects = BTreeMap::<String, (History, Vec<OrderKey>, Option<OrderKey>)>::new();
        for json in &arrived {
            let (history, seen, state) = objects.entry(event(json).id().to_owned()).or_default();
            let new = order_key(json);
            let verdict = history.receive_order_key(new.clone());
            if verdict == Verdict::Duplicate {
                prop_assert!(seen.iter().any(|it| it.is_duplicate_of(&new)));
                continue;
            }
            if verdict.should_handle() {
                *state = Some(new.clone());
            }
            seen.push(new);
        }
        for (_, seen, state) in objects.into_values() {
            let latest = seen.iter().filter(|it| it.last_update().is_some());
            if let Some(latest) = latest.max_by_key(|it| it.position()) {
                prop_assert_eq!(state, Some(latest.clone()));
            }
        }
    }

    #[test]
    fn any_text_is_an_event_or_an_error(text in "[{}\\[\\]\":,a-z0-9 -]{0,60}|\\{\"id\":\"(PMT|CCO|SUB|X)-1\"[,:\"a-zA-Z0-9 ]{0,40}\\}") {
        _ = serde_json::from_str::<Event>(&text);
    }
}

#[test]
fn knows_the_order_of_each_kind() {
    for (id, has_inqud_order) in
        [("CAPD-1", true), ("CCO-1", false), ("PMT-1", true), ("ORCO-1", true), ("SUB-1", false)]
    {
        let of = |order: &str| event(&format!(r#"{{"id":"{id}","status":"NEW",{order}}}"#));
        let both = of(r#""orderId":"ORD-1","clientOrderId":"order-17""#);
        assert_ne!(both.kind(), EventKind::Other, "{id}");
        assert_eq!(both.order_id(), Some("order-17"), "{id}");
        let inquds = of(r#""orderId":"ORD-1""#);
        assert_eq!(inquds.order_id(), has_inqud_order.then_some("ORD-1"), "{id}");
    }
    let of = |id: &str, fields: &str| {
        event(&format!(r#"{{"id":"{id}","status":"NEW","clientOrderId":"order-17"{fields}}}"#))
    };
    let invoice = of("1", r#","authorizationId":"AGR-1""#);
    assert_eq!((invoice.kind(), invoice.order_id()), (EventKind::Invoice, Some("order-17")));
    let without = INVOICE.replace(r#""clientOrderId""#, r#""none""#);
    assert_eq!(event(&without).order_id(), None);
    for id in ["AGR-1", "NEW-1"] {
        assert_eq!(of(id, "").order_id(), None, "{id}: the kind has no order");
    }
}
