//! Erasing what a store has about an object.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;

use crate::claims::*;
use crate::postgres;
use inqud_inbox::{
    Admin, Erase, Inbox, InboxErrorKind, Inserted, Outcome, Record, Settled, Sqlite, State,
    Storable, Store,
};
use tempfile::TempDir;
use tower_inqud::PaymentRequest;

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

of_each_store! {
    erases_bodies_and_errors_and_keeps_keys
    refuses_what_is_not_settled_unless_forced
    erases_the_object_of_one_tenant
    erases_all_objects_of_an_order
}

fn object(id: u32) -> Erase {
    Erase::object(PaymentRequest::KIND, &format!("CAPD-{id}"))
}

async fn erases_bodies_and_errors_and_keeps_keys(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    for (minute, outcome) in [(0, Outcome::Done(vec![])), (1, dead()), (2, Outcome::Review)] {
        insert(inbox, &[(1, minute), (2, minute)]).await;
        let mut claimed = claim(store).await;
        claimed.sort_by(|one, other| one.ticket.object.cmp(&other.ticket.object));
        settle(store, &claimed[0], outcome).await;
        settle(store, &claimed[1], Outcome::Dead { error: "Jane's address".to_owned() }).await;
    }
    assert_eq!(inbox.erase(object(1)).await.unwrap(), 3);
    assert_eq!(inbox.erase(object(7)).await.unwrap(), 0);

    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.dead(), stats.review(), stats.skipped()), (3, 0, 2), "of the other: 3");
    let skipped = inbox.list(State::Skipped, 9).await.unwrap().entries;
    for entry in &skipped {
        assert_eq!((&*entry.object, &*entry.error, entry.body.len()), ("CAPD-1", "erased", 0));
    }
    assert!(inbox.dead(9).await.unwrap().iter().all(|it| it.object == "CAPD-2"));
    let keys = skipped.iter().map(|it| it.key);
    assert_eq!(inbox.redrive(keys).await.unwrap(), 0);
    for minute in 0..3 {
        let inserted = store.insert(vec![record(1, minute)]).await.unwrap();
        // Unlike a review that was discarded.
        assert_eq!(inserted, [Inserted::Duplicate], "{minute}");
    }
}

async fn refuses_what_is_not_settled_unless_forced(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    insert(inbox, &[(1, 0), (1, 1), (2, 0)]).await;
    let claimed = claim(store).await;
    let error = inbox.erase(object(1)).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::NotSettled);
    assert_eq!(store.stats().await.unwrap().backlog(), 3);

    assert_eq!(inbox.erase(object(1).force()).await.unwrap(), 2);
    assert_eq!(settle(store, &claimed[0], Outcome::Done(vec![])).await, Settled::LeaseExpired);
    let done = settle(store, &claimed[1], Outcome::Done(vec![])).await;
    assert!(matches!(done, Settled::Done { .. }), "the other one is handled");
    assert!(claim(store).await.is_empty());
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.skipped()), (0, 2));

    insert(inbox, &[(1, 0), (1, 2)]).await;
    let later = claim(store).await;
    assert_eq!(later.len(), 1);
    assert_eq!(later[0].body, body(1, 2), "a new one is handled");
}

async fn erases_the_object_of_one_tenant(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let mut records = vec![record(1, 0)];
    records.extend(["acme", "globex"].map(|name| record(1, 0).of_tenant(name)));
    store.insert(records).await.unwrap();
    for claimed in claim(store).await {
        settle(store, &claimed, dead()).await;
    }
    assert_eq!(inbox.erase(object(1).tenant("acme")).await.unwrap(), 1);
    let dead = inbox.dead(9).await.unwrap();
    let tenants: Vec<_> = dead.iter().map(|it| it.tenant.as_deref()).collect();
    assert_eq!(tenants, [None, Some("globex")]);
}

async fn erases_all_objects_of_an_order(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    let of_order = |id: u32, order: &str| {
        let body = body(id, 0).replace('{', &format!(r#"{{"clientOrderId":"{order}","#));
        Record::new(&serde_json::from_str::<PaymentRequest>(&body).unwrap(), body.into())
    };
    let long = "order ".repeat(100);
    let records = [(1, "order-1"), (2, "order-2"), (3, "order-1"), (4, &long)];
    let records = records.map(|(id, order)| of_order(id, order)).to_vec();
    store.insert(records).await.unwrap();
    for claimed in claim(store).await {
        settle(store, &claimed, dead()).await;
    }
    assert_eq!(inbox.erase(Erase::order("order-1")).await.unwrap(), 2);
    assert_eq!(inbox.erase(Erase::order("order-1")).await.unwrap(), 0, "it is erased");
    assert_eq!(inbox.erase(Erase::order(&long)).await.unwrap(), 1);
    let dead = inbox.dead(9).await.unwrap();
    let objects: Vec<_> = dead.iter().map(|it| &*it.object).collect();
    assert_eq!(objects, ["CAPD-2"]);
    let again = store.insert(vec![of_order(1, "order-1")]).await.unwrap();
    assert_eq!(again, [Inserted::Duplicate]);
}

/// The files of a SQLite inbox have nothing of the body.
#[tokio::test]
async fn nothing_remains_in_the_files() {
    let mark = "Jane.Doe@example.com".repeat(500);
    let holds = |folder: &TempDir| {
        let files = fs::read_dir(folder.path()).unwrap().map(|it| fs::read(it.unwrap().path()));
        files.flat_map(Result::ok).any(|it| it.windows(20).any(|it| it == &mark.as_bytes()[..20]))
    };
    for is_attached in [false, true] {
        let (inbox, folder) = file();
        let body = body(1, 0).replace('{', &format!(r#"{{"mail":"{mark}","#));
        let request: PaymentRequest = serde_json::from_str(&body).unwrap();
        inbox.store().insert(vec![Record::new(&request, body.into())]).await.unwrap();
        let claimed = claim(inbox.store()).await;
        settle(inbox.store(), &claimed[0], Outcome::Dead { error: mark.clone() }).await;
        assert!(holds(&folder));
        if is_attached {
            let attached = Inbox::attach(folder.path().join("inbox.db")).unwrap();
            assert_eq!(attached.erase(object(1)).await.unwrap(), 1);
        } else {
            assert_eq!(inbox.erase(object(1)).await.unwrap(), 1);
        }
        assert!(!holds(&folder));
        inbox.close().await;
        assert!(!holds(&folder));
    }
}
