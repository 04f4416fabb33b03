//! NATS JetStream.
//!
//! The key is the message id: JetStream drops a message whose id it has seen within the stream's
//! *duplicate window*, and acknowledges it. The default of 2 minutes is no use here, for Inqud's ten
//! retries go on for almost two days: [`stream`] sets it to cover them. The server holds the ids of that
//! time in memory, some 100 bytes each.
//!
//! What remains:
//!
//! - What comes again after the window is stored again.
//! - A message that was on its way when the 8 s passed may still be stored. It is sent again, and
//!   dropped by its id.
//! - An acknowledged message is as durable as the stream: with one replica, the server syncs its file
//!   every 2 minutes unless `sync_interval: always` is set. Use that, or three replicas.
//! - One subject keeps the order of arrival. A consumer that is to handle one at a time needs
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

use crate::{PATIENCE, acknowledged, missing_layer, notification, refused};

/// Where Requests are published.
pub const SUBJECT: &str = "inqud.request";

/// Connects in the background, so that the server starts without a broker; until there is one, it
/// answers 503.
pub async fn connect(url: &str) -> Result<Context, ConnectError> {
    let options = ConnectOptions::new().retry_on_initial_connect();
    Ok(jetstream::new(options.connect(url).await?))
}

/// The stream to be made once, by whoever operates NATS.
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
            // The client would keep it, and send it after the 503.
            if jetstream.client().connection_state() != State::Connected {
                return Ok(refused());
            }
            let body = webhook.raw_body().clone();
            let message = PublishMessage::build().payload(body).message_id(key);
            let publish = async { jetstream.send_publish(SUBJECT, message).await?.await };
            Ok(match timeout(PATIENCE, publish).await {
                // New, or a duplicate: it is stored.
                Ok(Ok(_)) => acknowledged(),
                Ok(Err(PublishError { .. })) | Err(_) => refused(),
            })
        }
    })
}
