//! A client for Inqud's API, which has the data of every webhook (confirmed). An inbox uses it to fetch what no
//! webhook reported.
//!
//! After ten retries, in about two days, Inqud gives a webhook up. Inqud itself asks merchants to query the API
//! if a webhook does not arrive in time (confirmed).
//!
//! [`ApiClient`] works over any tower HTTP client, and implements [`Fetch`](inqud_inbox::Fetch). It stays within
//! limits of its own, so that a fault on either side cannot turn into a flood of requests that carry your
//! credentials.
//!
//! # Example
//!
//! ```no_run
//! use hyper_rustls::HttpsConnectorBuilder;
//! use hyper_util::client::legacy::Client;
//! use hyper_util::rt::TokioExecutor;
//! use inqud_api::{ApiClient, Credentials};
//!
//! # async fn show(id: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
//! let http = Client::builder(TokioExecutor::new()).build(tls);
//!
//! let credentials = Credentials::signed("TKN-6c1296b8", "the secret of the token")?;
//! let client = ApiClient::builder(credentials).crypto_project("CAP-df02b127").build(http)?;
//! println!("{:?}", client.get(id).await); // shows no body
//! # Ok(())
//! # }
//! ```
//!
//! `examples/fetch.rs` is a command that fetches one object. Without TLS, a mock can be fetched from:
//!
//! ```
//! use inqud_api::{ApiClient, Credentials};
//! use inqud_inbox::Fetched;
//! use inqud_mock::{Lifecycle, MockApi, Scenario};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let api = MockApi::new("TKN-1", "the secret of the token")?;
//! let message = Lifecycle::new(Scenario::Success).into_iter().last().unwrap();
//! api.publish(&message);
//!
//! let client = ApiClient::builder(Credentials::signed("TKN-1", "the secret of the token")?).build(api)?;
//! let request: tower_inqud::PaymentRequest = serde_json::from_slice(message.body())?;
//! assert!(matches!(client.get(&request.id).await, Fetched::Found(_)));
//! assert_eq!(client.get("CAPD-unknown").await, Fetched::Missing);
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs from Inqud
//!
//! - An API token. Ask your manager at Inqud for access to the API, then create one in the back office
//!   (confirmed).
//! - Inqud may ask for a list of the addresses that your requests come from (confirmed).
//!
//! # Results
//!
//! | response | result | other requests |
//! | --- | --- | --- |
//! | 200 with the object | `Found` | go on |
//! | 200 with anything else, or a response over the [limit](ApiClientBuilder::response_limit) | `Later` | go on |
//! | 404 | `Missing` | go on |
//! | 429, 408, 5xx | `Later` | pause |
//! | 401, 403 | `Later`, with advice | pause |
//! | another status; a redirect is not followed | `Later` | go on |
//! | none within the [timeout](ApiClientBuilder::timeout), or one that breaks off | `Later` | pause |
//! | no request: a pause, a limit, an id that no object has, a kind without a path | `Later` | |
//!
//! The reason in `Later` contains no header: neither the secret, nor a signature, nor a salt, nor the id of the token.
//!
//! A wrong path also gets a 404. Fetch an object that exists before you rely on `Missing`.
//!
//! # Limits
//!
//! All handles of a client share its limits. Several processes do not.
//!
//! 1. A [token bucket](ApiClientBuilder::rate_limit): 1 request in a second by default.
//! 2. A [cap](ApiClientBuilder::max_per_hour) of 1,000 requests in any hour by default.
//! 3. A pause after a failure. It doubles from 1 s to 5 min while failures continue, is shortened at random by up
//!    to half, and is longer if `Retry-After` says so, up to [1 h](ApiClientBuilder::max_pause) by default.
//!    Calls return `Later` meanwhile, with the time that is left. The first success ends the series.
//! 4. A [timeout](ApiClientBuilder::timeout) of 10 s, and a [limit](ApiClientBuilder::response_limit) of
//!    256 KiB for a response.
//!
//! # Paths
//!
//! | kind | path | how well it is known |
//! | --- | --- | --- |
//! | payment | `/v1/user/payments/{id}` | confirmed, in a description from 2022 that Inqud no longer maintains |
//! | Request | `/v1/user/crypto-acquiring/requests/{id}` | third-party code |
//! | crypto checkout | `/v1/user/crypto-acquiring/{project}/checkouts/{id}`: [set the project](ApiClientBuilder::crypto_project) | third-party code |
//! | on-ramp checkout | `/v1/user/on-ramp/{project}/checkouts/{id}`: [set the project](ApiClientBuilder::on_ramp_project) | third-party code |
//! | subscription, invoice, authorization | none: [set one](ApiClientBuilder::path) | not public |
//!
//! # Facts
//!
//! | fact | label |
//! | --- | --- |
//! | The base URL is `https://api.inqud.com` | confirmed |
//! | The headers are `X-Token-API-Id`, and either `X-Token-API-Secret`, or `X-HMAC-SHA256-Signature` and `X-Salt` | confirmed |
//! | The signature is the HMAC-SHA256 of the body and the salt, in hexadecimal digits; a `GET` signs the empty body | confirmed |
//! | The salt is random; Inqud's example has 64 hexadecimal digits | confirmed |
//! | A salt is accepted once only | unknown: each request has a new one |
//! | Every endpoint answers with a JSON object or array | confirmed, by the same description from 2022 |
//! | The answer to a `POST` of a Request is the object at the top level | confirmed |
//! | The answer to a `GET` has the same form | inferred; [`extract`](ApiClientBuilder::extract) replaces it |
//! | Times may have fewer digits of a second's fraction than in webhooks | inferred |
//! | Limits of the API, and whether it sends `Retry-After` | unknown: both forms of the header are read |
//! | An object that was just created can be a 404 | unknown: `Missing` says only what the API said |
//!
//! # Security
//!
//! - A signature proves its salt, not the path. One that leaks may authorise any `GET`, so the client requires
//!   `https`, follows no redirect, marks the headers as sensitive and logs none of them. If you put a layer
//!   between the client and the network, it must not log headers either.
//! - The id becomes a part of the path. It is percent-encoded. An id that is empty, longer than 200 bytes, or
//!   contains a control character, a slash, a backslash or `..` is not sent.
//! - What the API answers is authenticated by TLS alone. No digest proves it, so it is no
//!   [`Webhook<T>`](tower_inqud::Webhook).
//!
//! # Telemetry
//!
//! With feature `tracing` there is an event at `debug` for each response, and a warning for each failure and each
//! unusable response. They contain the kind, the status and the reason, but no id, header or body.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod answer;
mod body;
mod builder;
mod client;
mod credentials;
mod error;
mod log;
mod object;
mod pace;
mod path;
mod random;

pub use self::body::RequestBody;
pub use self::builder::ApiClientBuilder;
pub use self::client::ApiClient;
pub use self::credentials::Credentials;
pub use self::error::ConfigError;
pub use self::object::member;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
