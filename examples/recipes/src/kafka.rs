//! Publishes to Kafka, with librdkafka.
//!
//! The id of the object is the key of the record, so that all notifications about one object are in one partition, in
//! order of arrival. The delivery key is a header, so that the consumer can detect duplicates. The producer is
//! idempotent: its own retries store a record once. Kafka does not deduplicate by content, so each delivery from
//! Inqud becomes a record.
//!
//! Limitations:
//!
//! - A second delivery of one notification is a second record. Detect it by the header.
//! - A record that was in flight at the timeout may still be stored.
//! - `acks=all` waits for the in-sync replicas, and there may be only one. Set `min.insync.replicas=2` for the topic.
//!   Brokers do not wait for their disks.

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

use crate::{TIMEOUT, acknowledged, missing_layer, not_stored, notification};

/// The topic for Requests.
pub const TOPIC: &str = "inqud.request";
/// The name of the header with the delivery key.
pub const KEY_HEADER: &str = "inqud-key";

/// Creates a producer, which connects in the background.
pub fn connect(brokers: &str) -> Result<FutureProducer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // Less than `TIMEOUT`, so that a failed record leaves the producer's queue before the 503.
        .set("message.timeout.ms", "7000")
        .set("socket.timeout.ms", "5000")
        // Send each record at once instead of waiting for a batch.
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
            // If the queue is full, respond with 503 at once.
            let send = producer.send(record, Timeout::After(std::time::Duration::ZERO));
            Ok(match timeout(TIMEOUT, send).await {
                Ok(Ok(_)) => acknowledged(),
                Ok(Err(_)) | Err(_) => not_stored(),
            })
        }
    })
}
