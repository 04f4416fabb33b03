//! The store in a SQLite file (feature `sqlite`).

mod admin;
mod attached;
mod backup;
mod catch_drop;
mod claim;
mod clock;
mod context;
mod effect;
mod erase;
mod error;
mod fence;
mod file;
mod insert;
mod log;
mod lookup;
mod options;
mod rejections;
mod reopen;
mod row;
mod sandbox;
mod schema;
mod settle;
mod store;
mod sweep;
mod tables;
mod watch;
mod watch_list;
mod writer;

pub use self::attached::Attached;
pub use self::effect::SqliteEffect;
pub use self::options::SqliteOptions;
pub use self::store::Sqlite;
