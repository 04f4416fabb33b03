//! An authentic body is one JSON object, which is decoded without loss.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::support::{REQUEST, REQUEST_NO_REASON, deliver};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tower_inqud::RejectionKind::{NotJson, UnexpectedShape};
use tower_inqud::{
    Amount, ConflictReason, Notification, OrderKey, PaymentRequest, PaymentStatus, RejectionKind,
    RequestStatus, Webhook,
};

async fn request(body: impl Into<bytes::Bytes>) -> Result<Webhook<PaymentRequest>, RejectionKind> {
    deliver(body).await.map_err(|rejection| rejection.kind())
}

fn parse(json: &str) -> PaymentRequest {
    serde_json::from_str(json).unwrap()
}

/// The smallest Request with this field.
fn with(field: &str) -> String {
    format!(r#"{{"id":"CAPD-1","status":"SUCCESS",{field}}}"#)
}

#[tokio::test]
async fn both_samples_round_trip() {
    for body in [REQUEST, REQUEST_NO_REASON] {
        let first = request(body).await.unwrap();
        let written = serde_json::to_string(&*first).unwrap();
        assert_eq!(parse(&written), *first);
    }
    assert_eq!(parse(REQUEST), parse(REQUEST_NO_REASON), "a missing reason equals `null`");
}

/// It has the same keys in the same order, `null` for missing values, and the same digits.
#[test]
fn the_sample_is_written_as_inqud_writes_it() {
    assert_eq!(serde_json::to_string(&parse(REQUEST)).unwrap(), REQUEST);
}

#[test]
fn the_sample_is_read_into_every_field() {
    let request = parse(REQUEST);
    assert_eq!(request.id, "CAPD-a4c123b1-612d-d272-d137-1c17149d4395");
    assert_eq!(request.client_order_id.as_deref(), Some("shop-00471"));
    assert_eq!(request.status, RequestStatus::WaitingPayment);
    assert_eq!(request.reason, None);
    assert_eq!(request.created_at.unwrap().to_string(), "2026-11-21T18:39:42.207141577Z");
    assert_eq!(request.request_amount.as_ref().unwrap().to_string(), "850");
    assert_eq!(request.merchant_fixed_platform_fee.as_ref().unwrap().to_string(), "0.1");
    assert_eq!(request.overpaid, Some(false));
    assert!(request.payment.is_none());
    assert!(!request.is_paid() && !request.is_final());
}

#[tokio::test]
async fn amounts_keep_every_digit() {
    let exact = [
        ("9007199254740993", "9007199254740993"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("1E-8", "0.00000001"),
        ("\"1.50\"", "1.50"),
        ("1.50", "1.50"),
        ("-0", "-0"),
        ("0", "0"),
        ("0.00", "0.00"),
        ("-12.5", "-12.5"),
        ("1e3", "1000"),
        ("1.5E+2", "150"),
        ("1.23e1", "12.3"),
        ("\"2.5e-3\"", "0.0025"),
        ("0e999999999999", "0"),
        ("0e99999999999999999999", "0"),
        ("0e-99999999999999999999", "0.0000000000000000000000000000"),
        ("1234567890123456789012345678", "1234567890123456789012345678"),
        ("1.234567890123456789012345678", "1.234567890123456789012345678"),
        ("0.1234567890123456789012345678", "0.1234567890123456789012345678"),
        ("79228162514264337593543950335", "79228162514264337593543950335"), // 2^96 - 1
        // These fit a `Decimal` exactly without their trailing zeros.
        ("99999999999.000000000000000000", "99999999999"),
        ("100000000000.500000000000000000", "100000000000.5"),
        ("1000000.0000000000000000000000000000", "1000000"),
        ("79228162514264337593543950335.0", "79228162514264337593543950335"),
        ("0.000000000000000000000000000000000000", "0.0000000000000000000000000000"),
        ("1.000000000000000000000000000000000000000000000", "1"),
        ("10E-29", "0.0000000000000000000000000001"),
    ];
    for (sent, held) in exact {
        let request = request(with(&format!(r#""payAmount":{sent}"#))).await;
        let request = request.unwrap_or_else(|kind| panic!("{sent}: {kind:?}"));
        let amount = request.pay_amount.as_ref().unwrap();
        assert_eq!(amount.to_string(), held, "{sent}");
        let written = serde_json::to_string(&*request).unwrap();
        assert!(written.contains(&format!(r#""payAmount":{held},"#)), "{written}");
        assert_eq!(parse(&written), *request);
    }
}

/// A valid JSON number never costs a payment.
#[tokio::test]
async fn keeps_amounts_that_no_decimal_holds_as_text() {
    let sixty = "1".repeat(60);
    let fraction = format!("-0.{sixty}");
    let exact = [
        "1e400",
        "1E-400",
        "-1.50e+400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "79228162514264337593543950336",   // 2^96
        "0.12345678901234567890123456789", // 29 digits
        &sixty,
        &fraction,
    ];
    for text in exact {
        for sent in [text.to_owned(), format!("\"{text}\"")] {
            let request = request(with(&format!(r#""payAmount":{sent}"#))).await;
            let request = request.unwrap_or_else(|kind| panic!("{sent}: {kind:?}"));
            let amount = request.pay_amount.clone().unwrap();
            assert_eq!(amount.to_string(), text);
            assert_eq!(format!("{amount:?}"), format!("Amount({text})"));
            assert_eq!(amount.decimal(), None, "{sent}");
            let error = Decimal::try_from(amount.clone()).unwrap_err().to_string();
            assert_eq!(error, "the number does not fit a `Decimal` exactly; use its text");
            let written = serde_json::to_string(&*request).unwrap();
            assert!(written.contains(&format!(r#""payAmount":{text},"#)), "{written}");
            assert_eq!(parse(&written), *request);
        }
    }
    let amount: Amount = "99.5".parse().unwrap();
    assert_eq!(amount.decimal().unwrap().to_string(), "99.5");
    assert_eq!(Amount::from(amount.decimal().unwrap()), amount);
    assert_eq!(Decimal::try_from(amount.clone()).unwrap(), amount.decimal().unwrap());
}

#[tokio::test]
async fn rejects_amounts_that_are_not_numbers() {
    let cases = [
        ("\"\"", UnexpectedShape),
        ("\" 1\"", UnexpectedShape),
        ("\"1,5\"", UnexpectedShape),
        ("\"NaN\"", UnexpectedShape),
        ("\"0x10\"", UnexpectedShape),
        ("\"+1\"", UnexpectedShape),
        ("\"01\"", UnexpectedShape),
        ("\".5\"", UnexpectedShape),
        ("\"5.\"", UnexpectedShape),
        ("\"1e\"", UnexpectedShape),
        ("\"1e+\"", UnexpectedShape),
        ("\"1e--5\"", UnexpectedShape),
        ("\"1e5e5\"", UnexpectedShape),
        ("\"1_0\"", UnexpectedShape),
        ("\"\u{ff11}\"", UnexpectedShape),
        ("true", UnexpectedShape),
        ("[1]", UnexpectedShape),
        ("{}", UnexpectedShape),
        ("NaN", NotJson),
        ("01", NotJson),
        (".5", NotJson),
        ("5.", NotJson),
        ("+1", NotJson),
    ];
    for (sent, kind) in cases {
        let rejection = deliver::<PaymentRequest>(with(&format!(r#""payAmount":{sent}"#))).await;
        let rejection = rejection.unwrap_err();
        assert_eq!(rejection.kind(), kind, "{sent}");
        assert_eq!(rejection.field_path(), Some("payAmount"), "{sent}");
    }
}

#[test]
fn amounts_compare_by_value() {
    let amount = |text: &str| text.parse::<Amount>().unwrap();
    for equal in [
        ["1.5", "1.50"],
        ["-0", "0"],
        ["0e99999999999999999999", "0"],
        ["1e400", "10.00E+399"],
        ["1e400", "0.001e403"],
        ["-123e-400", "-1.23e-398"],
        ["10000000000000000000000000000000000000000e-20", "100000000000000000000"],
        ["1e100000000000000000000000000000000000000", "10e99999999999999999999999999999999999999"],
        [
            "1e-100000000000000000000000000000000000000",
            "0.1e-99999999999999999999999999999999999999",
        ],
    ] {
        let [a, b] = equal.map(amount);
        assert_eq!(a, b);
        assert_eq!(a.cmp(&b), Ordering::Equal, "{equal:?}");
        assert_eq!(hash(&a), hash(&b), "{equal:?}");
    }
    // Each is less than those after it.
    let sorted = [
        "-1e99999999999999999999999999999999999999999",
        "-1e99999999999999999999",
        "-1e400000000",
        "-79228162514264337593543950336",
        "-79228162514264337593543950335",
        "-1",
        "-1e-400",
        "-1e-99999999999999999999",
        "0",
        "1e-99999999999999999999999999999999999999999",
        "1e-99999999999999999999",
        "1e-400000001",
        "1e-400000000",
        "1E-28",
        "99.46290",
        "99.46291",
        "79228162514264337593543950335",
        "79228162514264337593543950335.5",
        "79228162514264337593543950336",
        "1e400000000",
        "1.0000000000000000000000000000000000000000001e400000000",
        "2e400000000",
        "1e400000001",
        "1e99999999999999999999",
        "1e100000000000000000000",
        "1e99999999999999999999999999999999999999999",
    ]
    .map(amount);
    let began = std::time::Instant::now();
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a} and {b}");
            assert_eq!(a == b, i == j, "{a} and {b}");
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "a large exponent is not expanded into zeros"
    );
    let hashes = sorted.iter().map(hash).collect::<HashSet<_>>();
    assert_eq!(hashes.len(), sorted.len(), "different amounts have different hashes");
}

fn hash(amount: &Amount) -> u64 {
    std::hash::BuildHasher::hash_one(
        &std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
        amount,
    )
}

/// A decimal takes 16 bytes, and alignment makes this the smallest size with a text beside it.
#[test]
fn amount_takes_24_bytes() {
    assert_eq!(size_of::<Amount>(), 24);
    assert_eq!(size_of::<Option<Amount>>(), 24);
}

/// `Amount` documents this. It is a property of `serde_json`, unless `arbitrary_precision` is on.
#[test]
fn a_json_value_rounds_and_a_string_does_not() {
    let amount: Amount = "0.1234567890123456789".parse().unwrap();
    assert_eq!(serde_json::to_string(&amount).unwrap(), "0.1234567890123456789");
    assert_eq!(json!(amount).to_string(), "0.12345678901234568");
    assert_eq!(json!(amount.to_string()), "0.1234567890123456789");
}

/// The error of this mistake says what to do.
#[test]
fn amount_needs_json_text() {
    let error = serde_json::from_value::<Amount>(json!(1.5)).unwrap_err().to_string();
    assert!(error.contains("serde_json::from_str"), "{error}");
}

/// Rivals' bug 12: a new value at the provider broke the parser and caused retries.
#[tokio::test]
async fn keeps_unknown_status_and_reason() {
    let body = r#"{"id":"CAPD-1","status":"REFUNDED","reason":"LATE","paymentStatus":"ODD"}"#;
    let request = request(body).await.unwrap();
    assert!(matches!(&request.status, RequestStatus::Other(word) if word.as_str() == "REFUNDED"));
    assert_eq!(request.status.as_str(), "REFUNDED");
    assert_eq!(request.reason, Some(ConflictReason::from("LATE")));
    assert_eq!(request.payment_status, Some(PaymentStatus::from("ODD".to_owned())));
    assert!(!request.is_paid() && !request.is_final());
    let written = serde_json::to_string(&*request).unwrap();
    for kept in [r#""status":"REFUNDED""#, r#""reason":"LATE""#, r#""paymentStatus":"ODD""#] {
        assert!(written.contains(kept), "{written}");
    }
}

#[test]
fn reads_every_known_status() {
    let statuses = [
        ("WAITING_PAYMENT", RequestStatus::WaitingPayment, false, false),
        ("PENDING_PAYMENT", RequestStatus::PendingPayment, false, false),
        ("CONFLICT", RequestStatus::Conflict, false, true),
        ("SUCCESS", RequestStatus::Success, true, true),
        ("COMPLETED", RequestStatus::Success, true, true),
        ("EXPIRED", RequestStatus::Expired, false, true),
        ("CANCELLED", RequestStatus::Cancelled, false, true),
        ("success", RequestStatus::from("success"), false, false),
    ];
    for (word, status, is_paid, is_final) in statuses {
        let request = parse(&format!(r#"{{"id":"CAPD-1","status":"{word}"}}"#));
        assert_eq!(request.status, status);
        assert_eq!(request.is_paid(), is_paid, "{word}");
        assert_eq!(request.is_final(), is_final, "{word}");
    }
}

/// The fields that say whose money it is, how much, and in which currency. They must not read as `None`
/// instead of failing.
const MONEY: [&str; 8] = [
    "clientOrderId",
    "currency",
    "paidAmount",
    "payAmount",
    "processingAmount",
    "requestAmount",
    "requestAmountConverted",
    "requestAmountIn",
];

/// Only `id` and `status` are required. Only fields about money and order can reject a Request, and no value
/// causes a panic.
#[tokio::test]
async fn only_money_and_order_fields_reject_other_types() {
    let sample: serde_json::Map<String, Value> = serde_json::from_str(REQUEST).unwrap();
    assert_eq!(sample.len(), 36);
    for name in sample.keys() {
        let required = name == "id" || name == "status";
        let is_money = MONEY.contains(&name.as_str());
        let is_amount = is_money && (name.ends_with("Amount") || name.ends_with("Converted"));
        let is_strict_text = required || (is_money && !is_amount);
        let is_side = !required && !is_money && name != "lastUpdatedAt";

        // (JSON, whether it fits); `None` leaves the key out.
        let table = [
            (None, !required),
            (Some("null"), !required),
            (Some("true"), is_side),
            (Some("7"), is_side || is_amount),
            (Some("1e400"), is_side || is_amount),
            (Some("\"7\""), name != "lastUpdatedAt"),
            (Some("\"much\""), is_side || is_strict_text),
            (Some("\"2026-11-22T10:00:00Z\""), !is_amount),
            (Some("[]"), is_side),
            (Some("{}"), is_side),
        ];
        for (value, fits) in table {
            let members = sample.iter().filter_map(|(key, sent)| {
                let json = if key == name { value?.to_owned() } else { sent.to_string() };
                Some(format!("{}:{json}", json!(key)))
            });
            let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            let result = deliver::<PaymentRequest>(body).await;
            match result {
                Ok(request) => {
                    assert!(fits, "{name}: {value:?} was accepted");
                    let written = serde_json::to_string(&*request).unwrap();
                    assert_eq!(parse(&written), *request, "{name}: {value:?}");
                }
                Err(rejection) => {
                    assert!(!fits, "{name}: {value:?}: {rejection}");
                    // `serde_json` classifies it as a syntax error.
                    let kind = if value == Some("1e400") { NotJson } else { UnexpectedShape };
                    assert_eq!(rejection.kind(), kind, "{name}: {value:?}");
                    let path = value.is_some().then_some(name.as_str());
                    assert_eq!(rejection.field_path(), path, "{name}: {value:?}");
                }
            }
        }
    }
}

/// A sender that truncates a name in the middle of an emoji sends half a pair.
#[tokio::test]
async fn half_a_surrogate_pair_in_a_name_reads_as_none() {
    let name = r#""cryptoAcquiringProjectName":"half a pair \ud83d","txHash":"\u0030x""#;
    let request = request(with(name)).await.unwrap();
    assert_eq!(request.crypto_acquiring_project_name, None);
    assert_eq!(request.tx_hash.as_deref(), Some("0x"));
}

#[tokio::test]
async fn rejects_anything_but_one_json_text() {
    let broken: [&[u8]; 12] = [
        b"",
        b" ",
        b"{",
        b"{}}",
        br#"{"id":"CAPD-1","status":"SUCCESS"} {"id":"CAPD-1","status":"SUCCESS"}"#,
        br#"{"id":"CAPD-1","status":"SUCCESS",}"#,
        b"\xef\xbb\xbf{\"id\":\"CAPD-1\",\"status\":\"SUCCESS\"}", // a byte order mark
        b"{\0\"\0i\0d\0\"\0:\x001\0}\0",                           // UTF-16
        b"[1",
        b"nul",
        b"{\"id\":\"CAPD-\xff\",\"status\":\"SUCCESS\"}",
        // `serde_json` alone accepts this in an ignored field.
        b"{\"id\":\"CAPD-1\",\"status\":\"SUCCESS\",\"unknown\":\"\xff\"}",
    ];
    for body in broken {
        let kind = request(body).await.unwrap_err();
        assert_eq!(kind, NotJson, "{}", String::from_utf8_lossy(body));
    }
}

#[tokio::test]
async fn rejects_json_that_is_not_an_object() {
    // `serde_json` alone accepts an array of the fields as a struct.
    let nulls = ",null".repeat(30);
    let fields = format!(r#"["CAPD-1",null,null,null,null,"SUCCESS"{nulls}]"#);
    assert!(parse(&fields).is_paid());
    for body in [&fields, "[]", "\"SUCCESS\"", "7", "null", "true", " [ ] "] {
        assert_eq!(request(body.to_owned()).await.unwrap_err(), UnexpectedShape, "{body}");
        let any = deliver::<Value>(body.to_owned()).await.unwrap_err();
        assert_eq!(any.kind(), UnexpectedShape, "{body}");
    }
    assert!(request(" \r\n\t{\"id\":\"CAPD-1\",\"status\":\"SUCCESS\"}\n").await.is_ok());
}

#[tokio::test]
async fn rejects_an_object_as_status() {
    // For `serde_json` alone, this is a unit variant.
    let body = r#"{"id":"CAPD-1","status":{"SUCCESS":null}}"#;
    assert_eq!(request(body).await.unwrap_err(), UnexpectedShape);
}

#[tokio::test]
async fn rejects_a_known_key_twice() {
    for twice in [
        r#"{"id":"CAPD-1","status":"SUCCESS","status":"EXPIRED"}"#,
        r#"{"id":"CAPD-1","status":"SUCCESS","st\u0061tus":"SUCCESS"}"#,
        r#"{"id":"CAPD-1","status":"SUCCESS","payAmount":1,"payAmount":1}"#,
    ] {
        assert_eq!(request(twice).await.unwrap_err(), UnexpectedShape, "{twice}");
    }
}

#[tokio::test]
async fn ignores_unknown_keys_with_any_value() {
    let deep = format!(r#""deep":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    for odd in [
        r#""new":1,"new":2"#,
        r#""new":{"id":7,"status":[]}"#,
        r#""cut":"half a pair \ud83d""#,
        &deep,
    ] {
        let body = with(odd);
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let thread = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(request(body)).map(|request| request.id.clone())
        });
        assert_eq!(thread.unwrap().join().unwrap().unwrap(), "CAPD-1", "{odd:.60}");
    }
}

/// A sender that truncates a name in the middle of an emoji sends half a pair.
#[tokio::test]
async fn rejects_half_a_surrogate_pair_in_a_money_field() {
    let body = with(r#""clientOrderId":"half a pair \ud83d""#);
    assert_eq!(request(body).await.unwrap_err(), NotJson);
}

#[tokio::test]
async fn payment_keeps_its_json_beside_a_lenient_view() {
    let json = r#"{"paymentId": "PMT-1","amount":1E-8 ,"status":"PENDING","currency":7,"x":[1]}"#;
    let request = request(with(&format!(r#""payment":{json}"#))).await.unwrap();
    let payment = request.payment.as_ref().unwrap();
    assert_eq!(payment.view().client_order_id, None);
    assert_eq!(payment.json(), json);
    let view = payment.view();
    assert_eq!(view.id.as_deref(), Some("PMT-1"));
    assert_eq!(view.amount, Some("0.00000001".parse().unwrap()));
    assert_eq!(view.status, Some(PaymentStatus::Pending));
    assert_eq!(view.currency, None, "a number is not a currency, and does not fail");
    let written = serde_json::to_string(&*request).unwrap();
    assert!(written.contains(json), "{written}");
}

#[test]
fn the_view_of_a_payment_reads_every_field() {
    let json = r#"{"id":"1","paymentId":"not this","orderId":"2","clientOrderId":"3","externalId":"4",
        "amount":5,"currency":"6","method":"7","status":"CANCELLED","txHash":"8",
        "createdAt":"2026-11-22T10:00:00Z"}"#;
    let payment: tower_inqud::RequestPayment = serde_json::from_str(json).unwrap();
    let view = payment.view();
    let texts = [
        &view.id,
        &view.order_id,
        &view.client_order_id,
        &view.external_id,
        &view.amount.map(|amount| amount.to_string()),
        &view.currency,
        &view.method,
        &view.tx_hash,
    ];
    assert_eq!(
        texts.map(|text| text.as_deref().unwrap()),
        ["1", "2", "3", "4", "5", "6", "7", "8"]
    );
    assert_eq!(view.status, Some(PaymentStatus::Failed), "Inqud says to treat it as failed");
    assert_eq!(view.created_at.unwrap().to_string(), "2026-11-22T10:00:00Z");
    for odd in ["7", "[]", "\"text\"", r#"{"id":1,"id":2}"#] {
        let payment: tower_inqud::RequestPayment = serde_json::from_str(odd).unwrap();
        assert_eq!(payment.view(), tower_inqud::PaymentView::default(), "{odd}");
    }
}

#[tokio::test]
async fn decodes_into_the_merchants_own_type() {
    /// Neither `Clone` nor `Debug`.
    #[derive(serde::Deserialize)]
    struct Own {
        greeting: String,
    }
    let own = deliver::<Own>(r#"{"greeting":"hello"}"#).await.map_err(|it| it.kind());
    assert_eq!(own.map(|own| own.greeting.clone()), Ok("hello".to_owned()));
    let map = deliver::<HashMap<String, u8>>(r#"{"a":1}"#).await.unwrap();
    assert_eq!(map["a"], 1);
}

fn at(status: &str, second: Option<u8>) -> PaymentRequest {
    let update = match second {
        Some(second) => format!(r#""2026-11-22T10:00:{second:02}Z""#),
        None => "null".to_owned(),
    };
    parse(&format!(r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":{update}}}"#))
}

fn order_key(request: &PaymentRequest) -> OrderKey {
    OrderKey::new(request, &serde_json::to_vec(request).unwrap())
}

#[test]
fn later_requests_supersede_earlier_ones() {
    // Each supersedes those before it, and none after it.
    let life = [
        at("WAITING_PAYMENT", None),
        at("PENDING_PAYMENT", Some(1)),
        at("CONFLICT", Some(2)),
        at("WAITING_PAYMENT", Some(3)),
        at("PENDING_PAYMENT", Some(3)),
        at("REVIEWED", Some(3)),
        at("CANCELLED", Some(3)),
        at("CONFLICT", Some(3)),
        at("SUCCESS", Some(3)),
        at("CONFLICT", Some(4)), // a final status can change
    ]
    .map(|request| order_key(&request));
    for (i, earlier) in life.iter().enumerate() {
        for (j, later) in life.iter().enumerate() {
            assert_eq!(later.supersedes(earlier), j > i, "{later:?} over {earlier:?}");
        }
    }
    // Nothing tells which of these is later, so the last to arrive counts.
    let (cancelled, expired) = (&life[6], &order_key(&at("EXPIRED", Some(3))));
    assert!(cancelled.supersedes(expired) && expired.supersedes(cancelled));
    let mut amended = at("SUCCESS", Some(3));
    amended.paid_amount = Some("7".parse().unwrap());
    let (success, amended) = (&life[8], &order_key(&amended));
    assert!(success.supersedes(amended) && amended.supersedes(success));
}

#[test]
fn delivery_keys_differ_between_notifications() {
    let keys = [
        at("SUCCESS", None),
        at("SUCCESS", Some(1)),
        at("CONFLICT", Some(1)),
        parse(r#"{"id":"CAPD-1/SUCCESS","status":"-"}"#),
        parse(r#"{"id":"CAPD-1","status":"SUCCESS/-"}"#),
        parse(r#"{"id":"CAPD-1%2FSUCCESS","status":"-"}"#),
    ]
    .map(|request| request.delivery_key());
    let texts: std::collections::HashSet<_> = keys.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), keys.len(), "{texts:?}");

    let mut again = at("SUCCESS", Some(1));
    again.tx_hash = Some("rendered again".to_owned());
    assert_eq!(again.delivery_key(), keys[1]);
    let finer =
        r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:01.000999Z"}"#;
    assert_eq!(parse(finer).delivery_key(), keys[1], "equal to the millisecond");
}

#[test]
fn timestamps_have_zero_to_nine_fraction_digits() {
    let nanos = ["", ".1", ".12", ".123", ".123456", ".12345678", ".123456789"];
    for fraction in nanos {
        let request = parse(&with(&format!(r#""createdAt":"2026-11-22T10:00:00{fraction}Z""#)));
        let expected: Timestamp = format!("2026-11-22T10:00:00{fraction}Z").parse().unwrap();
        assert_eq!(request.created_at, Some(expected));
    }
}

/// Many JVM systems write "never" as a time that is too late for a `Timestamp`. It must not cost a payment.
#[tokio::test]
async fn unreadable_time_is_none_unless_it_orders() {
    for odd in ["9999-12-31T23:59:59Z", "2026-11-22T10:00:00", "soon", ""] {
        for name in ["expiresAt", "createdAt", "paymentWindowEndsAt"] {
            let read = request(with(&format!(r#""{name}":"{odd}""#))).await.unwrap();
            assert_eq!((read.expires_at, read.created_at), (None, None), "{name}: {odd}");
            assert_eq!(read.payment_window_ends_at, None, "{name}: {odd}");
        }
        let read = request(with(&format!(r#""lastUpdatedAt":"{odd}""#))).await;
        assert_eq!(read.unwrap_err(), UnexpectedShape, "{odd}");
    }
}
