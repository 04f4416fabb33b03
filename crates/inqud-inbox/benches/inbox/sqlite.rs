//! SQLite.

use std::path::PathBuf;
use std::thread;

use inqud_inbox::rusqlite::{Connection, Result, Statement, params};
use inqud_inbox::{Context, Inbox, Inserted, Record};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower_inqud::PaymentRequest;

use crate::engine::{CONCURRENCY, Engine, GROUP, Rows, Waiting, processed};

pub(crate) struct Sqlite {
    folder: TempDir,
}

const EFFECT: &str = "INSERT INTO effect (object) VALUES (?1)";

impl Engine for Sqlite {
    type Store = inqud_inbox::Sqlite;
    const NAME: &'static str = "SQLite";

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
        Self::close(inbox).await;
        place
    }

    async fn inbox(&self) -> Inbox<inqud_inbox::Sqlite> {
        Inbox::sqlite(self.file()).unwrap()
    }

    async fn close(inbox: Inbox<inqud_inbox::Sqlite>) {
        inbox.close().await;
    }

    async fn effect(cx: &Context<inqud_inbox::Sqlite>, object: String) {
        cx.effect(move |db| db.execute(EFFECT, [&object]));
    }

    async fn insert_plainly(&self) -> mpsc::Sender<Waiting> {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(GROUP);
        let connection = self.connect();
        thread::spawn(move || {
            let mut plain = Statements::new(&connection).unwrap();
            let mut group = Vec::new();
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

    async fn consume_plainly(&self, count: usize, has_effect: bool) {
        let connection = self.connect();
        let consume = move || {
            let mut plain = Statements::new(&connection).unwrap();
            let (mut claimed, mut settled) = (Vec::new(), 0);
            while settled < count {
                plain.begin().unwrap();
                for one in claimed.drain(..) {
                    plain.settle(&one, has_effect).unwrap();
                    settled += 1;
                }
                claimed = plain.claim((count - settled).min(CONCURRENCY)).unwrap();
                plain.commit().unwrap();
            }
        };
        thread::spawn(consume).join().unwrap();
    }

    async fn rows(&self) -> Rows {
        let connection = Connection::open(self.file()).unwrap();
        let count = |sql| {
            let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            usize::try_from(count).unwrap()
        };
        Rows {
            open: count("SELECT count(*) FROM inqud_inbox_notification WHERE state = 0"),
            done: count("SELECT count(*) FROM inqud_inbox_notification WHERE state = 1"),
            effects: count("SELECT count(*) FROM effect"),
        }
    }

    async fn process_all(&self) {
        let all = "UPDATE inqud_inbox_notification SET state = 1, settled_at = received_at WHERE state = 0;
            UPDATE inqud_inbox_object SET due_at = NULL WHERE due_at IS NOT NULL";
        self.connect().execute_batch(all).unwrap();
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

/// The statements of the inbox (`src/sqlite/tables.rs`) and nothing else, except that each object is added to
/// the index at once.
struct Statements<'c> {
    connection: &'c Connection,
    clock: i64,
    find: Statement<'c>,
    index: Statement<'c>,
    meet: Statement<'c>,
    insert: Statement<'c>,
    due: Statement<'c>,
    oldest: Statement<'c>,
    attempt: Statement<'c>,
    lease: Statement<'c>,
    claimed: Statement<'c>,
    close: Statement<'c>,
    process: Statement<'c>,
    go_on: Statement<'c>,
    stamp: Statement<'c>,
}

struct Claimed {
    seq: i64,
    object: String,
    claim: i64,
    order_key: Vec<u8>,
}

const KIND: &str = <PaymentRequest as inqud_inbox::Storable>::KIND;

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            connection,
            clock: 0,
            find: connection.prepare("SELECT number FROM inqud_inbox_index WHERE hash = ?1")?,
            index: connection.prepare("INSERT INTO inqud_inbox_index VALUES (?1, ?2)")?,
            meet: connection.prepare(
                "INSERT INTO inqud_inbox_object (hash, id, kind, due_at) VALUES (?1, ?2, ?3, ?4)",
            )?,
            insert: connection.prepare(
                "INSERT INTO inqud_inbox_notification
                     (object, key, position, order_key, body, received_at, state, settled_at, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?7 = 0, NULL, ?6), ?8)",
            )?,
            due: connection.prepare(
                "SELECT number, id, processed, claim FROM inqud_inbox_object
                 WHERE kind = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
            )?,
            oldest: connection.prepare(
                "SELECT seq, key, order_key, body, attempts, received_at, reviewed
                 FROM inqud_inbox_notification
                 WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1",
            )?,
            attempt: connection.prepare(
                "UPDATE inqud_inbox_notification SET attempts = attempts + 1 WHERE seq = ?1",
            )?,
            lease: connection.prepare(
                "UPDATE inqud_inbox_object SET due_at = ?2, leased = 1, claim = ?3
                 WHERE number = ?1",
            )?,
            claimed: connection.prepare(
                "SELECT number, key FROM inqud_inbox_notification
                 JOIN inqud_inbox_object ON number = object
                 WHERE seq = ?1 AND state = 0 AND claim = ?2",
            )?,
            close: connection.prepare(
                "UPDATE inqud_inbox_notification
                 SET state = ?2, settled_at = ?3, error = coalesce(?4, error), verdict = ?5
                 WHERE seq = ?1",
            )?,
            process: connection
                .prepare("UPDATE inqud_inbox_object SET processed = ?2 WHERE number = ?1")?,
            go_on: connection.prepare(
                "UPDATE inqud_inbox_object SET leased = 0, due_at =
                     (SELECT received_at FROM inqud_inbox_notification
                      WHERE object = ?1 AND state = 0 ORDER BY position, seq LIMIT 1)
                 WHERE number = ?1",
            )?,
            stamp: connection.prepare("UPDATE inqud_inbox_clock SET at = ?1")?,
        })
    }

    fn begin(&self) -> Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<()> {
        self.stamp.execute([self.clock])?;
        self.connection.execute_batch("COMMIT")
    }

    fn now(&mut self) -> i64 {
        self.clock = jiff::Timestamp::now().as_microsecond().max(self.clock + 1);
        self.clock
    }

    fn insert(&mut self, record: &Record) -> Result<Inserted> {
        let Record { key, kind, object, order_key, body, dead } = record;
        let now = self.now();
        // As good a hash as that of the inbox, and as cheap. Every object is new here.
        let hash = i32::from_be_bytes(key.as_bytes()[..4].try_into().unwrap());
        std::hint::black_box(self.find.exists([hash])?);
        let number = self.meet.insert(params![hash, object, kind, now])?;
        self.index.execute(params![hash, number])?;
        let (position, order_key) = (order_key.position(), order_key.to_bytes());
        let state = if dead.is_some() { 3 } else { 0 };
        let row = params![number, key.as_bytes(), position, order_key, &body[..], now, state, dead];
        assert_eq!(self.insert.execute(row)?, 1);
        Ok(Inserted::New)
    }

    fn claim(&mut self, count: usize) -> Result<Vec<Claimed>> {
        const LEASE: i64 = 120_000_000;
        let now = self.now();
        let count = i64::try_from(count).unwrap();
        let due = self.due.query_map(params![KIND, now, count], |row| {
            let processed: Option<Vec<u8>> = row.get(2)?;
            Ok((row.get(0)?, row.get(1)?, processed, row.get(3)?))
        })?;
        let due: Vec<(i64, String, _, i64)> = due.collect::<Result<_>>()?;
        let mut all = Vec::new();
        for (number, object, _, claim) in due {
            let oldest = |row: &inqud_inbox::rusqlite::Row<'_>| {
                let (seq, key): (i64, [u8; 16]) = (row.get(0)?, row.get(1)?);
                // Decodes as much as a handler needs.
                let (body, attempts): (Vec<u8>, i64) = (row.get(3)?, row.get(4)?);
                std::hint::black_box((body, key, attempts, row.get::<_, bool>(6)?));
                Ok((seq, row.get(2)?))
            };
            let (seq, order_key) = self.oldest.query_row([number], oldest)?;
            let claim = claim + 1;
            self.attempt.execute([seq])?;
            self.lease.execute([number, now + LEASE, claim])?;
            all.push(Claimed { seq, object, claim, order_key });
        }
        Ok(all)
    }

    fn settle(&mut self, one: &Claimed, has_effect: bool) -> Result<()> {
        let Claimed { seq, object, claim, order_key } = one;
        let claimed = self.claimed.query_row([seq, claim], |row| Ok((row.get(0)?, row.get(1)?)));
        let (number, _): (i64, [u8; 16]) = claimed?;
        let now = self.now();
        if has_effect {
            // Prepared each time, as in the handler of the inbox.
            self.connection.execute(EFFECT, [object])?;
        }
        self.process.execute(params![number, processed(*seq, order_key)])?;
        self.close.execute(params![seq, 1, now, None::<&str>, 0])?;
        self.go_on.execute([number])?;
        Ok(())
    }
}
