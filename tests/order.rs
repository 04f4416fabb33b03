//! Identity and order: which deliveries are the same, which are late, and what becomes of the others, in each
//! store alike.
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

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time::sleep;
use tower_inqud::inbox::{
    Cx, Entry, Inbox, Key, List, Memory, Notified, Outcome, Put, Record, Settled, Settlement,
    Sqlite, Storable, Store,
};
#[cfg(feature = "inbox-postgres")]
use tower_inqud::inbox::{Once, Postgres};
use tower_inqud::{
    Content, History, Notification, Payment, PaymentRequest, Processed, Stage, Subscription,
    Verdict, Version,
};

#[cfg(feature = "inbox-postgres")]
#[path = "support/postgres.rs"]
mod postgres;

const LEASE: Duration = Duration::from_secs(3600);

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

macro_rules! of_each_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Inbox::memory()).await;
            })*
        }
        #[cfg(feature = "inbox-postgres")]
        mod in_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = super::postgres::shared() {
                    super::$name(&server.inbox(stringify!($name)).await).await;
                }
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (inbox, _folder) = super::file();
                super::$name(&inbox).await;
            })*
        }
    };
}

// ---------------------------------------------------------------------- the rules

/// A notification that says what its fields say.
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

/// Such as `SUCCESS 7 a`: a status, the second of the last update or `-`, and a content.
fn told(text: &'static str) -> Version {
    let [status, second, content] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let rank = ["NEW", "PENDING", "PARTIAL", "FAILED", "SUCCESS"];
    let rank = rank.iter().position(|it| *it == status).unwrap_or(2);
    let rank = u8::try_from(rank).unwrap();
    Version::new(
        &Told { status, second: second.parse().ok(), rank, content: content.as_bytes()[0] },
        b"",
    )
}

/// How the second stands to the first if it arrived after that, and if it arrived before.
#[test]
fn the_verdict_is_by_time_then_by_rank_and_then_by_arrival() {
    use Verdict::{Amended, Newer, Older, Review, Unordered};
    for (processed, next, after, before) in [
        // Both have times.
        ("PENDING 1 a", "SUCCESS 2 a", Newer, Newer),
        ("SUCCESS 2 a", "PENDING 1 a", Older, Older),
        ("SUCCESS 2 a", "SUCCESS 1 a", Older, Older),
        ("SUCCESS 1 a", "SUCCESS 2 a", Newer, Newer),
        ("SUCCESS 1 a", "PENDING 2 a", Newer, Newer),
        ("PENDING 1 a", "SUCCESS 1 a", Newer, Newer),
        ("SUCCESS 1 a", "PENDING 1 a", Older, Older),
        ("SUCCESS 1 a", "SUCCESS 1 b", Amended, Older),
        ("FROZEN 1 a", "PARTIAL 1 a", Unordered, Older),
        // One has.
        ("SUCCESS - a", "PENDING 1 a", Newer, Newer),
        ("PENDING 1 a", "NEW - a", Older, Older),
        ("PENDING 1 a", "PENDING - b", Older, Older),
        ("SUCCESS 1 a", "SUCCESS - b", Older, Older),
        ("PENDING 1 a", "SUCCESS - a", Review, Review),
        // None has.
        ("NEW - a", "PENDING - a", Newer, Newer),
        ("PENDING - a", "NEW - a", Older, Older),
        ("PENDING - a", "PENDING - b", Amended, Older),
        ("PENDING - a", "SUCCESS - a", Newer, Newer),
        ("PENDING - a", "REFUNDED - a", Newer, Newer),
        ("SUCCESS - a", "PENDING - a", Older, Older),
        ("FAILED - a", "NEW - a", Older, Older),
        ("UNHEARD-OF - a", "NEW - a", Older, Older),
        ("SUCCESS - a", "PARTIAL - a", Older, Older),
        ("PARTIAL - a", "SUCCESS - a", Unordered, Older),
        ("FAILED - a", "PARTIAL - a", Unordered, Older),
        ("PARTIAL - a", "PARTIAL - b", Amended, Older),
        ("SUCCESS - a", "FAILED - a", Unordered, Older),
        ("FAILED - a", "SUCCESS - a", Unordered, Older),
        ("SUCCESS - a", "REFUNDED - a", Unordered, Older),
        ("SUCCESS - a", "SUCCESS - b", Amended, Older),
    ] {
        let last = Processed::after(None, &told(processed), 5);
        let next = told(next);
        assert_eq!(next.verdict(6, false, Some(&last)), after, "{next:?} after {processed}");
        assert_eq!(next.verdict(4, false, Some(&last)), before, "{next:?} before {processed}");
        assert_eq!(next.supersedes(&told(processed)), after.applies());
        assert_eq!(next.verdict(6, false, None), Newer, "the first of its object");
        // A review is asked for once, and what was reviewed is handled.
        let reviewed = next.verdict(6, true, Some(&last));
        let lacks_time = next.last_update().is_none() && told(processed).last_update().is_some();
        assert_eq!(reviewed, if lacks_time { Unordered } else { after }, "{next:?}");
    }
    // Unless something that was settled arrived since.
    let last = Processed::after(None, &told("FAILED 1 a"), 5);
    assert_eq!(told("SUCCESS - a").verdict(4, true, Some(&last)), Older);
    assert_eq!(told("SUCCESS - a").verdict(6, true, Some(&last)), Unordered);
    let last = Processed::after(None, &told("PENDING 1 a"), 5);
    assert_eq!(told("SUCCESS - a").verdict(4, true, Some(&last)), Unordered);
    // What has no time leaves the time as it was.
    let last = Processed::after(Some(&last), &told("SUCCESS - a"), 6);
    assert_eq!(told("PENDING 0 a").verdict(7, false, Some(&last)), Older);
}

