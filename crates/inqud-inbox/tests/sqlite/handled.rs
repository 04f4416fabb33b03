//! The recipe of the guide for orders that are not in the file of the inbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use inqud_inbox::rusqlite::{self, Connection, TransactionBehavior};
use inqud_inbox::{Context, Sqlite, Store, Stored};
use tower_inqud::PaymentRequest;

use crate::{Place, records};

const TABLES: &str = "
    CREATE TABLE handled (notification TEXT PRIMARY KEY);
    CREATE TABLE paid (order_id TEXT)";

fn pay(file: &Path, key: &str, order: &str, commits: bool) -> rusqlite::Result<()> {
    let mut orders = Connection::open(file)?;
    let transaction = orders.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if transaction.execute("INSERT INTO handled VALUES (?1) ON CONFLICT DO NOTHING", [key])? == 1 {
        transaction.execute("INSERT INTO paid VALUES (?1)", [order])?;
    }
    if commits { transaction.commit() } else { transaction.rollback() }
}

/// Fails before the commit, then after it, and then not.
#[tokio::test]
async fn effect_in_another_database_happens_once() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let orders: PathBuf = place.folder.path().join("orders.db");
    Connection::open(&orders).unwrap().execute_batch(TABLES).unwrap();
    inbox.store().insert(records(0..20)).await.unwrap();
    let file = orders.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let file = file.clone();
        async move {
            let (key, id, attempt) = (cx.key().to_string(), request.id.clone(), cx.attempt());
            let pay = move || pay(&file, &key, &id, attempt > 1);
            tokio::task::spawn_blocking(pay).await.unwrap().map_err(|error| error.to_string())?;
            if attempt < 3 { Err("fails".to_owned()) } else { Ok(()) }
        }
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
    let report = runner.run_until_idle().await.unwrap();
    assert_eq!(report.done, 20);
    let count = "SELECT count(*), count(DISTINCT order_id) FROM paid";
    let orders = Connection::open(orders).unwrap();
    let counts = orders.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counts.unwrap(), (20, 20));
}
