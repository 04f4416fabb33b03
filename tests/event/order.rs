//! The order and the identity of notifications, over all pairs and triples of a small set.

use std::collections::HashMap;

use jiff::Timestamp;
use proptest::prelude::*;
use tower_inqud::{Content, Notification, OrderKey, Payment, Processed, Stage, Verdict};

/// A notification whose fields are given directly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Told {
    status: usize,
    /// In milliseconds.
    time: Option<i64>,
    content: u8,
}

/// Of two settled statuses without a time, the order of arrival decides. Two of them have the same rank.
const STATUSES: [(&str, u8, Stage); 6] = [
    ("NEW", 0, Stage::Early),
    ("PENDING", 1, Stage::Early),
    ("PARTIAL_SUCCESS", 2, Stage::Partial),
    ("FROZEN", 2, Stage::Settled),
    ("FAILED", 3, Stage::Settled),
    ("SUCCESS", 4, Stage::Success),
];

impl Notification for Told {
    fn id(&self) -> &'static str {
        "1"
    }
    fn status_text(&self) -> &str {
        STATUSES[self.status].0
    }
    fn last_update(&self) -> Option<Timestamp> {
        self.time.map(|time| Timestamp::from_millisecond(time).unwrap())
    }
    fn status_rank(&self) -> u8 {
        STATUSES[self.status].1
    }
    fn stage(&self) -> Stage {
        STATUSES[self.status].2
    }
    fn content(&self, _: &[u8]) -> Content {
        Content::of_bytes(&[self.content])
    }
}

/// A notification, its order key, and what counts as processed if it was the last one, by its arrival number.
struct Case {
    told: Told,
    order_key: OrderKey,
    processed: [Processed; 3],
}

fn all() -> Vec<Case> {
    let times = [None, Some(1000), Some(1001), Some(5000)];
    let told = (0..STATUSES.len()).flat_map(|status| {
        times
            .into_iter()
            .flat_map(move |time| (0..2).map(move |content| Told { status, time, content }))
    });
    told.map(|told| {
        let order_key = OrderKey::new(&told, b"");
        let processed = [0, 1, 2].map(|arrival| Processed::after(None, &order_key, arrival));
        Case { told, order_key, processed }
    })
    .collect()
}

/// The verdict on a notification after another one was processed. The numbers are those of their arrivals.
fn verdict((next, arrival): (&Case, usize), (last, last_arrival): (&Case, usize)) -> Verdict {
    let arrival = i64::try_from(arrival).unwrap();
    next.order_key.verdict(arrival, false, Some(&last.processed[last_arrival]))
}

/// Of two different notifications, exactly one is later, whichever is processed first. So no two runners, backlogs or
/// redrives disagree, and none of the two is lost.
#[test]
fn one_of_two_notifications_is_later() {
    let all = all();
    let (mut pairs, mut reviews) = (0, 0);
    for one in &all {
        for other in &all {
            pairs += 1;
            let after = verdict((other, 2), (one, 1));
            let before = verdict((one, 1), (other, 2));
            let case = || format!("{:?}, then {:?}: {after}, {before}", one.told, other.told);
            // A review is decided by a person. Only a notification without a time gets one.
            for (verdict, next, last) in [(after, other, one), (before, one, other)] {
                if verdict == Verdict::Review {
                    assert!(next.told.time.is_none() && last.told.time.is_some(), "{}", case());
                    reviews += 1;
                }
                assert_ne!(verdict, Verdict::Duplicate, "{}", case());
            }
            assert_ne!(after.should_handle(), before.should_handle(), "{}", case());
        }
    }
    assert_eq!((pairs, reviews), (48 * 48, 336));
}

