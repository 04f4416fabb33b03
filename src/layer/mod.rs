//! The layer: its settings here, and a room for each stage of a call.

mod admit;
mod body;
mod config;
mod future;
mod receive;
mod service;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http::uri::PathAndQuery;
use tower_layer::Layer;

pub use self::body::WebhookBody;
use self::config::Config;
pub(crate) use self::config::Trust;
pub use self::future::ResponseFuture;
pub use self::service::WebhookService;
use crate::rejection::Rejection;
use crate::signature::Verifier;
use crate::{ConfigError, EventKind, contract, telemetry};

/// Verifies, decodes and acknowledges Inqud's webhooks, in front of any service.
///
/// `T` is what the body is decoded into: [`PaymentRequest`](crate::PaymentRequest) for the Request
/// webhook, [the type](crate#kinds) of another, [`Event`](crate::Event) for all of them, or a type
/// of your own that is `DeserializeOwned + Send + Sync + 'static`.
///
/// For each call, or for those to [a path](Self::path) only:
///
/// 1. What the head shows to be wrong is refused before the body is read: the method, the digest
///    header, a `Content-Length` over the limit, a `Content-Encoding`.
/// 2. The body is received, hashed as it arrives, within [a limit](Self::body_limit) and
///    [a timeout](Self::body_timeout).
/// 3. The digest is compared in constant time. Nothing is parsed before it is right.
/// 4. The JSON is decoded into `T`, and a [`Webhook<T>`](crate::Webhook) put into the extensions. An
///    object of another kind than `T` is for is refused; see [`kind`](Self::kind) for your own type.
/// 5. The inner service is called, with the body as it was received.
/// 6. Any 2xx of its response becomes 200, the one status that ends Inqud's retries.
///
/// A refusal is a response with a [`Rejection`] in its extensions; the inner service is not called,
/// and its error type is kept as it is. See [`RejectionKind`](crate::RejectionKind) for all of them.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
///
/// let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?)
///     .body_limit(64 * 1024)
///     .body_timeout(Duration::from_secs(5))
///     .on_rejection(|rejection, _| eprintln!("{rejection}: {:?}", rejection.diagnosis()));
/// # Ok::<_, tower_inqud::ConfigError>(())
/// ```
///
/// # Readiness
///
/// The inner service that was ready is the one that is called. So what its readiness reserves, such
/// as the permit of a `ConcurrencyLimit`, is held while the body arrives, for the
/// [timeout](Self::body_timeout) at most. A call that is refused for its head leaves the service
/// ready, and what is reserved with it, for the next call, unless only its [source](Self::allow_source) is
/// wrong. To keep stalled senders from taking the
/// permits, put the limit into the handler, or shorten the timeout.
///
/// # Telemetry
///
/// With feature `tracing` each call has a span `inqud_webhook` at INFO, in which the inner service is
/// called too, with the fields `outcome`, `reason`, `secret_label` (the label of the one that matched),
/// `body_bytes` and `elapsed_us`. In it are, with the target `tower_inqud`:
///
/// | level | message | when |
/// | --- | --- | --- |
/// | WARN | rejected a webhook | with `reason`, both kinds of an object of the wrong one, the `field` of a bad value, the [`diagnosis`](Rejection::diagnosis) of a wrong digest |
/// | WARN | forwarded a webhook that could not be decoded | behind `forward_undecodable`, with `reason` and `field` |
/// | WARN | answered too late: Inqud has given up; expect a duplicate | more than [10 s](contract::RESPONSE_TIMEOUT) after the head |
/// | WARN | the handler was dropped before it answered; expect a duplicate | the connection was closed |
/// | WARN | not done; Inqud will send it again | the handler answered anything but a 2xx, with its `status` |
/// | WARN | the inner service had an error | |
/// | ERROR | a call has panicked | in the handler, in `Deserialize`, in the body, in a callback |
/// | INFO | discarded a webhook | the handler answered [`Ack::Discard`](crate::Ack::Discard), with its `reason` |
/// | DEBUG | a success became 200 | the handler answered another 2xx |
/// | DEBUG | the sender disconnected | before the body was there |
///
/// With feature `metrics` there are, in whichever recorder of `metrics` 0.24 is installed (and with
/// their descriptions, if it was installed before the layer was put around its service):
///
/// | metric | kind | labels |
/// | --- | --- | --- |
/// | `inqud_webhook_requests_total` | counter | `outcome`, `reason`, `secret_label` |
/// | `inqud_webhook_duration_seconds` | histogram, from the head to the answer | `outcome` |
/// | `inqud_webhook_body_bytes` | histogram, bodies that came in whole | |
///
/// - `outcome` is `accepted` (200), `failed` (the handler answered anything but a 2xx), `rejected`,
///   `error` (the inner service had one), `panicked`, or, if nobody was there any more to be answered,
///   `dropped` (with the handler at work) or `disconnected` (before that).
/// - `reason` is the [name of the kind](crate::RejectionKind::as_str) of a refusal, the status of what
///   failed, `late` for what was accepted after Inqud had given up, and else empty.
/// - `secret_label` is the [label](crate::Secret::label) of the secret that matched, and else empty.
///
/// Neither shows a secret, a digest or a value of the body. A flood of forged calls is a flood of
/// warnings: limit the rate where the log is written.
///
/// # Panics
///
/// The timeout is a Tokio timer: without a Tokio runtime that has its timers enabled, the first call
/// whose head is admitted panics. (`#[tokio::main]` and `#[tokio::test]` enable them.)
///
/// All panics, also those of your callbacks, happen when the response future is polled, and never in
/// `Service::call`: each costs one call, also behind a `Buffer`.
pub struct WebhookLayer<T> {
    config: Config,
    event: PhantomData<fn() -> T>,
}

