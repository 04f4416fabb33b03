//! A rejected digest comes with its likely reason. The diagnosis never accepts a call, and is cheap.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{
    Inner, REQUEST, REQUEST_NO_REASON, SECRET, SMALL, call, digest, secret, signed,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Version};
use http_body_util::Full;
use proptest::prelude::*;
use sha1::Sha1;
use tower::Layer;
use tower_inqud::{
    Algorithm, Diagnosis, Digest, PaymentRequest, Rejection, RejectionKind, Secret, Secrets,
    Verifier, WebhookLayer, contract, sign,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rejection by a receiver with the secret `configured`, of a call that is signed with `used`.
fn refusal(configured: Secret, used: &[u8], signed: &[u8], received: &[u8]) -> Rejection {
    let digest = sign(&Secret::verbatim(used).unwrap(), signed).to_string();
    Verifier::new(configured).verify(digest, received.to_vec()).unwrap_err()
}

#[test]
fn names_a_mistake_in_the_secret() {
    let text = "c2VjcmV0IHZhbHVlIQ==";
    let of_hex = "00ff7e36242a10fd";
    let bytes = [0x00, 0xff, 0x7e, 0x36, 0x24, 0x2a, 0x10, 0xfd];
    let odd = [0xfb, 0xff, 0xbe, 0x01];
    let verbatim = |text: &str| Secret::verbatim(text).unwrap();
    for (configured, used, expected) in [
        (verbatim("whsec\n"), &b"whsec"[..], Diagnosis::SecretHasWhitespace),
        (verbatim("\twhsec \r\n"), b"whsec", Diagnosis::SecretHasWhitespace),
        (verbatim("whsec"), b"whsec\n", Diagnosis::SecretLacksNewline),
        (verbatim("whsec"), b"whsec\r\n", Diagnosis::SecretLacksNewline),
        (verbatim("\"whsec\""), b"whsec", Diagnosis::SecretHasQuotes),
        (verbatim("'whsec'"), b"whsec", Diagnosis::SecretHasQuotes),
        (verbatim(of_hex), &bytes, Diagnosis::SecretNeedsHexDecoding),
        (verbatim(&of_hex.to_uppercase()), &bytes, Diagnosis::SecretNeedsHexDecoding),
        (verbatim(text), b"secret value!", Diagnosis::SecretNeedsBase64Decoding),
        (
            verbatim(&STANDARD_NO_PAD.encode("secret value!")),
            b"secret value!",
            Diagnosis::SecretNeedsBase64Decoding,
        ),
        (verbatim(&STANDARD.encode(odd)), &odd, Diagnosis::SecretNeedsBase64Decoding),
        (verbatim(&URL_SAFE.encode(odd)), &odd, Diagnosis::SecretNeedsBase64Decoding),
        (Secret::verbatim(bytes).unwrap(), of_hex.as_bytes(), Diagnosis::SecretWasHexDecoded),
        (verbatim("secret value!"), text.as_bytes(), Diagnosis::SecretWasBase64Decoded),
        (verbatim("secret value"), b"c2VjcmV0IHZhbHVl", Diagnosis::SecretWasBase64Decoded),
    ] {
        let rejection = refusal(configured, used, REQUEST.as_bytes(), REQUEST.as_bytes());
        assert_eq!(rejection.kind(), RejectionKind::DigestMismatch, "{expected:?}");
        assert_eq!(rejection.diagnosis(), Some(expected), "signed with {used:?}");
    }
    // This length is not possible in base64.
    let configured = verbatim("c2VjcmV0IHZhbHVlA");
    let rejection = refusal(configured, b"secret value", REQUEST.as_bytes(), REQUEST.as_bytes());
    assert_eq!(rejection.diagnosis(), Some(Diagnosis::Unexplained));
    // An unknown secret cannot be explained. An empty one must not be tried, because anyone can sign with it.
    for (configured, used) in [("whsec", "another"), (" \n", "x"), ("\"\"", "x")] {
        let rejection = refusal(verbatim(configured), used.as_bytes(), b"{}", b"{}");
        assert_eq!(rejection.diagnosis(), Some(Diagnosis::Unexplained), "{configured:?}");
    }
    // A key of zeros signs like the empty one.
    let mut mac = Hmac::<Sha1>::new_from_slice(&[]).unwrap();
    mac.update(b"{}");
    let digest = hex(&mac.finalize().into_bytes());
    let rejection = Verifier::new(verbatim("0000")).verify(digest, "{}").unwrap_err();
    assert_eq!(rejection.diagnosis(), Some(Diagnosis::Unexplained));
}

#[test]
fn diagnoses_each_secret_of_a_rotation() {
    let secrets = ["the new one", "whsec\n"].map(|it| Secret::verbatim(it).unwrap());
    let verifier = Verifier::new(Secrets::new(secrets).unwrap());
    let digest = sign(&Secret::new("whsec").unwrap(), b"{}").to_string();
    let rejection = verifier.verify(digest, "{}").unwrap_err();
    assert_eq!(rejection.diagnosis(), Some(Diagnosis::SecretHasWhitespace));
}

#[test]
fn names_a_change_of_the_body() {
    let body = r#"{"id":"CAPD-1","name":"Škoda \" / 🚗","amount":1E-8}"#;
    let crlf = format!("{body}\r\n");
    let marked = format!("\u{feff}{body}");
    // JSON as Python and PHP write it.
    let python =
        "{\"id\": \"CAPD-1\", \"name\": \"\\u0160koda \\\" / \\ud83d\\uDE97\", \"amount\": 1E-8}";
    let php = r#"{"id":"CAPD-1","name":"\u0160koda \" \/ \ud83d\ude97","amount":1E-8}"#;
    let pretty = "{\n\t\"id\" : \"CAPD-1\",\r\n\"name\":\"Škoda \\\" / 🚗\" , \"amount\":1E-8\n}";
    let go_and_net = r#"{"a":"\u003c\u0026\u003e\u0027\u002B\u0022\u005c\n"}"#;
    for (signed, received, expected) in [
        (body, "", Some(Diagnosis::BodyEmpty)),
        (body, &marked, Some(Diagnosis::BodyHasByteOrderMark)),
        (body, &format!("{body}\n"), Some(Diagnosis::BodyHasNewline)),
        (body, &crlf, Some(Diagnosis::BodyHasNewline)),
        (&crlf, body, Some(Diagnosis::BodyLacksNewline)),
        (&format!("{body}\n"), body, Some(Diagnosis::BodyLacksNewline)),
        (body, python, Some(Diagnosis::BodyRewritten)),
        (body, php, Some(Diagnosis::BodyRewritten)),
        (body, pretty, Some(Diagnosis::BodyRewritten)),
        // The escapes are original, and only the white space is new.
        (r#"{"a":"\u0160\/"}"#, r#"{ "a": "\u0160\/" }"#, Some(Diagnosis::BodyRewritten)),
        // JSON as Go and .NET write it.
        (r#"{"a":"<&>'+\"\\\n"}"#, go_and_net, Some(Diagnosis::BodyRewritten)),
        // A different body, and malformed escapes.
        (body, r#"{"id":"CAPD-2"}"#, Some(Diagnosis::Unexplained)),
        (body, r#"{"id":"\ud83d\u0041\ud83d\uzzzz\u00"#, Some(Diagnosis::Unexplained)),
        (body, r#"{"id":"\"#, Some(Diagnosis::Unexplained)),
    ] {
        let secret = secret();
        let rejection = refusal(secret, SECRET.as_bytes(), signed.as_bytes(), received.as_bytes());
        assert_eq!(rejection.kind(), RejectionKind::DigestMismatch, "{received:?}");
        assert_eq!(rejection.diagnosis(), expected, "{received:?}");
    }
}

#[test]
fn names_a_body_that_was_reserialized() {
    // The keys of `SMALL` are sorted, as those of a `serde_json` map are.
    let parsed: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    let pretty = serde_json::to_vec_pretty(&parsed).unwrap();
    let rejection = refusal(secret(), SECRET.as_bytes(), SMALL.as_bytes(), &pretty);
    assert_eq!(rejection.diagnosis(), Some(Diagnosis::BodyRewritten));
}

#[test]
fn names_a_digest_of_the_wrong_kind() {
    let sha1 = digest(REQUEST);
    let of = |algorithm: Algorithm| algorithm.sign(&secret(), REQUEST.as_bytes());
    let (sha256, sha512) = (of(Algorithm::HmacSha256), of(Algorithm::HmacSha512));
    let base64 = |digest: Digest| STANDARD.encode(digest.as_bytes());
    let other = Diagnosis::DigestOfAnotherAlgorithm;
    for (text, expected) in [
        (sha256.to_string(), Some(other(Algorithm::HmacSha256))),
        (sha512.to_string(), Some(other(Algorithm::HmacSha512))),
        (format!("sha256={sha256}"), Some(other(Algorithm::HmacSha256))),
        (format!("sha1={sha1}"), Some(Diagnosis::DigestHasMoreThanDigits)),
        (format!("0x{sha1}"), Some(Diagnosis::DigestHasMoreThanDigits)),
        (format!("\"{sha1}\""), Some(Diagnosis::DigestHasMoreThanDigits)),
        (format!("{sha1}\n"), Some(Diagnosis::DigestHasMoreThanDigits)),
        (base64(of(Algorithm::HmacSha1)), Some(Diagnosis::DigestIsBase64)),
        (base64(sha256), Some(Diagnosis::DigestIsBase64)),
        (base64(sha512), Some(Diagnosis::DigestIsBase64)),
        (String::new(), None),
        ("not a digest".to_owned(), None),
        (sha1[1..].to_owned(), None),
        ("é".repeat(10_000), None),
    ] {
        let rejection = Verifier::new(secret()).verify(&text, REQUEST).unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::DigestMalformed, "{text}");
        assert_eq!(rejection.diagnosis(), expected, "{text}");
    }
    let verifier = Verifier::new(secret()).algorithm(Algorithm::HmacSha256);
    let diagnosis = verifier.verify(&sha1, REQUEST).unwrap_err().diagnosis();
    assert_eq!(diagnosis, Some(other(Algorithm::HmacSha1)));
}

/// The diagnosis that `on_rejection` gets, which is also that of the response.
async fn observed(request: Request<Full<Bytes>>) -> Option<Diagnosis> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = Arc::clone(&seen);
    let layer = WebhookLayer::<PaymentRequest>::new(secret())
        .on_rejection(move |rejection, _| observer.lock().unwrap().push(rejection.diagnosis()));
    let response = call(layer.layer(Inner::<PaymentRequest>::new()), request).await;
    let riding = response.extensions().get::<Rejection>().unwrap().diagnosis();
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, [riding]);
    riding
}

#[tokio::test]
async fn diagnoses_the_head_of_a_rejected_call() {
    let unsigned = || Request::post("/").version(Version::HTTP_11);
    let request = unsigned().body(Full::from(SMALL)).unwrap();
    assert_eq!(observed(request).await, Some(Diagnosis::NotSigned));

    let api = unsigned().header("X-HMAC-SHA256-Signature", "0a".repeat(32)).header("X-Salt", "s");
    assert_eq!(observed(api.body(Full::from(SMALL)).unwrap()).await, Some(Diagnosis::ApiSignature));

    let sha256 = Algorithm::HmacSha256.sign(&secret(), SMALL.as_bytes());
    let request = unsigned().header(contract::DIGEST_HEADER, sha256).body(Full::from(SMALL));
    let expected = Diagnosis::DigestOfAnotherAlgorithm(Algorithm::HmacSha256);
    assert_eq!(observed(request.unwrap()).await, Some(expected));

    // A proven reason comes before a suspected one. A call with a length is not suspected of decompression.
    let mut request = signed(format!("{SMALL}\n"));
    request.headers_mut().insert(contract::DIGEST_HEADER, digest(SMALL).parse().unwrap());
    assert_eq!(observed(request).await, Some(Diagnosis::BodyHasNewline));
    let without_length = unsigned().header(contract::DIGEST_HEADER, digest("another"));
    let without_length = without_length.body(Full::from("{}")).unwrap();
    assert_eq!(observed(without_length).await, Some(Diagnosis::BodyDecompressed));
    for (header, value) in [("content-length", "2"), ("transfer-encoding", "chunked")] {
        let request = unsigned()
            .header(contract::DIGEST_HEADER, digest("another"))
            .header(header, value)
            .body(Full::from("{}"));
        assert_eq!(observed(request.unwrap()).await, Some(Diagnosis::Unexplained), "{header}");
    }
    // Nor is one over HTTP/2, which does not need a length.
    let mut request = signed(SMALL);
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(contract::DIGEST_HEADER, digest("another").parse().unwrap());
    assert_eq!(observed(request).await, Some(Diagnosis::Unexplained));
    // Other rejections have no diagnosis.
    assert_eq!(observed(Request::get("/").body(Full::from("")).unwrap()).await, None);
}

/// The digest covers the compressed bytes, and an outer layer decompresses them.
#[cfg(feature = "axum")]
#[tokio::test]
async fn names_a_body_that_was_decompressed() {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::StatusCode;
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use tower::ServiceBuilder;
    use tower_http::decompression::RequestDecompressionLayer;
    use tower_inqud::{Ack, Webhook};

    let seen = Arc::new(Mutex::new(None));
    let observer = Arc::clone(&seen);
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret())
        .on_rejection(move |rejection, _| *observer.lock().unwrap() = rejection.diagnosis());
    let layers = ServiceBuilder::new().layer(RequestDecompressionLayer::new()).layer(webhooks);
    let handler = axum::routing::post(async |_: Webhook<PaymentRequest>| Ack::Done);
    let app = axum::Router::new().route("/", handler.layer(layers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(REQUEST.as_bytes()).unwrap();
    let body = gzip.finish().unwrap();
    let request = Request::post(format!("http://{address}/"))
        .header("content-encoding", "gzip")
        .header(contract::DIGEST_HEADER, digest(&body))
        .body(Full::<Bytes>::from(body))
        .unwrap();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(*seen.lock().unwrap(), Some(Diagnosis::BodyDecompressed));
    // The response does not contain the diagnosis.
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "the digest does not match the body");
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_mismatch_once_in_ten_seconds() {
    let verifier = Verifier::new(Secret::verbatim("whsec\n").unwrap());
    let digest = sign(&Secret::new("whsec").unwrap(), b"{}").to_string();
    let diagnosis = || verifier.verify(&digest, "{}").unwrap_err().diagnosis();
    for _ in 0..3 {
        assert_eq!(diagnosis(), Some(Diagnosis::SecretHasWhitespace));
        for _ in 0..9 {
            assert_eq!(diagnosis(), None);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // Clones share the limit, for example when the layer is on several routes.
    assert!(diagnosis().is_some());
    assert_eq!(verifier.clone().verify(&digest, "{}").unwrap_err().diagnosis(), None);
}

#[test]
fn does_not_diagnose_large_bodies_or_when_disabled() {
    let receiver = || Verifier::new(Secret::verbatim("whsec\n").unwrap());
    let signer = Secret::new("whsec").unwrap();
    let looked = |verifier: Verifier, body: &[u8]| {
        let digest = sign(&signer, body).to_string();
        verifier.verify(digest, body.to_vec()).unwrap_err().diagnosis().is_some()
    };
    assert!(looked(receiver(), &vec![b' '; 64 * 1024]));
    assert!(!looked(receiver(), &vec![b' '; 64 * 1024 + 1]));
    assert!(!looked(receiver().diagnose(false), b"{}"));
    assert!(looked(receiver().diagnose(false).diagnose(true), b"{}"));
}

#[test]
fn diagnoses_at_most_four_secrets() {
    for (at, expected) in [(3, Diagnosis::SecretHasWhitespace), (4, Diagnosis::Unexplained)] {
        let mut secrets = ["a", "b", "c", "d"].map(|it| Secret::new(it).unwrap()).to_vec();
        secrets.insert(at, Secret::verbatim("whsec\n").unwrap());
        let verifier = Verifier::new(Secrets::new(secrets).unwrap());
        let digest = sign(&Secret::new("whsec").unwrap(), b"{}").to_string();
        assert_eq!(verifier.verify(digest, "{}").unwrap_err().diagnosis(), Some(expected));
    }
}

/// The mistakes in a secret that are tried are those with Inqud's algorithm.
#[test]
fn other_algorithms_diagnose_only_the_body() {
    let algorithm = Algorithm::HmacSha256;
    let secret = Secret::verbatim("whsec\n").unwrap();
    let verifier = Verifier::new(secret.clone()).algorithm(algorithm);
    let digest = algorithm.sign(&secret, b"{}").to_string();
    let diagnosis = verifier.verify(digest, "{ }").unwrap_err().diagnosis();
    assert_eq!(diagnosis, Some(Diagnosis::BodyRewritten));
}

#[test]
fn diagnosis_says_what_to_do() {
    let text = Diagnosis::SecretHasQuotes.to_string();
    assert!(text.ends_with("remove the quotes"), "{text}");
}

/// Logs are searched for these names.
#[test]
fn diagnosis_has_its_name_in_snake_case() {
    for (diagnosis, name) in [
        (Diagnosis::NotSigned, "not_signed"),
        (Diagnosis::ApiSignature, "api_signature"),
        (Diagnosis::DigestOfAnotherAlgorithm(Algorithm::HmacSha256), "digest_of_another_algorithm"),
        (Diagnosis::DigestIsBase64, "digest_is_base64"),
        (Diagnosis::DigestHasMoreThanDigits, "digest_has_more_than_digits"),
        (Diagnosis::SecretHasWhitespace, "secret_has_whitespace"),
        (Diagnosis::SecretLacksNewline, "secret_lacks_newline"),
        (Diagnosis::SecretHasQuotes, "secret_has_quotes"),
        (Diagnosis::SecretNeedsHexDecoding, "secret_needs_hex_decoding"),
        (Diagnosis::SecretNeedsBase64Decoding, "secret_needs_base64_decoding"),
        (Diagnosis::SecretWasHexDecoded, "secret_was_hex_decoded"),
        (Diagnosis::SecretWasBase64Decoded, "secret_was_base64_decoded"),
        (Diagnosis::BodyEmpty, "body_empty"),
        (Diagnosis::BodyHasByteOrderMark, "body_has_byte_order_mark"),
        (Diagnosis::BodyHasNewline, "body_has_newline"),
        (Diagnosis::BodyLacksNewline, "body_lacks_newline"),
        (Diagnosis::BodyRewritten, "body_rewritten"),
        (Diagnosis::BodyDecompressed, "body_decompressed"),
        (Diagnosis::Unexplained, "unexplained"),
    ] {
        assert_eq!(diagnosis.as_str(), name);
    }
}

#[tokio::test]
async fn layer_does_not_diagnose_when_disabled() {
    let verifier = Verifier::new(secret()).diagnose(false);
    let layer = WebhookLayer::<PaymentRequest>::new(verifier);
    let unsigned = Request::post("/").body(Full::<Bytes>::from(SMALL)).unwrap();
    let of = |digest: &str| {
        Request::post("/")
            .header(contract::DIGEST_HEADER, digest)
            .body(Full::<Bytes>::from(SMALL))
            .unwrap()
    };
    for request in [unsigned, of("sha1=00"), of(&STANDARD.encode([7; 20])), of(&digest("x"))] {
        let response = call(layer.layer(Inner::<PaymentRequest>::new()), request).await;
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.diagnosis(), None, "{rejection}");
    }
}

#[test]
fn diagnosis_shows_neither_secret_nor_body() {
    let rejection = refusal(
        Secret::verbatim(format!("{SECRET}\n")).unwrap(),
        SECRET.as_bytes(),
        REQUEST_NO_REASON.as_bytes(),
        REQUEST_NO_REASON.as_bytes(),
    );
    let diagnosis = rejection.diagnosis().unwrap();
    let shown = format!("{diagnosis} {diagnosis:?} {rejection} {rejection:?} {rejection:#?}");
    for hidden in [SECRET, &digest(REQUEST_NO_REASON), &hex(SECRET.as_bytes()), "CAPD-"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    assert_eq!(rejection.to_string(), "the digest does not match the body");
}

/// The keys that the diagnosis tries, computed independently.
fn mistake(secret: &[u8], which: usize) -> Vec<u8> {
    match which {
        0 => secret.trim_ascii().to_vec(),
        1 => [secret, b"\n"].concat(),
        2 => hex(secret).into_bytes(),
        3 => STANDARD.encode(secret).into_bytes(),
        4 => STANDARD.decode(secret).unwrap_or_else(|_| b"x".to_vec()),
        _ => secret.iter().copied().filter(|byte| *byte != b'"').collect(),
    }
}

proptest! {
    /// A digest that is wrong for this secret and this body is always rejected, whatever the diagnosis is.
    #[test]
    fn diagnosis_never_accepts_a_call(
        secret in "[ \"]?[A-Za-z0-9+/]{1,24}[ \"\n]?",
        body in r#"\{( )?"a":( )?"(\\/|\\u0160|x){0,3}"\}(\n)?"#,
        which in 0..6_usize,
        change_body in any::<bool>(),
    ) {
        let configured = Secret::verbatim(secret.as_bytes()).unwrap();
        let verifier = Verifier::new(configured.clone());
        let other = mistake(secret.as_bytes(), which);
        prop_assume!(!other.is_empty());
        let used = if change_body { configured.clone() } else { Secret::verbatim(other).unwrap() };
        let sent = body.replace([' ', '\n'], "").replace("\\/", "/");
        let signed = if change_body { &sent } else { &body };
        let digest = sign(&used, signed.as_bytes());
        let is_right = digest == sign(&configured, body.as_bytes());
        for verifier in [verifier, Verifier::new(Secret::verbatim(secret.as_bytes()).unwrap())] {
            match verifier.verify(digest.to_string(), body.clone()) {
                Ok(_) => prop_assert!(is_right),
                Err(rejection) => {
                    prop_assert!(!is_right);
                    // Each verifier is new, so the limit on diagnoses does not apply.
                    prop_assert!(rejection.diagnosis().is_some());
                }
            }
        }
    }
}
