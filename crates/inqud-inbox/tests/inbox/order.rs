//! Tests of duplicates and order: no payment regresses, is dropped or is taken for another, with each store,
//! processed one by one or from a backlog.
//!
//! `ORDER_CASES` sets the number of random lifecycles, 4,000 by default. `ORDER_SEED` sets the seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::future::poll_fn;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use inqud_inbox::tokio_postgres::NoTls;
use inqud_inbox::{
    Claim, Claimed, Context, Filter, Inbox, Inserted, Key, Memory, Once, Outcome, Postgres, Record,
    Settled, Settlement, Sqlite, State, Storable, Store, Stored, rusqlite,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower_inqud::{Checkout, Event, History, Notification, OrderKey, Verdict};

// ------------------------------------------------------------------------ what is sent

/// Bodies about one object. The id has `#` in place of the object's number.
type Letters = &'static [&'static str];

const REQUEST: Letters = &[
    r##"{"id":"CAPD-#","status":"WAITING_PAYMENT","lastUpdatedAt":null}"##,
    r##"{"id":"CAPD-#","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"CAPD-#","status":"EXPIRED","lastUpdatedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"CAPD-#","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:02:00Z","paidAmount":50}"##,
    r##"{"id":"CAPD-#","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:02:00Z","paidAmount":99}"##,
    r##"{"id":"CAPD-#","status":"CONFLICT","lastUpdatedAt":"2026-11-22T10:02:00Z"}"##,
    r##"{"id":"CAPD-#","status":"CONFLICT","lastUpdatedAt":"2026-11-22T10:03:00Z"}"##,
];
const CHECKOUT: Letters = &[
    r##"{"id":"CCO-#","status":"NEW","lastUpdatedAt":null}"##,
    r##"{"id":"CCO-#","status":"REQUEST_CREATED","lastUpdatedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"CCO-#","status":"PAYMENT_DETECTED","lastUpdatedAt":"2026-11-22T10:02:00Z"}"##,
    r##"{"id":"CCO-#","status":"EXPIRED","lastUpdatedAt":"2026-11-22T10:02:00Z"}"##,
    r##"{"id":"CCO-#","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:03:00Z"}"##,
    r##"{"id":"CCO-#","status":"CONFLICT","lastUpdatedAt":"2026-11-22T10:03:00Z"}"##,
];
const PAYMENT: Letters = &[
    r##"{"id":"PMT-#","status":"NEW"}"##,
    r##"{"id":"PMT-#","status":"PENDING"}"##,
    r##"{"id":"PMT-#","status":"PARTIAL_SUCCESS","amount":10}"##,
    r##"{"id":"PMT-#","status":"PARTIAL_SUCCESS","amount":60}"##,
    r##"{"id":"PMT-#","status":"SUCCESS","amount":100}"##,
    r##"{"id":"PMT-#","status":"FAILED"}"##,
];
const ON_RAMP: Letters = &[
    r##"{"id":"ORCO-#","status":"PENDING"}"##,
    r##"{"id":"ORCO-#","status":"PENDING","modifiedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"ORCO-#","status":"DONE","modifiedAt":"2026-11-22T10:02:00Z"}"##,
    r##"{"id":"ORCO-#","status":"FAILED","modifiedAt":"2026-11-22T10:02:00Z"}"##,
];
const SUBSCRIPTION: Letters = &[
    r##"{"id":"SUB-#","status":"INITIATED"}"##,
    r##"{"id":"SUB-#","status":"ACTIVE","subStatus":"ACTIVE"}"##,
    r##"{"id":"SUB-#","status":"ACTIVE","subStatus":"RENEWING"}"##,
    r##"{"id":"SUB-#","status":"ACTIVE","subStatus":"ACTIVE","nextWriteOffAt":"2026-12-30T00:00:00Z"}"##,
    r##"{"id":"SUB-#","status":"CANCELLED"}"##,
];
const INVOICE: Letters = &[
    r##"{"id":"#","paymentIntents":[],"status":"NEW"}"##,
    r##"{"id":"#","paymentIntents":[],"status":"NEW","modifiedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"#","paymentIntents":[],"status":"PENDING","modifiedAt":"2026-11-22T10:02:00Z"}"##,
    r##"{"id":"#","paymentIntents":[],"status":"FAILED","modifiedAt":"2026-11-22T10:03:00Z"}"##,
    r##"{"id":"#","paymentIntents":[],"status":"SUCCESS","modifiedAt":"2026-11-22T10:03:00Z"}"##,
];
const AUTHORIZATION: Letters = &[
    r##"{"id":"AGR-#","status":"GRANTED"}"##,
    r##"{"id":"AGR-#","status":"REVOKED_BY_MERCHANT"}"##,
    r##"{"id":"AGR-#","status":"REVOKED_BY_USER"}"##,
];
const OTHER: Letters = &[
    r##"{"id":"NEW-#","status":"BEGUN"}"##,
    r##"{"id":"NEW-#","status":"ENDED"}"##,
    r##"{"id":"NEW-#","status":"ENDED","lastUpdatedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"NEW-#","amount":1}"##,
];
/// Bodies that Inqud should not send: a later state without a time.
const REQUEST_WITHOUT_TIMES: Letters = &[
    r##"{"id":"CAPD-#","status":"WAITING_PAYMENT"}"##,
    r##"{"id":"CAPD-#","status":"PENDING_PAYMENT"}"##,
    r##"{"id":"CAPD-#","status":"SUCCESS"}"##,
    r##"{"id":"CAPD-#","status":"CONFLICT"}"##,
    r##"{"id":"CAPD-#","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"##,
    r##"{"id":"CAPD-#","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:02:00Z"}"##,
];

const KINDS: &[(&str, Letters)] = &[
    ("request", REQUEST),
    ("checkout", CHECKOUT),
    ("payment", PAYMENT),
    ("on-ramp", ON_RAMP),
    ("subscription", SUBSCRIPTION),
    ("invoice", INVOICE),
    ("authorization", AUTHORIZATION),
    ("other", OTHER),
    ("request without times", REQUEST_WITHOUT_TIMES),
];

/// Returns the body for the object with this number.
fn body(letter: &str, number: usize) -> String {
    letter.replace('#', &number.to_string())
}

fn event(body: &str) -> Event {
    serde_json::from_str(body).unwrap()
}