/// Of deliveries, with times in nanoseconds, which of the later ones is a duplicate.
#[test]
fn a_duplicate_says_the_same_at_the_same_millisecond_or_the_next() {
    let request = |fraction: &str, more: &str| {
        let json = format!(
            r#"{{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00.{fraction}Z"{more}}}"#
        );
        Version::new(&serde_json::from_str::<PaymentRequest>(&json).unwrap(), json.as_bytes())
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
fn a_status_however_long_is_kept_and_told_apart() {
    let of = |end: &str| {
        let json = format!(r#"{{"id":"PMT-1","status":"{}{end}"}}"#, "é".repeat(5000));
        Version::new(&serde_json::from_str::<Payment>(&json).unwrap(), json.as_bytes())
    };
    let (one, other) = (of("A"), of("B"));
    assert_ne!(one.status(), other.status());
    for version in [one, other] {
        assert!(version.to_bytes().len() <= 400);
        assert_eq!(Version::from_bytes(&version.to_bytes()), Some(version));
    }
}

/// All that can arrive of an object, up to four, some of it handled when it comes and the rest at once: in
/// the end it is the same, and it is what a history says.
#[tokio::test]
async fn the_end_does_not_depend_on_what_was_handled_when_it_came() {
    const UNDATED: [&str; 7] = [
        "NEW - a",
        "PENDING - a",
        "PARTIAL - a",
        "PARTIAL - b",
        "SUCCESS - a",
        "SUCCESS - b",
        "FAILED - a",
    ];
    const DATED: [&str; 7] = [
        "PENDING - a",
        "PENDING 1 a",
        "FAILED 2 a",
        "FAILED 2 b",
        "SUCCESS 2 a",
        "SUCCESS 3 a",
        "FAILED 5 a",
    ];
    for words in [UNDATED, DATED] {
        let versions = words.map(told);
        for number in 0..words.len().pow(4) {
            let arrived: Vec<usize> =
                (0..4).map(|at| number / words.len().pow(at) % words.len()).collect();
            let mut history = History::default();
            let mut end = None;
            for which in &arrived {
                let verdict = history.receive_version(versions[*which].clone());
                end = verdict.applies().then_some(*which).or(end);
            }
            // A bit for each that is followed by a look.
            for looks in 0..8_u8 {
                let found = end_of(&versions, &arrived, looks).await;
                assert_eq!(found, end, "{:?} {looks:03b}", arrived.iter().map(|it| words[*it]));
            }
        }
    }
}

/// Which was handled last.
async fn end_of(versions: &[Version], arrived: &[usize], looks: u8) -> Option<usize> {
    let store = Memory::default();
    let mut end = None;
    for (at, which) in arrived.iter().enumerate() {
        let version = versions[*which].clone();
        let key = Key::new("payment", "1", &version);
        let (object, body) = ("1".to_owned(), Bytes::from(vec![u8::try_from(*which).unwrap()]));
        let record = Record { key, kind: "payment", object, version, body, dead: None };
        store.put(vec![record]).await.unwrap();
        if looks & 1 << at == 0 && at + 1 < arrived.len() {
            continue;
        }
        while let Some(claimed) = store.claim("payment", 1, LEASE).await.unwrap().pop() {
            let outcome = match claimed.ticket.verdict {
                Verdict::Older => Outcome::Skipped,
                Verdict::Review => Outcome::Review,
                _ => {
                    end = Some(usize::from(claimed.body[0]));
                    Outcome::Done(vec![])
                }
            };
            let settlement = Settlement { ticket: claimed.ticket, outcome };
            assert_eq!(store.settle(vec![settlement]).await.unwrap(), [Settled::Done]);
        }
    }
    end
}

// ---------------------------------------------------------------- through a runner

/// Until nothing is open. Gives the bodies that were handled, and their verdicts.
async fn processed<T: Storable, S: Store>(inbox: &Inbox<S>) -> Vec<(Bytes, Verdict)> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let log_of = Arc::clone(&log);
    let handler = move |event: Notified<T>, cx: Cx<S>| {
        log_of.lock().unwrap().push((event.raw_body().clone(), cx.verdict()));
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(drained(inbox)).await.unwrap();
    std::mem::take(&mut *log.lock().unwrap())
}

async fn drained<S: Store>(inbox: &Inbox<S>) {
    while inbox.stats().await.unwrap().open() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

fn of<T: Storable>(body: &str) -> Record {
    Record::new(&serde_json::from_str::<T>(body).unwrap(), Bytes::from(body.to_owned()))
}

/// A word for what becomes of each, if each is processed before the next comes; and the state in the end.
async fn one_by_one<T: Storable>(
    inbox: &Inbox<impl Store>,
    bodies: &[String],
) -> (String, Option<Bytes>) {
    let (mut words, mut end) = (Vec::new(), None);
    for body in bodies {
        let before = inbox.stats().await.unwrap();
        let put = inbox.store().put(vec![of::<T>(body)]).await.unwrap().remove(0);
        let handled = processed::<T, _>(inbox).await;
        let after = inbox.stats().await.unwrap();
        words.push(match (put, handled.first()) {
            (Put::New, Some((body, verdict))) => {
                end = Some(body.clone());
                verdict.as_str()
            }
            (Put::New, None) if after.skipped() > before.skipped() => "skipped",
            (Put::New | Put::Review, None) if after.review() > before.review() => "review",
            (Put::Duplicate | Put::DuplicateDiffers, None) => "duplicate",
            _ => "lost",
        });
    }
    (words.join(" "), end)
}

/// A row of the table: the bodies with another id in place of the first one's number.
async fn assert_told<T: Storable>(
    inbox: &Inbox<impl Store>,
    bodies: &[&str],
    words: &str,
    end: usize,
) {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let with_id = || {
        let mut count = COUNT.lock().unwrap();
        *count += 1;
        bodies.iter().map(|it| it.replacen("-1\"", &format!("-1{count}\""), 1)).collect::<Vec<_>>()
    };
    let live = with_id();
    let (told, state) = one_by_one::<T>(inbox, &live).await;
    assert_eq!(told, words, "{bodies:?}");
    assert_eq!(state.as_deref(), Some(live[end].as_bytes()), "{bodies:?}");

    let backlog = with_id();
    for body in &backlog {
        inbox.store().put(vec![of::<T>(body)]).await.unwrap();
    }
    let handled = processed::<T, _>(inbox).await;
    let state = handled.last().map(|(body, _)| &**body);
    assert_eq!(state, Some(backlog[end].as_bytes()), "at once: {bodies:?}");
}

of_each_store! {
    each_sequence_of_requests_ends_as_it_must
    each_sequence_of_payments_ends_as_it_must
    each_sequence_of_subscriptions_ends_as_it_must
    what_has_no_time_and_is_further_along_is_kept_for_review
    what_came_back_is_kept_however_often_and_handled_when_it_is_redriven
    a_dead_letter_that_is_redriven_is_older_than_what_was_processed_since
    what_decodes_later_keeps_its_place_among_what_arrived
    two_that_decode_to_the_same_are_told_apart_or_skipped
    who_processes_nothing_is_told
}

async fn each_sequence_of_requests_ends_as_it_must(inbox: &Inbox<impl Store>) {
    let at = |status: &str, time: &str, paid: &str| {
        format!(
            r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":{time},"paidAmount":{paid}}}"#
        )
    };
    let success = &*at("SUCCESS", r#""2026-11-22T09:45:00.123456789Z""#, "50");
    let in_micros = &*at("SUCCESS", r#""2026-11-22T09:45:00.123456Z""#, "50.0");
    let in_millis = &*at("SUCCESS", r#""2026-11-22T09:45:00.123Z""#, "5e1");
    let more = &*at("SUCCESS", r#""2026-11-22T09:45:00.123456789Z""#, "99.46291");
    let first = &*at("WAITING_PAYMENT", "null", "null");
    let conflict = &*at("CONFLICT", r#""2026-11-22T10:00:00Z""#, "50");
    let amended = &*at("CONFLICT", r#""2026-11-22T10:00:00Z""#, "99.46291");
    let settled = &*at("SUCCESS", r#""2026-11-22T10:30:00Z""#, "99.46291");
    for (bodies, words, end) in [
        (&[success, first][..], "newer skipped", 0),
        (&[first, success, first], "newer newer duplicate", 1),
        (&[conflict, amended, conflict, amended], "newer amended duplicate duplicate", 1),
        (&[success, more], "newer amended", 1),
        (&[success, conflict, settled], "newer newer newer", 2),
        (&[settled, conflict, success, amended], "newer skipped skipped skipped", 0),
        (&[success, in_micros, in_millis], "newer duplicate duplicate", 0),
        (&[in_millis, success, more], "newer duplicate amended", 2),
    ] {
        assert_told::<PaymentRequest>(inbox, bodies, words, end).await;
    }
}

fn payment(status: &str, amount: u32) -> String {
    format!(r#"{{"id":"PMT-1","status":"{status}","amount":{amount}}}"#)
}

async fn each_sequence_of_payments_ends_as_it_must(inbox: &Inbox<impl Store>) {
    for (told, words, end) in [
        ("PARTIAL_SUCCESS 10, PARTIAL_SUCCESS 60", "newer amended", 1),
        ("SUCCESS 1, FAILED 1, SUCCESS 1", "newer unordered review", 1),
        ("SUCCESS 1, FAILED 1, FAILED 1", "newer unordered duplicate", 1),
        ("SUCCESS 1, FAILED 1", "newer unordered", 1),
        ("FAILED 1, SUCCESS 1", "newer unordered", 1),
        (
            "PARTIAL_SUCCESS 40, PARTIAL_SUCCESS 90, SUCCESS 100, SUCCESS 150",
            "newer amended unordered amended",
            3,
        ),
        ("SUCCESS 1, REFUNDED 1", "newer unordered", 1),
        ("SUCCESS 1, CHARGEBACK 1", "newer unordered", 1),
        ("SUCCESS 1, REVERSED 1", "newer unordered", 1),
        ("SUCCESS 1, FROZEN 1", "newer unordered", 1),
        ("EXPIRED 1, PARTIAL_SUCCESS 40", "newer unordered", 1),
        ("SUCCESS 1, PARTIAL_SUCCESS 1", "newer skipped", 0),
        ("PARTIAL_SUCCESS 1, SUCCESS 1, PARTIAL_SUCCESS 1", "newer unordered duplicate", 1),
        ("SUCCESS 1, PENDING 1, NEW 1", "newer skipped skipped", 0),
        ("PENDING 1, FAILED 1, PENDING 1", "newer newer duplicate", 1),
        ("PENDING 1, NEW 1, SUCCESS 1", "newer skipped newer", 2),
    ] {
        let bodies: Vec<_> = told
            .split(", ")
            .map(|told| told.split_once(' ').unwrap())
            .map(|(status, amount)| payment(status, amount.parse().unwrap()))
            .collect();
        let bodies: Vec<_> = bodies.iter().map(|body| &**body).collect();
        assert_told::<Payment>(inbox, &bodies, words, end).await;
    }
}

async fn each_sequence_of_subscriptions_ends_as_it_must(inbox: &Inbox<impl Store>) {
    let of = |status: &str, sub: &str| {
        format!(
            r#"{{"id":"SUB-1","status":"{status}","subStatus":"{sub}","nextWriteOffAt":"2026-11-30T00:00:00Z"}}"#
        )
    };
    let (active, renewing) = (&*of("ACTIVE", "ACTIVE"), &*of("ACTIVE", "RENEWING"));
    let (cancelled, unpaid) = (&*of("CANCELLED", "ACTIVE"), &*of("UNPAID", "UNPAID"));
    for (bodies, words, end) in [
        (&[active, renewing, active][..], "newer amended amended", 2),
        (&[active, cancelled, active], "newer unordered unordered", 2),
        (&[active, cancelled, active, cancelled], "newer unordered unordered unordered", 3),
        (&[active, active], "newer duplicate", 0),
        (&[unpaid, active], "newer unordered", 1),
        (&[&*of("INITIATED", ""), active, &*of("INITIATED", "")], "newer newer duplicate", 1),
    ] {
        assert_told::<Subscription>(inbox, bodies, words, end).await;
    }
}

async fn what_has_no_time_and_is_further_along_is_kept_for_review(inbox: &Inbox<impl Store>) {
    let pending =
        r#"{"id":"CAPD-1","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#;
    let success = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    let bodies = [pending, success, success].map(str::to_owned);
    let (told, _) = one_by_one::<PaymentRequest>(inbox, &bodies).await;
    assert_eq!(told, "newer review duplicate");
    let kept = inbox.list(List::Review, 9).await.unwrap();
    let [Entry { key, body, error, attempts, .. }] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((&**body, *attempts), (success.as_bytes(), 1));
    assert!(error.contains("has no time"), "{error}");
    assert_eq!(inbox.prune(Duration::ZERO, 9).await.unwrap(), 1, "its body is kept");

    assert_eq!(inbox.redrive([*key]).await.unwrap(), 1);
    let handled = processed::<PaymentRequest, _>(inbox).await;
    assert_eq!(handled, [(Bytes::from(success), Verdict::Unordered)]);
    assert_eq!(inbox.stats().await.unwrap().review(), 0);
}

/// Each repetition after something else is one of its own.
async fn what_came_back_is_kept_however_often_and_handled_when_it_is_redriven(
    inbox: &Inbox<impl Store>,
) {
    let (success, failed) = (payment("SUCCESS", 1), payment("FAILED", 1));
    let bodies = [&success, &failed, &success, &success, &failed, &success].map(Clone::clone);
    let (told, _) = one_by_one::<Payment>(inbox, &bodies).await;
    assert_eq!(told, "newer unordered review duplicate review review");
    let kept = inbox.list(List::Review, 9).await.unwrap();
    assert!(kept.iter().all(|it| it.error.contains("with something else in between")), "{kept:?}");
    let keys: Vec<_> = kept.iter().map(|it| it.key).collect();
    let bodies: Vec<_> = kept.iter().map(|it| it.body.clone()).collect();
    assert_eq!(bodies, [&success, &failed, &success].map(|it| it.clone().into_bytes()));

    // The last is handled. Those before it are older then, and what is put away is known.
    assert_eq!(inbox.redrive([keys[2]]).await.unwrap(), 1);
    let handled = processed::<Payment, _>(inbox).await;
    assert_eq!(handled, [(Bytes::from(success.clone()), Verdict::Unordered)]);
    assert_eq!(inbox.redrive([keys[1]]).await.unwrap(), 1);
    assert!(processed::<Payment, _>(inbox).await.is_empty());
    assert_eq!(inbox.discard([keys[0]]).await.unwrap(), 1);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.review(), stats.dead(), stats.skipped()), (0, 0, 2));
    let put = inbox.store().put(vec![of::<Payment>(&success)]).await.unwrap();
    assert_eq!(put, [Put::Duplicate]);
}

async fn a_dead_letter_that_is_redriven_is_older_than_what_was_processed_since(
    inbox: &Inbox<impl Store>,
) {
    for (id, first, second) in [(1, "PENDING", "SUCCESS"), (2, "SUCCESS", "FAILED")] {
        let [first, second] =
            [first, second].map(|status| payment(status, 1).replace("PMT-1", &format!("PMT-{id}")));
        inbox.store().put(vec![of::<Payment>(&first)]).await.unwrap();
        let handler = async |_: Notified<Payment>, _| Err::<(), _>("the shop is closed");
        inbox.process(handler).attempts(1).run_until(drained(inbox)).await.unwrap();
        inbox.store().put(vec![of::<Payment>(&second)]).await.unwrap();
        let handled = processed::<Payment, _>(inbox).await;
        assert_eq!(handled, [(Bytes::from(second), Verdict::Newer)]);

        let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key).collect();
        assert_eq!(inbox.redrive(keys).await.unwrap(), 1);
        assert!(processed::<Payment, _>(inbox).await.is_empty(), "its arrival number stays");
        assert_eq!(inbox.list(List::Skipped, 9).await.unwrap().last().unwrap().body, first);
    }
}

/// As a release has stored it that could not decode it.
fn undecodable(body: &str) -> Record {
    let body = Bytes::from(body.to_owned());
    let key = Key::of_undecodable(Payment::KIND, &body);
    let (object, version) = (format!("undecodable:{key}"), Version::of_unknown(&body));
    Record { key, kind: Payment::KIND, object, version, body, dead: Some("at amount".to_owned()) }
}

async fn redrive_the_dead(inbox: &Inbox<impl Store>) {
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key).collect();
    assert_eq!(inbox.redrive(keys.clone()).await.unwrap(), keys.len());
}

async fn what_decodes_later_keeps_its_place_among_what_arrived(inbox: &Inbox<impl Store>) {
    let (success, failed) = (payment("SUCCESS", 1), payment("FAILED", 1));
    inbox.store().put(vec![undecodable(&success)]).await.unwrap();
    inbox.store().put(vec![of::<Payment>(&failed)]).await.unwrap();
    assert_eq!(processed::<Payment, _>(inbox).await.len(), 1);
    redrive_the_dead(inbox).await;
    assert!(processed::<Payment, _>(inbox).await.is_empty(), "it came before what was processed");
    let skipped = inbox.list(List::Skipped, 9).await.unwrap();
    assert_eq!(skipped.iter().map(|it| &*it.body).collect::<Vec<_>>(), [success.as_bytes()]);
    assert_eq!(skipped[0].object, "PMT-1", "its row has become that of what it is");
    assert_eq!(skipped[0].key, of::<Payment>(&success).key);

    // And one that comes after it is handled.
    let refunded = payment("REFUNDED", 1);
    inbox.store().put(vec![undecodable(&refunded)]).await.unwrap();
    redrive_the_dead(inbox).await;
    let handled = processed::<Payment, _>(inbox).await;
    assert_eq!(handled, [(Bytes::from(refunded.clone()), Verdict::Unordered)]);
    let put = inbox.store().put(vec![of::<Payment>(&refunded)]).await.unwrap();
    assert_eq!(put, [Put::Duplicate]);
}

/// A row that becomes another never takes the key of a third.
async fn two_that_decode_to_the_same_are_told_apart_or_skipped(inbox: &Inbox<impl Store>) {
    let (success, failed) = (payment("SUCCESS", 1), payment("FAILED", 1));
    inbox.store().put(vec![of::<Payment>(&success)]).await.unwrap();
    // In another spelling, so that it is known by its content only.
    let spelled = failed.replace(":1}", ":1.0}");
    inbox.store().put(vec![undecodable(&spelled)]).await.unwrap();
    inbox.store().put(vec![of::<Payment>(&failed)]).await.unwrap();
    let put = inbox.store().put(vec![of::<Payment>(&success)]).await.unwrap();
    assert_eq!(put, [Put::Review]);
    assert_eq!(processed::<Payment, _>(inbox).await.len(), 2);
    redrive_the_dead(inbox).await;
    assert!(processed::<Payment, _>(inbox).await.is_empty());
    let kept: Vec<_> =
        inbox.list(List::Review, 9).await.unwrap().into_iter().map(|it| it.body).collect();
    assert_eq!(kept, [spelled, success.clone()], "in the order of arrival");

    // One that says the same, after the same, is that.
    let put = inbox.store().put(vec![of::<Payment>(&failed)]).await.unwrap();
    assert!(matches!(put[..], [Put::Duplicate | Put::DuplicateDiffers]), "{put:?}");
    let neighbour = payment("NEW", 1).replace("PMT-1", "PMT-2");
    let put = inbox.store().put(vec![of::<Payment>(&failed), of::<Payment>(&neighbour)]).await;
    assert_eq!(put.unwrap()[1], Put::New, "and spoils no neighbour");

    // What was stored as what it is meanwhile is skipped.
    inbox.store().put(vec![undecodable(&success.replace(":1}", ":1.00}"))]).await.unwrap();
    let put = inbox.store().put(vec![of::<Payment>(&payment("REFUNDED", 1))]).await.unwrap();
    assert_eq!(put, [Put::New]);
    inbox.store().put(vec![undecodable(&payment("REFUNDED", 1))]).await.unwrap();
    let all = inbox.dead(9).await.unwrap();
    inbox.redrive([all.last().unwrap().key]).await.unwrap();
    processed::<Payment, _>(inbox).await;
    let skipped = inbox.list(List::Skipped, 9).await.unwrap();
    assert!(skipped.last().unwrap().error.contains("duplicate"), "{skipped:?}");
    assert_eq!(skipped.last().unwrap().object, all.last().unwrap().object);
}

async fn who_processes_nothing_is_told(inbox: &Inbox<impl Store>) {
    let unclaimed = async |since| inbox.unclaimed(since).await.unwrap();
    assert!(unclaimed(LEASE).await.is_empty());
    inbox.store().put(vec![of::<Payment>(&payment("NEW", 1))]).await.unwrap();
    inbox.store().put(vec![undecodable("{}")]).await.unwrap();
    let request = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    inbox.store().put(vec![of::<PaymentRequest>(request)]).await.unwrap();
    assert_eq!(unclaimed(LEASE).await, ["payment", "request"]);
    // Who asks for nothing that is there processes nothing else.
    inbox.store().claim(Subscription::KIND, 1, LEASE).await.unwrap();
    inbox.store().claim(Payment::KIND, 1, LEASE).await.unwrap();
    assert_eq!(unclaimed(LEASE).await, ["request"]);
    let handler = async |_: Notified<PaymentRequest>, _| Ok::<_, Infallible>(());
    let done = async {
        while inbox.stats().await.unwrap().open() > 1 {
            sleep(Duration::from_millis(5)).await
        }
    };
    inbox.process(handler).run_until(done).await.unwrap();
    assert!(unclaimed(LEASE).await.is_empty());
}

// ----------------------------------------------------------------------------- once

const MARK: &str = "ship:order-17";

/// Three Requests for one order, all paid; the second fails after the mark at its first attempt.
async fn three_paid(inbox: &Inbox<impl Store>) -> [Key; 3] {
    let bodies = [1, 2, 3].map(|id| format!(r#"{{"id":"CAPD-{id}","status":"SUCCESS"}}"#));
    let records = bodies.each_ref().map(|body| of::<PaymentRequest>(body));
    let keys = records.each_ref().map(|it| it.key);
    inbox.store().put(records.into()).await.unwrap();
    keys
}

/// All of them but one are told who was first.
fn assert_once(shipped: &[Key], told: &[(Key, Key)], keys: &[Key]) {
    let [first] = shipped else { panic!("{shipped:?}") };
    let mut rest: Vec<_> = keys.iter().filter(|key| *key != first).collect();
    rest.sort();
    let mut second: Vec<_> = told.iter().map(|(key, _)| key).collect();
    second.sort();
    assert_eq!(second, rest);
    assert!(told.iter().all(|(_, of)| of == first), "{told:?}");
}

#[tokio::test]
async fn in_memory_an_effect_is_done_once_for_all_that_name_its_mark() {
    let inbox = Inbox::memory();
    let keys = three_paid(&inbox).await;
    let log = Arc::new(Mutex::new((Vec::new(), Vec::new(), HashMap::new())));
    let log_of = Arc::clone(&log);
    let handler = move |_: Notified<PaymentRequest>, cx: Cx<Memory>| {
        let (key, attempt) = (cx.key(), cx.attempt());
        let (ships, tells) = (Arc::clone(&log_of), Arc::clone(&log_of));
        cx.once(
            MARK,
            move || {
                let mut log = ships.lock().unwrap();
                log.2.insert(key, attempt);
                if log.2.len() == 1 && attempt == 1 {
                    return Err("out of stock");
                }
                log.0.push(key);
                Ok(())
            },
            move |first| {
                tells.lock().unwrap().1.push((key, first));
                Ok(())
            },
        );
        ready(Ok::<_, Infallible>(()))
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
    runner.run_until(drained(&inbox)).await.unwrap();
    let (shipped, told, _) = log.lock().unwrap().clone();
    assert_once(&shipped, &told, &keys);
}

#[tokio::test]
async fn in_sqlite_a_mark_is_kept_with_its_effect_or_neither_is() {
    let (inbox, folder) = file();
    let tables = "CREATE TABLE shipped (key BLOB);
        CREATE TABLE told (key BLOB, first BLOB);
        CREATE TABLE stock (n INTEGER CHECK (n >= 0)); INSERT INTO stock VALUES (1)";
    inbox.write(move |db| db.execute_batch(tables)).await.unwrap();
    let keys = three_paid(&inbox).await;
    let handler = async |_: Notified<PaymentRequest>, cx: Cx<Sqlite>| {
        let (key, attempt) = (cx.key(), cx.attempt());
        cx.once(
            MARK,
            move |db| db.execute("INSERT INTO shipped VALUES (?1)", [key.as_bytes()]),
            move |db, first| {
                db.execute("INSERT INTO told VALUES (?1, ?2)", [key.as_bytes(), first.as_bytes()])
            },
        );
        // Each fails at first, after what it named.
        cx.effect(move |db| {
            let take = if attempt == 1 { 2 } else { 0 };
            db.execute("UPDATE stock SET n = n - ?1", [take])
        });
        Ok::<_, Infallible>(())
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
    runner.run_until(drained(&inbox)).await.unwrap();
    let key = |bytes: [u8; 16]| Key::from_bytes(bytes);
    let found = move |db: &tower_inqud::inbox::rusqlite::Connection| {
        let mut shipped = db.prepare("SELECT key FROM shipped")?;
        let shipped = shipped.query_map([], |row| Ok(key(row.get(0)?)))?;
        let shipped = shipped.collect::<Result<Vec<_>, _>>()?;
        let mut told = db.prepare("SELECT key, first FROM told")?;
        let told = told.query_map([], |row| Ok((key(row.get(0)?), key(row.get(1)?))))?;
        Ok::<_, tower_inqud::inbox::rusqlite::Error>((
            shipped,
            told.collect::<Result<Vec<_>, _>>()?,
        ))
    };
    let (shipped, told) = inbox.write(found).await.unwrap();
    assert_once(&shipped, &told, &keys);

    // A mark is kept for good.
    inbox.prune(Duration::ZERO, 9).await.unwrap();
    inbox.close().await;
    let inbox = Inbox::sqlite(folder.path().join("inbox.db")).unwrap();
    let body = r#"{"id":"CAPD-4","status":"SUCCESS"}"#;
    inbox.store().put(vec![of::<PaymentRequest>(body)]).await.unwrap();
    let handler = async |_: Notified<PaymentRequest>, cx: Cx<Sqlite>| {
        cx.once(
            MARK,
            |_| Err::<(), _>("shipped again"),
            |db, first| {
                db.execute("INSERT INTO told VALUES (x'00', ?1)", [first.as_bytes()])
                    .map_err(|_| "not told")
            },
        );
        Ok::<_, Infallible>(())
    };
    inbox.process(handler).attempts(1).run_until(drained(&inbox)).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[cfg(feature = "inbox-postgres")]
#[tokio::test]
async fn in_postgres_a_mark_is_kept_with_its_effect_or_neither_is() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("once").await;
    let client = postgres::connect(&server.config("once")).await;
    let tables = "CREATE TABLE shipped (key bytea); CREATE TABLE told (key bytea, first bytea)";
    client.batch_execute(tables).await.unwrap();
    let keys = three_paid(&inbox).await;
    let handler = async |_: Notified<PaymentRequest>, cx: Cx<Postgres>| {
        let key = cx.key();
        let transaction = cx.transaction().await?;
        // At once, so that one waits for the other.
        match cx.once(MARK).await? {
            Once::First => {
                sleep(Duration::from_millis(50)).await;
                let ship = "INSERT INTO shipped VALUES ($1)";
                transaction.execute(ship, &[&&key.as_bytes()[..]]).await?;
            }
            Once::After(first) => {
                let tell = "INSERT INTO told VALUES ($1, $2)";
                let bytes = [&key.as_bytes()[..], &first.as_bytes()[..]];
                transaction.execute(tell, &[&bytes[0], &bytes[1]]).await?;
            }
        }
        if cx.attempt() == 1 {
            return Err("after what it named".into());
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let runner = inbox.process(handler).backoff(Duration::ZERO, Duration::ZERO);
    runner.run_until(drained(&inbox)).await.unwrap();
    let key = |bytes: &[u8]| Key::from_bytes(bytes.try_into().unwrap());
    let shipped = client.query("SELECT key FROM shipped", &[]).await.unwrap();
    let shipped: Vec<_> = shipped.iter().map(|row| key(row.get(0))).collect();
    let told = client.query("SELECT key, first FROM told", &[]).await.unwrap();
    let told: Vec<_> = told.iter().map(|row| (key(row.get(0)), key(row.get(1)))).collect();
    assert_once(&shipped, &told, &keys);
}
