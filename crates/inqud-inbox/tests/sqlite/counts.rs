//! The counts of `stats` are kept by triggers, and say what a scan would.

use std::time::Duration;

use inqud_inbox::{
    Claim, Inbox, InboxErrorKind, KindStats, Outcome, Settlement, Sqlite, Storable, Store, rusqlite,
};
use proptest::prelude::*;
use tower_inqud::PaymentRequest;

use crate::{LONG, Place, record, records};

#[derive(Clone, Debug)]
enum Step {
    /// Notifications about objects, and whether each can be decoded.
    Insert(Vec<(usize, usize, bool)>),
    /// Claims so many, and settles them in this way.
    Handle(usize, u8),
    Redrive(usize),
    Discard(usize),
    Prune,
    /// What nobody should do.
    Delete(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let insert = prop::collection::vec((0..6_usize, 0..4_usize, prop::bool::weighted(0.8)), 1..6);
    prop_oneof![
        4 => insert.prop_map(Step::Insert),
        5 => (1..4_usize, 0..6_u8).prop_map(|(count, how)| Step::Handle(count, how)),
        2 => (0..4_usize).prop_map(Step::Redrive),
        1 => (0..4_usize).prop_map(Step::Discard),
        1 => Just(Step::Prune),
        1 => (1..9_i64).prop_map(Step::Delete),
    ]
}

fn outcome<E>(how: u8) -> Outcome<E> {
    let error = || "an error".to_owned();
    match how {
        0 => Outcome::Skipped,
        1 => Outcome::Review,
        2 => Outcome::Dead { error: error() },
        3 => Outcome::Retry { after: Duration::ZERO, error: error() },
        _ => Outcome::Done(Vec::new()),
    }
}

async fn play(inbox: &Inbox<Sqlite>, step: Step) {
    let store = inbox.store();
    match step {
        Step::Insert(all) => {
            let records = all.into_iter().map(|(id, minute, is_open)| {
                let mut record = record(id, minute);
                record.dead = (!is_open).then(|| "unknown".to_owned());
                record
            });
            store.insert(records.collect()).await.unwrap();
        }
        Step::Handle(count, how) => {
            let claim = Claim::new(PaymentRequest::KIND, count, LONG);
            for claimed in store.claim(claim).await.unwrap() {
                let mut settlement = Settlement { ticket: claimed.ticket, outcome: outcome(how) };
                store.settle(&mut settlement).await.unwrap();
            }
        }
        Step::Redrive(count) => {
            let dead = inbox.dead(count).await.unwrap();
            let review = inbox.review(count).await.unwrap();
            inbox.redrive(dead.iter().chain(&review).map(|it| it.key)).await.unwrap();
        }
        Step::Discard(count) => {
            let dead = inbox.dead(count).await.unwrap();
            inbox.discard(dead.iter().map(|it| it.key)).await.unwrap();
        }
        Step::Prune => drop(inbox.prune(Duration::ZERO, 3).await.unwrap()),
        Step::Delete(every) => {
            let delete = "DELETE FROM inqud_inbox_notification WHERE seq % ?1 = 1 AND state > 0";
            inbox.write(move |db| db.execute(delete, [every + 2])).await.unwrap();
        }
    }
}

/// Counts by scanning.
async fn counted(inbox: &Inbox<Sqlite>) -> Vec<(i64, i64, i64, i64, Option<i64>)> {
    let scan = "SELECT sum(state = 0), sum(state = 3), sum(state = 4), sum(state = 2),
            min(received_at) FILTER (WHERE state = 0)
        FROM inqud_inbox_notification JOIN inqud_inbox_object ON number = object
        WHERE state <> 1 GROUP BY inqud_inbox_object.kind";
    let scan = |db: &rusqlite::Connection| {
        let mut rows = db.prepare(scan)?;
        let rows = rows.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        rows.collect::<Result<_, rusqlite::Error>>()
    };
    inbox.write(scan).await.unwrap()
}

fn kept(kind: &KindStats) -> (i64, i64, i64, i64, Option<i64>) {
    let [open, dead, review, skipped] = [kind.backlog, kind.dead, kind.review, kind.skipped]
        .map(|count| i64::try_from(count).unwrap());
    (open, dead, review, skipped, kind.oldest.map(|it| it.as_microsecond()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_those_of_a_scan(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let inbox = place.open().unwrap();
            for step in steps {
                play(&inbox, step.clone()).await;
                let stats = inbox.stats().await.unwrap();
                let kept: Vec<_> = stats.kinds.iter().map(kept).collect();
                prop_assert_eq!(kept, counted(&inbox).await, "after {:?}", step);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn opens_a_later_version_only_if_that_allows_it() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    inbox.store().insert(records(0..1)).await.unwrap();
    inbox.close().await;
    drop(inbox);
    let set =
        |sql: &str| rusqlite::Connection::open(place.file("")).unwrap().execute_batch(sql).unwrap();

    set("INSERT INTO inqud_inbox_version VALUES (2, 1)");
    let inbox = place.open().unwrap();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    Inbox::attach(place.file("")).unwrap();
    inbox.close().await;
    drop(inbox);

    set("INSERT INTO inqud_inbox_version VALUES (3, 3)");
    assert_eq!(place.open().unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
    assert_eq!(Inbox::attach(place.file("")).unwrap_err().kind(), InboxErrorKind::SchemaTooNew);
}
