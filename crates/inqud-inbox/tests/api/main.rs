//! An inbox with Inqud's API behind HTTP: the mock's API, and the client of `inqud-api`.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../../../../tests/support/log.rs"]
mod log;
#[path = "../support/postgres.rs"]
mod postgres;
mod support;

/// Runs each of the named functions as a test of each store.
macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&inqud_inbox::Inbox::memory()).await;
            })*
        }
        of_each_database! { $($name)* }
    };
}

macro_rules! of_each_database {
    ($($name:ident)*) => {
        mod in_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = crate::postgres::shared() {
                    super::$name(&server.inbox(stringify!($name)).await).await;
                }
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let inbox = inqud_inbox::Inbox::sqlite(folder.path().join("inbox.db")).unwrap();
                super::$name(&inbox).await;
            })*
        }
    };
}

mod once;
mod storms;
mod trace;
