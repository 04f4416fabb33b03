//! The layer. Its settings are here; each stage of a call has a module.

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

/// Verifies, decodes and acknowledges Inqud's webhooks in front of any service.
///
/// `T` is the type that bodies are decoded into: [`PaymentRequest`](crate::PaymentRequest) for the
/// Request webhook, [the type](crate#kinds) of another kind, [`Event`](crate::Event) for all kinds,
/// or a type of your own that is `DeserializeOwned + Send + Sync + 'static`.
///
/// For each call, or only for calls to [a path](Self::path), the layer:
///
/// 1. Checks the request head before it reads the body. It rejects a wrong method, a missing,
///    duplicated or malformed digest header, a `Content-Length` over the limit, and a
///    `Content-Encoding`.
/// 2. Receives the body within [a limit](Self::body_limit) and [a timeout](Self::body_timeout), and
///    hashes it as it arrives.
/// 3. Compares the digest in constant time. Nothing is parsed before the digest matches.
/// 4. Decodes the JSON into `T` and puts a [`Webhook<T>`](crate::Webhook) into the extensions. It
///    rejects an object of another kind than `T`; for a type of your own, see [`kind`](Self::kind).
/// 5. Calls the inner service, with the body as it was received.
/// 6. Turns any 2xx of the inner service into 200, the only status that stops Inqud's retries.
///
/// A rejection is a response with a [`Rejection`] in its extensions. The inner service is not
/// called, and its error type is unchanged. [`RejectionKind`](crate::RejectionKind) lists all
/// rejections.
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
/// The layer calls the inner service that was polled ready, not a clone of it. Whatever that
/// readiness reserves, such as the permit of a `ConcurrencyLimit`, is held while the body arrives,
/// for at most the [timeout](Self::body_timeout). A call that is rejected because of its head
/// leaves the service ready for the next call. The one exception is a call whose
/// [source](Self::allow_source) alone is wrong, because the source is checked after the service is
/// taken. To keep stalled senders from holding the permits, put the limit into the handler or
/// shorten the timeout.
///
/// # Telemetry
///
/// With feature `tracing`, each call and its inner service run in a span named `inqud_webhook`,
/// with level INFO and target `tower_inqud`. Its fields are `outcome`, `reason` (if it is not
/// empty), `secret_label` (if the secret that matched has one), `body_bytes` and `elapsed_us`.
/// These events occur in the span:
///
/// | level | message | fields | when |
/// | --- | --- | --- | --- |
/// | WARN | rejected a webhook: ... | `reason`, and `field` or `diagnosis` | the layer rejected the call |
/// | WARN | forwarded a webhook that could not be decoded: ... | `reason`, `field` | [`forward_undecodable`](Self::forward_undecodable) is set |
/// | WARN | answered too late: Inqud has given up; expect a duplicate | `elapsed` | the response came more than [10 s](contract::RESPONSE_TIMEOUT) after the head |
/// | WARN | the handler was dropped before it answered; expect a duplicate | | the connection was closed |
/// | WARN | not acknowledged; Inqud will send it again | `status` | the inner service answered anything but a 2xx |
/// | WARN | the inner service failed | | it returned an error instead of a response |
/// | ERROR | a call panicked | | in the handler, in `Deserialize`, in the body or in a callback |
/// | INFO | discarded a webhook | `reason` | the handler answered [`Ack::Discard`](crate::Ack::Discard) |
/// | DEBUG | changed a 2xx to 200 | `status` | the handler answered another 2xx |
/// | DEBUG | the sender disconnected | | the body had not arrived yet |
///
/// With feature `metrics`, the layer records these metrics in the installed recorder of the
/// `metrics` crate, version 0.24. Install the recorder before the layer is applied to a service, so
/// that it receives their descriptions too.
///
/// | name | type | labels | recorded |
/// | --- | --- | --- | --- |
/// | `inqud_webhook_requests_total` | counter | `outcome`, `reason`, `secret_label` | once for each call, when it ends |
/// | `inqud_webhook_duration_seconds` | histogram | `outcome` | for each call, from its head to its response |
/// | `inqud_webhook_body_bytes` | histogram | | when a body has arrived completely, before its digest is compared |
///
/// | `outcome` | `reason` | meaning |
/// | --- | --- | --- |
/// | `accepted` | empty, or `late` | answered 200. `late`: more than 10 s after the head, so Inqud sends it again |
/// | `failed` | the status, such as `503` | the inner service answered anything but a 2xx; Inqud sends it again |
/// | `rejected` | [`RejectionKind::as_str`](crate::RejectionKind::as_str) | the layer rejected the call; the inner service was not called |
/// | `error` | empty | the inner service returned an error instead of a response |
/// | `panicked` | empty | the handler, `Deserialize`, the body or a callback panicked |
/// | `dropped` | empty | the call was dropped while the inner service worked: the connection was closed |
/// | `disconnected` | empty | the call was dropped before the body had arrived: the sender disconnected |
///
/// `secret_label` is the [label](crate::Secret::label) of the secret that matched, and empty if it
/// has none or if none matched.
///
/// Neither logs nor metrics contain a secret, a digest or a value of the body. The names and labels
/// are stable from version 0.1 on. A flood of forged calls causes a flood of warnings: limit their
/// rate where you write the log.
///
/// # Panics
///
/// The body timeout is a Tokio timer. Without a Tokio runtime that has its timers enabled, the
/// first call whose head is admitted panics. (`#[tokio::main]` and `#[tokio::test]` enable them.)
///
/// All panics, including those of your callbacks, happen when the response future is polled, never
/// in `Service::call`. Each one costs a single call, even behind a `Buffer`.
pub struct WebhookLayer<T> {
    config: Config,
    event: PhantomData<fn() -> T>,
}