fn record(body: &str) -> Record {
    Record::new(&event(body), body.to_owned().into())
}

fn order_key(body: &str) -> OrderKey {
    OrderKey::new(&event(body), body.as_bytes())
}

// ---------------------------------------------------------------------------- to play it

/// Deliveries about one object, and after which of them everything open is processed. It always is after the
/// last.
#[derive(Clone, Debug)]
struct Case {
    letters: Vec<String>,
    processes: Vec<bool>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Played {
    answers: Vec<Inserted>,
    handled: Vec<(String, Verdict)>,
    skipped: usize,
    review: usize,
}

impl Played {
    /// The last body that was handled, which is the state that a merchant ends with.
    fn end(&self) -> Option<&str> {
        self.handled.last().map(|(body, _)| &**body)
    }
}

/// Settles at the same time, so that the store commits them together.
async fn settle_together<S: Store>(store: &S, settlements: &mut [Settlement<S::Effect>]) {
    let mut settling: Vec<_> =
        settlements.iter_mut().map(|it| Some(Box::pin(store.settle(it)))).collect();
    poll_fn(|task| {
        for one in &mut settling {
            if let Some(Poll::Ready(settled)) = one.as_mut().map(|it| it.as_mut().poll(task)) {
                assert!(matches!(settled, Ok(Settled::Done { .. })), "{settled:?}");
                *one = None;
            }
        }
        if settling.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Plays all cases concurrently. A claim can be lost, as in a crash, and claimed again.
async fn play<S: Store>(
    store: &S,
    cases: &[Case],
    first: usize,
    mut random: Random,
) -> Vec<Played> {
    let mut played = vec![Played::default(); cases.len()];
    let mut numbers = HashMap::new();
    for (at, case) in cases.iter().enumerate() {
        numbers.insert(event(&body(&case.letters[0], first + at)).id().to_owned(), at);
    }
    let steps = cases.iter().map(|case| case.letters.len()).max().unwrap_or_default();
    for step in 0..steps {
        let now: Vec<_> = (0..cases.len()).filter(|at| step < cases[*at].letters.len()).collect();
        let records = now.iter().map(|at| record(&body(&cases[*at].letters[step], first + at)));
        let answers = store.insert(records.collect()).await.unwrap();
        now.iter().zip(answers).for_each(|(at, answer)| played[*at].answers.push(answer));
        loop {
            let claimed = store
                .claim(Claim::new(Event::KIND, cases.len(), Duration::from_secs(60)))
                .await
                .unwrap();
            let (mut settlements, mut is_done) = (Vec::new(), true);
            for Claimed { ticket, body, .. } in claimed {
                let at = numbers[&*ticket.object];
                let case = &cases[at];
                let is_last = step + 1 >= case.letters.len();
                let outcome = if !is_last && !case.processes[step] {
                    Outcome::Retry { after: Duration::ZERO, error: "later".to_owned() }
                } else {
                    is_done = false;
                    match ticket.verdict {
                        _ if random.below(8) == 0 => {
                            Outcome::Retry { after: Duration::ZERO, error: "again".to_owned() }
                        }
                        Verdict::Stale => {
                            played[at].skipped += 1;
                            Outcome::Skipped
                        }
                        Verdict::Review => {
                            played[at].review += 1;
                            Outcome::Review
                        }
                        verdict => {
                            let body = String::from_utf8(body.to_vec()).unwrap();
                            played[at].handled.push((body, verdict));
                            Outcome::Done(Vec::new())
                        }
                    }
                };
                settlements.push(Settlement { ticket, outcome });
            }
            for settlements in settlements.chunks_mut(256) {
                settle_together(store, settlements).await;
            }
            if is_done {
                break;
            }
        }
    }
    for played in &mut played {
        let count = |answer| played.answers.iter().filter(|it| **it == answer).count();
        played.review += count(Inserted::Review);
        let known = count(Inserted::New) + count(Inserted::Review);
        assert_eq!(known, played.handled.len() + played.skipped + played.review, "{played:?}");
    }
    played
}

/// The generator splitmix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(count).unwrap()).unwrap()
    }
}

// ------------------------------------------------------------------------- exhaustively

/// Returns all sequences of letters up to a length, each with every way to cut it into backlogs. Cases of the
/// same sequence are adjacent.
fn all_cases(letters: Letters, longest: usize) -> Vec<Vec<Case>> {
    let mut sequences: Vec<Vec<String>> = vec![Vec::new()];
    let mut all = Vec::new();
    for length in 1..=longest {
        let longer = sequences.iter().flat_map(|sequence| {
            letters.iter().map(|letter| [&sequence[..], &[(*letter).to_owned()]].concat())
        });
        sequences = longer.collect();
        all.extend(sequences.iter().map(|sequence| {
            let cuts = 0..1_usize << (length - 1);
            let cuts = cuts.map(|cut| Case {
                letters: sequence.clone(),
                processes: (0..length).map(|at| cut >> at & 1 == 1).collect(),
            });
            cuts.collect()
        }));
    }
    all
}

/// Asserts that each sequence ends the same from every backlog, and that processing one by one matches a
/// [`History`].
async fn one_end_whatever_the_backlog(
    store: &impl Store,
    longest: usize,
    mut first: usize,
) -> usize {
    let mut count = 0;
    for (kind, letters) in KINDS {
        let sequences = all_cases(letters, longest);
        let cases: Vec<_> = sequences.iter().flatten().cloned().collect();
        let played = play(store, &cases, first, Random(1)).await;
        let mut at = 0;
        for sequence in &sequences {
            let ends = at..at + sequence.len();
            let ends: BTreeSet<_> = ends
                .map(|at| {
                    let id = format!("{}\",", first + at);
                    played[at].end().map(|end| end.replacen(&id, "#\",", 1))
                })
                .collect();
            assert_eq!(ends.len(), 1, "{kind}: {:#?} ends {ends:#?}", sequence[0].letters);
            let live = &played[at + sequence.len() - 1];
            let number = first + at + sequence.len() - 1;
            assert_eq!(
                verdicts(live),
                history(&sequence[0].letters, number),
                "{kind}: {sequence:?}"
            );
            at += sequence.len();
        }
        first += cases.len();
        count += cases.len();
    }
    count
}

/// Returns each handled body with its verdict, in order.
fn verdicts(played: &Played) -> Vec<(String, Verdict)> {
    played.handled.clone()
}

fn history(letters: &[String], number: usize) -> Vec<(String, Verdict)> {
    let mut history = History::default();
    let bodies = letters.iter().map(|letter| body(letter, number));
    let judged = bodies.map(|body| {
        let verdict = history.receive_order_key(order_key(&body));
        // A merchant stores the history between two deliveries.
        let json = serde_json::to_string(&history).unwrap();
        history = serde_json::from_str(&json).unwrap();
        (body, verdict)
    });
    let judged: Vec<_> = judged.collect();
    judged.into_iter().filter(|(_, verdict)| verdict.should_handle()).collect()
}

#[tokio::test]
async fn short_sequences_end_alike_in_memory() {
    let count = one_end_whatever_the_backlog(Inbox::memory().store(), 4, 0).await;
    println!("{count} cases in memory");
}

#[tokio::test]
async fn short_sequences_end_alike_in_sqlite() {
    let (inbox, _folder) = file();
    one_end_whatever_the_backlog(inbox.store(), 3, 0).await;
}

#[tokio::test]
async fn short_sequences_end_alike_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("exhaustive").await;
    one_end_whatever_the_backlog(inbox.store(), 3, 0).await;
}

/// Ordinary deliveries: each status occurs once in a lifecycle, delivered in any order and repeatedly.
#[tokio::test]
async fn ordinary_deliveries_need_no_review() {
    let request = [0, 1, 3, 6].map(|at| REQUEST[at]);
    let checkout = [0, 1, 2, 4].map(|at| CHECKOUT[at]);
    let payments = [[0, 1, 2, 4], [0, 1, 2, 5]].map(|it| it.map(|at| PAYMENT[at]));
    let subscription = [0, 1, 2, 4].map(|at| SUBSCRIPTION[at]);
    let on_ramp = [0, 1, 2, 2].map(|at| ON_RAMP[at]);
    let invoice = [0, 2, 3, 4].map(|at| INVOICE[at]);
    let lives = [request, checkout, payments[0], subscription, on_ramp, invoice];
    for (at, life) in lives.into_iter().enumerate() {
        for sequence in all_cases(life.to_vec().leak(), 4) {
            let played = play(Inbox::memory().store(), &sequence, at, Random(2)).await;
            assert!(played.iter().all(|it| it.review == 0), "{:#?}", sequence[0].letters);
        }
    }
    // A payment that failed after a partial payment: the partial status is not repeated after the failure.
    let mut sequences = all_cases(payments[1].to_vec().leak(), 4);
    sequences.retain(|it| {
        let part = it[0].letters.iter().rposition(|letter| letter.contains("PARTIAL"));
        let failed = it[0].letters.iter().position(|letter| letter.contains("FAILED"));
        part.is_none() || failed.is_none() || part < failed
    });
    for sequence in sequences {
        let played = play(Inbox::memory().store(), &sequence, 9, Random(2)).await;
        assert!(played.iter().all(|it| it.review == 0), "{:#?}", sequence[0].letters);
    }
}

// ------------------------------------------------------------------------------ at random

/// Returns a random lifecycle, delivered in any order, with repeats, and processed at random times.
fn random_case(random: &mut Random) -> (usize, Case) {
    let kind = random.below(KINDS.len());
    let letters = KINDS[kind].1;
    let length = 1 + random.below(9);
    let mut life: Vec<String> = Vec::new();
    for _ in 0..length {
        let letter = match random.below(4) {
            // Repeated, or rendered differently.
            0 if !life.is_empty() => respelled(&life[random.below(life.len())], random),
            _ => letters[random.below(letters.len())].to_owned(),
        };
        life.push(letter);
    }
    let processes = (0..length).map(|_| random.below(3) == 0).collect();
    (kind, Case { letters: life, processes })
}

/// Returns the same notification in other bytes.
fn respelled(letter: &str, random: &mut Random) -> String {
    match random.below(5) {
        0 => letter.replace(":00Z", ":00.000Z"),
        1 => letter.replace(":00Z", ":00.000999Z"),
        // Rounded instead of floored.
        2 => letter.replace(":00Z", ":00.001Z"),
        3 => letter.replace(",\"", " , \"").replace(":50}", ":50.00}"),
        _ => letter.to_owned(),
    }
}

/// Returns the latest of a lifecycle whose kind has times: by time and rank, then by arrival.
fn latest(letters: &[String], number: usize) -> Option<String> {
    let mut stored: Vec<(String, OrderKey)> = Vec::new();
    for letter in letters {
        let body = body(letter, number);
        let order_key = order_key(&body);
        if !stored.iter().any(|(_, it)| order_key.is_duplicate_of(it)) {
            stored.push((body, order_key));
        }
    }
    stored.into_iter().max_by_key(|(_, order_key)| order_key.position()).map(|(body, _)| body)
}

fn setting(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test]
async fn random_lifecycles_end_with_the_latest() {
    const GROUP: usize = 2_000;
    // Postgres takes ten times as long as the others.
    const IN_POSTGRES: usize = 50_000;
    let total = setting("ORDER_CASES", 4_000);
    let seed = setting("ORDER_SEED", 20_261_127);
    let (sqlite, _folder) = file();
    let database = match postgres::shared() {
        Some(server) => Some(server.inbox("random").await),
        None => None,
    };
    let mut handled = 0;
    for group in 0..total.div_ceil(GROUP) {
        let seed = u64::try_from(seed + group).unwrap();
        let mut random = Random(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let cases: Vec<_> = (0..GROUP).map(|_| random_case(&mut random)).collect();
        let (kinds, cases): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let first = group * GROUP;
        let played = play(Inbox::memory().store(), &cases, first, random.clone()).await;
        let in_sqlite = play(sqlite.store(), &cases, first, random.clone()).await;
        for (at, one) in played.iter().enumerate() {
            let Case { letters, processes } = &cases[at];
            let shown = || format!("seed {seed}: {letters:#?} {processes:?}");
            assert_eq!(one, &in_sqlite[at], "SQLite, {}", shown());
            let number = first + at;
            if ["request", "checkout", "on-ramp", "invoice"].contains(&KINDS[kinds[at]].0) {
                assert_eq!(one.end().map(str::to_owned), latest(letters, number), "{}", shown());
                assert_eq!(one.review, 0, "{}", shown());
            } else if KINDS[kinds[at]].0 != "request without times" {
                let end = history(letters, number).pop().map(|(body, _)| body);
                assert_eq!(one.end().map(str::to_owned), end, "{}", shown());
            }
            handled += one.handled.len();
        }
        if let Some(database) = &database
            && first < IN_POSTGRES
        {
            let in_postgres = play(database.store(), &cases, first, random).await;
            for (at, one) in played.iter().enumerate() {
                assert_eq!(one, &in_postgres[at], "Postgres, seed {seed}: {:#?}", cases[at]);
            }
        }
    }
    println!("{total} lifecycles, {handled} notifications handled");
}

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

// ---------------------------------------------------------------------------- row by row

/// A case that was wrong once or is easy to get wrong: a sequence, and which of it are handled with which
/// verdict, if each is processed as it arrives, and if all are open when the runner starts.
struct Row {
    what: &'static str,
    bodies: &'static [&'static str],
    live: &'static [(usize, Verdict)],
    backlog: &'static [(usize, Verdict)],
    review: u64,
    skipped: u64,
}

use crate::postgres;
use Verdict::{Amended, Newer, Stale, Unordered};

const ROWS: &[Row] = &[
    Row {
        what: "the first state of a Request comes after its last",
        bodies: &[
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T09:45:00Z"}"#,
            r#"{"id":"CAPD-1","status":"WAITING_PAYMENT","lastUpdatedAt":null}"#,
        ],
        live: &[(0, Newer)],
        backlog: &[(1, Newer), (0, Newer)],
        review: 0,
        skipped: 1,
    },
    Row {
        what: "two parts of a payment",
        bodies: &[
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":10.00}"#,
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":60.00}"#,
        ],
        live: &[(0, Newer), (1, Amended)],
        backlog: &[(0, Newer), (1, Amended)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a payment that came back is not lost, and not taken for paid",
        bodies: &[
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
            r#"{"id":"PMT-1","status":"FAILED"}"#,
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
        ],
        live: &[(0, Newer), (1, Unordered)],
        backlog: &[(0, Newer), (1, Unordered)],
        review: 1,
        skipped: 0,
    },
    Row {
        what: "a third and a fifth repeat are kept too, and their retries are not",
        bodies: &[
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
            r#"{"id":"PMT-1","status":"FAILED"}"#,
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
            r#"{"id":"PMT-1","status":"FAILED"}"#,
            r#"{"id":"PMT-1","status":"FAILED"}"#,
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
        ],
        live: &[(0, Newer), (1, Unordered)],
        backlog: &[(0, Newer), (1, Unordered)],
        review: 3,
        skipped: 0,
    },
    Row {
        what: "a payment that fails after it succeeded ends failed",
        bodies: &[r#"{"id":"PMT-1","status":"SUCCESS"}"#, r#"{"id":"PMT-1","status":"FAILED"}"#],
        live: &[(0, Newer), (1, Unordered)],
        backlog: &[(0, Newer), (1, Unordered)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a conflict in which more was paid",
        bodies: &[
            r#"{"id":"CAPD-1","status":"CONFLICT","lastUpdatedAt":"2026-11-22T10:00:00Z","paidAmount":50}"#,
            r#"{"id":"CAPD-1","status":"CONFLICT","lastUpdatedAt":"2026-11-22T10:00:00Z","paidAmount":99.46291}"#,
        ],
        live: &[(0, Newer), (1, Amended)],
        backlog: &[(0, Newer), (1, Amended)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "parts and wholes that grow",
        bodies: &[
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":40}"#,
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":90}"#,
            r#"{"id":"PMT-1","status":"SUCCESS","amount":100}"#,
            r#"{"id":"PMT-1","status":"SUCCESS","amount":150}"#,
        ],
        live: &[(0, Newer), (1, Amended), (2, Unordered), (3, Amended)],
        backlog: &[(0, Newer), (1, Amended), (2, Unordered), (3, Amended)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "unknown statuses come after a success",
        bodies: &[
            r#"{"id":"PMT-1","status":"SUCCESS"}"#,
            r#"{"id":"PMT-1","status":"REFUNDED"}"#,
            r#"{"id":"PMT-1","status":"CHARGEBACK"}"#,
            r#"{"id":"PMT-1","status":"REVERSED"}"#,
            r#"{"id":"PMT-1","status":"FROZEN"}"#,
        ],
        live: &[(0, Newer), (1, Unordered), (2, Unordered), (3, Unordered), (4, Unordered)],
        backlog: &[(0, Newer), (1, Unordered), (2, Unordered), (3, Unordered), (4, Unordered)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a part is paid after all",
        bodies: &[
            r#"{"id":"PMT-1","status":"EXPIRED"}"#,
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":40}"#,
        ],
        live: &[(0, Newer), (1, Unordered)],
        backlog: &[(0, Newer), (1, Unordered)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a part comes after the whole",
        bodies: &[
            r#"{"id":"PMT-1","status":"PENDING"}"#,
            r#"{"id":"PMT-1","status":"SUCCESS","amount":100}"#,
            r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS","amount":40}"#,
            r#"{"id":"PMT-1","status":"SUCCESS","amount":100}"#,
            r#"{"id":"PMT-1","status":"NEW"}"#,
        ],
        live: &[(0, Newer), (1, Newer)],
        backlog: &[(0, Newer), (1, Newer)],
        review: 0,
        skipped: 2,
    },
    Row {
        what: "a subscription comes back",
        bodies: &[
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"ACTIVE","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"RENEWING","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"ACTIVE","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"ACTIVE","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
        ],
        live: &[(0, Newer), (1, Amended), (2, Amended)],
        backlog: &[(0, Newer), (1, Amended), (2, Amended)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a subscription is taken up again",
        bodies: &[
            r#"{"id":"SUB-1","status":"ACTIVE"}"#,
            r#"{"id":"SUB-1","status":"CANCELLED"}"#,
            r#"{"id":"SUB-1","status":"ACTIVE"}"#,
        ],
        live: &[(0, Newer), (1, Unordered), (2, Unordered)],
        backlog: &[(0, Newer), (1, Unordered), (2, Unordered)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "an unpaid subscription is paid, with the same next write-off",
        bodies: &[
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"UNPAID","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
            r#"{"id":"SUB-1","status":"ACTIVE","subStatus":"ACTIVE","nextWriteOffAt":"2026-12-01T00:00:00Z"}"#,
        ],
        live: &[(0, Newer), (1, Amended)],
        backlog: &[(0, Newer), (1, Amended)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a time that is rendered with fewer digits, cut or rounded, is no news",
        bodies: &[
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00.123456789Z","createdAt":"2026-11-22T09:00:00.9996Z"}"#,
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00.123456Z","createdAt":"2026-11-22T09:00:00.9996Z"}"#,
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00.123Z","createdAt":"2026-11-22T09:00:00.999Z"}"#,
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00.124Z","createdAt":"2026-11-22T09:00:01Z"}"#,
        ],
        live: &[(0, Newer)],
        backlog: &[(0, Newer)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "the same a minute later is another notification",
        bodies: &[
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00Z"}"#,
            r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:07:00Z"}"#,
        ],
        live: &[(0, Newer), (1, Newer)],
        backlog: &[(0, Newer), (1, Newer)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "estimates, rates and names change from delivery to delivery",
        bodies: &[
            r#"{"id":"CCO-1","status":"NEW","estimatedPayAmounts":{"TRON_USDT":1.1},"request":{"id":"CAPD-1","status":"WAITING_PAYMENT","convertRate":1}}"#,
            r#"{"id":"CCO-1","status":"NEW","estimatedPayAmounts":{"TRON_USDT":1.2},"request":{"convertRate":2,"status":"WAITING_PAYMENT","id":"CAPD-1"}}"#,
        ],
        live: &[(0, Newer)],
        backlog: &[(0, Newer)],
        review: 0,
        skipped: 0,
    },
    Row {
        what: "a later state without a time is kept",
        bodies: &[
            r#"{"id":"CAPD-1","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#,
            r#"{"id":"CAPD-1","status":"SUCCESS"}"#,
        ],
        live: &[(0, Newer)],
        backlog: &[(1, Newer), (0, Newer)],
        review: 1,
        skipped: 0,
    },
    Row {
        what: "an authorization that is granted again is not lost",
        bodies: &[
            r#"{"id":"AGR-1","status":"GRANTED"}"#,
            r#"{"id":"AGR-1","status":"REVOKED_BY_MERCHANT"}"#,
            r#"{"id":"AGR-1","status":"GRANTED"}"#,
        ],
        live: &[(0, Newer), (1, Unordered)],
        backlog: &[(0, Newer), (1, Unordered)],
        review: 1,
        skipped: 0,
    },
];

type Log = Arc<Mutex<Vec<(String, Verdict)>>>;

/// Runs until nothing is open. Bodies that contain `failing` fail.
async fn process<S: Store>(inbox: &Inbox<S>, log: &Log, failing: Option<&'static str>) {
    let log = Arc::clone(log);
    let handler = move |event: Stored<Event>, cx: Context<S>| {
        let body = String::from_utf8(event.raw_body().to_vec()).unwrap();
        let fails = failing.is_some_and(|part| body.contains(part));
        if !fails {
            log.lock().unwrap().push((body, cx.verdict()));
        }
        ready(if fails { Err("as the test asks") } else { Ok(()) })
    };
    let runner = inbox.process(handler).max_attempts(1);
    timeout(Duration::from_secs(60), runner.run_until(nothing_open(inbox))).await.unwrap().unwrap();
}

async fn nothing_open<S: Store>(inbox: &Inbox<S>) {
    while inbox.stats().await.unwrap().backlog() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn insert<S: Store>(inbox: &Inbox<S>, bodies: &[&str]) -> Vec<Inserted> {
    inbox.store().insert(bodies.iter().map(|body| record(body)).collect()).await.unwrap()
}

async fn row<S: Store>(inbox: &Inbox<S>, row: &Row, is_live: bool) {
    let log = Log::default();
    if is_live {
        for body in row.bodies {
            insert(inbox, &[body]).await;
            process(inbox, &log, None).await;
        }
    } else {
        insert(inbox, row.bodies).await;
        process(inbox, &log, None).await;
    }
    let expected = if is_live { row.live } else { row.backlog };
    let expected: Vec<_> =
        expected.iter().map(|(at, verdict)| (row.bodies[*at].to_owned(), *verdict)).collect();
    assert_eq!(*log.lock().unwrap(), expected, "{}", row.what);
    let stats = inbox.stats().await.unwrap();
    assert_eq!(stats.dead(), 0, "{}", row.what);
    if is_live {
        assert_eq!((stats.review(), stats.skipped()), (row.review, row.skipped), "{}", row.what);
    }
    for (list, count) in [(State::Review, stats.review()), (State::Skipped, stats.skipped())] {
        assert_eq!(inbox.list(list, 99).await.unwrap().entries.len() as u64, count, "{}", row.what);
    }
    for (list, verdict) in [(Verdict::Amended, Amended), (Verdict::Unordered, Unordered)] {
        let bodies = inbox
            .list(Filter::from(list).with_bodies(), 99)
            .await
            .unwrap()
            .entries
            .into_iter()
            .map(|entry| entry.body);
        let handled =
            expected.iter().filter(|(_, it)| *it == verdict).map(|(body, _)| body.clone());
        assert!(bodies.eq(handled), "{}", row.what);
    }
}

async fn emptied(server: &postgres::Server, name: &str) -> Inbox<Postgres> {
    let config = server.config(name);
    let truncate = "TRUNCATE inqud_inbox.notification, inqud_inbox.object, inqud_inbox.tally, inqud_inbox.once";
    postgres::connect(&config).await.batch_execute(truncate).await.unwrap();
    Inbox::postgres(config, NoTls).await.unwrap()
}

#[tokio::test]
async fn handles_each_case_in_memory() {
    for it in ROWS {
        for is_live in [true, false] {
            row(&Inbox::memory(), it, is_live).await;
        }
    }
}

#[tokio::test]
async fn handles_each_case_in_sqlite() {
    for it in ROWS {
        for is_live in [true, false] {
            let (inbox, _folder) = file();
            row(&inbox, it, is_live).await;
        }
    }
}

#[tokio::test]
async fn handles_each_case_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    drop(server.inbox("rows").await);
    for it in ROWS {
        for is_live in [true, false] {
            row(&emptied(server, "rows").await, it, is_live).await;
        }
    }
}

/// A merchant without an inbox stores a history in the row of the object.
#[test]
fn history_judges_each_case() {
    for row in ROWS {
        let mut history = History::default();
        let judged: Vec<_> = row
            .bodies
            .iter()
            .enumerate()
            .map(|(at, body)| (at, history.receive_order_key(order_key(body))))
            .collect();
        let handled: Vec<_> = judged.iter().filter(|(_, it)| it.should_handle()).copied().collect();
        assert_eq!(handled, row.live, "{}", row.what);
        let count = |verdict| judged.iter().filter(|(_, it)| *it == verdict).count() as u64;
        assert_eq!(
            (count(Verdict::Review), count(Stale)),
            (row.review, row.skipped),
            "{}",
            row.what
        );
    }
}

// ---------------------------------------------------------------- dead letters and reviews

of_each_store! {
    redriven_dead_letter_does_not_regress
    dead_letter_keeps_arrival_order
    redriven_success_is_handled_after_a_part_of_it
    redriven_review_is_handled
    discarded_review_hides_no_later_one
    late_decoding_takes_no_other_key
    finds_unclaimed_kinds_while_idle
    redriven_review_is_stale_after_a_settled_one
    review_without_time_keeps_the_processed_time
    discard_marks_as_skipped
    reports_duplicates_with_different_bytes
    reports_unclaimed_kinds
    ships_an_order_of_many_objects_once
    once_key_commits_only_with_its_effect
}

async fn redrive_all<S: Store>(inbox: &Inbox<S>) {
    for list in [State::Dead, State::Review] {
        let keys: Vec<_> =
            inbox.list(list, 99).await.unwrap().entries.iter().map(|it| it.key).collect();
        let count = keys.len();
        assert_eq!(inbox.redrive(keys).await.unwrap(), count);
    }
}

const PENDING: &str = r#"{"id":"PMT-1","status":"PENDING"}"#;
const SUCCESS: &str = r#"{"id":"PMT-1","status":"SUCCESS"}"#;
const FAILED: &str = r#"{"id":"PMT-1","status":"FAILED"}"#;

async fn redriven_dead_letter_does_not_regress<S: Store>(inbox: &Inbox<S>) {
    let log = Log::default();
    insert(inbox, &[PENDING]).await;
    process(inbox, &log, Some("PENDING")).await;
    assert_eq!(inbox.dead(9).await.unwrap().len(), 1);
    insert(inbox, &[SUCCESS]).await;
    process(inbox, &log, None).await;
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(*log.lock().unwrap(), [(SUCCESS.to_owned(), Newer)]);
    assert_eq!(
        inbox.list(Filter::from(State::Skipped).with_bodies(), 9).await.unwrap().entries[0].body,
        PENDING
    );
}

async fn dead_letter_keeps_arrival_order<S: Store>(inbox: &Inbox<S>) {
    let log = Log::default();
    insert(inbox, &[SUCCESS]).await;
    process(inbox, &log, Some("SUCCESS")).await;
    insert(inbox, &[FAILED]).await;
    process(inbox, &log, None).await;
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(*log.lock().unwrap(), [(FAILED.to_owned(), Newer)]);
    assert_eq!(inbox.stats().await.unwrap().skipped(), 1);
}

/// Of the two, the success says more, whenever it arrived.
async fn redriven_success_is_handled_after_a_part_of_it<S: Store>(inbox: &Inbox<S>) {
    const PART: &str = r#"{"id":"PMT-1","status":"PARTIAL_SUCCESS"}"#;
    let log = Log::default();
    insert(inbox, &[SUCCESS]).await;
    process(inbox, &log, Some("SUCCESS")).await;
    insert(inbox, &[PART]).await;
    process(inbox, &log, None).await;
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    let handled = [(PART.to_owned(), Newer), (SUCCESS.to_owned(), Unordered)];
    assert_eq!(*log.lock().unwrap(), handled);
}

async fn redriven_review_is_handled<S: Store>(inbox: &Inbox<S>) {
    let log = Log::default();
    insert(inbox, &[SUCCESS, FAILED, SUCCESS]).await;
    process(inbox, &log, None).await;
    let entry = inbox.list(State::Review, 9).await.unwrap().entries.remove(0);
    assert_eq!((entry.kind.as_str(), entry.object.as_str(), entry.attempts), ("event", "PMT-1", 0));
    assert!(entry.error.contains("says what was said before"), "{}", entry.error);
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    let handled = log.lock().unwrap().clone();
    assert_eq!(handled[2], (SUCCESS.to_owned(), Unordered), "{handled:?}");
    assert_eq!(inbox.stats().await.unwrap().review(), 0);
    assert_eq!(
        insert(inbox, &[SUCCESS]).await,
        [Inserted::Duplicate],
        "it is the last that was settled"
    );
}

/// Inqud's API says that it was a late duplicate. Later the payment is corrected after all.
async fn discarded_review_hides_no_later_one<S: Store>(inbox: &Inbox<S>) {
    for body in [SUCCESS, FAILED, SUCCESS] {
        insert(inbox, &[body]).await;
        process(inbox, &Log::default(), None).await;
    }
    let keys = inbox.list(State::Review, 9).await.unwrap().entries.into_iter().map(|it| it.key);
    assert_eq!(inbox.discard(keys).await.unwrap(), 1);
    assert_eq!(insert(inbox, &[SUCCESS]).await, [Inserted::Review]);
    assert_eq!(insert(inbox, &[SUCCESS]).await, [Inserted::Duplicate]);
    let log = Log::default();
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(*log.lock().unwrap(), [(SUCCESS.to_owned(), Unordered)]);
}

async fn late_decoding_takes_no_other_key<S: Store>(inbox: &Inbox<S>) {
    let key = Key::of_undecodable(Event::KIND, SUCCESS.as_bytes());
    let undecodable = Record {
        key,
        object: format!("undecodable:{key}"),
        order_key: OrderKey::of_undecodable(SUCCESS.as_bytes()),
        dead: Some("at amount".to_owned()),
        ..record(SUCCESS)
    };
    inbox.store().insert(vec![undecodable]).await.unwrap();
    insert(inbox, &[SUCCESS, FAILED]).await;
    let log = Log::default();
    process(inbox, &log, None).await;
    // The first body is decoded last, and becomes a review.
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(inbox.stats().await.unwrap().review(), 1);
    assert_eq!(insert(inbox, &[SUCCESS]).await, [Inserted::Review]);
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(log.lock().unwrap().last(), Some(&(SUCCESS.to_owned(), Unordered)));
}

async fn finds_unclaimed_kinds_while_idle<S: Store>(inbox: &Inbox<S>) {
    inbox.store().claim(Claim::new("event", 9, Duration::ZERO)).await.unwrap();
    insert(inbox, &[SUCCESS]).await;
    assert!(inbox.unclaimed(Duration::from_secs(60)).await.unwrap().is_empty());
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(inbox.unclaimed(Duration::from_secs(1)).await.unwrap(), ["event"]);
}

async fn redriven_review_is_stale_after_a_settled_one<S: Store>(inbox: &Inbox<S>) {
    let log = Log::default();
    insert(inbox, &[SUCCESS, FAILED, SUCCESS, r#"{"id":"PMT-1","status":"EXPIRED"}"#]).await;
    process(inbox, &log, None).await;
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(log.lock().unwrap().len(), 3);
    assert_eq!(inbox.stats().await.unwrap().skipped(), 1);
}

async fn review_without_time_keeps_the_processed_time<S: Store>(inbox: &Inbox<S>) {
    let at = |status: &str, minute: u32| {
        format!(
            r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
        )
    };
    let without = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
    let log = Log::default();
    insert(inbox, &[&at("PENDING_PAYMENT", 2)]).await;
    process(inbox, &log, None).await;
    insert(inbox, &[without]).await;
    process(inbox, &log, None).await;
    let entry = inbox.list(State::Review, 9).await.unwrap().entries.remove(0);
    assert!(entry.error.contains("has no time"), "{}", entry.error);
    redrive_all(inbox).await;
    process(inbox, &log, None).await;
    assert_eq!(log.lock().unwrap()[1], (without.to_owned(), Unordered));

    insert(inbox, &[&at("PENDING_PAYMENT", 1)]).await;
    process(inbox, &log, None).await;
    assert_eq!(log.lock().unwrap().len(), 2, "a stale notification does not regress it");
    insert(inbox, &[&at("CONFLICT", 3)]).await;
    process(inbox, &log, None).await;
    assert_eq!(log.lock().unwrap()[2], (at("CONFLICT", 3), Newer));
}

async fn discard_marks_as_skipped<S: Store>(inbox: &Inbox<S>) {
    insert(inbox, &[SUCCESS, FAILED, SUCCESS]).await;
    process(inbox, &Log::default(), None).await;
    let keys = inbox.list(State::Review, 9).await.unwrap().entries.into_iter().map(|it| it.key);
    assert_eq!(inbox.discard(keys).await.unwrap(), 1);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.review(), stats.skipped()), (0, 1));
}

async fn reports_duplicates_with_different_bytes<S: Store>(inbox: &Inbox<S>) {
    let rate = |rate: u32| {
        format!(
            r#"{{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00Z","convertRate":{rate}}}"#
        )
    };
    let answers = insert(inbox, &[&rate(1), &rate(1), &rate(2)]).await;
    assert_eq!(answers, [Inserted::New, Inserted::Duplicate, Inserted::DuplicateDiffers]);
    assert_eq!(insert(inbox, &[&rate(3)]).await, [Inserted::DuplicateDiffers]);
    assert_eq!(insert(inbox, &[&rate(1)]).await, [Inserted::Duplicate]);
    process(inbox, &Log::default(), None).await;
    while inbox.prune(Duration::ZERO, 9).await.unwrap() > 0 {}
    assert_eq!(
        insert(inbox, &[&rate(4)]).await,
        [Inserted::Duplicate],
        "a deleted body cannot be compared"
    );
}

async fn reports_unclaimed_kinds<S: Store>(inbox: &Inbox<S>) {
    insert(inbox, &[SUCCESS]).await;
    let checkout = r#"{"id":"CCO-1","status":"NEW"}"#;
    let of_checkout =
        Record::new(&serde_json::from_str::<Checkout>(checkout).unwrap(), checkout.into());
    inbox.store().insert(vec![of_checkout]).await.unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!(inbox.unclaimed(minute).await.unwrap(), ["checkout", "event"]);
    let stats = inbox.stats().await.unwrap();
    let kinds: Vec<_> = stats.kinds.iter().map(|it| (it.kind.as_str(), it.backlog)).collect();
    assert_eq!(kinds, [("checkout", 1), ("event", 1)]);
    inbox.store().claim(Claim::new("event", 0, minute)).await.unwrap();
    assert_eq!(inbox.unclaimed(minute).await.unwrap(), ["checkout"]);
    assert_eq!(inbox.unclaimed(Duration::ZERO).await.unwrap(), ["checkout", "event"]);
}

// ------------------------------------------------------------ an order is more than an object

/// What a merchant writes into tables beside the inbox: how often each order was shipped, and how often it
/// was paid again.
trait Shop: Store + Sized {
    fn prepare(inbox: &Inbox<Self>, name: &'static str) -> impl Future<Output = ()>;
    fn ship(
        cx: &Context<Self>,
        name: &'static str,
        order: String,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
    fn shipped(inbox: &Inbox<Self>, name: &'static str) -> impl Future<Output = Shipped>;
}

type Shipped = BTreeMap<String, Counts>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Counts by the name of the test and the order.
static IN_MEMORY: Mutex<BTreeMap<(&str, String), Counts>> = Mutex::new(BTreeMap::new());

type Counts = (i64, i64);

impl Shop for Memory {
    async fn prepare(_: &Inbox<Self>, _: &'static str) {}

    async fn ship(cx: &Context<Self>, name: &'static str, order: String) -> Result<(), BoxError> {
        let (mark, of) = (format!("ship:{order}"), (name, order));
        let again = of.clone();
        let ship = move || {
            IN_MEMORY.lock().unwrap().entry(of).or_default().0 += 1;
            Ok::<_, BoxError>(())
        };
        cx.once(mark, ship, move |_| {
            IN_MEMORY.lock().unwrap().entry(again).or_default().1 += 1;
            Ok(())
        });
        Ok(())
    }

    async fn shipped(_: &Inbox<Self>, name: &'static str) -> Shipped {
        let all = IN_MEMORY.lock().unwrap();
        let all = all.iter().filter(|((its, _), _)| *its == name);
        all.map(|((_, order), counts)| (order.clone(), *counts)).collect()
    }
}

const TABLE: &str = "CREATE TABLE shop (id TEXT PRIMARY KEY, first BIGINT, again BIGINT)";
const FIRST: &str = "INSERT INTO shop VALUES ($1, 1, 0)
    ON CONFLICT (id) DO UPDATE SET first = shop.first + 1";
const AGAIN: &str = "UPDATE shop SET again = again + 1 WHERE id = $1";
const SHIPPED: &str = "SELECT id, first, again FROM shop";

impl Shop for Sqlite {
    async fn prepare(inbox: &Inbox<Self>, _: &'static str) {
        inbox.write(|db| db.execute_batch(TABLE)).await.unwrap();
    }

    async fn ship(cx: &Context<Self>, _: &'static str, order: String) -> Result<(), BoxError> {
        let (mark, again) = (format!("ship:{order}"), order.clone());
        let ship = move |db: &rusqlite::Connection| db.execute(FIRST, [&order]);
        cx.once(mark, ship, move |db, _| db.execute(AGAIN, [&again]));
        Ok(())
    }

    async fn shipped(inbox: &Inbox<Self>, _: &'static str) -> Shipped {
        let shipped = |db: &rusqlite::Connection| {
            let mut all = db.prepare(SHIPPED)?;
            all.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
                .collect::<rusqlite::Result<_>>()
        };
        inbox.write(shipped).await.unwrap()
    }
}

impl Shop for Postgres {
    async fn prepare(_: &Inbox<Self>, name: &'static str) {
        let client = postgres::connect(&postgres::shared().unwrap().config(name)).await;
        client.batch_execute(TABLE).await.unwrap();
    }

    async fn ship(cx: &Context<Self>, _: &'static str, order: String) -> Result<(), BoxError> {
        let statement = match cx.once(format!("ship:{order}")).await? {
            Once::First => FIRST,
            Once::After(_) => AGAIN,
        };
        cx.transaction().await?.execute(statement, &[&order]).await?;
        Ok(())
    }

    async fn shipped(_: &Inbox<Self>, name: &'static str) -> Shipped {
        let client = postgres::connect(&postgres::shared().unwrap().config(name)).await;
        let rows = client.query(SHIPPED, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }
}

/// Runs a handler. If `fails`, its first attempt fails after it has asked for its effect.
async fn ship_all<S: Shop>(inbox: &Inbox<S>, name: &'static str, fails: bool) {
    let fails = Arc::new(AtomicBool::new(fails));
    let handler = move |event: Stored<Event>, cx: Context<S>| {
        let fails = Arc::clone(&fails);
        async move {
            let order = event.client_order_id().ok_or("no order")?.to_owned();
            let is_paid = match &*event {
                Event::Request(it) => it.status.as_str() == "SUCCESS",
                Event::Checkout(it) => it.status.as_str() == "SUCCESS",
                Event::Payment(it) => it.is_incoming_paid(),
                _ => false,
            };
            if is_paid {
                S::ship(&cx, name, order).await?;
            }
            if fails.swap(false, Ordering::SeqCst) {
                return Err("after it asked for its effect".into());
            }
            Ok::<_, BoxError>(())
        }
    };
    let runner = inbox.process(handler).backoff(Duration::from_millis(1), Duration::from_millis(5));
    timeout(Duration::from_secs(60), runner.run_until(nothing_open(inbox))).await.unwrap().unwrap();
}

async fn ships_an_order_of_many_objects_once<S: Shop>(inbox: &Inbox<S>) {
    let request = |id: u32, order: &str, status: &str, minute: u32, paid: u32| {
        format!(
            r#"{{"id":"CAPD-{id}","clientOrderId":"{order}","status":"{status}","paidAmount":{paid},"lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
        )
    };
    let bodies = [
        // Paid, and then more was paid.
        request(1, "more", "SUCCESS", 1, 50),
        request(1, "more", "SUCCESS", 1, 99),
        // Paid, disputed, and paid again.
        request(2, "back", "SUCCESS", 1, 50),
        request(2, "back", "CONFLICT", 2, 50),
        request(2, "back", "SUCCESS", 3, 50),
        // Two Requests for one order, both paid.
        request(3, "twice", "SUCCESS", 1, 50),
        request(4, "twice", "SUCCESS", 1, 50),
        // One payment, reported by three webhooks.
        r#"{"id":"CCO-1","clientOrderId":"thrice","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#.to_owned(),
        request(5, "thrice", "SUCCESS", 1, 50),
        r#"{"id":"PMT-1","clientOrderId":"thrice","status":"SUCCESS","orderType":"PAYIN"}"#.to_owned(),
        // The first Request expires late, after the second was paid.
        request(7, "second", "SUCCESS", 1, 50),
        request(6, "second", "EXPIRED", 9, 0),
    ];
    let name = "ships_an_order_of_many_objects_once";
    S::prepare(inbox, name).await;
    for body in &bodies {
        insert(inbox, &[body, body]).await;
        ship_all(inbox, name, true).await;
    }
    let expected = [("back", 1), ("more", 1), ("second", 0), ("thrice", 2), ("twice", 1)];
    let expected = expected.map(|(order, again)| (order.to_owned(), (1, again)));
    assert_eq!(S::shipped(inbox, name).await, BTreeMap::from(expected));
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead(), stats.review()), (0, 0, 0));
}

async fn once_key_commits_only_with_its_effect<S: Shop>(inbox: &Inbox<S>) {
    let paid = |id: u32| {
        format!(
            r#"{{"id":"CAPD-{id}","clientOrderId":"o","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:00:00Z"}}"#
        )
    };
    let name = "once_key_commits_only_with_its_effect";
    S::prepare(inbox, name).await;
    // Its first attempt fails, and keeps no idempotency key.
    insert(inbox, &[&paid(1)]).await;
    ship_all(inbox, name, true).await;
    assert_eq!(S::shipped(inbox, name).await["o"], (1, 0));
    // All others come after it, even if they arrive together.
    let others: Vec<_> = (2..40).map(paid).collect();
    insert(inbox, &others.iter().map(|it| &**it).collect::<Vec<_>>()).await;
    ship_all(inbox, name, true).await;
    assert_eq!(S::shipped(inbox, name).await["o"], (1, 38));
}
