//! Two processes with one database.

use std::convert::Infallible;
use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use inqud_inbox::tokio_postgres::{Config, NoTls};
use inqud_inbox::{Claimed, Context, Inbox, Outcome, Postgres, Settlement, Store, Stored};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tower_inqud::PaymentRequest;

use crate::{LONG, claim, postgres, record, shop};

const URL: &str = "INBOX_POSTGRES_URL";

/// This process settles a notification, and the runner of another one handles the next of its object. By polling it
/// would find it within a second.
#[tokio::test]
async fn next_of_an_object_is_handled_soon_in_another_process() {
    const ROUNDS: usize = 20;
    let Some((inbox, client, config)) = shop("two processes").await else { return };
    client.batch_execute("CREATE TABLE handled (id text, at timestamptz)").await.unwrap();
    let server = postgres::shared().unwrap();
    let mut other = Command::new(env::current_exe().unwrap());
    other.args(["processes::runner_of_another_process", "--exact", "--ignored", "--nocapture"]);
    other.env(URL, server.url(config.get_dbname().unwrap()));
    other.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut other = other.spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let begun = async { while !lines.next_line().await.unwrap().unwrap().contains("running") {} };
    timeout(LONG, begun).await.unwrap();
    sleep(Duration::from_secs(1)).await; // until it listens

    let handled = "
        SELECT (extract(epoch FROM handled.at - settled_at) * 1000)::float8 FROM handled
        JOIN inqud_inbox.notification ON object = id
        WHERE id = $1 AND settled_at < handled.at AND notification.position = (
            SELECT min(position) FROM inqud_inbox.notification WHERE object = $1)";
    let mut took = Vec::new();
    let mut nth = 0;
    while took.len() < ROUNDS {
        nth += 1;
        assert!(nth < 20 * ROUNDS, "the other process claims them all: {took:?}");
        let id = format!("CAPD-{nth}");
        inbox.store().insert(vec![record(&id, 0)]).await.unwrap();
        let Some(Claimed { ticket, .. }) = claim(&inbox, 1).await.into_iter().next() else {
            continue; // The other process was faster.
        };
        inbox.store().insert(vec![record(&id, 1)]).await.unwrap();
        sleep(Duration::from_millis(137)).await;
        let mut settlement = Settlement { ticket, outcome: Outcome::Done(vec![]) };
        inbox.store().settle(&mut settlement).await.unwrap();
        let next = async {
            loop {
                if let Some(row) = client.query_opt(handled, &[&id]).await.unwrap() {
                    break row.get::<_, f64>(0);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        took.push(timeout(LONG, next).await.unwrap());
    }
    drop(other.stdin.take());
    assert!(timeout(LONG, other.wait()).await.unwrap().unwrap().success());
    took.sort_by(f64::total_cmp);
    println!("after the settlement: {took:.1?} ms");
    // Other tests use the machine, too.
    assert!(took[ROUNDS - 3] < 50.0, "{took:?}");
}

#[tokio::test]
#[ignore = "a part of another test"]
async fn runner_of_another_process() {
    let config: Config = env::var(URL).unwrap().parse().unwrap();
    let client = Arc::new(postgres::connect(&config).await);
    let inbox = Inbox::postgres(config, NoTls).await.unwrap();
    let handler = move |request: Stored<PaymentRequest>, _: Context<Postgres>| {
        let client = Arc::clone(&client);
        async move {
            let handled = "INSERT INTO handled VALUES ($1, clock_timestamp())";
            client.execute(handled, &[&request.id]).await.unwrap();
            Ok::<_, Infallible>(())
        }
    };
    println!("running");
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let end = async move { while input.next_line().await.unwrap().is_some() {} };
    inbox.process(handler).run_until(end).await.unwrap();
}
