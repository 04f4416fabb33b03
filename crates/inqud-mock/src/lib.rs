//! A mock of Inqud, to test your webhook handler with.
//!
//! The mock is a client: it calls your service in the same process, or sends requests through an HTTP client to
//! a server elsewhere. [`guide::testing`] explains how to test with it.
//!
//! 1. A [`Lifecycle`] is the sequence of notifications that Inqud sends about one object.
//! 2. A [`MockInqud`] signs and delivers them: in order or shuffled, repeated, retried on Inqud's schedule,
//!    forged, truncated, chunked or slow.
//! 3. A [`Report`] lists each delivery with its response.
//! 4. A [`MockApi`] plays Inqud's API, with the objects that were delivered and those whose every delivery was
//!    [lost](MockInqud::drop_share).
//!
//! [`MockInqud::any_order`] makes the most important check: your handler ends in the same state in every order
//! of delivery, with and without repeats.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response, Uri};
//! use tower::{ServiceBuilder, service_fn};
//! use inqud_mock::{Lifecycle, MockInqud, Scenario, SentBody};
//! use tower_inqud::{Ack, PaymentRequest, Secret, WebhookBody, WebhookLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new("a secret of the test")?;
//! let shop = ServiceBuilder::new()
//!     .layer(WebhookLayer::<PaymentRequest>::new(secret.clone()))
//!     .service(service_fn(async |_: Request<WebhookBody<SentBody>>| {
//!         Ok::<Response<String>, std::convert::Infallible>(Ack::Done.into())
//!     }));
//!
//! let inqud = MockInqud::new(secret, Uri::from_static("/webhooks/inqud/request"));
//! let report = inqud.times(2).shuffled().deliver(Lifecycle::new(Scenario::Success), shop).await;
//!
//! assert_eq!(report.deliveries().len(), 6); // three statuses, each twice
//! assert!(report.all_acknowledged(), "{report}"); // the report contains the seed of the shuffle
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod any_order;
mod api;
mod body;
mod deliver;
mod delivery;
pub mod guide;
mod lifecycle;
mod message;
mod mock;
mod report;
mod scenario;
mod snapshot;

pub use self::any_order::{Disagreement, Round};
pub use self::api::{ApiBody, ApiFault, MockApi};
pub use self::body::SentBody;
pub use self::delivery::{Answer, Delivery};
pub use self::lifecycle::Lifecycle;
pub use self::message::Message;
pub use self::mock::{Fault, MockInqud};
pub use self::report::Report;
pub use self::scenario::Scenario;
