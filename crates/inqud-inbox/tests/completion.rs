//! Handlers that settle their notifications in transactions of their own, on connections that are not the inbox's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inqud_inbox::testing::TestContext;
use inqud_inbox::tokio_postgres::{Client, Config, Error, NoTls};
use inqud_inbox::{Completion, Context, Inbox, Postgres, Record, RunReport, Runner, Store, Stored};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::PaymentRequest;

#[path = "support/postgres.rs"]
mod postgres;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const NO_WAIT: Duration = Duration::ZERO;
/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(60);

fn record(id: &str, minute: u32) -> Record {
    let body = format!(
        r#"{{"id":"{id}","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

/// A merchant: an inbox, and a table `paid` in the same database.
#[derive(Clone)]
struct Shop {
    inbox: Inbox<Postgres>,
    config: Config,
}

impl Shop {
    async fn new(name: &str) -> Option<Self> {
        let config = postgres::shared()?.database(name).await;
        Inbox::migrate(&config, NoTls).await.unwrap();
        let inbox = Inbox::postgres(config.clone(), NoTls).await.unwrap();
        let shop = Self { inbox, config };
        shop.client().await.batch_execute("CREATE TABLE paid (id text)").await.unwrap();
        Some(shop)
    }

    async fn store(&self, id: &str, minute: u32) {
        self.inbox.store().insert(vec![record(id, minute)]).await.unwrap();
    }

    async fn client(&self) -> Client {
        postgres::connect(&self.config).await
    }

    /// Runs a handler until nothing is due, without a wait between attempts.
    async fn run<F, R>(&self, handler: F) -> RunReport
    where
        F: Fn(Stored<PaymentRequest>, Context<Postgres>) -> R + Clone + Send + 'static,
        R: Future<Output = Result<(), BoxError>> + Send,
    {
        let runner = self.inbox.process(handler).backoff(NO_WAIT, NO_WAIT);
        timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap()
    }

    async fn paid(&self) -> Vec<String> {
        let rows = self.client().await.query("SELECT id FROM paid ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn dead(&self) -> Vec<String> {
        let dead = self.inbox.dead(10).await.unwrap();
        dead.into_iter().map(|it| it.error).collect()
    }
}

async fn pay(client: &Client, id: &str) -> Result<(), BoxError> {
    client.execute("INSERT INTO paid VALUES ($1)", &[&id]).await?;
    Ok(())
}

async fn complete(client: &Client, done: &Completion) -> Result<(), Error> {
    client.execute(Completion::SQL, &[&done.token()]).await.map(drop)
}

/// Has the effect and settles the notification, without the commit.
async fn pay_and_complete(
    client: &Client,
    id: &str,
    cx: &Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    client.batch_execute("BEGIN").await?;
    pay(client, id).await?;
    Ok(complete(client, &done).await?)
}

fn done(count: u64) -> RunReport {
    let mut report = RunReport::default();
    report.done = count;
    report
}

fn code(error: &Error) -> &str {
    error.code().unwrap().code()
}

#[tokio::test]
async fn completes_in_a_transaction_of_the_handler() {
    let Some(shop) = Shop::new("completes").await else { return };
    for minute in 0..3 {
        shop.store("CAPD-1", minute).await;
    }
    let own = shop.clone();
    let began = Instant::now();
    let report = shop.run(move |request, cx| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            pay_and_complete(&client, &request.last_updated_at.unwrap().to_string(), &cx).await?;
            Ok(client.batch_execute("COMMIT").await?)
        }
    });
    assert_eq!(report.await, done(3));
    assert!(began.elapsed() < Duration::from_secs(20), "the next one of the object is due at once");
    let expected = ["2026-11-22T10:00:00Z", "2026-11-22T10:01:00Z", "2026-11-22T10:02:00Z"];
    assert_eq!(shop.paid().await, expected);
    let stats = shop.inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 0));
}

/// It said that it would complete the notification, so it may have committed its effect.
#[tokio::test]
async fn ok_without_completion_is_a_dead_letter() {
    let Some(shop) = Shop::new("forgotten").await else { return };
    for how in ["effect only", "rolled back", "nothing"] {
        shop.store(how, 0).await;
    }
    let own = shop.clone();
    let report = shop.run(move |request, cx| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            match &*request.id {
                "effect only" => {
                    let _done = cx.completion()?;
                    pay(&client, &request.id).await?;
                }
                "rolled back" => pay_and_complete(&client, &request.id, &cx).await?,
                _ => drop(cx.completion()?),
            }
            Ok(())
        }
    });
    let report = report.await;
    assert_eq!((report.done, report.dead, report.retried), (0, 3, 0));
    assert_eq!(shop.paid().await, ["effect only"]);
    for error in shop.dead().await {
        assert!(error.contains("Completion::SQL"), "{error}");
    }
}

