//! Properties that hold for any input.

use std::collections::BTreeMap;

use crate::support::{Inner, Script, Step, call, digest, layer, secret, signed_as};
use proptest::prelude::*;
use proptest::sample::Index;
use tower::Layer;
use tower_inqud::{
    Algorithm, Amount, History, OrderKey, PaymentRequest, Rejection, RejectionKind, Secret,
    Verdict, Verifier,
};

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// The kind of the rejection, or the body that the inner service was called with.
fn verdict(bytes: &[u8], body: Script, limit: usize) -> Result<Vec<u8>, RejectionKind> {
    let inner = Inner::<serde_json::Map<String, serde_json::Value>>::new();
    let service = layer::<serde_json::Map<_, _>>().body_limit(limit).layer(inner.clone());
    let response = run(call(service, signed_as(bytes, body)));
    match response.extensions().get::<Rejection>() {
        Some(rejection) => {
            assert_eq!(inner.calls(), 0);
            Err(rejection.kind())
        }
        None => {
            assert_eq!(inner.calls(), 1);
            Ok(inner.seen()[0].raw_body().to_vec())
        }
    }
}

/// Splits a body into frames at these places, with pauses and empty frames in between.
fn cut(bytes: &[u8], places: &[Index]) -> Script {
    let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let mut steps = Vec::new();
    for pair in places.windows(2) {
        steps.push(Step::data(&bytes[pair[0]..pair[1]]));
        if pair[0] % 2 == 0 {
            steps.push(Step::Wake);
        }
    }
    Script::new(steps)
}

/// JSON, truncated JSON, and arbitrary bytes.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any_request().prop_map(String::into_bytes),
        any_request().prop_flat_map(|json| {
            let len = json.len();
            (Just(json.into_bytes()), 0..len).prop_map(|(mut json, at)| {
                json.truncate(at);
                json
            })
        }),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn any_amount() -> impl Strategy<Value = String> {
    let integer = prop_oneof![Just("0".to_owned()), "[1-9][0-9]{0,13}"];
    (any::<bool>(), integer, prop::option::of("[0-9]{1,14}")).prop_map(
        |(minus, integer, fraction)| {
            let sign = if minus { "-" } else { "" };
            let fraction = fraction.map_or_else(String::new, |digits| format!(".{digits}"));
            format!("{sign}{integer}{fraction}")
        },
    )
}

fn any_status() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("WAITING_PAYMENT".to_owned()),
        Just("PENDING_PAYMENT".to_owned()),
        Just("CONFLICT".to_owned()),
        Just("SUCCESS".to_owned()),
        Just("EXPIRED".to_owned()),
        Just("CANCELLED".to_owned()),
        "[A-Z_]{1,12}",
    ]
}

/// A Request as Inqud may send it. It has few ids and times, so that collisions are frequent.
fn any_request() -> impl Strategy<Value = String> {
    let text = prop::option::of(any::<String>());
    let update = prop::option::of(0..4u8);
    let amount = prop::option::of(any_amount());
    let overpaid = prop::option::of(any::<bool>());
    (0..2u8, any_status(), update, text, amount, overpaid).prop_map(
        |(id, status, update, text, amount, overpaid)| {
            let update = update.map(|second| format!("2026-11-22T10:00:0{second}.5Z"));
            format!(
                r#"{{"id":"CAPD-{id}","status":"{status}","lastUpdatedAt":{},"clientOrderId":{},"payAmount":{},"overpaid":{},"unknown":{{}}}}"#,
                json(update),
                json(text),
                amount.as_deref().unwrap_or("null"),
                json(overpaid),
            )
        },
    )
}

/// What was sent, and the deliveries: in any order, with repeats.
fn any_life() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let repeats = prop::collection::vec(any::<Index>(), 0..20);
    (prop::collection::vec(any_request(), 1..8), repeats).prop_flat_map(|(sent, repeats)| {
        let mut arrived = sent.clone();
        arrived.extend(repeats.iter().map(|which| which.get(&sent).clone()));
        (Just(sent), Just(arrived).prop_shuffle())
    })
}

