//! Tests of duplicates and order: the rules themselves, and what each store does with them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::postgres;
use bytes::Bytes;
use inqud_inbox::{
    Context, Filter, Inbox, Inserted, Key, Record, Sqlite, State, Storable, Store, Stored,
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time::sleep;
use tower_inqud::{
    Content, Notification, OrderKey, Payment, PaymentRequest, Processed, Stage, Verdict,
};

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

// ---------------------------------------------------------------------- the rules

/// A notification whose fields are given directly.
#[derive(Debug)]
struct Told {
    status: &'static str,
    second: Option<i64>,
    rank: u8,
    content: u8,
}

impl Notification for Told {
    fn id(&self) -> &'static str {
        "1"
    }
    fn status_text(&self) -> &str {
        self.status
    }
    fn last_update(&self) -> Option<Timestamp> {
        self.second.map(|second| Timestamp::from_second(second).unwrap())
    }
    fn status_rank(&self) -> u8 {
        self.rank
    }
    fn stage(&self) -> Stage {
        match self.status {
            "NEW" | "PENDING" => Stage::Early,
            "PARTIAL" => Stage::Partial,
            "SUCCESS" => Stage::Success,
            _ => Stage::Settled,
        }
    }
    fn content(&self, _: &[u8]) -> Content {
        Content::of_bytes(&[self.content])
    }
}

/// Parses a text such as `SUCCESS 7 a`: a status, the second of the last update or `-`, and a content.
fn told(text: &'static str) -> OrderKey {
    let [status, second, content] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let rank = ["NEW", "PENDING", "PARTIAL", "FAILED", "SUCCESS"];
    let rank = rank.iter().position(|it| *it == status).unwrap_or(2);
    let rank = u8::try_from(rank).unwrap();
    OrderKey::new(
        &Told { status, second: second.parse().ok(), rank, content: content.as_bytes()[0] },
        b"",
    )
}

/// Each row has two notifications and the verdicts on the second: if it arrived after the first, and if it
/// arrived before.
#[test]
fn verdict_is_by_time_then_rank_then_arrival() {
    use Verdict::{Amended, Newer, Review, Stale, Unordered};
    for (processed, next, after, before) in [
        // Both have a time.
        ("PENDING 1 a", "SUCCESS 2 a", Newer, Newer),
        ("SUCCESS 2 a", "PENDING 1 a", Stale, Stale),
        ("SUCCESS 2 a", "SUCCESS 1 a", Stale, Stale),
        ("SUCCESS 1 a", "SUCCESS 2 a", Newer, Newer),
        ("SUCCESS 1 a", "PENDING 2 a", Newer, Newer),
        ("PENDING 1 a", "SUCCESS 1 a", Newer, Newer),
        ("SUCCESS 1 a", "PENDING 1 a", Stale, Stale),
        ("SUCCESS 1 a", "SUCCESS 1 b", Amended, Stale),
        ("FROZEN 1 a", "PARTIAL 1 a", Unordered, Stale),
        // One has a time.
        ("SUCCESS - a", "PENDING 1 a", Newer, Newer),
        ("PENDING 1 a", "NEW - a", Stale, Stale),
        ("PENDING 1 a", "PENDING - b", Stale, Stale),
        ("SUCCESS 1 a", "SUCCESS - b", Stale, Stale),
        ("PENDING 1 a", "SUCCESS - a", Review, Review),
        // Neither has a time.
        ("NEW - a", "PENDING - a", Newer, Newer),
        ("PENDING - a", "NEW - a", Stale, Stale),
        ("PENDING - a", "PENDING - b", Amended, Stale),
        ("PENDING - a", "SUCCESS - a", Newer, Newer),
        ("PENDING - a", "REFUNDED - a", Newer, Newer),
        ("SUCCESS - a", "PENDING - a", Stale, Stale),
        ("FAILED - a", "NEW - a", Stale, Stale),
        ("UNHEARD-OF - a", "NEW - a", Stale, Stale),
        ("SUCCESS - a", "PARTIAL - a", Stale, Stale),
        ("PARTIAL - a", "SUCCESS - a", Unordered, Unordered),
        ("FAILED - a", "PARTIAL - a", Unordered, Stale),
        ("PARTIAL - a", "PARTIAL - b", Amended, Stale),
        ("SUCCESS - a", "FAILED - a", Unordered, Stale),
        ("FAILED - a", "SUCCESS - a", Unordered, Stale),
        ("SUCCESS - a", "REFUNDED - a", Unordered, Stale),
        ("SUCCESS - a", "SUCCESS - b", Amended, Stale),
    ] {
        let last = Processed::after(None, &told(processed), 5);
        let next = told(next);
        assert_eq!(next.verdict(6, false, Some(&last)), after, "{next:?} after {processed}");
        assert_eq!(next.verdict(4, false, Some(&last)), before, "{next:?} before {processed}");
        assert_eq!(next.supersedes(&told(processed)), after.should_handle());
        assert_eq!(next.verdict(6, false, None), Newer, "the first of its object");
        // What was reviewed once is handled.
        let reviewed = next.verdict(6, true, Some(&last));
        let lacks_time = next.last_update().is_none() && told(processed).last_update().is_some();
        assert_eq!(reviewed, if lacks_time { Unordered } else { after }, "{next:?}");
    }
    // Unless a settled notification has arrived since.
    let last = Processed::after(None, &told("FAILED 1 a"), 5);
    assert_eq!(told("SUCCESS - a").verdict(4, true, Some(&last)), Stale);
    assert_eq!(told("SUCCESS - a").verdict(6, true, Some(&last)), Unordered);
    let last = Processed::after(None, &told("PENDING 1 a"), 5);
    assert_eq!(told("SUCCESS - a").verdict(4, true, Some(&last)), Unordered);
    // A notification without a time does not change the time of the object.
    let last = Processed::after(Some(&last), &told("SUCCESS - a"), 6);
    assert_eq!(told("PENDING 0 a").verdict(7, false, Some(&last)), Stale);
}

