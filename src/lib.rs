//! Inqud's payment webhooks as a tower layer: verified, typed, and acknowledged the way Inqud
//! expects.
//!
//! When a payment request changes status, Inqud POSTs raw JSON to the merchant's server, signed with
//! `X-Payload-Digest`, the hexadecimal HMAC-SHA1 of the raw body under the webhook's secret. Only
//! status 200 within 10 s counts; anything else is sent again up to ten times, and then lost.
//! Duplicates come, in any order (all confirmed by Inqud's documentation; see [`contract`]).
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
//! /// What the order costs, from your database.
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
//! Put the layer on the route, as above. On a whole `Router`, it would answer for every path of it:
//! an unknown one would be a 401 instead of a 404.
//!
//! # The flow
//!
//! Data goes one way, and each stage is a type that only the stage before can make:
//!
//! | stage | what it does | what it refuses |
//! | --- | --- | --- |
//! | admit | looks at the head; the body is not touched | 405, 403, 401, 413, 415 |
//! | receive | reads the body within a limit and a timeout, hashing it as it arrives | 413, 408, 400 |
//! | verify | compares the digest in constant time, to a [`Verified`] | 401 |
//! | decode | one JSON object in UTF-8, to a [`Webhook<T>`](Webhook) | 400, 422 |
//! | hand on | calls the inner service with the same bytes and the `Webhook<T>` | |
//! | acknowledge | any 2xx becomes 200 | |
//!
//! [`WebhookLayer`] describes each of them, [`RejectionKind`] each refusal.
//!
//! # Kinds
//!
//! Each kind of Inqud's webhooks has a type, and each is a [`Notification`]:
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
//! A layer decodes into the type that it is given, `WebhookLayer::<Checkout>` for example; your own
//! will do too. An object of another known kind is refused: see [`RejectionKind::WrongKind`]. Of all of them a word or field that is new at Inqud is kept or ignored, and never an
//! error.
//!
//! # Fields
//!
//! One rule for all kinds says what a field can do to a notification:
//!
//! | field | missing or `null` | of another JSON type, or a value that cannot be read |
//! | --- | --- | --- |
//! | `id`, `status` | refused with 422 | refused with 422 |
//! | the time that orders: `lastUpdatedAt` or `modifiedAt`, if its type is confirmed | `None` | refused with 422 |
//! | money: an amount that is asked for, paid or left for you, its currency, `orderType`, `clientOrderId`, if its type is confirmed | `None` | refused with 422, because `None` would be a lie |
//! | everything else: names, URLs, other ids and times, fees, rates, limits, and all fields whose type is inferred | `None` | `None` |
//! | unknown fields | | ignored |
//!
//! No valid JSON number is refused as an [`Amount`], however many digits it has. A part whose shape is
//! not public is a [`RawJson`] and takes any JSON. A Request inside a [`Checkout`] is read as a Request
//! is. Half a surrogate pair (`\ud83d`) is a value that cannot be read, and the
//! refusal is then a 400.
//!
//! # Handling a webhook well
//!
//! Ship an order only if it exists, and if [`is_paid_for`](PaymentRequest::is_paid_for) says so of its
//! amount and its currency. `SUCCESS` alone does not: a conflict that Inqud's support settles is a
//! `SUCCESS` with what was paid, which can be 50 of 100. An amount in a Request is what was asked for,
//! and not what your order costs now.
//!
//! 1. Answer within 10 s: store first, and process afterwards. If the sender closes the connection,
//!    hyper drops the handler where it stands; `tokio::spawn` what must not be cut short.
//! 2. Answer [`Ack::Done`] for what is stored or handled, and [`Ack::Retry`] for what should come again, such
//!    as a payment for an order that you cannot find yet. [`Ack::Discard`] is a 200 and an INFO line: use it
//!    only for what you will never need, or after you have written it down.
//! 3. Tell duplicates and late deliveries, with a [`History`] for each object or with an inbox, and act only
//!    if the [`Verdict`] applies. A final status can still change.
//! 4. Keep a row for each object, check the order, the amount and the currency, and do once per order what
//!    must happen once.
//!
//! [`guide::order`] has the rules, and why.
//!
//! # Servers
//!
//! [`guide::servers`] shows how the layer is put in front of axum, tonic, hyper, AWS Lambda,
//! warp, poem and salvo, and its place among other layers.
//!
//! # When the signature does not match
//!
//! A refusal names its likely reason, [`Rejection::diagnosis`]: a newline in the secret, say, or a
//! middleware that writes the JSON anew.
//! [`guide::mismatch`] lists them, with what to do.
//!
//! # Testing your handler
//!
//! Sign what you send with [`sign`], and the layer takes it for Inqud's.
//! The crate `inqud-mock` plays Inqud, and tries a handler in any order, with any repeats.
//!
//! # Features
//!
//! None is on by default; each only adds.
//!
//! - `axum`: [`Webhook<T>`](Webhook) and [`Unverified<T>`](danger::Unverified) are extractors (also
//!   as an `Option`), and [`Ack`] is a response. Depends on `axum-core` only.
//! - `tracing`: a span for each call, a warning for each refusal and for each handler that answers
//!   after Inqud has given up. See [`WebhookLayer`](WebhookLayer#telemetry).
//! - `metrics`: counters and histograms of the `metrics` crate, listed there too.
//!
//! # Other crates
//!
//! - `inqud-inbox`: a durable inbox: stored before the 200, processed afterwards, in order, and with its effects
//!   exactly once.
//! - `inqud-mock`: plays Inqud, to test your handler with.
//! - `inqud-webhook`: a command that signs, verifies, sends and receives webhooks, and tends an inbox.
//!
//! # Runtime
//!
//! The body's timeout is a Tokio timer, so the layer needs a Tokio runtime with its timers enabled;
//! without one the first call whose head is admitted panics.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