/// A Request is about 1 KB (Inqud's published sample), and a checkout may be tens of KB (inferred
/// from its fields). No maximum is documented.
const BODY_LIMIT: usize = 256 * 1024;

impl<T> WebhookLayer<T> {
    /// Creates a layer that accepts webhooks signed with a [`Secret`](crate::Secret), with any of
    /// several [`Secrets`](crate::Secrets), or as a [`Verifier`] specifies.
    #[must_use]
    pub fn new(verifier: impl Into<Verifier>) -> Self {
        Self::trusting(Trust::Signed(verifier.into()))
    }

    /// Creates a layer for several tenants: `choose` returns the verifier of a request, for example by
    /// its path or host.
    ///
    /// If it returns `None`, the call is rejected with 404 and
    /// [`UnknownTenant`](crate::RejectionKind::UnknownTenant), before its body is read. Give each
    /// verifier the name of its [tenant](Verifier::tenant). Otherwise, an inbox cannot tell the
    /// objects of two tenants apart.
    ///
    /// `choose` is called for each request that is a webhook by its [path](Self::path), so it must
    /// not block: keep a table in memory. It sees the head as the sender wrote it. Nothing in it is
    /// proven, but a tenant that is chosen wrongly only makes the signature wrong.
    ///
    /// # Example
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_inqud::{PaymentRequest, Secret, Verifier, WebhookLayer};
    ///
    /// let mut verifiers = HashMap::new();
    /// for (tenant, secret) in [("acme", "secret_value"), ("globex", "another_value")] {
    ///     let verifier = Verifier::new(Secret::new(secret)?).tenant(tenant);
    ///     verifiers.insert(format!("/webhooks/{tenant}/request"), verifier);
    /// }
    /// let webhooks = WebhookLayer::<PaymentRequest>::per_tenant(move |request| {
    ///     verifiers.get(request.uri.path()).cloned()
    /// });
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    #[must_use]
    pub fn per_tenant<F>(choose: F) -> Self
    where
        F: Fn(&Parts) -> Option<Verifier> + Send + Sync + 'static,
    {
        Self::trusting(Trust::PerTenant(Arc::new(choose)))
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

    /// Limits the layer to requests to `path`, such as `/webhooks/inqud/request`.
    ///
    /// Call it again to add more paths. By default, every request is treated as a webhook.
    ///
    /// All other requests pass to the inner service unchanged. The layer does not read or buffer
    /// their bodies, keeps trailers and extensions, and does not change the response. The layer can
    /// therefore wrap a whole server that also serves something else, such as gRPC. If your router
    /// can put the layer on a single route, do that instead.
    ///
    /// # Security
    ///
    /// The path is compared exactly with the path of the request's URI as the layer sees it. Within
    /// axum's `Router::nest`, that is the path without the prefix. A request to
    /// `/webhooks/inqud/request/` does not match `/webhooks/inqud/request`, and passes unverified.
    /// This is not a hole as long as the handler demands a [`Webhook<T>`](crate::Webhook), because
    /// only a verified body becomes one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidPath`] if no client sends this path, because each webhook would then
    /// pass unverified. The path must start with `/` and must contain no query, no `.` or `..`
    /// segment, and no character that clients percent-encode, such as `ü` or a space. Write
    /// `/zahlung/%C3%BC`, as it appears in the webhook's link. Patterns are not supported: braces
    /// and asterisks are an error too.
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

    /// Sets the largest body that is accepted, in bytes. Defaults to 256 KiB.
    ///
    /// Lower it to bound the memory that a call can hold. A larger `Content-Length` is rejected
    /// before `100 Continue` is sent. Limits outside this layer, such as axum's `DefaultBodyLimit`,
    /// still apply.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.config.body_limit = bytes;
        self
    }