/// A Request is about 1 KB (Inqud's published sample), a checkout may be tens of KB (inferred from its
/// fields); no maximum is documented.
const BODY_LIMIT: usize = 256 * 1024;

impl<T> WebhookLayer<T> {
    /// Accepts webhooks that are signed with this secret, or with any of these
    /// [`Secrets`](crate::Secrets), or as this [`Verifier`] says.
    #[must_use]
    pub fn new(verifier: impl Into<Verifier>) -> Self {
        Self::trusting(Trust::Signed(verifier.into()))
    }

    pub(crate) fn trusting(trust: Trust) -> Self {
        Self {
            config: Config {
                trust,
                paths: Vec::new(),
                body_limit: BODY_LIMIT,
                body_timeout: contract::RESPONSE_TIMEOUT,
                timers: OnceLock::new(),
                kind: None,
                forwards_undecodable: false,
                source: None,
                on_rejection: None,
                rejection_response: None,
            },
            event: PhantomData,
        }
    }

    /// Limits the layer to requests to `path`, as in `/webhooks/inqud/request`. Call it again for
    /// more of them. Unless set, every request is taken for a webhook.
    ///
    /// All other requests go to the inner service as they came: the body is neither read nor held,
    /// trailers and extensions stay, and the response is not touched. So the layer can wrap a whole
    /// server that has other things to do, such as gRPC. Where a router can put it on one route, that
    /// is simpler.
    ///
    /// # Security
    ///
    /// The path is compared exactly, with that of the request's URI as the layer sees it: within
    /// axum's `Router::nest`, that is the rest of it. A request to `/webhooks/inqud/request/` is not
    /// one to `/webhooks/inqud/request`, and passes unverified. This is no hole as long as the handler
    /// demands a [`Webhook<T>`](crate::Webhook), which only this layer makes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidPath`] if no request can have this path, so that each webhook would
    /// pass unverified: one with characters that clients percent-encode, such as `ü` or a blank, or with a
    /// segment `.` or `..`, which they take out. Write `/zahlung/%C3%BC`, as it stands in the link. There
    /// are no patterns: braces and asterisks are an error too.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
    ///
    /// let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?)
    ///     .path("/webhooks/inqud/request")?;
    /// assert!(webhooks.path("webhooks/inqud/request").is_err());
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    pub fn path(mut self, path: &str) -> Result<Self, ConfigError> {
        let path = PathAndQuery::try_from(path)
            .ok()
            .filter(|parsed| parsed.path() == path && is_canonical_path(path))
            .ok_or_else(|| ConfigError::InvalidPath(path.to_owned()))?;
        self.config.paths.push(path);
        Ok(self)
    }

