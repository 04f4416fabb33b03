//! Secrets cannot be empty, are never printed, and rotate while the server runs.

use crate::support;
use crate::support::{Inner, SECRET, SMALL, call, secret, signed};
use tower::Layer;
use tower_inqud::{
    Algorithm, ConfigError, PaymentRequest, RejectionKind, Secret, Secrets, Verifier, WebhookLayer,
    sign,
};

/// Rivals' bug 4, GHSA-xff3-5c9p-2mr4: an empty secret was accepted, and used for fraud.
#[test]
fn ghsa_xff3_5c9p_2mr4_rejects_empty_secret() {
    assert_eq!(Secret::new("").unwrap_err(), ConfigError::SecretEmpty);
    assert_eq!(Secret::verbatim("").unwrap_err(), ConfigError::SecretEmpty);
    assert_eq!(Secrets::new([]).unwrap_err(), ConfigError::NoSecrets);
}

/// HMAC pads a short key with zeros, so a key of zeros signs like the empty one. A longer key is hashed
/// first, but zeros are still not a secret.
#[test]
fn rejects_a_secret_of_zeros() {
    for len in [1, 20, 32, 64, 65, 128, 129, 5000] {
        let error = Secret::verbatim(vec![0; len]).unwrap_err();
        assert_eq!(error, ConfigError::SecretAllZeros, "{len} bytes");
        assert!(error.to_string().contains("zero bytes"));
        assert!(Secret::new(vec![0; len]).is_err(), "{len} bytes");
    }
    let nearly = Secret::verbatim([&[0; 31][..], b"\x01"].concat()).unwrap();
    assert_eq!(sign(&nearly, b"{}").as_bytes().len(), 20);
}

#[test]
fn rejects_surrounding_white_space_unless_verbatim() {
    for around in [
        "secret\n",
        "secret\r\n",
        " secret",
        "\tsecret",
        "secret\u{a0}",
        "\u{3000}secret",
        " ",
        "\u{feff}secret",
        "secret\0",
        "\0",
    ] {
        let error = Secret::new(around).unwrap_err();
        assert_eq!(error, ConfigError::SurroundingWhitespace, "{around:?}");
        assert!(error.to_string().contains("white space"));
        assert_eq!(Secret::verbatim(around).is_ok(), around != "\0", "{around:?}");
    }
    assert_eq!(Secret::new(b"\xff ").unwrap_err(), ConfigError::SurroundingWhitespace);
    assert!(Secret::new("two words").is_ok());
}

#[test]
fn verbatim_secret_differs_from_the_trimmed_one() {
    let padded = Secret::verbatim(format!("{SECRET}\n")).unwrap();
    assert_ne!(sign(&padded, b"{}"), sign(&secret(), b"{}"));
}

#[test]
fn secret_can_be_any_bytes_of_any_length() {
    for key in [&b"x"[..], &[0xff, 0x00, 0xfe], &[7; 64], &[7; 65], &[7; 5000]] {
        let secret = Secret::new(key).unwrap();
        let digest = sign(&secret, b"{}").to_string();
        assert!(Verifier::new(secret).verify(digest, "{}").is_ok(), "{} bytes", key.len());
    }
}

