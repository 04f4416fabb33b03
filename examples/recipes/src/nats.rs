//! Publishes to NATS JetStream.
//!
//! The key is the message id. JetStream acknowledges and drops a message whose id it has seen within the stream's
//! *duplicate window*. The default window of 2 minutes is too short, because Inqud's ten retries take almost two days.
//! [`stream`] sets a window that covers them. The server keeps the ids of the window in memory, about 100 bytes each.
//!
//! Limitations:
//!
//! - A duplicate that arrives after the window is stored again.
//! - A message that was in flight at the timeout of 8 s may still be stored. Inqud sends it again, and JetStream drops
//!   the duplicate by its id.
//! - An acknowledged message is as durable as the stream. With one replica, the server syncs its file only every
//!   2 minutes. Set `sync_interval: always`, or use three replicas.
//! - One subject keeps the order of arrival. To handle one message at a time, the consumer needs
//!   `max_ack_pending: 1`.

use std::convert::Infallible;

use async_nats::connection::State;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, Context, message::PublishMessage, stream};
use async_nats::{ConnectError, ConnectOptions};
use http::{Request, Response};
use tokio::time::timeout;
use tower::{Service, service_fn};
use tower_inqud::contract::DUPLICATE_WINDOW;

use crate::{TIMEOUT, acknowledged, missing_layer, not_stored, notification};

/// The subject for Requests.
pub const SUBJECT: &str = "inqud.request";

/// Connects in the background, so that the server starts without a broker. Until it is connected, the service responds
/// with 503.
pub async fn connect(url: &str) -> Result<Context, ConnectError> {
    let options = ConnectOptions::new().retry_on_initial_connect();
    Ok(jetstream::new(options.connect(url).await?))
}

/// The configuration of the stream. Create the stream once, when you set up NATS.
pub fn stream() -> stream::Config {
    stream::Config {
        name: "inqud".to_owned(),
        subjects: vec!["inqud.>".to_owned()],
        storage: stream::StorageType::File,
        duplicate_window: DUPLICATE_WINDOW,
        ..stream::Config::default()
    }
}

/// The service to put behind a `WebhookLayer::<PaymentRequest>`.
pub fn publisher<B: Send + 'static>(
    jetstream: Context,
) -> impl Service<
    Request<B>,
    Response = Response<String>,
    Error = Infallible,
    Future: Future<Output = Result<Response<String>, Infallible>> + Send,
> + Clone
+ Send
+ Sync {
    service_fn(move |request: Request<B>| {
        let jetstream = jetstream.clone();
        let notification = notification(&request);
        async move {
            let Some((webhook, key)) = notification else { return Ok(missing_layer()) };
            // Otherwise the client would queue the message and send it after the 503.
            if jetstream.client().connection_state() != State::Connected {
                return Ok(not_stored());
            }
            let body = webhook.raw_body().clone();
            let message = PublishMessage::build().payload(body).message_id(key);
            let publish = async { jetstream.send_publish(SUBJECT, message).await?.await };
            Ok(match timeout(TIMEOUT, publish).await {
                // Stored now, or before as a duplicate.
                Ok(Ok(_)) => acknowledged(),
                Ok(Err(PublishError { .. })) | Err(_) => not_stored(),
            })
        }
    })
}
