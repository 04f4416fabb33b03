//! New notifications.

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use inqud_inbox::Record;
use tower::{Layer, Service, service_fn};
use tower_inqud::{PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, sign};

const SECRET: &str = "whsec-kiln-and-clay";
const REQUEST: &str = include_str!("../../../../tests/fixtures/request-waiting_payment.json");

/// Generates new ids in random order, like those of Inqud.
pub(crate) struct Ids(pub(crate) u64);

impl Ids {
    fn body(&mut self) -> String {
        self.0 += 1;
        // A permutation of the numbers: splitmix64.
        let mut z = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let (_, rest) = REQUEST.split_once(r#""id":"CAPD-"#).unwrap();
        let (_, rest) = rest.split_once('"').unwrap();
        format!(r#"{{"id":"CAPD-{z:016x}-1c17149d4395"{rest}"#)
    }

    pub(crate) fn record(&mut self) -> Record {
        let body = self.body();
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        Record::new(&request, body.into())
    }

    pub(crate) fn records(&mut self, count: usize) -> Vec<Record> {
        (0..count).map(|_| self.record()).collect()
    }

    pub(crate) async fn webhooks(&mut self, count: usize) -> Vec<Webhook<PaymentRequest>> {
        let secret = Secret::new(SECRET).unwrap();
        let seen = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let noted = Arc::clone(&seen);
        let note = move |request: Request<WebhookBody<Full<Bytes>>>| {
            let webhook = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
            noted.lock().unwrap().push(webhook.clone());
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        };
        let layer = WebhookLayer::<PaymentRequest>::new(secret.clone());
        let mut service = layer.layer(service_fn(note));
        for _ in 0..count {
            let body = self.body();
            let digest = sign(&secret, body.as_bytes()).to_string();
            let request = Request::post("/").header(contract::DIGEST_HEADER, digest);
            let request = request.body(Full::from(body)).unwrap();
            assert_eq!(service.call(request).await.unwrap().status(), StatusCode::OK);
        }
        std::mem::take(&mut *seen.lock().unwrap())
    }
}
