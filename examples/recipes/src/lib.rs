//! Message brokers as an inbox: tower services that publish a webhook and acknowledge it afterwards.
//!
//! Put the service behind a [`WebhookLayer`](tower_inqud::WebhookLayer). [`nats`] is for NATS JetStream, [`kafka`]
//! for Kafka. Copy the file that you need.
//!
//! Both services
//!
//! 1. publish the unchanged body, with a [`Key`](inqud_inbox::Key) that is the same for all deliveries of one
//!    notification;
//! 2. respond with 200 after the broker's acknowledgement, and with 503 and `Retry-After` otherwise, within 8 s.
//!    Inqud's timeout is [10 s](tower_inqud::contract::RESPONSE_TIMEOUT).
//!
//! Delivery is *at least once*, with any broker. After a 503, the message may be stored all the same, because only the
//! acknowledgement may be lost. Inqud may also repeat what you acknowledged. Therefore the consumer keeps a
//! [`History`](tower_inqud::History) for each object, in the same transaction as its effect. The
//! [`Verdict`](tower_inqud::Verdict) detects duplicates, even with a rounded time, and late notifications: a broker
//! keeps the order of arrival, which is not the order of events. The durable inbox of `inqud-inbox` does both for you.
//!
//! The key is right for Requests, because each of their changes has a time. Payments carry no time. A `SUCCESS` that
//! recurs after a `FAILED` has the key of the first `SUCCESS`, and a broker that deduplicates by key would drop it.
//! Publish payments without a message id, and let the history decide.

pub mod kafka;
pub mod nats;

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use inqud_inbox::Record;
use tower_inqud::{Ack, PaymentRequest, Webhook};

/// How long to wait for the broker's acknowledgement.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// The webhook that the layer put into the request, and its key.
fn notification<B>(request: &Request<B>) -> Option<(Webhook<PaymentRequest>, String)> {
    let webhook = request.extensions().get::<Webhook<PaymentRequest>>()?.clone();
    let key = Record::new::<PaymentRequest>(&webhook, webhook.raw_body().clone()).key.to_string();
    Some((webhook, key))
}

/// The response to a wiring mistake, for the developer.
fn missing_layer() -> Response<String> {
    let mut response =
        Response::new("add `WebhookLayer::<PaymentRequest>::new(secret)` to this route".to_owned());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn acknowledged() -> Response<String> {
    Ack::Done.into()
}

fn not_stored() -> Response<String> {
    let mut response: Response<String> = Ack::Retry.into();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
}
