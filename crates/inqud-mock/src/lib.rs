//! A sender that plays Inqud, to test your handler with.
//!
//! It is no server: it calls a service, which is your own in the same process, or a client that
//! reaches one elsewhere. See [`guide::testing`] for how to test with it.
//!
//! 1. A [`Lifecycle`] is what Inqud sends about one object, from its first status to its last.
//! 2. A [`MockInqud`] signs it and delivers it: in order or not, once or more often, again as Inqud
//!    does it if it is not acknowledged, and, if asked for, forged, cut short, in pieces or slowly.
//! 3. A [`Report`] tells what was delivered, how often, and what each delivery was answered.
//!
//! [`MockInqud::any_order`] checks what matters most: whatever the order and however often, the
//! merchant ends in the same state, wherever the notifications tell their order.
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
//! assert!(report.all_acknowledged(), "{report}"); // the text has the seed of the shuffle
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod any_order;
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
pub use self::body::SentBody;
pub use self::delivery::{Answer, Delivery};
pub use self::lifecycle::Lifecycle;
pub use self::message::Message;
pub use self::mock::{Fault, MockInqud};
pub use self::report::Report;
pub use self::scenario::Scenario;
