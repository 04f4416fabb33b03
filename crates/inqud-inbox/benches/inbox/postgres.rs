//! Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inqud_inbox::tokio_postgres::types::ToSql;
use inqud_inbox::tokio_postgres::{Client, Config, NoTls, Row, Statement};
use inqud_inbox::{Context, Inbox, Inserted, Key};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::{Engine, GROUP, Handler, KIND, Rows, Waiting, processed};
use crate::server::{connect, shared};

pub(crate) struct Postgres {
    config: Config,
    name: String,
}

const EFFECT: &str = "INSERT INTO effect (object) VALUES ($1)";

impl Engine for Postgres {
    type Store = inqud_inbox::Postgres;
    const NAME: &'static str = "Postgres";
    const HANDLERS: &'static [(Handler, &'static str)] = &[
        (Handler::Nothing, "nothing"),
        (Handler::Effect, "a statement"),
        (Handler::Transaction, "a transaction"),
    ];

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
        Inbox::postgres(self.config.clone(), NoTls).await.unwrap()
    }

    async fn handle(handler: Handler, cx: &Context<inqud_inbox::Postgres>, object: String) {
        match handler {
            Handler::Nothing => {}
            Handler::Effect => cx.execute(EFFECT, [object]),
            Handler::Transaction => {
                let transaction = cx.transaction().await.unwrap();
                transaction.execute(EFFECT, &[&object]).await.unwrap();
            }
        }
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

    async fn consume_plainly(
        &self,
        count: usize,
        handler: Handler,
        concurrency: usize,
    ) -> Duration {
        if handler != Handler::Transaction {
            let worker = Worker::new(&self.config).await;
            let began = Instant::now();
            let mut rest = count;
            while rest > 0 {
                rest -= worker.work_batch(rest.min(concurrency), handler).await;
            }
            return began.elapsed();
        }
        let mut workers = Vec::new();
        for _ in 0..concurrency {
            workers.push(Worker::new(&self.config).await);
        }
        let (taken, mut running) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let began = Instant::now();
        for worker in workers {
            let taken = Arc::clone(&taken);
            running.spawn(async move {
                while taken.fetch_add(1, Ordering::Relaxed) < count {
                    worker.work().await;
                }
            });
        }
        running.join_all().await;
        began.elapsed()
    }

    async fn rows(&self) -> Rows {
        let client = connect(&self.config).await;
        let count = async |sql| {
            let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            usize::try_from(count).unwrap()
        };
        // All with an index, because it also counts a million.
        let all = count("SELECT count(*) FROM inqud_inbox.notification").await;
        let open = count("SELECT count(*) FROM inqud_inbox.notification WHERE state = 0").await;
        assert_eq!(count("SELECT count(*) FROM inqud_inbox.notification WHERE state > 1").await, 0);
        Rows { open, done: all - open, effects: count("SELECT count(*) FROM effect").await }
    }

    async fn process_all(&self) {
        let client = connect(&self.config).await;
        let all = "UPDATE inqud_inbox.notification SET state = 1, settled_at = received_at WHERE state = 0;
            UPDATE inqud_inbox.object SET due_at = NULL WHERE due_at IS NOT NULL";
        client.batch_execute(all).await.unwrap();
        client.batch_execute("VACUUM ANALYZE").await.unwrap();
    }

    async fn remove(self) {
        let client = connect(&shared().unwrap().config("postgres")).await;
        let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        client.batch_execute(&drop).await.unwrap();
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
    let order_ids: Vec<Option<&str>> = group.iter().map(|it| it.0.order_id.as_deref()).collect();
    let statuses: Vec<&str> = group.iter().map(|it| it.0.order_key.status()).collect();
    let sources = vec![0_i16; group.len()];
    let met: [&(dyn ToSql + Sync); 4] = [&kinds, &objects, &dead, &later];
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &keys,
        &kinds,
        &objects,
        &positions,
        &order_keys,
        &bodies,
        &dead,
        &plain,
        &later,
        &order_ids,
        &statuses,
        &sources,
    ];
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

/// A job queue on the tables of the inbox, as one writes it by hand: a job is claimed, done and marked as done in
/// one transaction, which holds a lock on its object meanwhile.
struct Worker {
    client: Arc<Client>,
    claim: Statement,
    effect: Statement,
    done: Statement,
    go_on: Statement,
}

/// Locks the objects that are due for longest, and reads the oldest notification of each.
const CLAIM: &str = "
    SELECT object, seq, key, order_key, body FROM (
        SELECT object FROM inqud_inbox.object
        WHERE kind = $1 AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) AS due CROSS JOIN LATERAL (
        SELECT seq, key, order_key, body FROM inqud_inbox.notification AS it
        WHERE it.kind = $1 AND it.object = due.object AND state = 0
        ORDER BY position, seq LIMIT 1
    ) AS oldest";
const DONE: &str =
    "UPDATE inqud_inbox.notification SET state = 1, settled_at = statement_timestamp()
    WHERE seq = ANY ($1::bigint[])";
const GO_ON: &str = "
    UPDATE inqud_inbox.object AS mine SET processed = it.processed, due_at = (
        SELECT received_at FROM inqud_inbox.notification AS next
        WHERE next.kind = $1 AND next.object = mine.object AND state = 0
        ORDER BY position, seq LIMIT 1
    ) FROM unnest($2::text[], $3::bytea[]) AS it (object, processed)
    WHERE mine.kind = $1 AND mine.object = it.object";

struct Claimed {
    object: String,
    seq: i64,
    processed: Vec<u8>,
}

impl Claimed {
    fn new(row: &Row) -> Self {
        // Decodes as much as a handler needs.
        let key = Key::from_bytes(row.get::<_, &[u8]>("key").try_into().unwrap());
        std::hint::black_box((row.get::<_, Vec<u8>>("body"), key));
        let seq = row.get("seq");
        Self { object: row.get("object"), seq, processed: processed(seq, row.get("order_key")) }
    }
}

impl Worker {
    async fn new(config: &Config) -> Self {
        let client = connect(config).await;
        let prepare = async |sql| client.prepare(sql).await.unwrap();
        Self {
            claim: prepare(CLAIM).await,
            effect: prepare(EFFECT).await,
            done: prepare(DONE).await,
            go_on: prepare(GO_ON).await,
            client: Arc::new(client),
        }
    }

    /// Does one job, in three round trips.
    async fn work(&self) {
        let claimed = self.claim(1).await;
        self.client.execute(&self.effect, &[&claimed[0].object]).await.unwrap();
        self.settle(&claimed).await;
    }

    /// Does up to `count` jobs in one transaction, in three round trips: the effects are pipelined.
    async fn work_batch(&self, count: usize, handler: Handler) -> usize {
        let claimed = self.claim(count).await;
        if handler != Handler::Nothing {
            let mut effects = JoinSet::new();
            for Claimed { object, .. } in &claimed {
                let (client, effect) = (Arc::clone(&self.client), self.effect.clone());
                let object = object.clone();
                effects.spawn(async move { client.execute(&effect, &[&object]).await.unwrap() });
            }
            effects.join_all().await;
        }
        self.settle(&claimed).await;
        claimed.len()
    }

    async fn claim(&self, count: usize) -> Vec<Claimed> {
        let count = i64::try_from(count).unwrap();
        let parameters: [&(dyn ToSql + Sync); 2] = [&KIND, &count];
        let (begun, rows) = tokio::join!(
            self.client.batch_execute("BEGIN"),
            self.client.query(&self.claim, &parameters)
        );
        begun.unwrap();
        let claimed: Vec<_> = rows.unwrap().iter().map(Claimed::new).collect();
        assert!(!claimed.is_empty());
        claimed
    }

    async fn settle(&self, all: &[Claimed]) {
        let seqs: Vec<i64> = all.iter().map(|it| it.seq).collect();
        let objects: Vec<&str> = all.iter().map(|it| &*it.object).collect();
        let processed: Vec<&[u8]> = all.iter().map(|it| &*it.processed).collect();
        let done: [&(dyn ToSql + Sync); 1] = [&seqs];
        let go_on: [&(dyn ToSql + Sync); 3] = [&KIND, &objects, &processed];
        let (done, moved, committed) = tokio::join!(
            self.client.execute(&self.done, &done),
            self.client.execute(&self.go_on, &go_on),
            self.client.batch_execute("COMMIT"),
        );
        committed.unwrap();
        assert_eq!([done.unwrap(), moved.unwrap()], [all.len() as u64; 2]);
    }
}
