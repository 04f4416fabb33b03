//! Tests of what an inbox guarantees, with each store.

#[path = "../support/claims.rs"]
mod claims;
#[path = "../support/crash.rs"]
mod crash;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../../../../tests/support/mod.rs"]
mod support;

/// Runs each of the named functions as a test of each store. The module provides `file`, `Inbox` and `postgres`.
macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Inbox::memory()).await;
            })*
        }
        mod in_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = super::postgres::shared() {
                    super::$name(&server.inbox(stringify!($name)).await).await;
                }
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (inbox, _folder) = super::file();
                super::$name(&inbox).await;
            })*
        }
    };
}

mod any_order;
mod confirm;
mod erase;
mod handlers;
mod looks;
mod lookup;
mod order;
mod reconcile;
mod rejections;
mod replays;
mod retention;
mod sqlite;
mod stores;
mod undecodable;
mod verdicts;
