//! A backup is a complete copy, made while the inbox is used.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use inqud_inbox::{Inbox, InboxErrorKind, Store, rusqlite};

use crate::{Place, records};

#[tokio::test]
async fn copy_is_complete_while_the_inbox_is_used() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    inbox.store().insert(records(0..500)).await.unwrap();
    let to = place.file("-backup");
    let is_done = AtomicBool::new(false);
    let puts = async {
        let mut at = 500;
        while !is_done.load(Ordering::SeqCst) {
            inbox.store().insert(records(at..at + 1)).await.unwrap();
            at += 1;
        }
        at
    };
    let back_up = async {
        for _ in 0..3 {
            drop(fs::remove_file(&to));
            inbox.back_up(&to).await.unwrap();
        }
        is_done.store(true, Ordering::SeqCst);
    };
    let (stored, ()) = tokio::join!(puts, back_up);
    assert!(stored > 503, "notifications are stored meanwhile");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let attached = Inbox::attach(&to).unwrap();
    drop(attached);
    let copy = rusqlite::Connection::open(&to).unwrap();
    let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    drop(copy);
    let options = inqud_inbox::SqliteOptions::new(&to).allow_tmpfs();
    let restored = options.open().unwrap();
    let backlog = usize::try_from(restored.stats().await.unwrap().backlog()).unwrap();
    assert!((500..=stored).contains(&backlog), "{backlog} of {stored}");
    let known = restored.store().insert(records(0..500)).await.unwrap();
    assert!(known.iter().all(|it| *it == inqud_inbox::Inserted::Duplicate));
}

#[tokio::test]
async fn overwrites_nothing_and_leaves_nothing_behind() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let to = place.file("-backup");
    fs::write(&to, "precious").unwrap();
    let attached = Inbox::attach(place.file("")).unwrap();
    let errors = [inbox.back_up(&to).await, attached.back_up(&to).await];
    for error in errors {
        assert_eq!(error.unwrap_err().kind(), InboxErrorKind::BackupExists);
    }
    assert_eq!(fs::read(&to).unwrap(), b"precious");
    let missing = place.file("-no-folder").join("backup");
    assert_eq!(inbox.back_up(missing).await.unwrap_err().kind(), InboxErrorKind::Store);

    fs::remove_file(&to).unwrap();
    attached.back_up(&to).await.unwrap();
    let folder = to.parent().unwrap();
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    let parts = names.filter(|it| it.to_string_lossy().contains("part")).count();
    assert_eq!(parts, 0);
}
