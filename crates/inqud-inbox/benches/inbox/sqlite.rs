//! SQLite.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use inqud_inbox::rusqlite::{Connection, Result, Statement, params};
use inqud_inbox::{Context, Inbox, Inserted, Record};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::engine::{Engine, GROUP, Handler, KIND, Rows, Waiting, processed};

pub(crate) struct Sqlite {
    folder: TempDir,
}

const EFFECT: &str = "INSERT INTO effect (object) VALUES (?1)";

impl Engine for Sqlite {
    type Store = inqud_inbox::Sqlite;
    const NAME: &'static str = "SQLite";
    const HANDLERS: &'static [(Handler, &'static str)] =
        &[(Handler::Nothing, "nothing"), (Handler::Effect, "an effect")];

    async fn is_there() -> bool {
        true
    }

    async fn new() -> Self {
        // On the disk of the build, because the default temporary folder can be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = Self { folder };
        let inbox = place.inbox().await;
        let table = "CREATE TABLE effect (seq INTEGER PRIMARY KEY, object TEXT)";
        inbox.write(|db| db.execute_batch(table)).await.unwrap();
        inbox.close().await;
        place
    }

    async fn inbox(&self) -> Inbox<inqud_inbox::Sqlite> {
        Inbox::sqlite(self.file()).unwrap()
    }

    async fn handle(handler: Handler, cx: &Context<inqud_inbox::Sqlite>, object: String) {
        if handler != Handler::Nothing {
            cx.effect(move |db| db.execute(EFFECT, [&object]));
        }
    }

    async fn insert_plainly(&self) -> mpsc::Sender<Waiting> {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(GROUP);
        let connection = self.connect();
        thread::spawn(move || {
            let mut plain = Statements::new(&connection).unwrap();
            let mut group = Vec::with_capacity(GROUP);
            while let Some(first) = receiver.blocking_recv() {
                group.push(first);
                while let (true, Ok(next)) = (group.len() < GROUP, receiver.try_recv()) {
                    group.push(next);
                }
                plain.begin().unwrap();
                let inserts: Vec<_> = group.iter().map(|it| plain.insert(&it.0).unwrap()).collect();
                plain.commit().unwrap();
                for ((_, answer), inserted) in group.drain(..).zip(inserts) {
                    answer.send(inserted).unwrap();
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
        let connection = self.connect();
        let consume = move || {
            let mut plain = Statements::new(&connection).unwrap();
            let (mut claimed, mut settled) = (Vec::new(), 0);
            let began = Instant::now();
            while settled < count {
                plain.begin().unwrap();
                for one in claimed.drain(..) {
                    plain.settle(&one, handler).unwrap();
                    settled += 1;
                }
                claimed = plain.claim((count - settled).min(concurrency)).unwrap();
                plain.commit().unwrap();
            }
            began.elapsed()
        };
        tokio::task::spawn_blocking(consume).await.unwrap()
    }

    async fn rows(&self) -> Rows {
        let connection = Connection::open(self.file()).unwrap();
        let count = |sql| {
            let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            usize::try_from(count).unwrap()
        };
        // All with an index, because it also counts a million.
        let all = count("SELECT count(*) FROM inqud_inbox_notification");
        let open = count("SELECT count(*) FROM inqud_inbox_notification WHERE state = 0");
        assert_eq!(count("SELECT count(*) FROM inqud_inbox_notification WHERE state > 1"), 0);
        Rows { open, done: all - open, effects: count("SELECT count(*) FROM effect") }
    }

    async fn process_all(&self) {
        let all = "UPDATE inqud_inbox_notification SET state = 1, settled_at = received_at WHERE state = 0;
            UPDATE inqud_inbox_object SET due_at = NULL WHERE due_at IS NOT NULL";
        self.connect().execute_batch(all).unwrap();
    }

    async fn remove(self) {
        self.folder.close().unwrap();
    }
}

impl Sqlite {
    fn file(&self) -> PathBuf {
        self.folder.path().join("inbox.db")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.file()).unwrap();
        let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            PRAGMA wal_autocheckpoint = 16000";
        connection.execute_batch(set).unwrap();
        connection
    }
}

/// The statements that store and process on the tables of the inbox, with the same constraints.
struct Statements<'c> {
    connection: &'c Connection,
    now: i64,
    meet: Statement<'c>,
    insert: Statement<'c>,
    due: Statement<'c>,
    oldest: Statement<'c>,
    lease: Statement<'c>,
    done: Statement<'c>,
    go_on: Statement<'c>,
}

struct Claimed {
    number: i64,
    object: String,
    claim: i64,
    seq: i64,
    order_key: Vec<u8>,
}

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            connection,
            now: 0,
            meet: connection.prepare(
                "INSERT INTO inqud_inbox_object (kind, id, due_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET due_at = coalesce(due_at, excluded.due_at)
                 RETURNING number",
            )?,
            insert: connection.prepare(
                "INSERT INTO inqud_inbox_notification
                     (object, kind, key, position, order_key, received_at, body, order_id, status)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?,
            due: connection.prepare(
                "SELECT number, id, claim FROM inqud_inbox_object
                 WHERE kind = ?1 AND due_at <= ?2 AND leased_until IS NULL AND crashes = 0
                 ORDER BY due_at LIMIT ?3 + 0",
            )?,
            oldest: connection.prepare(
                "SELECT seq, key, order_key, body FROM inqud_inbox_notification
                 WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1",
            )?,
            lease: connection.prepare(
                "UPDATE inqud_inbox_object SET leased_until = ?2, claim = claim + 1
                 WHERE number = ?1",
            )?,
            done: connection.prepare(
                "UPDATE inqud_inbox_notification SET state = 1, settled_at = ?2 WHERE seq = ?1",
            )?,
            go_on: connection.prepare(
                "UPDATE inqud_inbox_object SET processed = ?3, leased_until = NULL, due_at =
                     (SELECT received_at FROM inqud_inbox_notification
                      WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1)
                 WHERE number = ?1 AND claim = ?2",
            )?,
        })
    }

    fn begin(&self) -> Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    fn commit(&self) -> Result<()> {
        self.connection.execute_batch("COMMIT")
    }

    /// Returns the time, each time another.
    fn now(&mut self) -> i64 {
        self.now = jiff::Timestamp::now().as_microsecond().max(self.now + 1);
        self.now
    }

    fn insert(&mut self, record: &Record) -> Result<Inserted> {
        let Record { key, kind, object, order_key, body, order_id, .. } = record;
        let now = self.now();
        let number: i64 = self.meet.query_row(params![kind, object, now], |row| row.get(0))?;
        let (position, status) = (order_key.position(), order_key.status());
        let order_key = order_key.to_bytes();
        let (key, body) = (key.as_bytes(), &body[..]);
        let row = params![number, kind, key, position, order_key, now, body, order_id, status];
        Ok(if self.insert.execute(row)? == 1 { Inserted::New } else { Inserted::Duplicate })
    }

    fn claim(&mut self, count: usize) -> Result<Vec<Claimed>> {
        const LEASE: i64 = 120_000_000;
        let (now, count) = (self.now(), i64::try_from(count).unwrap());
        let due = self.due.query_map(params![KIND, now, count], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        let due: Vec<(i64, String, i64)> = due.collect::<Result<_>>()?;
        let mut all = Vec::new();
        for (number, object, claim) in due {
            let (seq, order_key) = self.oldest.query_row([number], |row| {
                // Decodes as much as a handler needs.
                std::hint::black_box((row.get::<_, [u8; 16]>(1)?, row.get::<_, Vec<u8>>(3)?));
                Ok((row.get(0)?, row.get(2)?))
            })?;
            self.lease.execute([number, now + LEASE])?;
            all.push(Claimed { number, object, claim: claim + 1, seq, order_key });
        }
        Ok(all)
    }

    fn settle(&mut self, one: &Claimed, handler: Handler) -> Result<()> {
        let Claimed { number, object, claim, seq, order_key } = one;
        if handler != Handler::Nothing {
            // Prepared each time, as in the handler of the inbox.
            self.connection.execute(EFFECT, [object])?;
        }
        let now = self.now();
        assert_eq!(self.done.execute([*seq, now])?, 1);
        assert_eq!(self.go_on.execute(params![number, claim, processed(*seq, order_key)])?, 1);
        Ok(())
    }
}
