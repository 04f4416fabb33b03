//! A store in a Postgres database (feature `postgres`).

mod completion;
mod context;
mod effect;
mod ended;
mod error;
mod floor;
mod group;
mod line;
mod options;
mod parameters;
mod schema;
mod statement;
mod store;
mod tables;
mod transaction;
mod wake;
mod watch_list;

pub use self::completion::Completion;
pub use self::effect::PostgresEffect;
pub use self::options::PostgresOptions;
pub use self::parameters::PostgresParameters;
pub use self::store::Postgres;
pub use self::transaction::{Once, PostgresTransaction};
