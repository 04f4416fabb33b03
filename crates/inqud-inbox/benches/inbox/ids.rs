//! New notifications.

use std::convert::Infallible;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use inqud_inbox::Record;
use tower::{Layer, Service, service_fn};
use tower_inqud::{PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, sign};

const REQUEST: &str = include_str!("../../../../tests/fixtures/request-waiting_payment.json");

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Returns the first of `count` numbers that no other notification of this process has.
pub(crate) fn reserve(count: usize) -> u64 {
    NEXT.fetch_add(count as u64, Ordering::Relaxed)
}

/// Creates the body of a notification. The ids are in random order, like those of Inqud.
pub(crate) fn body(number: u64) -> String {
    // A permutation of the numbers: splitmix64.
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    let (_, rest) = REQUEST.split_once(r#""id":"CAPD-"#).unwrap();
    let (_, rest) = rest.split_once('"').unwrap();
    format!(r#"{{"id":"CAPD-{z:016x}-1c17149d4395"{rest}"#)
}

pub(crate) fn secret() -> Secret {
    Secret::new("whsec-kiln-and-clay").unwrap()
}

pub(crate) fn records(count: usize) -> Vec<Record> {
    let first = reserve(count);
    let record = |at| {
        let body = body(first + at as u64);
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into())
    };
    (0..count).map(record).collect()
}

/// Creates webhooks that are verified.
pub(crate) async fn webhooks(count: usize) -> Vec<Webhook<PaymentRequest>> {
    let (first, secret) = (reserve(count), secret());
    let seen = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let noted = Arc::clone(&seen);
    let note = move |request: Request<WebhookBody<Full<Bytes>>>| {
        let webhook = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
        noted.lock().unwrap().push(webhook.clone());
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    };
    let layer = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let mut service = layer.layer(service_fn(note));
    for at in 0..count {
        let body = body(first + at as u64);
        let digest = sign(&secret, body.as_bytes()).to_string();
        let request = Request::post("/").header(contract::DIGEST_HEADER, digest);
        let request = request.body(Full::from(body)).unwrap();
        assert_eq!(service.call(request).await.unwrap().status(), StatusCode::OK);
    }
    std::mem::take(&mut *seen.lock().unwrap())
}