    /// Sets the timeout for the whole body. Defaults to 10 s, because Inqud has given up by then.
    ///
    /// Shorten it to free the permits and connections of stalled senders earlier. The timeout is
    /// total: frames do not restart it, because a sender of one byte a second would then never be
    /// rejected. It starts when the call is first polled. The server has to limit the time that the
    /// head takes.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.config.body_timeout = timeout;
        self
    }

    /// Rejects objects of any other known kind, with 422 and
    /// [`WrongKind`](crate::RejectionKind::WrongKind).
    ///
    /// Defaults to no check for a type of your own, because the layer cannot know its kind. This
    /// crate's types know their kind and always check it.
    ///
    /// Set it if `T` is a type of your own, or an [`Event`](crate::Event) on a URL for one kind. A
    /// payment and a Request look much alike. Without the check, a payout that is sent to the
    /// wrong URL can be read as a paid Request.
    ///
    /// The [prefix](EventKind::id_prefix) of the `id` identifies the kind; in the old form of a
    /// [`Payment`](crate::Payment), the prefix of its `paymentId` does. An unknown prefix, or none,
    /// passes. The check reads the body a second time. [`danger::decode`](crate::danger::decode)
    /// does not repeat it.
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

    /// Forwards an authentic body that cannot be decoded to the inner service, with an
    /// [`Undecodable<T>`](crate::Undecodable) in the extensions.
    ///
    /// Defaults to rejecting it with 400 or 422. Inqud then [gives up](contract::MAX_RETRIES) after
    /// its retries, and a notification that your next release could have decoded is lost.
    ///
    /// Set it for a service that stores what it receives, such as the receiver of the crate
    /// `inqud-inbox`: it keeps the body as a dead letter until it can be decoded, and answers 200.
    /// A handler that extracts a [`Webhook<T>`](crate::Webhook) rejects the call as the layer
    /// would. Any other service must look for the `Undecodable<T>` itself, or it acknowledges a
    /// notification that it never read. A forwarded call is not a rejection, so
    /// [`on_rejection`](Self::on_rejection) is not called.
    ///
    /// # Security
    ///
    /// Only verified bodies are forwarded. A forged call is still a 401. Behind
    /// [`danger::unsigned`](crate::danger::unsigned) this setting has no effect.
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

    /// Rejects requests for which `is_source` returns false, with 403.
    ///
    /// Defaults to accepting any source, because the digest is the proof. Set it to reject
    /// strangers before their bodies are read.
    ///
    /// The layer itself reads no address. Anyone can send headers such as `X-Forwarded-For`: read
    /// them only behind a proxy of your own that replaces them.
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

    /// Calls `observe` for each rejection, with the request head. Defaults to no call.
    ///
    /// Set it, or enable feature `tracing`: a signature mismatch that nobody notices silently loses
    /// every payment. The digest is marked sensitive in the head, so `Debug` does not show it.
    #[must_use]
    pub fn on_rejection<F>(mut self, observe: F) -> Self
    where
        F: Fn(&Rejection, &Parts) + Send + Sync + 'static,
    {
        self.config.on_rejection = Some(Arc::new(observe));
        self
    }

    /// Builds the responses to rejected calls. Defaults to a short text with the status of the
    /// [kind](crate::RejectionKind).
    ///
    /// Change it to match the error format of your API. Never tell the sender more than the default
    /// does. The layer puts the [`Rejection`] into the extensions of the response in any case. A
    /// 2xx from `build` would stop Inqud's retries, so the layer replaces it with the status of the
    /// kind.
    #[must_use]
    pub fn rejection_response<F>(mut self, build: F) -> Self
    where
        F: Fn(&Rejection) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.config.rejection_response = Some(Arc::new(build));
        self
    }
}

/// Whether clients send this path in exactly this form: RFC 3986, without dot segments.
///
/// Clients can send an asterisk, but someone who writes one here means a pattern.
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