#[tokio::test]
async fn failure_after_the_commit_is_done() {
    let Some(shop) = Shop::new("failure").await else { return };
    for how in ["error", "panic", "timeout"] {
        shop.store(how, 0).await;
    }
    let own = shop.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            pay_and_complete(&client, &request.id, &cx).await?;
            client.batch_execute("COMMIT").await?;
            match &*request.id {
                "error" => Err(BoxError::from("after the commit")),
                "panic" => panic!("after the commit"),
                _ => pending().await,
            }
        }
    };
    // The last attempt, so that a dead letter would be the alternative.
    let runner = shop.inbox.process(handler).max_attempts(1);
    let runner = runner.handler_timeout(Duration::from_secs(2));
    let report = timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!(report, done(3));
    assert_eq!(shop.paid().await, ["error", "panic", "timeout"]);
}

#[tokio::test]
async fn failure_before_the_commit_is_retried() {
    let Some(shop) = Shop::new("before").await else { return };
    shop.store("CAPD-1", 0).await;
    let own = shop.clone();
    let report = shop.run(move |request, cx| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            pay_and_complete(&client, &request.id, &cx).await?;
            if cx.attempt() < 3 {
                return Err("not yet".into());
            }
            Ok(client.batch_execute("COMMIT").await?)
        }
    });
    let report = report.await;
    assert_eq!((report.done, report.retried), (1, 2));
    assert_eq!(shop.paid().await, ["CAPD-1"]);
}

/// The handler is dropped while its transaction still runs on the server: only that can tell what becomes of it.
#[tokio::test]
async fn waits_for_a_transaction_that_outlives_its_handler() {
    let Some(shop) = Shop::new("outlives").await else { return };
    for (id, end, done) in [("commits", "COMMIT", true), ("rolls back", "ROLLBACK", false)] {
        shop.store(id, 0).await;
        let completed = Arc::new(Notify::new());
        let client = Arc::new(shop.client().await);
        let (own, after) = (Arc::clone(&client), Arc::clone(&completed));
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
            let (own, after) = (Arc::clone(&own), Arc::clone(&after));
            async move {
                if cx.attempt() > 1 {
                    return Ok(());
                }
                pay_and_complete(&own, &request.id, &cx).await?;
                after.notify_one();
                Err(BoxError::from("the answer is lost"))
            }
        };
        let runner = shop.inbox.process(handler).backoff(NO_WAIT, NO_WAIT);
        let until = async {
            completed.notified().await;
            sleep(Duration::from_millis(1500)).await;
            let open = shop.client().await;
            let count = "SELECT failures FROM inqud_inbox.notification WHERE object = $1";
            let failures: i32 = open.query_one(count, &[&id]).await.unwrap().get(0);
            assert_eq!(failures, 0, "it has not been decided");
            client.batch_execute(end).await.unwrap();
            while shop.inbox.stats().await.unwrap().backlog() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
            let failures: i32 = open.query_one(count, &[&id]).await.unwrap().get(0);
            assert_eq!(failures, i32::from(!done));
        };
        timeout(LONG, runner.run_until(until)).await.unwrap().unwrap();
    }
    assert_eq!(shop.paid().await, ["commits"]);
}

/// After a lost answer, a handler may run its transaction again.
#[tokio::test]
async fn second_transaction_of_a_claim_is_refused() {
    let Some(shop) = Shop::new("twice").await else { return };
    shop.store("CAPD-1", 0).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let (own, count) = (shop.clone(), Arc::clone(&refused));
    let report = shop.run(move |request, cx| {
        let (own, count) = (own.clone(), Arc::clone(&count));
        async move {
            let client = own.client().await;
            pay_and_complete(&client, &request.id, &cx).await?;
            client.batch_execute("COMMIT").await?;
            client.batch_execute("BEGIN").await?;
            pay(&client, "again").await?;
            let error = complete(&client, &cx.completion()?).await.unwrap_err();
            assert_eq!(code(&error), "IQ003");
            client.batch_execute("COMMIT").await?;
            count.fetch_add(1, Ordering::Relaxed);
            Err(error.into())
        }
    });
    let report = report.await;
    assert_eq!((report.done, report.retried), (1, 0));
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    assert_eq!(shop.paid().await, ["CAPD-1"]);
}