fn json(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap()
}

fn len(digits: &str) -> i32 {
    i32::try_from(digits.len()).unwrap()
}

fn parse(json: &str) -> PaymentRequest {
    serde_json::from_str(json).unwrap()
}

/// The parts of a number.
#[derive(Clone, Debug)]
struct Number {
    negative: bool,
    integer: String,
    fraction: String,
    exponent: i64,
}

impl Number {
    /// The text of the number, multiplied by a power of ten.
    fn times(&self, power: Power) -> String {
        let sign = if self.negative { "-" } else { "" };
        let point = if self.fraction.is_empty() { "" } else { "." };
        let small = self.exponent;
        let exponent = match power {
            Power::None if small == 0 => String::new(),
            Power::None => format!("e{small}"),
            Power::Wide => format!("E{}", 10_i128.pow(36) + i128::from(small)),
            Power::WideBelow => format!("e{}", i128::from(small) - 10_i128.pow(36)),
            // Exponents that do not fit any integer type.
            Power::Huge => format!("e+1{:045}", 1000 + small),
            Power::HugeBelow => format!("e-1{:045}", 1000 - small),
        };
        format!("{sign}{}{point}{}{exponent}", self.integer, self.fraction)
    }

    /// The sign and the digits, in units so small that every number is an integer. All have as many digits.
    fn written_out(&self) -> (i8, Vec<i8>) {
        const PLACES: i64 = 120;
        let mut digits = vec![0_i8; 2 * usize::try_from(PLACES).unwrap()];
        let all = format!("{}{}", self.integer, self.fraction);
        let first = PLACES - len64(&self.integer) - self.exponent;
        for (i, digit) in all.bytes().enumerate() {
            let at = usize::try_from(first + i64::try_from(i).unwrap()).unwrap();
            digits[at] = i8::try_from(digit - b'0').unwrap();
        }
        if digits.iter().all(|digit| *digit == 0) {
            return (0, digits);
        }
        if self.negative {
            // Of negative numbers, the one with greater digits is less.
            return (-1, digits.iter().map(|digit| -digit).collect());
        }
        (1, digits)
    }
}

#[derive(Clone, Copy)]
enum Power {
    None,
    Wide,
    WideBelow,
    Huge,
    HugeBelow,
}

fn len64(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap()
}

fn any_number() -> impl Strategy<Value = Number> {
    let integer = prop_oneof![Just("0".to_owned()), "[1-9][09]{0,4}", "[1-9][0-9]{0,40}"];
    let fraction = prop_oneof![Just(String::new()), "[09]{1,5}", "[0-9]{0,40}"];
    let exponent = prop_oneof![Just(0), -3..4_i64, -60..60_i64];
    (any::<bool>(), integer, fraction, exponent).prop_map(
        |(negative, integer, fraction, exponent)| Number { negative, integer, fraction, exponent },
    )
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

fn order_key(json: &str) -> OrderKey {
    OrderKey::new(&parse(json), json.as_bytes())
}

/// Any key except one of zeros, which is rejected.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200)
        .prop_filter("zeros", |key| key.iter().any(|byte| *byte != 0))
}

