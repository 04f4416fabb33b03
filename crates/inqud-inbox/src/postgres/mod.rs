//! A store in a Postgres database (feature `postgres`).

mod context;
mod effect;
mod error;
mod options;
mod schema;
mod store;
mod tables;
mod transaction;

pub use self::effect::PostgresEffect;
pub use self::options::PostgresOptions;
pub use self::store::Postgres;
pub use self::transaction::{Once, PostgresTransaction};