#[tokio::test]
async fn lost_lease_is_refused() {
    let Some(shop) = Shop::new("lost").await else { return };
    shop.store("CAPD-1", 0).await;
    let own = shop.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            if cx.attempt() == 1 {
                let expire = "UPDATE inqud_inbox.object SET leased_until = now() - interval '1 s'";
                client.batch_execute(expire).await?;
                // Until another runner has the notification, and then until that is done.
                for expected in ["IQ001", "IQ003"] {
                    let refusal = loop {
                        client.batch_execute("BEGIN").await?;
                        pay(&client, "lost").await?;
                        let completed = complete(&client, &cx.completion()?).await;
                        client.batch_execute("ROLLBACK").await?;
                        match completed {
                            Err(error) if code(&error) == "IQ001" && expected != "IQ001" => {}
                            Err(error) => break code(&error).to_owned(),
                            Ok(()) => {}
                        }
                        sleep(Duration::from_millis(20)).await;
                    };
                    assert_eq!(refusal, expected);
                }
                return Err(BoxError::from("lost"));
            }
            // The other one can see that it is claimed.
            sleep(Duration::from_millis(500)).await;
            pay_and_complete(&client, &request.id, &cx).await?;
            Ok(client.batch_execute("COMMIT").await?)
        }
    };
    let second = Inbox::postgres(shop.config.clone(), NoTls).await.unwrap();
    let [first, second] = [&shop.inbox, &second].map(|inbox| inbox.process(handler.clone()));
    let until = async {
        while shop.inbox.stats().await.unwrap().backlog() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let run = |it: Runner<_, _, _>| it.run_until(pending::<()>());
    tokio::select! {
        _ = run(first) => unreachable!(),
        _ = run(second) => unreachable!(),
        () = until => {}
    }
    assert_eq!(shop.paid().await, ["CAPD-1"]);
}

/// A copy of the database, such as one for tests, can have a claim with the same numbers.
#[tokio::test]
async fn other_database_is_refused() {
    let Some(shop) = Shop::new("right").await else { return };
    let Some(other) = Shop::new("wrong").await else { return };
    shop.store("CAPD-1", 0).await;
    other.store("CAPD-2", 0).await;
    let codes = Arc::new(Mutex::new(Vec::new()));
    let (own, seen) = (other.clone(), Arc::clone(&codes));
    let report = shop.run(move |request, cx| {
        let (own, seen) = (own.clone(), Arc::clone(&seen));
        async move {
            let client = own.client().await;
            let error = pay_and_complete(&client, &request.id, &cx).await.unwrap_err();
            seen.lock().await.push(code(error.downcast_ref().unwrap()).to_owned());
            client.batch_execute("COMMIT").await?;
            Ok(())
        }
    });
    assert_eq!(report.await.dead, 1);
    assert_eq!(*codes.lock().await, ["IQ004"]);
    assert!(other.paid().await.is_empty());
    assert_eq!(other.inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn other_effects_beside_a_completion_are_refused() {
    let Some(shop) = Shop::new("both").await else { return };
    for how in ["transaction", "execute", "once", "execute later", "execute later and commit"] {
        shop.store(how, 0).await;
    }
    let own = shop.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let own = own.clone();
        async move {
            let insert = "INSERT INTO paid VALUES ('effect')";
            let after = match &*request.id {
                "transaction" => cx.transaction().await.map(drop),
                "once" => cx.once("key").await.map(drop),
                "execute" => {
                    cx.execute(insert, ());
                    Ok(())
                }
                how => {
                    let client = own.client().await;
                    pay_and_complete(&client, how, &cx).await?;
                    assert!(cx.transaction().await.is_err() && cx.once("key").await.is_err());
                    cx.execute(insert, ());
                    if how.ends_with("commit") {
                        client.batch_execute("COMMIT").await?;
                    }
                    return Ok::<_, BoxError>(());
                }
            };
            after?;
            // Refused before it can have committed anything.
            Err(cx.completion().unwrap_err().into())
        }
    };
    let runner = shop.inbox.process(handler).max_attempts(1);
    let report = timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!((report.done, report.dead), (1, 4));
    assert_eq!(shop.paid().await, ["execute later and commit"]);
    let dead = shop.dead().await;
    let count = |text: &str| dead.iter().filter(|error| error.contains(text)).count();
    assert_eq!((count("cannot be used after `transaction`"), count("after `completion`")), (3, 1));
}

/// In these levels a transaction does not see what was stored since it began.
#[tokio::test]
async fn isolation_level_hides_no_notification() {
    let Some(shop) = Shop::new("isolation").await else { return };
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        shop.store(level, 0).await;
    }
    let own = shop.clone();
    let report = shop.run(move |request, cx| {
        let own = own.clone();
        async move {
            let client = own.client().await;
            let level = &*request.id;
            client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).await?;
            own.store(level, 1).await;
            pay(&client, level).await?;
            complete(&client, &cx.completion()?).await?;
            Ok(client.batch_execute("COMMIT").await?)
        }
    });
    assert_eq!(report.await.done, 4);
    assert_eq!(shop.inbox.stats().await.unwrap().backlog(), 0);
}

