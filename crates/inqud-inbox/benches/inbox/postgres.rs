//! Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inqud_inbox::tokio_postgres::types::ToSql;
use inqud_inbox::tokio_postgres::{Client, Config, Statement};
use inqud_inbox::{Context, Inbox, Inserted, Key, Storable};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower_inqud::PaymentRequest;

use crate::engine::{CONCURRENCY, Engine, GROUP, Rows, Waiting, processed};
use crate::server::{connect, shared};

pub(crate) struct Postgres {
    config: Config,
    name: String,
}

const KIND: &str = <PaymentRequest as Storable>::KIND;
const EFFECT: &str = "INSERT INTO effect (object) VALUES ($1)";
const LEASE: i64 = 120_000_000;

impl Engine for Postgres {
    type Store = inqud_inbox::Postgres;
    const NAME: &'static str = "Postgres";

    /// Starts a server with the two settings that everyone changes on a dedicated machine.
    async fn is_there() -> bool {
        let Some(server) = shared() else { return false };
        let client = connect(&server.config("postgres")).await;
        for set in ["shared_buffers = '1GB'", "max_wal_size = '4GB'"] {
            client.batch_execute(&format!("ALTER SYSTEM SET {set}")).await.unwrap();
        }
        server.kill();
        server.run();
        true
    }

    async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("place {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let server = shared().unwrap();
        server.inbox(&name).await.close().await;
        let config = server.config(&name);
        let table = "CREATE TABLE effect (seq bigserial PRIMARY KEY, object text)";
        connect(&config).await.batch_execute(table).await.unwrap();
        Self { config, name }
    }

    async fn inbox(&self) -> Inbox<inqud_inbox::Postgres> {
        let no_tls = inqud_inbox::tokio_postgres::NoTls;
        Inbox::postgres(self.config.clone(), no_tls).await.unwrap()
    }

    async fn close(inbox: Inbox<inqud_inbox::Postgres>) {
        inbox.close().await;
    }

    async fn effect(cx: &Context<inqud_inbox::Postgres>, object: String) {
        let transaction = cx.transaction().await.unwrap();
        transaction.execute(EFFECT, &[&object]).await.unwrap();
    }

    async fn insert_plainly(&self) -> mpsc::Sender<Waiting> {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(GROUP);
        let client = connect(&self.config).await;
        let meet =
            client.prepare(include_str!("../../src/postgres/insert_object.sql")).await.unwrap();
        let inserted = client.prepare(include_str!("../../src/postgres/insert.sql")).await.unwrap();
        tokio::spawn(async move {
            let mut group = Vec::new();
            while receiver.recv_many(&mut group, GROUP).await > 0 {
                insert_group(&client, [&meet, &inserted], &group).await;
                for (_, answer) in group.drain(..) {
                    answer.send(Inserted::New).unwrap();
                }
            }
        });
        sender
    }

    async fn consume_plainly(&self, count: usize, has_effect: bool) {
        let plain = Statements::new(&self.config).await;
        let mut handlers = Vec::new();
        for _ in 0..if has_effect { CONCURRENCY } else { 0 } {
            handlers.push(Arc::new(Statements::new(&self.config).await));
        }
        let (mut claimed, mut settled) = (Vec::new(), 0);
        while settled < count {
            settled += claimed.len();
            if has_effect {
                // One transaction for each, like handlers.
                let mut running = JoinSet::new();
                for (one, handler) in claimed.drain(..).zip(&handlers) {
                    let handler = Arc::clone(handler);
                    running.spawn(async move { handler.settle_with_effect(one).await });
                }
                running.join_all().await;
            }
            plain.client.batch_execute("BEGIN").await.unwrap();
            if !claimed.is_empty() {
                plain.settle(&claimed).await;
            }
            claimed = plain.claim((count - settled).min(CONCURRENCY)).await;
            plain.client.batch_execute("COMMIT").await.unwrap();
        }
    }

    async fn rows(&self) -> Rows {
        let client = connect(&self.config).await;
        let count = async |sql| {
            let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            usize::try_from(count).unwrap()
        };
        Rows {
            open: count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 0").await,
            done: count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 1").await,
            effects: count("SELECT count(*) FROM effect").await,
        }
    }

    async fn process_all(&self) {
        let client = connect(&self.config).await;
        let all = "UPDATE inqud_inbox.notification SET state = 1, settled_at = received_at WHERE state = 0;
            UPDATE inqud_inbox.object SET due_at = NULL WHERE due_at IS NOT NULL";
        client.batch_execute(all).await.unwrap();
        client.batch_execute("VACUUM ANALYZE").await.unwrap();
    }
}