    /// The largest body that is accepted, in bytes: 256 KiB unless set.
    ///
    /// A larger `Content-Length` is refused before `100 Continue` is sent. A limit outside this
    /// layer, such as axum's `DefaultBodyLimit`, is not affected.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.config.body_limit = bytes;
        self
    }

    /// The time in which the whole body has to arrive: 10 s unless set, because Inqud has given up
    /// by then.
    ///
    /// It is total, and not restarted by each frame: a sender that drips one byte a second would
    /// otherwise never be refused. It begins when the call is first polled; the time that the head takes
    /// is the server's to limit.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.config.body_timeout = timeout;
        self
    }

    /// Refuses an object of another known kind than this, with 422 and
    /// [`WrongKind`](crate::RejectionKind::WrongKind). Not checked unless set, because a layer cannot
    /// know what your own type is for.
    ///
    /// Set it if `T` is a type of your own, or an [`Event`](crate::Event) on a URL for one kind. A payment
    /// and a Request look much alike: without the check, a pay-out whose notification goes to the wrong
    /// URL can be read as a paid Request. The crate's own types know their kind and always check it.
    ///
    /// The [prefix](EventKind::id_prefix) of the `id` tells the kind; in the old form of a
    /// [`Payment`](crate::Payment), that of its `paymentId`. An unknown prefix, or none, passes. The
    /// check reads the body a second time. [`danger::decode`](crate::danger::decode) does not repeat it.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_inqud::{EventKind, Secret, WebhookLayer};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Paid {
    ///     status: String,
    /// }
    ///
    /// let webhooks = WebhookLayer::<Paid>::new(Secret::new("secret_value")?)
    ///     .kind(EventKind::Request);
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    #[must_use]
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.config.kind = Some(kind);
        self
    }

    /// Hands an authentic body that cannot be decoded on to the inner service, with an
    /// [`Undecodable<T>`](crate::Undecodable) in the extensions. Unless set it is
    /// refused with 400 or 422, and after its retries Inqud [gives up](contract::MAX_RETRIES): what a new
    /// release of yours could read is lost by then.
    ///
    /// It is for a service that stores what it is given, such as the receiver of the crate `inqud-inbox`,
    /// which keeps the body as a dead letter until it can be read, and answers 200. A handler that
    /// extracts a [`Webhook<T>`](crate::Webhook) refuses it as the layer would; another service has to
    /// look for the `Undecodable<T>` itself. It is no refusal: the call is handed on, and
    /// [`on_rejection`](Self::on_rejection) not called.
    ///
    /// # Security
    ///
    /// Only what was verified is handed on. What is forged is a 401 as ever, and behind
    /// [`danger::unsigned`](crate::danger::unsigned) this changes nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_inqud::{Ack, PaymentRequest, Secret, Undecodable, WebhookBody, WebhookLayer};
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?).forward_undecodable())
    ///     .service(service_fn(async |request: Request<WebhookBody<String>>| {
    ///         if let Some(undecodable) = request.extensions().get::<Undecodable<PaymentRequest>>() {
    ///             keep(undecodable.raw_body());
    ///         }
    ///         Ok::<Response<String>, std::convert::Infallible>(Ack::Done.into())
    ///     }));
    /// # drop(service);
    /// # fn keep(_: &[u8]) {}
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    #[must_use]
    pub fn forward_undecodable(mut self) -> Self {
        self.config.forwards_undecodable = true;
        self
    }

    /// Accepts webhooks only where `is_source` says so, and refuses the others with 403. Not
    /// checked unless set; the digest is the proof.
    ///
    /// The layer itself reads no address. `X-Forwarded-For` and its kind can be written by anyone;
    /// read them only behind a proxy of your own that replaces them.
    ///
    /// # Example
    ///
    /// Behind axum's `into_make_service_with_connect_info::<SocketAddr>()`:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use tower_inqud::{PaymentRequest, Secret, WebhookLayer, contract};
    ///
    /// let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?)
    ///     .allow_source(|request| {
    ///         let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    ///         peer.is_some_and(|peer| contract::is_source_address(peer.0.ip()))
    ///     });
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    #[must_use]
    pub fn allow_source<F>(mut self, is_source: F) -> Self
    where
        F: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        self.config.source = Some(Arc::new(is_source));
        self
    }

    /// Calls `observe` for each refusal, with the head of the request. Nothing unless set.
    ///
    /// Do set it: a signature mismatch that nobody sees loses every payment silently. The digest is
    /// marked sensitive in the head, so that `Debug` does not show it.
    #[must_use]
    pub fn on_rejection<F>(mut self, observe: F) -> Self
    where
        F: Fn(&Rejection, &Parts) + Send + Sync + 'static,
    {
        self.config.on_rejection = Some(Arc::new(observe));
        self
    }

    /// Builds the responses to refused calls: a short text and the [kind](crate::RejectionKind)'s
    /// status unless set.
    ///
    /// Never tell the sender more than that; the [`Rejection`] is in the extensions in any case. A
    /// 2xx from `build` would tell Inqud that all is well and end the retries: the kind's own status
    /// takes its place.
    #[must_use]
    pub fn rejection_response<F>(mut self, build: F) -> Self
    where
        F: Fn(&Rejection) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.config.rejection_response = Some(Arc::new(build));
        self
    }
}

/// Whether a client can send this path, and does not write it otherwise: RFC 3986, without dot segments.
/// An asterisk could be sent, but is meant as a pattern.
fn is_canonical_path(path: &str) -> bool {
    let is_path_character =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@%".contains(&byte);
    let mut escapes = path.split('%').skip(1);
    let is_dots = |segment: &str| {
        let dots = segment.to_ascii_lowercase().replace("%2e", ".");
        dots == "." || dots == ".."
    };
    path.starts_with('/')
        && path.bytes().all(is_path_character)
        && escapes.all(|text| {
            let digits = text.as_bytes().first_chunk::<2>();
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
        && !path.split('/').any(is_dots)
}

impl<S, T> Layer<S> for WebhookLayer<T> {
    type Service = WebhookService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        telemetry::describe();
        WebhookService::new(inner, Arc::new(self.config.clone()))
    }
}

impl<T> Clone for WebhookLayer<T> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), event: PhantomData }
    }
}

impl<T> fmt::Debug for WebhookLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookLayer").field("config", &self.config).finish()
    }
}
