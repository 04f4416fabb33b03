//! x
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ack;
mod admit;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod config_error;
pub mod contract;
pub mod danger;
mod decode;
mod event;
mod future;
mod layer;
mod receive;
mod rejection;
mod service;
mod signature;
mod webhook;

pub use self::ack::Ack;
#[cfg(feature = "axum")]
pub use self::axum::MissingLayer;
pub use self::body::WebhookBody;
pub use self::config_error::ConfigError;
pub use self::event::{
    Amount, AmountError, ConflictReason, DeliveryKey, Notification, PaymentRequest, PaymentStatus,
    PaymentView, RequestPayment, RequestStatus,
};
pub use self::future::ResponseFuture;
pub use self::layer::WebhookLayer;
pub use self::rejection::{Rejection, RejectionKind};
pub use self::service::WebhookService;
pub use self::signature::{Algorithm, Digest, Secret, Secrets, Verified, Verifier, sign};
pub use self::webhook::Webhook;
