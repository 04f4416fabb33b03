//! Brokers as an inbox: a tower service behind [`WebhookLayer`](tower_inqud::WebhookLayer) hands the body
//! to a broker, and answers 200 when that has acknowledged it. [`nats`] for NATS JetStream, [`kafka`]
//! for Kafka. Copy the file that you need.
//!
//! What both do:
//!
//! 1. They publish the body byte for byte, with a [`Key`](inqud_inbox::Key) that is equal for
//!    all deliveries of one notification.
//! 2. They answer 200 after the acknowledgement, and else 503 with `Retry-After`, within 8 s: Inqud
//!    gives up after [10](tower_inqud::contract::RESPONSE_TIMEOUT).
//!
//! What remains, with any broker: *at least once*. A 503 does not prove that nothing was stored, for
//! the acknowledgement may be what was lost; and Inqud may send again what it had a 200 for. So the
//! consumer keeps a [`History`](tower_inqud::History) for each object, in the same transaction as its
//! effect. Its [`Verdict`](tower_inqud::Verdict) tells duplicates, also those whose time was rounded, and
//! late notifications: a broker keeps the order of arrival, and Inqud does not keep the order of events.
//! The durable inbox of this crate does both.
//!
//! The key suits Requests, whose every change has a time. A payment carries none: a `SUCCESS` that comes back
//! after a `FAILED` has the key of the first, and a broker that deduplicates by it would drop it. Publish
//! payments without a message id, and let the history tell.

pub mod kafka;
pub mod nats;

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use inqud_inbox::Record;
use tower_inqud::{Ack, PaymentRequest, Webhook};

/// How long to wait for the broker.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// What the layer has put into the request, and its key.
fn notification<B>(request: &Request<B>) -> Option<(Webhook<PaymentRequest>, String)> {
    let webhook = request.extensions().get::<Webhook<PaymentRequest>>()?.clone();
    let key = Record::new::<PaymentRequest>(&webhook, webhook.raw_body().clone()).key.to_string();
    Some((webhook, key))
}

/// A mistake of the program, not of the broker: told to whoever tries it out.
fn missing_layer() -> Response<String> {
    let mut response =
        Response::new("add `WebhookLayer::<PaymentRequest>::new(secret)` to this route".to_owned());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn acknowledged() -> Response<String> {
    Ack::Done.into()
}

fn refused() -> Response<String> {
    let mut response: Response<String> = Ack::Retry.into();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
}
