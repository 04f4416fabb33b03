//! Kafka, with librdkafka.
//!
//! The id of the object is the key of the record, so that all of one object is in one partition, in the
//! order of arrival; the delivery key is a header, for the consumer to know duplicates by. Idempotence
//! is the producer's: its own retries store a record once. Kafka knows no duplicate by its content, so
//! each delivery of Inqud is a record.
//!
//! What remains:
//!
//! - A second delivery of one notification is a second record. Know it by the header.
//! - A record that was on its way when the time passed may still be stored.
//! - `acks=all` waits for the replicas in sync, which may be one: set `min.insync.replicas=2` for the
//!   topic. Brokers do not wait for their disks.

use std::convert::Infallible;

use http::{Request, Response};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use tokio::time::timeout;
use tower::{Service, service_fn};
use tower_inqud::Notification;

use crate::{PATIENCE, acknowledged, missing_layer, notification, refused};

/// Where Requests are published.
pub const TOPIC: &str = "inqud.request";
/// The header with the delivery key.
pub const KEY_HEADER: &str = "inqud-key";

/// Connects in the background.
pub fn connect(brokers: &str) -> Result<FutureProducer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // Less than the patience: what is given up leaves the producer's queue before the 503.
        .set("message.timeout.ms", "7000")
        .set("socket.timeout.ms", "5000")
        // A notification waits for no other.
        .set("linger.ms", "0")
        .create()
}

/// The service to put behind a `WebhookLayer::<PaymentRequest>`.
pub fn publisher<B: Send + 'static>(
    producer: FutureProducer,
) -> impl Service<
    Request<B>,
    Response = Response<String>,
    Error = Infallible,
    Future: Future<Output = Result<Response<String>, Infallible>> + Send,
> + Clone
+ Send
+ Sync {
    service_fn(move |request: Request<B>| {
        let producer = producer.clone();
        let notification = notification(&request);
        async move {
            let Some((webhook, key)) = notification else { return Ok(missing_layer()) };
            let header = Header { key: KEY_HEADER, value: Some(&key) };
            let record = FutureRecord::to(TOPIC)
                .key(webhook.id())
                .payload(&webhook.raw_body()[..])
                .headers(OwnedHeaders::new().insert(header));
            // A full queue is a 503 at once.
            let send = producer.send(record, Timeout::After(std::time::Duration::ZERO));
            Ok(match timeout(PATIENCE, send).await {
                Ok(Ok(_)) => acknowledged(),
                Ok(Err(_)) | Err(_) => refused(),
            })
        }
    })
}
