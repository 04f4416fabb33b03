//! Inqud's API, for clients that ask it what no webhook reported.

mod auth;
mod body;
mod fault;
mod objects;
mod service;
mod times;

pub use self::body::ApiBody;
pub use self::fault::ApiFault;
pub use self::service::MockApi;