/// Each row has two times in nanoseconds, and whether the second delivery is a duplicate of the first.
#[test]
fn duplicates_can_differ_by_a_millisecond() {
    let request = |fraction: &str, more: &str| {
        let json = format!(
            r#"{{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00.{fraction}Z"{more}}}"#
        );
        OrderKey::new(&serde_json::from_str::<PaymentRequest>(&json).unwrap(), json.as_bytes())
    };
    let first = request("123456789", "");
    for (fraction, more, is_duplicate) in [
        ("123456789", "", true),
        ("123456", "", true),
        ("123", "", true),
        ("124", "", true),
        ("122", "", true),
        ("125", "", false),
        ("121999999", "", false),
        ("123", r#","paidAmount":null,"convertRate":1.5,"minLimit":7"#, true),
        ("123", r#","paidAmount":0"#, false),
        ("123", r#","unheardOf":1"#, false),
    ] {
        let next = request(fraction, more);
        assert_eq!(next.is_duplicate_of(&first), is_duplicate, "{fraction} {more}");
        assert_eq!(first.is_duplicate_of(&next), is_duplicate, "{fraction} {more}");
    }
    assert!(request("124", "").supersedes(&request("122", "")), "it is not transitive");
}

#[test]
fn keeps_long_statuses_apart() {
    let of = |end: &str| {
        let json = format!(r#"{{"id":"PMT-1","status":"{}{end}"}}"#, "é".repeat(5000));
        OrderKey::new(&serde_json::from_str::<Payment>(&json).unwrap(), json.as_bytes())
    };
    let (one, other) = (of("A"), of("B"));
    assert_ne!(one.status(), other.status());
    for order_key in [one, other] {
        assert!(order_key.to_bytes().len() <= 400);
        assert_eq!(OrderKey::from_bytes(&order_key.to_bytes()), Some(order_key));
    }
}

/// Wherever one part ends and the next one begins, other parts make another key. No key of a decoded notification, of an
/// undecodable one or of a repeat is equal to another.
#[test]
fn keys_are_injective() {
    let parts = ["", "a", "b", "aa", "ab", "ba", "bb"];
    let told =
        |status, second, content| OrderKey::new(&Told { status, second, rank: 0, content }, b"");
    let mut keys = HashMap::new();
    let mut add = |key: Key, of: String| {
        if let Some(other) = keys.insert(key, of.clone()) {
            panic!("{of} has the key of {other}");
        }
    };
    for kind in parts {
        for id in parts {
            for status in parts {
                for (second, content) in [(None, 0), (Some(0), 0), (Some(1), 0), (None, 1)] {
                    let order_key = told(status, second, content);
                    let of = format!("{kind:?} {id:?} {status:?} {second:?} {content}");
                    add(Key::new(kind, id, &order_key), of);
                }
            }
            add(Key::of_undecodable(kind, id.as_bytes()), format!("undecodable {kind:?} {id:?}"));
        }
    }
    let first = of::<Payment>(&payment("SUCCESS", 1));
    let mut key = first.key;
    for repeat in 0..100 {
        add(key, format!("repeat {repeat}"));
        key = first.key_after(key);
    }
    assert_eq!(keys.len(), 7 * 7 * 7 * 4 + 7 * 7 + 100);
}

// ---------------------------------------------------------------- through a runner

/// Runs until nothing is open. Returns the bodies that were handled, and their verdicts.
async fn processed<T: Storable, S: Store>(inbox: &Inbox<S>) -> Vec<(Bytes, Verdict)> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let log_of = Arc::clone(&log);
    let handler = move |event: Stored<T>, cx: Context<S>| {
        log_of.lock().unwrap().push((event.raw_body().clone(), cx.verdict()));
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(drained(inbox)).await.unwrap();
    std::mem::take(&mut *log.lock().unwrap())
}

async fn drained<S: Store>(inbox: &Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

fn of<T: Storable>(body: &str) -> Record {
    Record::new(&serde_json::from_str::<T>(body).unwrap(), Bytes::from(body.to_owned()))
}

of_each_store! {
    late_decoding_keeps_arrival_order
    late_decoding_detects_duplicates
    verdicts_are_kept_for_lists_and_replays
}

fn payment(status: &str, amount: u32) -> String {
    format!(r#"{{"id":"PMT-1","status":"{status}","amount":{amount}}}"#)
}

/// Returns the record that a release stores which cannot decode the body.
fn undecodable(body: &str) -> Record {
    let body = Bytes::from(body.to_owned());
    let key = Key::of_undecodable(Payment::KIND, &body);
    let (object, order_key) = (format!("undecodable:{key}"), OrderKey::of_undecodable(&body));
    let of = Record::new(&serde_json::from_slice::<Payment>(&body).unwrap(), body);
    Record { key, object, order_key, dead: Some("at amount".to_owned()), order_id: None, ..of }
}

async fn redrive_the_dead(inbox: &Inbox<impl Store>) {
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key).collect();
    assert_eq!(inbox.redrive(keys.clone()).await.unwrap(), keys.len());
}

async fn late_decoding_keeps_arrival_order(inbox: &Inbox<impl Store>) {
    let (success, failed) = (payment("SUCCESS", 1), payment("FAILED", 1));
    inbox.store().insert(vec![undecodable(&success)]).await.unwrap();
    inbox.store().insert(vec![of::<Payment>(&failed)]).await.unwrap();
    assert_eq!(processed::<Payment, _>(inbox).await.len(), 1);
    redrive_the_dead(inbox).await;
    assert!(processed::<Payment, _>(inbox).await.is_empty(), "it came before what was processed");
    let skipped = inbox.list(Filter::from(State::Skipped).with_bodies(), 9).await.unwrap().entries;
    assert_eq!(skipped.iter().map(|it| &*it.body).collect::<Vec<_>>(), [success.as_bytes()]);
    assert_eq!(skipped[0].object, "PMT-1", "its row is that of the decoded notification");
    assert_eq!(skipped[0].key, of::<Payment>(&success).key);

    // A later one is handled after it.
    let refunded = payment("REFUNDED", 1);
    inbox.store().insert(vec![undecodable(&refunded)]).await.unwrap();
    redrive_the_dead(inbox).await;
    let handled = processed::<Payment, _>(inbox).await;
    assert_eq!(handled, [(Bytes::from(refunded.clone()), Verdict::Unordered)]);
    let inserted = inbox.store().insert(vec![of::<Payment>(&refunded)]).await.unwrap();
    assert_eq!(inserted, [Inserted::Duplicate]);
}

/// A row that is decoded late never takes the key of another row.
async fn late_decoding_detects_duplicates(inbox: &Inbox<impl Store>) {
    let (success, failed) = (payment("SUCCESS", 1), payment("FAILED", 1));
    inbox.store().insert(vec![of::<Payment>(&success)]).await.unwrap();
    // Spelled differently, so that only the content is equal.
    let spelled = failed.replace(":1}", ":1.0}");
    inbox.store().insert(vec![undecodable(&spelled)]).await.unwrap();
    inbox.store().insert(vec![of::<Payment>(&failed)]).await.unwrap();
    let inserted = inbox.store().insert(vec![of::<Payment>(&success)]).await.unwrap();
    assert_eq!(inserted, [Inserted::Review]);
    assert_eq!(processed::<Payment, _>(inbox).await.len(), 2);
    redrive_the_dead(inbox).await;
    assert!(processed::<Payment, _>(inbox).await.is_empty());
    let kept: Vec<_> = inbox
        .list(Filter::from(State::Review).with_bodies(), 9)
        .await
        .unwrap()
        .entries
        .into_iter()
        .map(|it| it.body)
        .collect();
    assert_eq!(kept, [spelled, success.clone()], "in the order of arrival");

    // A status that comes back after that is kept too.
    let inserted = inbox.store().insert(vec![of::<Payment>(&failed)]).await.unwrap();
    assert_eq!(inserted, [Inserted::Review]);
    let neighbour = payment("NEW", 1).replace("PMT-1", "PMT-2");
    let inserted =
        inbox.store().insert(vec![of::<Payment>(&failed), of::<Payment>(&neighbour)]).await;
    assert_eq!(inserted.unwrap()[1], Inserted::New, "and does not affect others");

    // An undecodable body is skipped if its notification was stored in the meantime.
    inbox.store().insert(vec![undecodable(&success.replace(":1}", ":1.00}"))]).await.unwrap();
    let inserted =
        inbox.store().insert(vec![of::<Payment>(&payment("REFUNDED", 1))]).await.unwrap();
    assert_eq!(inserted, [Inserted::New]);
    inbox.store().insert(vec![undecodable(&payment("REFUNDED", 1))]).await.unwrap();
    let all = inbox.dead(9).await.unwrap();
    inbox.redrive([all.last().unwrap().key]).await.unwrap();
    processed::<Payment, _>(inbox).await;
    let skipped = inbox.list(State::Skipped, 9).await.unwrap().entries;
    assert!(skipped.last().unwrap().error.contains("duplicate"), "{skipped:?}");
    assert_eq!(skipped.last().unwrap().object, all.last().unwrap().object);
}

async fn verdicts_are_kept_for_lists_and_replays<S: Store>(inbox: &Inbox<S>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&log);
    let handler = move |event: Stored<Payment>, cx: Context<S>| {
        its.lock().unwrap().push((event.raw_body().clone(), cx.verdict()));
        ready(Ok::<_, Infallible>(()))
    };
    let told = [
        (payment("SUCCESS", 1), Verdict::Newer),
        (payment("SUCCESS", 2), Verdict::Amended),
        (payment("FAILED", 1), Verdict::Unordered),
        (payment("NEW", 1), Verdict::Stale),
    ];
    for (body, _) in &told {
        inbox.store().insert(vec![of::<Payment>(body)]).await.unwrap();
        inbox.process(handler.clone()).handle_stale().run_until_idle().await.unwrap();
    }
    let told = told.map(|(body, verdict)| (Bytes::from(body), verdict));
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), told);
    for (body, verdict) in &told {
        let listed = inbox.list(Filter::from(*verdict).with_bodies(), 9).await.unwrap().entries;
        let listed: Vec<_> = listed.iter().map(|it| (it.body.clone(), it.verdict)).collect();
        assert_eq!(listed, [(body.clone(), Some(*verdict))]);
    }
    assert!(inbox.list(Verdict::Review, 9).await.unwrap().entries.is_empty());

    assert_eq!(inbox.reprocess_all(Filter::new(), false).await.unwrap().requeued, 4);
    inbox.process(handler).handle_stale().run_until_idle().await.unwrap();
    assert_eq!(*log.lock().unwrap(), told, "and the same again");
}