#[test]
fn order_key_shows_what_it_is_made_of() {
    for Case { told, order_key, .. } in all() {
        assert!(told.ignored_fields().is_empty(), "by default, every field counts");
        assert_eq!(told.order_id(), None, "there is no order by default");
        assert_eq!(order_key.status(), STATUSES[told.status].0);
        assert_eq!(order_key.last_update(), told.time);
        assert_eq!(order_key.content(), &Content::of_bytes(&[told.content]));
        let is_early = STATUSES[told.status].2 == Stage::Early;
        assert_eq!(order_key.repeat_is_duplicate(), told.time.is_some() || is_early, "{told:?}");
    }
}

#[test]
fn verdict_prints_its_name() {
    assert_eq!(format!("{} {:>7}", Verdict::Amended, Verdict::Stale), "amended   stale");
}

/// The text of a status may come from a stranger, and a store keeps it. Only its start and a hash are kept of a long one.
#[test]
fn long_status_is_kept_as_its_start_and_a_hash() {
    let of = |status: &str| {
        let json = format!(r#"{{"id":"PMT-1","status":"{status}"}}"#);
        let payment: Payment = serde_json::from_str(&json).unwrap();
        OrderKey::new(&payment, json.as_bytes()).status().to_owned()
    };
    assert_eq!(of(&"X".repeat(64)), "X".repeat(64));
    assert_eq!(of(&"0123456789".repeat(7)), "01234567...57445fa40b08c60cdcba7ca39c756de6");
    let (one, other) = (of(&"X".repeat(65)), of(&"X".repeat(66)));
    assert_ne!(one, other);
    assert!(one.starts_with("XXXXXXXX...") && one.len() == 43, "{one}");
    assert_eq!(of(&"é".repeat(40_000)).chars().count(), 43);
}

/// Once a person has let it through, a notification without a time is handled if it arrived after what was processed, or if
/// that is no result yet. The others are late.
#[test]
fn reviewed_notification_is_handled_unless_it_is_late() {
    let all = all();
    for next in all.iter().filter(|case| case.told.time.is_none()) {
        for last in all.iter().filter(|case| case.told.time.is_some()) {
            for (arrival, last_arrival) in [(1, 0), (1, 2)] {
                let processed = &last.processed[last_arrival];
                let verdict = next.order_key.verdict(arrival, true, Some(processed));
                let is_early = STATUSES[last.told.status].2 == Stage::Early;
                let is_handled = last_arrival == 0 || is_early;
                let expected = if is_handled { Verdict::Unordered } else { Verdict::Stale };
                assert_eq!(verdict, expected, "{:?} after {:?}", next.told, last.told);
            }
        }
    }
}

/// If a second notification is later than a first, and a third is later than the second, then it is later than the first.
#[test]
fn later_is_transitive() {
    let all = all();
    let is_later = |next: (&Case, usize), last: (&Case, usize)| verdict(next, last).should_handle();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let (mut triples, mut exceptions) = (0_u64, 0_u64);
    for one in &all {
        for two in &all {
            for three in &all {
                for [first, second, third] in orders {
                    let (one, two, three) = ((one, first), (two, second), (three, third));
                    if !is_later(two, one) || !is_later(three, two) {
                        continue;
                    }
                    triples += 1;
                    if is_later(three, one) {
                        continue;
                    }
                    // Without times: a success is later than a part of it, whenever the two arrived. A third status
                    // is between them by its arrival, and then the three are in a circle.
                    let told = [one, two, three].map(|(case, _)| case.told);
                    let has = |stage| told.iter().any(|it| it.stage() == stage);
                    assert!(told.iter().all(|it| it.time.is_none()), "{told:?}");
                    assert!(has(Stage::Partial) && has(Stage::Success), "{told:?}");
                    exceptions += 1;
                }
            }
        }
    }
    assert!(triples > 100_000 && exceptions == 48, "{triples}, {exceptions}");
}

/// The order of a backlog never contradicts the verdicts: handled in that order, no notification with a time is stale.
#[test]
fn position_agrees_with_the_verdicts() {
    let all = all();
    for one in &all {
        for other in &all {
            if one.order_key.position() < other.order_key.position() {
                for (first, second) in [(1, 2), (2, 1)] {
                    let verdict = verdict((other, second), (one, first));
                    assert_eq!(verdict, Verdict::Newer, "{:?}, {:?}", one.told, other.told);
                }
            }
        }
    }
}

/// Nothing but the same status, content and time, to within a millisecond, is a duplicate.
#[test]
fn other_content_is_never_a_duplicate() {
    let all = all();
    for one in &all {
        for other in &all {
            let (told, its) = (one.told, other.told);
            let is_same_time = match (told.time, its.time) {
                (Some(time), Some(its)) => (time - its).abs() <= 1,
                (time, its) => time == its,
            };
            let is_same = told.status == its.status && told.content == its.content && is_same_time;
            assert_eq!(
                one.order_key.is_duplicate_of(&other.order_key),
                is_same,
                "{told:?} {its:?}"
            );
            assert_eq!(one.order_key == other.order_key, told == its, "{told:?} {its:?}");
        }
    }
}

fn any_order_key() -> impl Strategy<Value = OrderKey> {
    let status = prop_oneof!["[A-C]{0,3}", "[A-B]{62,70}", "\\PC{0,40}"];
    let time =
        prop::option::of(prop_oneof![0..3_i64, -377_705_023_201_000..=253_402_207_200_000_i64]);
    let times = prop::collection::vec(0..3_u8, 0..3);
    (status, time, 0..3_u8, 0..4_usize, any::<bool>(), times, 0..2_u8).prop_map(
        |(status, time, rank, stage, recurs, times, content)| {
            OrderKey::new(&Any { status, time, rank, stage, recurs, times, content }, b"")
        },
    )
}

#[derive(Debug)]
struct Any {
    status: String,
    time: Option<i64>,
    rank: u8,
    stage: usize,
    recurs: bool,
    times: Vec<u8>,
    content: u8,
}

impl Notification for Any {
    fn id(&self) -> &'static str {
        "1"
    }
    fn status_text(&self) -> &str {
        &self.status
    }
    fn last_update(&self) -> Option<Timestamp> {
        self.time.map(|time| Timestamp::from_millisecond(time).unwrap())
    }
    fn status_rank(&self) -> u8 {
        self.rank
    }
    fn stage(&self) -> Stage {
        [Stage::Early, Stage::Partial, Stage::Success, Stage::Settled][self.stage]
    }
    fn recurs(&self) -> bool {
        self.recurs
    }
    fn content(&self, _: &[u8]) -> Content {
        let times: Vec<_> =
            self.times.iter().map(|time| format!("\"2026-11-22T10:05:00.00{time}Z\"")).collect();
        let json = format!(r#"{{"content":{},"times":[{}]}}"#, self.content, times.join(","));
        Content::of_json(json.as_bytes(), &[])
    }
}

proptest! {
    /// What a store keeps is the whole identity: no two order keys have the same bytes.
    #[test]
    fn bytes_of_order_keys_are_injective(
        order_keys in prop::collection::vec(any_order_key(), 1..40),
        arrival: i64,
    ) {
        let mut known = HashMap::new();
        for order_key in &order_keys {
            let bytes = order_key.to_bytes();
            prop_assert!(bytes.len() <= 400);
            let decoded = OrderKey::from_bytes(&bytes);
            prop_assert_eq!(decoded.as_ref(), Some(order_key));
            let processed = Processed::after(None, order_key, arrival);
            prop_assert_eq!(Processed::from_bytes(&processed.to_bytes()), Some(processed));
            if let Some(other) = known.insert(bytes, order_key) {
                prop_assert_eq!(other, order_key);
            }
        }
        for one in &order_keys {
            for other in &order_keys {
                let is_same = one.is_duplicate_of(other);
                prop_assert_eq!(is_same, other.is_duplicate_of(one));
                prop_assert!(is_same || one != other);
            }
        }
    }
}
