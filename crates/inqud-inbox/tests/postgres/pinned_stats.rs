//! `stats` with many open notifications, while an old transaction keeps their earlier versions.

use std::time::Duration;

use inqud_inbox::{Claimed, Inbox, Outcome, Postgres, Settlement, Store};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{claim, postgres, record, shop};

/// Notifications that are settled while the old transaction is open. They are the oldest.
const SETTLED: u32 = 2000;

const OPEN: &str = "
    INSERT INTO inqud_inbox.object (kind, object, due_at)
        SELECT 'request', 'OPEN-' || n, now() FROM generate_series(1, $1::bigint) AS n;
    INSERT INTO inqud_inbox.notification (kind, object, position, received_at, key, order_key, body)
        SELECT 'request', 'OPEN-' || n, 0, now(), decode(md5(n::text), 'hex'), ''::bytea, convert_to(repeat('x', 250), 'UTF8')
        FROM generate_series(1, $1::bigint) AS n;
    INSERT INTO inqud_inbox.tally (kind, backlog) VALUES ('request', $1)";

/// Returns the median of some calls.
async fn median(mut call: impl AsyncFnMut()) -> Duration {
    let mut took = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        call().await;
        took.push(began.elapsed());
    }
    took.sort();
    took[4]
}

async fn stats(inbox: &Inbox<Postgres>, open: u64) -> Duration {
    let stats = async || assert_eq!(inbox.stats().await.unwrap().backlog(), open);
    median(stats).await
}

/// Compared with counting what is open. Set `INBOX_OPEN=1000000` to try it with more.
#[tokio::test]
async fn old_transaction_does_not_slow_stats() {
    let rows: u64 = std::env::var("INBOX_OPEN").map_or(100_000, |rows| rows.parse().unwrap());
    let Some((inbox, client, config)) = shop("pinned stats").await else { return };
    let oldest = (0..SETTLED).map(|nth| record(&format!("CAPD-{nth}"), 0)).collect();
    inbox.store().insert(oldest).await.unwrap();
    for statement in OPEN.split(';') {
        client.batch_execute(&statement.replace("$1", &rows.to_string())).await.unwrap();
    }
    let count = "SELECT count(*) FROM inqud_inbox.notification WHERE state = 0";
    let counting = median(async || drop(client.query_one(count, &[]).await.unwrap())).await;
    let before = stats(&inbox, rows + u64::from(SETTLED)).await;

    let old = postgres::connect(&config).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM inqud_inbox.tally";
    old.batch_execute(begin).await.unwrap();
    let mut settled = 0;
    while settled < SETTLED {
        let mut all = JoinSet::new();
        for Claimed { ticket, .. } in claim(&inbox, 100).await {
            let inbox = inbox.clone();
            settled += 1;
            all.spawn(async move {
                let mut settlement = Settlement { ticket, outcome: Outcome::Done(vec![]) };
                inbox.store().settle(&mut settlement).await.unwrap();
            });
        }
        all.join_all().await;
    }
    let during = stats(&inbox, rows).await;
    println!("stats take {before:?} before, {during:?} during, and counting takes {counting:?}");
    assert!(before * 3 < counting && during * 2 < counting, "{before:?} {during:?} {counting:?}");
}
