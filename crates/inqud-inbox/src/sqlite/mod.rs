//! The store in a SQLite file (feature `sqlite`).

mod attached;
mod catch_drop;
mod context;
mod effect;
mod error;
mod file;
mod index;
mod schema;
mod store;
mod tables;
mod writer;

pub use self::attached::Attached;
pub use self::effect::SqliteEffect;
pub use self::store::Sqlite;