#[tokio::test]
async fn documented_role_completes() {
    const GUIDE: &str = include_str!("../docs/drivers.md");
    let Some(shop) = Shop::new("completing role").await else { return };
    shop.store("CAPD-1", 0).await;
    let (_, privileges) = GUIDE.split_once("# Least privileges").unwrap();
    let grants = privileges.split("```").nth(1).and_then(|it| it.strip_prefix("sql")).unwrap();
    let client = shop.client().await;
    client.batch_execute("CREATE ROLE shop LOGIN PASSWORD 'shop'").await.unwrap();
    client.batch_execute(grants).await.unwrap();
    client.batch_execute("GRANT INSERT ON paid TO shop").await.unwrap();
    let mut role = shop.config.clone();
    role.user("shop").password("shop");
    let report = shop.run(move |request, cx| {
        let role = role.clone();
        async move {
            let client = postgres::connect(&role).await;
            client.query("SELECT body FROM inqud_inbox.notification", &[]).await.unwrap_err();
            pay_and_complete(&client, &request.id, &cx).await?;
            client.batch_execute("COMMIT").await?;
            complete(&client, &cx.completion()?).await.map_err(BoxError::from)
        }
    });
    assert_eq!(report.await.done, 1);
    assert_eq!(shop.paid().await, ["CAPD-1"]);
}

/// It locks the object, so nothing else about it could be stored.
#[tokio::test]
async fn transaction_that_does_not_commit_is_ended() {
    let Some(shop) = Shop::new("idle").await else { return };
    shop.store("CAPD-1", 0).await;
    let took = Arc::new(Mutex::new(Duration::ZERO));
    let (own, time) = (shop.clone(), Arc::clone(&took));
    let report = shop.run(move |request, cx| {
        let (own, time) = (own.clone(), Arc::clone(&time));
        async move {
            if cx.attempt() > 1 {
                return Ok(());
            }
            let client = own.client().await;
            pay_and_complete(&client, &request.id, &cx).await?;
            let began = Instant::now();
            while !client.is_closed() {
                sleep(Duration::from_millis(20)).await;
            }
            *time.lock().await = began.elapsed();
            Err("closed".into())
        }
    });
    assert_eq!(report.await.retried, 1);
    let took = took.lock().await.as_secs_f32();
    assert!((4.5..8.0).contains(&took), "{took}");
    assert!(shop.paid().await.is_empty());
}

/// Postgres cannot see this deadlock: one of the two waits in the handler, and not in the server.
#[tokio::test]
async fn lock_timeout_ends_a_deadlock_with_oneself() {
    let Some(shop) = Shop::new("oneself").await else { return };
    shop.store("CAPD-1", 0).await;
    let client = shop.client().await;
    client.batch_execute("INSERT INTO paid VALUES ('row')").await.unwrap();
    let own = shop.clone();
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Postgres>| {
        let own = own.clone();
        async move {
            const UPDATE: &str = "UPDATE paid SET id = id || '!'";
            let transaction = cx.transaction().await?;
            transaction.batch_execute(UPDATE).await?;
            let client = own.client().await;
            if cx.attempt() > 1 {
                client.batch_execute("SET lock_timeout = '500ms'").await?;
            }
            client.batch_execute(UPDATE).await.map_err(BoxError::from)
        }
    };
    let runner = shop.inbox.process(handler).max_attempts(2).backoff(NO_WAIT, NO_WAIT);
    let runner = runner.handler_timeout(Duration::from_secs(3));
    let began = Instant::now();
    let report = timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!((report.retried, report.dead), (1, 1));
    let errors = shop.dead().await;
    assert!(errors[0].contains("lock timeout"), "{errors:?}");
    let took = began.elapsed().as_secs_f32();
    assert!((3.5..10.0).contains(&took), "{took}");
}

#[tokio::test]
async fn context_of_a_test_has_no_completion() {
    let Some(shop) = Shop::new("test context").await else { return };
    let test = TestContext::new(&shop.inbox);
    let error = test.context().completion().unwrap_err();
    assert!(format!("{error:?}").contains("TestContext"), "{error:?}");
}