async fn insert_group(client: &Client, [meet, inserted]: [&Statement; 2], group: &[Waiting]) {
    let keys: Vec<&[u8]> = group.iter().map(|it| &it.0.key.as_bytes()[..]).collect();
    let kinds: Vec<&str> = group.iter().map(|it| it.0.kind).collect();
    let objects: Vec<&str> = group.iter().map(|it| &*it.0.object).collect();
    let positions: Vec<i64> = group.iter().map(|it| it.0.order_key.position()).collect();
    let order_keys: Vec<Vec<u8>> = group.iter().map(|it| it.0.order_key.to_bytes()).collect();
    let bodies: Vec<&[u8]> = group.iter().map(|it| &it.0.body[..]).collect();
    let dead: Vec<Option<&str>> = vec![None; group.len()];
    let plain: Vec<bool> = group.iter().map(|it| it.0.order_key.repeat_is_duplicate()).collect();
    let later: Vec<i64> = (0..group.len()).rev().map(|rest| -(rest as i64)).collect();
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&keys, &kinds, &objects, &positions, &order_keys, &bodies, &dead, &plain, &later];
    let (begun, met, rows, committed) = tokio::join!(
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        client.execute(meet, &met),
        client.query(inserted, &parameters),
        client.batch_execute("COMMIT"),
    );
    begun.and(committed).unwrap();
    met.unwrap();
    assert_eq!(rows.unwrap().len(), group.len());
}

struct Claimed {
    seq: i64,
    object: String,
    claim: i64,
    order_key: Vec<u8>,
}

/// The statements of the inbox and nothing else.
struct Statements {
    client: Client,
    lease: Statement,
    attempt: Statement,
    lock: Statement,
    settle: Statement,
}

impl Statements {
    async fn new(config: &Config) -> Self {
        let client = connect(config).await;
        let prepare = async |sql| client.prepare(sql).await.unwrap();
        Self {
            lease: prepare(include_str!("../../src/postgres/lease.sql")).await,
            attempt: prepare(include_str!("../../src/postgres/attempt.sql")).await,
            lock: prepare(include_str!("../../src/postgres/lock.sql")).await,
            settle: prepare(include_str!("../../src/postgres/settle.sql")).await,
            client,
        }
    }

    async fn claim(&self, count: usize) -> Vec<Claimed> {
        let count = i64::try_from(count).unwrap();
        let leased = self.client.query(&self.lease, &[&KIND, &count, &LEASE]).await.unwrap();
        let objects: Vec<&str> = leased.iter().map(|row| row.get(0)).collect();
        let rows = self.client.query(&self.attempt, &[&KIND, &objects]).await.unwrap();
        let claims: std::collections::HashMap<&str, i64> =
            leased.iter().map(|row| (row.get(0), row.get(1))).collect();
        let claimed = rows.iter().map(|row| {
            // Decodes as much as a handler needs.
            let body: Vec<u8> = row.get(4);
            let key = Key::from_bytes(row.get::<_, &[u8]>(2).try_into().unwrap());
            std::hint::black_box((body, key, row.get::<_, bool>(7)));
            let object: String = row.get(0);
            Claimed { seq: row.get(1), claim: claims[&*object], object, order_key: row.get(3) }
        });
        claimed.collect()
    }

    async fn settle(&self, all: &[Claimed]) {
        let kinds = vec![KIND; all.len()];
        let objects: Vec<&str> = all.iter().map(|it| &*it.object).collect();
        let claims: Vec<i64> = all.iter().map(|it| it.claim).collect();
        let lock: [&(dyn ToSql + Sync); 3] = [&kinds, &objects, &claims];
        assert_eq!(self.client.query(&self.lock, &lock).await.unwrap().len(), all.len());
        let seqs: Vec<i64> = all.iter().map(|it| it.seq).collect();
        let (states, waits) = (vec![1_i16; all.len()], vec![None::<i64>; all.len()]);
        let (errors, verdicts) = (vec![None::<String>; all.len()], vec![0_i16; all.len()]);
        let processed: Vec<_> = all.iter().map(|it| processed(it.seq, &it.order_key)).collect();
        let settle: [&(dyn ToSql + Sync); 6] =
            [&seqs, &states, &waits, &errors, &verdicts, &processed];
        assert_eq!(self.client.query(&self.settle, &settle).await.unwrap().len(), all.len());
    }

    async fn settle_with_effect(&self, one: Claimed) {
        self.client.batch_execute("BEGIN").await.unwrap();
        // Prepared each time, as in the handler of the inbox.
        self.client.execute(EFFECT, &[&one.object]).await.unwrap();
        self.settle(&[one]).await;
        self.client.batch_execute("COMMIT").await.unwrap();
    }
}

impl Drop for Postgres {
    /// Drops the database, so that it takes no disk space that later rounds need.
    fn drop(&mut self) {
        let (config, name) = (shared().unwrap().config("postgres"), self.name.clone());
        tokio::spawn(async move {
            let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
            let _ = connect(&config).await.batch_execute(&drop).await;
        });
    }
}