/// Rivals' bug 8, RUSTSEC-2022-0087. Logs have their own test.
#[test]
fn rustsec_2022_0087_debug_hides_secret_and_digest() {
    let secret = secret().label("the label");
    let digest = sign(&secret, SMALL.as_bytes());
    let secrets = Secrets::from(secret.clone());
    let verifier = Verifier::new(secrets.clone());
    let layer = WebhookLayer::<PaymentRequest>::new(verifier.clone());
    let service = layer.layer(Inner::<PaymentRequest>::new());
    let verified = verifier.verify(digest.to_string(), SMALL).unwrap();
    let webhook = verified.clone().decode::<PaymentRequest>().unwrap();
    let mismatch = verifier.verify(digest.to_string(), "{}").unwrap_err();
    let header = http::HeaderValue::from(digest);

    let printed = [
        format!("{secret:?} {secret:#?}"),
        format!("{secrets:?} {secrets:#?}"),
        format!("{verifier:?} {verifier:#?}"),
        format!("{layer:?} {layer:#?}"),
        format!("{service:?} {service:#?}"),
        format!("{digest:?} {digest:#?} {header:?}"),
        format!("{verified:?} {verified:#?}"),
        format!("{webhook:?} {webhook:#?}"),
        format!("{mismatch} {mismatch:?} {mismatch:#?}"),
        format!("{:?}", Secret::new(format!("{SECRET}\n")).unwrap_err()),
    ];
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", SECRET.as_bytes());
    for text in printed {
        for hidden in [SECRET, &hex, bytes.trim_matches(['[', ']']), &digest.to_string()] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
    assert_eq!(
        format!("{verified:?}"),
        r#"Verified { body_len: 34, secret_label: Some("the label"), tenant: None, .. }"#
    );
    // Shows that the texts above could have contained the digest and the layer's fields.
    assert_eq!(digest.to_string().len(), 40);
    assert!(format!("{layer:?}").contains("the label"));
}

#[tokio::test]
async fn forwarded_request_hides_its_digest_in_debug() {
    let service = WebhookLayer::<PaymentRequest>::new(secret()).layer(tower::service_fn(
        async |request: http::Request<_>| {
            let text = format!("{:?}", request.headers());
            assert!(text.contains("x-payload-digest"));
            Ok::<_, std::convert::Infallible>(http::Response::new(text))
        },
    ));
    let printed = support::text(call(service, signed(SMALL)).await).await;
    assert!(printed.contains("Sensitive"), "{printed}");
    assert!(!printed.contains(&support::digest(SMALL)), "{printed}");
}

#[tokio::test]
async fn rotation_accepts_both_secrets_and_labels_the_match() {
    let old = Secret::new("the old one").unwrap().label("2026-05");
    let new = Secret::new("the new one").unwrap().label("2026-11");
    let unknown = Secret::new("nobody's").unwrap();
    let secrets = Secrets::new([new.clone(), old.clone()]).unwrap();
    let inner = Inner::<PaymentRequest>::new();
    let service = WebhookLayer::<PaymentRequest>::new(secrets.clone()).layer(inner.clone());

    let deliver = async |secret: &Secret| {
        let mut request = signed(SMALL);
        let digest = sign(secret, SMALL.as_bytes());
        request.headers_mut().insert("x-payload-digest", digest.into());
        let response = call(service.clone(), request).await;
        response.extensions().get::<tower_inqud::Rejection>().map(|it| it.kind())
    };
    let mismatch = Some(RejectionKind::DigestMismatch);

    assert_eq!(deliver(&new).await, None);
    assert_eq!(deliver(&old).await, None);
    assert_eq!(deliver(&unknown).await, mismatch);
    let labels: Vec<_> =
        inner.seen().iter().map(|it| it.secret_label().map(str::to_owned)).collect();
    assert_eq!(labels, [Some("2026-11".to_owned()), Some("2026-05".to_owned())]);

    secrets.replace([new.clone()]).unwrap();
    assert_eq!(deliver(&new).await, None);
    assert_eq!(
        deliver(&old).await,
        mismatch,
        "the running service no longer accepts the old secret"
    );

    assert_eq!(secrets.replace([]).unwrap_err(), ConfigError::NoSecrets);
    assert_eq!(deliver(&new).await, None, "a rejected replacement changes nothing");
}

/// All secrets are tried with the configured algorithm.
#[test]
fn rotation_works_with_every_algorithm() {
    let old = Secret::new("the old one").unwrap();
    let secrets = Secrets::new([secret(), old.clone()]).unwrap();
    for algorithm in [Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512] {
        let verifier = Verifier::new(secrets.clone()).algorithm(algorithm);
        let digest = algorithm.sign(&old, SMALL.as_bytes());
        let verified = verifier.verify(digest.to_string(), SMALL).unwrap();
        assert_eq!(*verified.digest(), digest);
        assert_eq!(verified.digest().algorithm(), algorithm);
    }
}

/// A call uses the secrets that were set when it started.
#[tokio::test]
async fn rotation_loses_no_call_in_flight() {
    let secrets = Secrets::from(secret());
    let inner = Inner::<PaymentRequest>::new();
    let service = WebhookLayer::<PaymentRequest>::new(secrets.clone()).layer(inner.clone());
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let frames = async move {
        receiver.await.unwrap();
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from(SMALL)))
    };
    let body = http_body_util::StreamBody::new(Once(Some(Box::pin(frames))));
    let request = support::signed_as(SMALL, body);
    let in_flight = tokio::spawn(call(service, request));
    tokio::task::yield_now().await;

    secrets.replace([Secret::new("another").unwrap()]).unwrap();
    sender.send(()).unwrap();
    assert_eq!(in_flight.await.unwrap().status(), 200);
    assert_eq!(inner.calls(), 1);
}

/// A stream of one future.
struct Once<F>(Option<std::pin::Pin<Box<F>>>);

impl<F: Future> futures_core::Stream for Once<F> {
    type Item = F::Output;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<F::Output>> {
        let Some(future) = self.0.as_mut() else { return std::task::Poll::Ready(None) };
        let output = std::task::ready!(future.as_mut().poll(cx));
        self.0 = None;
        std::task::Poll::Ready(Some(output))
    }
}
