//! Looking notifications up, and importing them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;

use crate::claims::{LEASE, claim, record};
use crate::postgres;
use inqud_inbox::{
    Context, Cursor, Entry, Fetched, Filter, Inbox, Inserted, Outcome, Record, Source, Sqlite,
    State, Storable, Store, Stored, WatchList, testing,
};
use tempfile::TempDir;
use tower_inqud::{Payment, PaymentRequest};

of_each_store! {
    finds_by_each_condition
    pages_have_each_row_once
    lists_newest_first
    long_order_ids_are_found
    shows_body_only_on_request
    import_and_webhook_are_one_notification
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

fn of_order(id: u32, order: &str) -> Record {
    let body = format!(
        r#"{{"id":"CAPD-{id}","status":"SUCCESS","clientOrderId":"{order}","orderId":"ORD-{id}"}}"#
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

async fn objects(inbox: &Inbox<impl Store>, filter: Filter) -> Vec<String> {
    let page = inbox.list(filter, 99).await.unwrap();
    assert_eq!(page.next, None);
    page.entries.into_iter().map(|it| it.object).collect()
}

async fn finds_by_each_condition<S: Store>(inbox: &Inbox<S>) {
    let payment = br#"{"id":"PMT-1","status":"SUCCESS","orderId":"ORD-9"}"#.as_slice();
    let payment = Record::new(&serde_json::from_slice::<Payment>(payment).unwrap(), payment.into());
    let store = inbox.store();
    store.insert(vec![of_order(1, "order-1"), of_order(2, "order-2")]).await.unwrap();
    store.insert(vec![of_order(1, "order-1").of_tenant("acme"), payment]).await.unwrap();
    let middle = inbox.list(Filter::new(), 9).await.unwrap().entries[2].received_at;
    let handler = async |_: Stored<Payment>, _: Context<S>| Ok::<_, Infallible>(());
    inbox.process(handler).run_until_idle().await.unwrap();
    store.insert(vec![record(7, 0)]).await.unwrap();

    let all = ["CAPD-1", "CAPD-2", "CAPD-1", "PMT-1", "CAPD-7"];
    let new = Filter::new;
    for (filter, expected) in [
        (new(), &all[..]),
        (new().order_id("order-1"), &["CAPD-1", "CAPD-1"]),
        (new().order_id("order-1").tenant("acme"), &["CAPD-1"]),
        (new().order_id("ORD-1"), &[]),
        // Inqud's, because it does not have yours.
        (new().order_id("ORD-9"), &["PMT-1"]),
        (new().order_id("order-3"), &[]),
        (new().order_id(""), &[]),
        (new().object("CAPD-1"), &["CAPD-1"]),
        (new().object("CAPD-1").tenant("acme"), &["CAPD-1"]),
        (new().object("CAPD-1").kind("payment"), &[]),
        (new().object("CAPD-1").order_id("order-2"), &[]),
        (new().object("@acme/CAPD-1"), &[]),
        (new().tenant("acme"), &["CAPD-1"]),
        (new().tenant("acm"), &[]),
        (new().kind("payment"), &["PMT-1"]),
        (new().status("WAITING_PAYMENT"), &["CAPD-7"]),
        (State::Done.into(), &["PMT-1"]),
        (State::Open.into(), &["CAPD-1", "CAPD-2", "CAPD-1", "CAPD-7"]),
        (State::Dead.into(), &[]),
        (new().verdict(tower_inqud::Verdict::Newer), &["PMT-1"]),
        (new().since(middle), &all[2..]),
        (new().before(middle), &all[..2]),
        (new().since(middle).before(middle), &[]),
        // Nothing of a text is taken for a pattern or for SQL.
        (new().status("%"), &[]),
        (new().tenant("' OR 1 = 1 --\0"), &[]),
    ] {
        assert_eq!(objects(inbox, filter.clone()).await, expected, "{filter:?}");
    }
    let page = inbox.list(new().order_id("order-1"), 1).await.unwrap();
    let Entry { order_id, status, state, source, tenant, replays, .. } = &page.entries[0];
    assert_eq!((order_id.as_deref(), &**status, *state), (Some("order-1"), "SUCCESS", State::Open));
    assert_eq!((*source, tenant, *replays), (Source::Pushed, &None, 0));
}

/// Bodies hold personal data, and `Debug` output is often logged.
#[tokio::test]
async fn debug_shows_no_body() {
    let inbox = Inbox::memory();
    let body = r#"{"id":"CAPD-1","status":"SUCCESS","customer":"gherkin"}"#;
    let record = || Record::decode::<PaymentRequest>(body).unwrap();
    inbox.store().insert(vec![record()]).await.unwrap();
    let kind = PaymentRequest::KIND;
    let entries = inbox.list(Filter::new().with_bodies(), 9).await.unwrap().entries;
    let claimed = claim(inbox.store()).await;
    let decoded: Outcome<()> = Outcome::Decoded(record());
    let stored = testing::stored::<PaymentRequest>(body).unwrap();
    let arrived = inbox.store().arrived(kind, 1, LEASE).await.unwrap();
    let known = inbox.store().known(kind, "CAPD-1").await.unwrap();
    assert!(entries[0].body.ends_with(b"gherkin\"}"));
    for (name, shown) in [
        ("Entry", format!("{entries:?}")),
        ("Claimed", format!("{claimed:?}")),
        ("Record", format!("{decoded:?}")),
        ("Stored", format!("{stored:?}")),
        ("Arrival", format!("{arrived:?}")),
        ("Known", format!("{known:?}")),
        ("body_len", format!("{:?}", Fetched::Found(body.into()))),
    ] {
        assert!(shown.contains(name), "{shown}");
        assert!(!shown.contains("gherkin"), "{shown}");
    }
}

/// Rows are added and settled between the pages.
async fn pages_have_each_row_once(inbox: &Inbox<impl Store>) {
    let store = inbox.store();
    store.insert((0..25).map(|id| record(id, 0)).collect()).await.unwrap();
    let before: BTreeSet<_> = keys(&inbox.list(Filter::new(), 99).await.unwrap().entries).collect();
    assert_eq!(before.len(), 25);
    for filter in [Filter::new(), Filter::new().newest_first()] {
        let (mut listed, mut cursor, mut added) = (Vec::new(), None::<Cursor>, 100);
        loop {
            let page = inbox.list(filter.clone().after(cursor), 4).await.unwrap();
            assert!(page.entries.len() <= 4);
            listed.extend(keys(&page.entries));
            store.insert(vec![record(added, 0)]).await.unwrap();
            added += 1;
            for claimed in claim(store).await.iter().take(2) {
                crate::claims::settle(store, claimed, Outcome::Done(vec![])).await;
            }
            // As a program hands it on.
            let Some(next) = page.next else { break };
            cursor = Some(next.to_string().parse().unwrap());
            assert_eq!(cursor, Some(next));
        }
        let distinct: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(distinct.len(), listed.len(), "none twice");
        assert!(distinct.is_superset(&before));
    }
    for text in ["", "c", "1", "c-1", "c+1", "cx", "c11111111111111111"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

fn keys(entries: &[Entry]) -> impl Iterator<Item = inqud_inbox::Key> {
    entries.iter().map(|it| it.key)
}

async fn lists_newest_first(inbox: &Inbox<impl Store>) {
    for id in 0..3 {
        inbox.store().insert(vec![of_order(id, "order-1")]).await.unwrap();
    }
    let filter = Filter::new().order_id("order-1").newest_first();
    assert_eq!(objects(inbox, filter.clone()).await, ["CAPD-2", "CAPD-1", "CAPD-0"]);
    let page = inbox.list(&filter, 2).await.unwrap();
    assert_eq!(objects(inbox, filter.after(page.next)).await, ["CAPD-0"]);
    assert!(inbox.list(Filter::new(), 0).await.unwrap().entries.is_empty());
}

async fn long_order_ids_are_found(inbox: &Inbox<impl Store>) {
    let long = "7".repeat(100_000);
    inbox.store().insert(vec![of_order(1, &long), of_order(2, &long[1..])]).await.unwrap();
    assert_eq!(objects(inbox, Filter::new().order_id(&long)).await, ["CAPD-1"]);
    let entry = inbox.list(Filter::new(), 1).await.unwrap().entries.remove(0);
    assert!(entry.order_id.unwrap().len() <= 255);
}

async fn shows_body_only_on_request(inbox: &Inbox<impl Store>) {
    let record = of_order(1, "order-1");
    inbox.store().insert(vec![record.clone()]).await.unwrap();
    let listed = inbox.list(Filter::new(), 9).await.unwrap().entries.remove(0);
    assert_eq!((listed.body_len, listed.body.len()), (record.body.len(), 0));
    let shown = inbox.show(listed.key).await.unwrap().unwrap();
    assert_eq!(shown.body, record.body);
    assert!(!format!("{shown:?}").contains("clientOrderId"));
    assert!(inbox.show(inqud_inbox::Key::from_bytes([7; 16])).await.unwrap().is_none());
}

async fn import_and_webhook_are_one_notification<S: Store>(inbox: &Inbox<S>) {
    let body = |id: u32| of_order(id, "order-1").body;
    let fetched = |id| Record::decode::<PaymentRequest>(body(id)).unwrap();
    let store = inbox.store();
    assert_eq!(inbox.import(vec![fetched(1)]).await.unwrap(), [Inserted::New]);
    assert_eq!(store.insert(vec![of_order(1, "order-1")]).await.unwrap(), [Inserted::Duplicate]);
    assert_eq!(store.insert(vec![of_order(2, "order-1")]).await.unwrap(), [Inserted::New]);
    assert_eq!(inbox.import(vec![fetched(2)]).await.unwrap(), [Inserted::Duplicate]);
    assert!(Record::decode::<PaymentRequest>(r#"{"id":"PMT-1","status":"SUCCESS"}"#).is_err());

    let listed = inbox.list(Filter::new(), 9).await.unwrap().entries;
    let sources: Vec<_> = listed.iter().map(|it| it.source).collect();
    assert_eq!(sources, [Source::Fetched, Source::Pushed]);
    let handler = async |request: Stored<PaymentRequest>, _: Context<S>| {
        let expected = if request.id == "CAPD-1" { Source::Fetched } else { Source::Pushed };
        if request.source() == expected { Ok(()) } else { Err("wrong") }
    };
    assert_eq!(inbox.process(handler).run_until_idle().await.unwrap().done, 2);
}
