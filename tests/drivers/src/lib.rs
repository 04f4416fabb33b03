//! A handler for each driver that settles its notification in a transaction of its own, as in the guide.

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub mod deadpool_postgres;
pub mod diesel_async;
pub mod sea_orm;
pub mod sqlx;
pub mod tokio_postgres;

/// The same text as for sqlx 0.9.
pub mod sqlx_0_8 {
    use ::sqlx_0_8 as sqlx;

    include!("sqlx.rs");
}