proptest! {
    #[test]
    fn frame_boundaries_never_change_the_verdict(
        body in any_body(),
        places in prop::collection::vec(any::<Index>(), 0..20),
        slack in 0..3usize,
    ) {
        let limit = (body.len() + 1).saturating_sub(slack);
        let whole = verdict(&body, Script::new([Step::data(&body)]), limit);
        let pieces = verdict(&body, cut(&body, &places), limit);
        prop_assert_eq!(&whole, &pieces);
        if body.len() > limit {
            prop_assert_eq!(whole, Err(RejectionKind::BodyTooLarge));
        } else if let Ok(seen) = whole {
            prop_assert_eq!(seen, body);
        }
    }

    #[test]
    fn any_flipped_bit_in_the_body_is_a_mismatch(
        mut body in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<Index>(),
        bit in 0..8u8,
    ) {
        let right = digest(&body);
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        let kind = Verifier::new(secret()).verify(right, body).unwrap_err().kind();
        prop_assert_eq!(kind, RejectionKind::DigestMismatch);
    }

    #[test]
    fn any_flipped_bit_in_the_digest_is_rejected(
        body in prop::collection::vec(any::<u8>(), 0..300),
        at in 0..40usize,
        bit in 0..8u8,
    ) {
        let mut text = digest(&body).into_bytes();
        text[at] ^= 1 << bit;
        let verdict =
            Verifier::new(secret()).verify(String::from_utf8_lossy(&text), body.clone());
        if text.to_ascii_lowercase() == digest(&body).into_bytes() {
            prop_assert!(verdict.is_ok(), "only the case of a letter was flipped");
        } else {
            let kind = verdict.unwrap_err().kind();
            prop_assert!(
                matches!(kind, RejectionKind::DigestMismatch | RejectionKind::DigestMalformed)
            );
        }
    }

    #[test]
    fn signed_body_verifies_only_with_its_secret(
        key in any_key(),
        other in any_key(),
        body in prop::collection::vec(any::<u8>(), 0..300),
        algorithm in prop::sample::select(
            &[Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512][..]
        ),
    ) {
        let secret = Secret::verbatim(key.clone()).unwrap();
        let digest = algorithm.sign(&secret, &body).to_string();
        let verifier = Verifier::new(secret).algorithm(algorithm);
        prop_assert!(verifier.verify(&digest, body.clone()).is_ok());

        // HMAC pads a short key with zeros: those are the same key.
        let padded = |key: &[u8]| {
            let mut key = key.to_vec();
            key.resize(key.len().max(128), 0);
            key
        };
        prop_assume!(padded(&key) != padded(&other));
        let verifier = Verifier::new(Secret::verbatim(other).unwrap()).algorithm(algorithm);
        prop_assert!(verifier.verify(&digest, body).is_err());
    }

    #[test]
    fn requests_round_trip(json in any_request()) {
        let first = parse(&json);
        let written = serde_json::to_string(&first).unwrap();
        let second = parse(&written);
        prop_assert_eq!(&second, &first);
        prop_assert_eq!(serde_json::to_string(&second).unwrap(), written);
    }

    #[test]
    fn any_amount_keeps_every_digit(text in any_amount()) {
        let amount: Amount = text.parse().unwrap();
        prop_assert_eq!(amount.to_string(), text.clone());
        prop_assert_eq!(serde_json::to_string(&amount).unwrap(), text.clone());
        let read: Amount = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.to_string(), text);
    }

    #[test]
    fn exponent_shifts_the_decimal_point(
        digits in "[1-9][0-9]{0,9}",
        fraction in "[0-9]{0,9}",
        exponent in -40..40i32,
    ) {
        let point = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
        let text = format!("{digits}{point}E{exponent}");
        let amount: Amount = text.parse().unwrap();
        // Computes the same in another way: by shifting the point in the text.
        let all = format!("{digits}{fraction}");
        let point = len(&digits) + exponent;
        let plain = if point <= 0 {
            format!("0.{}{all}", "0".repeat(usize::try_from(-point).unwrap()))
        } else {
            let point = usize::try_from(point).unwrap();
            let padded = format!("{all:0<point$}");
            format!("{}.{}0", &padded[..point], &padded[point..])
        };
        let plain = plain.trim_end_matches('0').trim_end_matches('.');
        prop_assert_eq!(amount, plain.parse().unwrap(), "{}", text);
    }

    /// Compares with integers that have all digits written out.
    #[test]
    fn amounts_compare_like_big_integers(a in any_number(), b in any_number()) {
        let (wide_a, wide_b) = (a.written_out(), b.written_out());
        let powers =
            [Power::None, Power::Wide, Power::WideBelow, Power::Huge, Power::HugeBelow];
        for power in powers {
            let (text_a, text_b) = (a.times(power), b.times(power));
            let (amount_a, amount_b): (Amount, Amount) =
                (text_a.parse().unwrap(), text_b.parse().unwrap());
            prop_assert_eq!(amount_a.cmp(&amount_b), wide_a.cmp(&wide_b), "{} {}", text_a, text_b);
            prop_assert_eq!(amount_a == amount_b, wide_a == wide_b, "{} {}", text_a, text_b);
            if amount_a == amount_b {
                prop_assert_eq!(hash(&amount_a), hash(&amount_b), "{} {}", text_a, text_b);
            }
            let json = serde_json::to_string(&amount_a).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Amount>(&json).unwrap(), &amount_a);
            prop_assert_eq!(json, amount_a.to_string());
            let decimal = amount_a.decimal();
            prop_assert!(decimal.is_none_or(|it| Amount::from(it) == amount_a), "{}", text_a);
        }
    }

    #[test]
    fn amounts_are_in_a_total_order(numbers in prop::collection::vec(any_number(), 3..8)) {
        let amounts = numbers.iter().map(|it| it.times(Power::None).parse::<Amount>().unwrap());
        let mut amounts: Vec<_> = amounts.collect();
        amounts.sort();
        for (i, a) in amounts.iter().enumerate() {
            for b in &amounts[i..] {
                prop_assert!(a <= b);
            }
        }
    }

    #[test]
    fn any_text_is_an_amount_or_an_error(text in "[-+0-9.eE ]{0,40}") {
        _ = text.parse::<Amount>();
    }

    #[test]
    fn order_keys_with_times_are_strictly_ordered_except_ties(
        a in any_request(),
        b in any_request(),
        c in any_request(),
    ) {
        let (a, b, c) = (order_key(&a), order_key(&b), order_key(&c));
        prop_assert!(a.is_duplicate_of(&a) && !a.supersedes(&a));
        prop_assert_eq!(a.is_duplicate_of(&b), b.is_duplicate_of(&a));
        if [&a, &b, &c].iter().any(|it| it.last_update().is_none()) {
            return Ok(());
        }
        let is_before = |one: &OrderKey, other: &OrderKey| other.supersedes(one) && !one.supersedes(other);
        prop_assert!(!(is_before(&a, &b) && is_before(&b, &a)));
        if is_before(&a, &b) && is_before(&b, &c) {
            prop_assert!(is_before(&a, &c));
        }
        // One of two notifications always supersedes the other. In a tie, each supersedes the other.
        if !a.is_duplicate_of(&b) {
            prop_assert!(a.supersedes(&b) || b.supersedes(&a));
            let is_tie = a.position() == b.position();
            prop_assert_eq!(a.supersedes(&b) && b.supersedes(&a), is_tie);
        }
    }

    /// The end state is that of the latest notification. In a tie, it is that of the last to arrive.
    #[test]
    fn any_delivery_order_ends_in_the_same_state((_, arrived) in any_life()) {
        let mut objects = BTreeMap::<String, (History, Vec<OrderKey>, Option<OrderKey>)>::new();
        for json in &arrived {
            let (history, seen, state) = objects.entry(parse(json).id).or_default();
            let new = order_key(json);
            let verdict = history.receive_order_key(new.clone());
            let is_known = seen.iter().any(|it| it.is_duplicate_of(&new));
            prop_assert!(is_known || verdict != Verdict::Duplicate, "{} is new", json);
            if verdict.should_handle() {
                *state = Some(new.clone());
            }
            if verdict != Verdict::Duplicate {
                seen.push(new);
            }
            // A stored history is equal when it is read again.
            let kept: History = serde_json::from_str(&serde_json::to_string(history).unwrap()).unwrap();
            prop_assert_eq!(&kept, history);
        }
        for (_, seen, state) in objects.into_values() {
            let dated = seen.iter().filter(|it| it.last_update().is_some());
            if let Some(latest) = dated.max_by_key(|it| it.position()) {
                prop_assert_eq!(state, Some(latest.clone()));
            }
        }
    }
}
