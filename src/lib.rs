//! A tower layer for Inqud's payment webhooks. It verifies, decodes and acknowledges them.
//!
//! When a payment request changes its status, Inqud sends a `POST` with raw JSON to the merchant's
//! server. The header `X-Payload-Digest` carries the HMAC-SHA1 of the raw body, keyed with the
//! webhook's secret, as hexadecimal digits. Only a response with status 200 within 10 s counts.
//! Inqud retries anything else up to ten times; after that the notification is lost. Deliveries can
//! repeat and arrive in any order. (All of this is confirmed by Inqud's documentation; see
//! [`contract`].)
//!
//! # Example
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::post};
//! use tower_inqud::{Ack, Amount, PaymentRequest, Secret, Webhook, WebhookLayer};
//!
//! async fn on_request(request: Webhook<PaymentRequest>) -> Ack {
//!     let Some((price, currency)) = request.client_order_id.as_deref().and_then(price_of) else {
//!         return Ack::Discard("unknown order".into());
//!     };
//!     if request.is_paid_for(&price, currency) {
//!         println!("{:?} is paid", request.client_order_id);
//!     } else if request.is_final() {
//!         println!("{} needs a look: {}, {:?} paid", request.id, request.status, request.paid_amount);
//!     }
//!     Ack::Done
//! }
//!
//! /// Looks up the price of an order in your database.
//! fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
//!     let price = "850".parse().ok()?;
//!     (order_id == "order-17").then_some((price, "USD"))
//! }
//!
//! let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?);
//! let app: Router = Router::new().route("/webhooks/inqud/request", post(on_request).layer(webhooks));
//! # Ok::<_, tower_inqud::ConfigError>(())
//! ```
//!
//! Put the layer on the route, as above. On a whole `Router` it handles every path, and an unknown
//! path gets a 401 instead of a 404.
//!
//! # The flow
//!
//! ```text
//! Inqud                  your process
//!   |
//!   |  POST, raw JSON    WebhookLayer<T>
//!   |  X-Payload-Digest    admit        method, digest header, length, encoding
//!   |--------------------> receive      the body, within a limit and a timeout
//!   |                      verify       HMAC of the bytes as received, constant time
//!   |                      decode       UTF-8, one JSON object, the kind, T
//!   |  4xx <-------------- any stage can reject: a response that carries a Rejection
//!   |                        |
//!   |                        |  Webhook<T> in the extensions, the same bytes as the body
//!   |                        v
//!   |                      your service
//!   |  200 <-------------- it answered any 2xx: Inqud stops
//!   |  else <------------- it answered another status, which is unchanged: Inqud retries
//! ```
//!
//! Each stage produces a type that only that stage can make, so a [`Webhook<T>`](Webhook) proves
//! that the digest matched. [`WebhookLayer`] describes the stages, and [`RejectionKind`] lists the
//! rejections with their statuses.
//!
//! # Kinds
//!
//! Each kind of webhook has a type, and each type is a [`Notification`]:
//!
//! | webhook | type |
//! | --- | --- |
//! | Request | [`PaymentRequest`] |
//! | crypto checkout | [`Checkout`] |
//! | payment, static address | [`Payment`] |
//! | on-ramp checkout | [`OnRampCheckout`] |
//! | subscription | [`Subscription`] |
//! | invoice | [`Invoice`] |
//! | authorization | [`Authorization`] |
//! | several on one endpoint | [`Event`], an enum over all of them |
//!
//! A layer decodes into its type parameter, as in `WebhookLayer::<Checkout>`. A type of your own
//! works too. An object of another known kind is rejected; see [`RejectionKind::WrongKind`]. A
//! status or a field that Inqud adds later is never an error: unknown statuses are kept, unknown
//! fields ignored.
//!
//! # Fields
//!
//! One rule for all kinds says what happens if a field is missing or invalid:
//!
//! | field | missing or `null` | of another JSON type, or unreadable |
//! | --- | --- | --- |
//! | `id`, `status` | rejected with 422 | rejected with 422 |
//! | the time that orders notifications: `lastUpdatedAt` or `modifiedAt`, if its type is confirmed | `None` | rejected with 422 |
//! | money: an amount that is requested, paid or left for you, its currency, `orderType`, `clientOrderId`, if its type is confirmed | `None` | rejected with 422, because `None` would hide a value |
//! | everything else: names, URLs, other ids and times, fees, rates, limits, and all fields whose type is inferred | `None` | `None` |
//! | unknown fields | | ignored |
//!
//! No valid JSON number is rejected as an [`Amount`], however many digits it has. A part whose
//! shape is not public is a [`RawJson`], which accepts any JSON. The Request inside a [`Checkout`]
//! follows the same rule as any Request. A lone surrogate (`\ud83d`) is unreadable; if it leads to
//! a rejection, the status is 400 instead of 422.
//!
//! # Handling a webhook
//!
//! Before you ship, check that the order exists and that
//! [`is_paid_for`](PaymentRequest::is_paid_for) accepts its amount and its currency. A status of
//! `SUCCESS` is not enough: if Inqud's support settles a conflict, the Request ends in `SUCCESS`
//! with the amount that was paid, which can be 50 of 100 (inferred: it is confirmed for payments
//! that support can change a final status). The price in a Request is what was requested when it was
//! created, not what your order costs now.
//!
//! 1. Respond within 10 s: store first, and process afterwards. If the sender closes the
//!    connection, hyper drops the handler at its current await point. Move work that must finish
//!    into `tokio::spawn`.
//! 2. Return [`Ack::Done`] for what you handled or stored. Return [`Ack::Retry`] for what Inqud
//!    should send again, such as a payment for an order that you cannot find yet. [`Ack::Discard`]
//!    is a 200 and a log line at INFO: use it only for what you will never need, or have written
//!    down.
//! 3. Detect duplicates and late deliveries with a [`History`] for each object or with an inbox,
//!    and act only if the [`Verdict`] says so. A final status can still change (confirmed for
//!    payments).
//! 4. Keep a row for each object. Check the order, the amount and the currency. Key one-time
//!    actions such as shipping by your order, not by the object.
//!
//! [`guide::order`] has the rules and the reasons.
//!
//! # Servers
//!
//! [`guide::servers`] shows how to use the layer with axum, tonic, hyper, AWS Lambda, warp, poem
//! and salvo, and where it goes among other layers.
//!
//! # Signature mismatches
//!
//! [`Rejection::diagnosis`] names the likely cause of a mismatch, such as a newline in the secret
//! or a middleware that re-serializes the JSON. [`guide::mismatch`] lists the causes and the fixes.
//!
//! # Testing your handler
//!
//! Sign a body with [`sign`], and the layer accepts it like one from Inqud.
//!
//! # Features
//!
//! None is enabled by default, and each only adds.
//!
//! - `axum`: makes [`Webhook<T>`](Webhook) and [`Unverified<T>`](danger::Unverified) extractors,
//!   also as an `Option`, and [`Ack`] a response. Depends on `axum-core` only.
//! - `tracing`: records a span for each call, and a warning for each rejection and for each
//!   response that Inqud no longer waited for. See [`WebhookLayer`](WebhookLayer#telemetry).
//! - `metrics`: records counters and histograms through the `metrics` crate. They are listed there
//!   too.
//!
//! # Related crates
//!
//! - `inqud-inbox`: a durable inbox. It stores each notification before the 200 and processes it
//!   afterwards, in order and with its effects exactly once.
//! - `inqud-mock`: sends webhooks the way Inqud does, in any order and with any repeats, to test
//!   your handler.
//! - `inqud-api`: a client for Inqud's API, for objects that no webhook reported.
//! - `inqud-webhook`: a command that signs, verifies, sends and receives webhooks, and manages an
//!   inbox.
//!
//! # Runtime
//!
//! The body timeout is a Tokio timer, so the layer needs a Tokio runtime with timers enabled.
//! Without one, the first call whose head is admitted panics.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod ack;
#[cfg(feature = "axum")]
mod axum;
mod config_error;
pub mod contract;
pub mod danger;
mod decode;
mod event;
pub mod guide;
mod layer;
mod rejection;
mod signature;
mod sync;
mod telemetry;
mod webhook;

pub use jiff;
pub use rust_decimal;

pub use self::ack::Ack;
#[cfg(feature = "axum")]
pub use self::axum::{MissingLayer, WebhookRejection};
pub use self::config_error::ConfigError;
pub use self::event::{
    Amount, AmountError, Authorization, AuthorizationStatus, Checkout, CheckoutStatus,
    ConflictReason, Content, Dedup, DeliveryKey, Event, EventKind, History, Invoice, InvoiceStatus,
    Notification, OnRampCheckout, OnRampStatus, OrderKey, OrderType, OtherEvent, Payment,
    PaymentRequest, PaymentStatus, PaymentView, Price, PriceType, Processed, RawJson,
    RequestPayment, RequestStatus, Stage, Subscription, SubscriptionStatus, SubscriptionSubStatus,
    UnknownValue, Verdict,
};
pub use self::layer::{ResponseFuture, WebhookBody, WebhookLayer, WebhookService};
pub use self::rejection::{Rejection, RejectionKind};
pub use self::signature::{
    Algorithm, Diagnosis, Digest, Secret, Secrets, Verified, Verifier, sign,
};
pub use self::webhook::{Undecodable, Webhook};

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
