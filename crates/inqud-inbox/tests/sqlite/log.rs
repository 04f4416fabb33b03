//! The write-ahead log is truncated while nothing happens.

use std::fs;
use std::time::Duration;

use inqud_inbox::{Inserted, Store, rusqlite};
use tokio::time::{Instant, sleep};

use crate::{LONG, Place, number, records};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn log_is_truncated_when_idle_and_disturbs_no_work() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let fill = |db: &rusqlite::Connection| {
        db.execute_batch("CREATE TABLE big (b BLOB)")?;
        for _ in 0..20 {
            db.execute("INSERT INTO big VALUES (randomblob(1048576))", [])?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    inbox.write(fill).await.unwrap();
    let log = || fs::metadata(place.file("-wal")).unwrap().len();
    assert!(log() > 20 * MIB);

    // A reader holds the log. Meanwhile work goes on.
    let reader = rusqlite::Connection::open(place.file("")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM big").unwrap();
    inbox.store().insert(records(0..1)).await.unwrap();
    sleep(Duration::from_millis(3500)).await;
    assert!(log() > 20 * MIB);
    let began = Instant::now();
    assert_eq!(inbox.store().insert(records(1..2)).await.unwrap(), [Inserted::New]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    drop(reader);
    let began = Instant::now();
    while log() > MIB {
        assert!(began.elapsed() < LONG, "{}", log());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(inbox.store().insert(records(2..3)).await.unwrap(), [Inserted::New]);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 3);
    assert_eq!(number(&inbox, "SELECT count(*) FROM big").await, 20);
}
