//! `inqud-webhook inbox`, run as a separate process: on a file that this process has open, as a server would, or
//! on a Postgres database.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::postgres;
use bytes::Bytes;
use inqud_inbox::tokio_postgres::NoTls;
use inqud_inbox::{
    Claim, Claimed, Context, Filter, Inbox, Inserted, Key, Outcome, Postgres, Record, Settlement,
    Source, Sqlite, State, Store, Stored,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tower_inqud::{Payment, PaymentRequest, Verdict};

/// Upper bound for each step, so that a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A word that occurs in every body and nowhere else.
const HIDDEN: &str = "gherkin";

fn record(id: u32) -> Record {
    let body = format!(
        r#"{{"id":"CAPD-{id}","status":"SUCCESS","cryptoAcquiringProjectName":"{HIDDEN}"}}"#
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, Bytes::from(body))
}

/// An inbox that this process has open, as a server would, and its directory.
fn held() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

async fn settle_all<S: Store>(inbox: &Inbox<S>, outcome: impl Fn(&Claimed) -> Outcome<S::Effect>) {
    let claimed = inbox.store().claim(Claim::new("request", 10_000, PATIENCE)).await.unwrap();
    for it in &claimed {
        let mut settlement = Settlement { ticket: it.ticket.clone(), outcome: outcome(it) };
        inbox.store().settle(&mut settlement).await.unwrap();
    }
}

fn dead<E>(_: &Claimed) -> Outcome<E> {
    Outcome::Dead { error: "the shop\u{1b}[31m is closed".to_owned() }
}

async fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
    command.arg("inbox").args(args).arg("--sqlite").arg(folder.join("inbox.db"));
    command.env_remove("CLICOLOR_FORCE").kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// Runs the command with this `DATABASE_URL`.
async fn run_in(url: impl Into<Option<OsString>>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
    command.arg("inbox").args(args).env_remove("CLICOLOR_FORCE").kill_on_drop(true);
    match url.into() {
        Some(url) => command.env("DATABASE_URL", url),
        None => command.env_remove("DATABASE_URL"),
    };
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// Asserts the exit code and returns standard output.
#[track_caller]
fn printed(output: &Output, code: i32) -> String {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    assert!(!stderr.contains(HIDDEN), "{stderr}");
    stdout
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    serde_json::from_str(&printed(output, code)).unwrap()
}

/// A record of a payment, which has no timestamps.
fn payment(status: &str, amount: u32) -> Record {
    let body =
        format!(r#"{{"id":"PMT-1","status":"{status}","amount":{amount},"note":"{HIDDEN}"}}"#);
    let payment: Payment = serde_json::from_str(&body).unwrap();
    Record::new(&payment, Bytes::from(body))
}

/// Settles the next payment the way a runner would.
async fn settle_payment<S: Store>(inbox: &Inbox<S>) {
    let claimed = inbox.store().claim(Claim::new("payment", 1, PATIENCE)).await.unwrap().remove(0);
    let outcome = match claimed.ticket.verdict {
        Verdict::Stale => Outcome::Skipped,
        Verdict::Review => Outcome::Review,
        _ => Outcome::Done(vec![]),
    };
    let mut settlement = Settlement { ticket: claimed.ticket, outcome };
    inbox.store().settle(&mut settlement).await.unwrap();
}

/// Fills every list, with notifications of two kinds.
async fn some_of_each<S: Store>(inbox: &Inbox<S>) {
    inbox.store().insert(vec![record(1), record(2)]).await.unwrap();
    settle_all(inbox, dead).await;
    inbox.store().insert(vec![record(3)]).await.unwrap();
    let told = ["SUCCESS 1", "SUCCESS 2", "FAILED 1", "PENDING 1", "FAILED 2", "SUCCESS 1"];
    for (told, inserted) in told.iter().zip([Inserted::New; 5].iter().chain([&Inserted::Review])) {
        let (status, amount) = told.split_once(' ').unwrap();
        let record = payment(status, amount.parse().unwrap());
        assert_eq!(inbox.store().insert(vec![record]).await.unwrap(), [*inserted], "{told}");
        if *inserted == Inserted::New {
            settle_payment(inbox).await;
        }
    }
}

const NOTHING: &str = "backlog 0\ndead 0\nreview 0\nskipped 0\n";

#[tokio::test]
async fn stats_work_beside_a_server() {
    let (inbox, folder) = held();
    let text = printed(&run(folder.path(), &["stats"]).await, 0);
    assert_eq!(text, NOTHING);
    inbox.store().insert(vec![record(1), record(2), record(3)]).await.unwrap();
    let stats = inbox.stats().await.unwrap();
    let shown = json(&run(folder.path(), &["stats", "--json"]).await, 0);
    let oldest = stats.oldest().unwrap().to_string();
    let counts = serde_json::json!({
        "backlog": 3, "oldest": oldest, "dead": 0, "review": 0, "skipped": 0,
    });
    assert_eq!(shown["kinds"], serde_json::json!({ "request": counts }));
    for (name, count) in counts.as_object().unwrap() {
        assert_eq!(&shown[name], count, "{name}");
    }
    assert_eq!(shown["unclaimed"], serde_json::json!(["request"]));
    let text = printed(&run(folder.path(), &["stats"]).await, 0);
    assert!(text.starts_with("backlog 3, the oldest since 2"), "{text}");
    assert!(text.contains("no runner processes request"), "{text}");

    settle_all(&inbox, dead).await;
    let text = printed(&run(folder.path(), &["stats"]).await, 0);
    let kind = "  request          backlog 0, dead 3, review 0, skipped 0\n";
    assert_eq!(text, NOTHING.replace("dead 0", "dead 3") + kind);
}

#[tokio::test]
async fn stats_are_by_kind_and_warn_about_kinds_without_a_runner() {
    let (inbox, folder) = held();
    some_of_each(&inbox).await;
    // Payments have a runner. The runner for Requests was last seen ten minutes ago.
    let asked =
        "UPDATE inqud_inbox_runner SET claimed_at = claimed_at - 600000000 WHERE kind = 'request'";
    inbox.write(|db| db.execute_batch(asked)).await.unwrap();
    let text = printed(&run(folder.path(), &["stats"]).await, 0);
    assert!(text.contains("\ndead 2\nreview 1\nskipped 1\n"), "{text}");
    for line in [
        "  payment          backlog 0, dead 0, review 1, skipped 1\n",
        "  request          backlog 1, dead 2, review 0, skipped 0\n",
        "no runner processes request, which has a backlog\n",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    assert!(!text.contains("processes payment") && !text.contains(HIDDEN), "{text}");
}

/// Lists hide bodies by default and show why each entry is there.
#[tokio::test]
async fn lists_reviews_skipped_amended_and_unordered() {
    let (inbox, folder) = held();
    some_of_each(&inbox).await;
    let lists = [
        ("review", Filter::from(State::Review), "1 review\n", "SUCCESS"),
        ("skipped", Filter::from(State::Skipped), "1 skipped\n", "PENDING"),
        ("amended", Filter::from(Verdict::Amended), "2 amended shown\n", "SUCCESS"),
        ("unordered", Filter::from(Verdict::Unordered), "1 unordered shown\n", "FAILED"),
    ];
    for (name, list, last, status) in lists {
        let text = printed(&run(folder.path(), &[name]).await, 0);
        assert!(text.ends_with(last) && text.contains("PMT-1"), "{name}: {text}");
        assert!(!text.contains(HIDDEN), "{text}");
        let text = printed(&run(folder.path(), &[name, "--bodies", "--limit", "1"]).await, 0);
        assert!(text.contains(HIDDEN) && text.contains(status), "{name}: {text}");
        let shown = json(&run(folder.path(), &[name, "--json"]).await, 0);
        let keys: Vec<_> =
            inbox.list(list, 9).await.unwrap().entries.iter().map(|it| it.key).collect();
        assert_eq!(shown[name], keys.len(), "{shown}");
        let letters = shown["entries"].as_array().unwrap();
        let shown: Vec<_> = letters.iter().map(|it| it["key"].as_str().unwrap()).collect();
        assert_eq!(shown, keys.iter().map(ToString::to_string).collect::<Vec<_>>(), "{name}");
    }
    let text = printed(&run(folder.path(), &["review"]).await, 0);
    let reason = inbox.list(State::Review, 1).await.unwrap().entries.remove(0).error;
    assert!(!reason.is_empty() && text.contains(&reason), "{text}");

    // A notification kept for review can be redriven by its key, but not with `--all`.
    printed(&run(folder.path(), &["redrive", "--all"]).await, 0);
    assert_eq!(inbox.stats().await.unwrap().review(), 1);
    let key = inbox.list(State::Review, 1).await.unwrap().entries[0].key.to_string();
    printed(&run(folder.path(), &["redrive", &key]).await, 0);
    let claimed = inbox.store().claim(Claim::new("payment", 9, PATIENCE)).await.unwrap();
    assert_eq!(claimed[0].ticket.verdict, Verdict::Unordered);
    assert_eq!(claimed[0].body, payment("SUCCESS", 1).body);
}

#[tokio::test]
async fn lists_dead_letters_without_bodies_by_default() {
    let (inbox, folder) = held();
    inbox.store().insert(vec![record(1), record(2), record(3)]).await.unwrap();
    settle_all(&inbox, dead).await;
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key.to_string()).collect();

    let text = printed(&run(folder.path(), &["dead"]).await, 0);
    for part in [&*keys[0], "CAPD-1", "1 attempts", "is closed", "3 dead letters\n"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains(HIDDEN) && !text.contains('\u{1b}'), "{text}");
    let shown = json(&run(folder.path(), &["dead", "--json"]).await, 0);
    assert!(!shown.to_string().contains(HIDDEN), "{shown}");
    assert_eq!(shown["dead"], 3);
    let letters = shown["entries"].as_array().unwrap();
    let shown_keys: Vec<_> = letters.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(shown_keys, keys);
    assert_eq!(letters[1]["object"], "CAPD-2");
    assert!(letters[1].get("body").is_none());

    let text = printed(&run(folder.path(), &["dead", "--limit", "1", "--bodies"]).await, 0);
    assert!(text.contains(HIDDEN) && text.contains("2 not shown"), "{text}");
    let shown = json(&run(folder.path(), &["dead", "--bodies", "--json"]).await, 0);
    assert_eq!(shown["entries"][2]["body"], str::from_utf8(&record(3).body).unwrap());
}

#[tokio::test]
async fn redrives_by_key_and_counts_unmatched_keys() {
    let (inbox, folder) = held();
    inbox.store().insert(vec![record(1), record(2)]).await.unwrap();
    settle_all(&inbox, dead).await;
    let key = inbox.dead(1).await.unwrap()[0].key.to_string();
    let shown = json(&run(folder.path(), &["redrive", &key, &key, "--json"]).await, 0);
    assert_eq!(shown, serde_json::json!({ "redriven": 1, "unmatched": 0 }));
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (1, 1));

    let text = printed(&run(folder.path(), &["redrive", &key]).await, 1);
    assert_eq!(
        text,
        "0 requeued\n1 not found: neither a dead letter nor kept for review; list the keys with \
         `inbox dead` and `inbox review`\n"
    );
    for wrong in [&key[1..], "+0000000000000000000000000000000", "no key"] {
        printed(&run(folder.path(), &["redrive", wrong]).await, 2);
    }
    printed(&run(folder.path(), &["redrive"]).await, 2);
    printed(&run(folder.path(), &["redrive", "--all", &key]).await, 2);
}

#[tokio::test]
async fn discards_dead_letters_and_prunes_their_bodies() {
    let (inbox, folder) = held();
    inbox.store().insert((1..=3).map(record).collect()).await.unwrap();
    settle_all(&inbox, dead).await;
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|it| it.key.to_string()).collect();
    let [first, second, third] = keys.try_into().unwrap();
    let text = printed(&run(folder.path(), &["discard", &first]).await, 0);
    assert_eq!(text, "1 discarded\n");
    let text = printed(&run(folder.path(), &["discard", &first]).await, 1);
    assert_eq!(
        text,
        "0 discarded\n1 not found: neither a dead letter nor kept for review; list the keys with \
         `inbox dead` and `inbox review`\n"
    );
    let shown = json(&run(folder.path(), &["discard", &second, &first, "--json"]).await, 1);
    assert_eq!(shown, serde_json::json!({ "discarded": 1, "unmatched": 1 }));
    for wrong in [&["discard"][..], &["discard", "--all"], &["discard", "no key"]] {
        printed(&run(folder.path(), wrong).await, 2);
    }
    assert_eq!(inbox.dead(9).await.unwrap()[0].key.to_string(), third);
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (0, 1));
    let text = printed(&run(folder.path(), &["prune", "--older-than", "0s"]).await, 0);
    assert_eq!(text, "2 bodies deleted\n");
}

/// More letters than a batch, while the server turns each into a dead letter again at once.
#[tokio::test]
async fn redrive_all_requeues_each_dead_letter_once() {
    const ALL: u32 = 1300;
    let (inbox, folder) = held();
    let records: Vec<_> = (1..=ALL).map(record).collect();
    assert_eq!(inbox.store().insert(records).await.unwrap(), vec![Inserted::New; 1300]);
    settle_all(&inbox, dead).await;
    let redriven = Cell::new(false);
    let command = async {
        let output = run(folder.path(), &["redrive", "--all", "--json"]).await;
        redriven.set(true);
        output
    };
    // To its end each time: a round dropped in the middle leaves leases that nobody settles.
    let server = async {
        while !redriven.get() {
            settle_all(&inbox, |_| Outcome::Dead { error: "still closed".to_owned() }).await;
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (output, ()) = tokio::join!(command, server);
    assert_eq!(json(&output, 0), serde_json::json!({ "redriven": ALL, "unmatched": 0 }));
    settle_all(&inbox, |_| Outcome::Dead { error: "still closed".to_owned() }).await;
    let letters = inbox.dead(10_000).await.unwrap();
    assert_eq!(letters.len(), 1300);
    assert!(letters.iter().all(|it| it.attempts == 1 && it.error == "still closed"));
}

#[tokio::test]
async fn the_server_processes_redriven_notifications() {
    let (inbox, folder) = held();
    inbox.store().insert(vec![record(1)]).await.unwrap();
    settle_all(&inbox, dead).await;
    let (done, was_done) = tokio::sync::oneshot::channel();
    let done = std::sync::Arc::new(std::sync::Mutex::new(Some(done)));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        assert_eq!(cx.verdict(), Verdict::Newer);
        done.lock().unwrap().take().unwrap().send(request.id.clone()).unwrap();
        std::future::ready(Ok::<_, Infallible>(()))
    };
    let server = tokio::spawn(inbox.process(handler).run_until(std::future::pending()));
    printed(&run(folder.path(), &["redrive", "--all"]).await, 0);
    assert_eq!(timeout(PATIENCE, was_done).await.unwrap().unwrap(), "CAPD-1");
    server.abort();
}

#[tokio::test]
async fn prune_deletes_bodies_in_batches_and_keeps_keys() {
    const ALL: u32 = 2100;
    let (inbox, folder) = held();
    inbox.store().insert((1..=ALL).map(record).collect()).await.unwrap();
    settle_all(&inbox, |_| Outcome::Skipped).await;
    inbox.store().insert(vec![record(ALL + 1)]).await.unwrap();
    let text = printed(&run(folder.path(), &["prune", "--older-than", "30d"]).await, 0);
    assert_eq!(text, "0 bodies deleted\n", "none is old enough");
    let shown = json(&run(folder.path(), &["prune", "--older-than", "0s", "--json"]).await, 0);
    assert_eq!(shown, serde_json::json!({ "pruned": ALL }));
    assert_eq!(inbox.store().insert(vec![record(7)]).await.unwrap(), [Inserted::Duplicate]);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    for wrong in ["-1d", "30", "1 month", "soon", ""] {
        printed(&run(folder.path(), &["prune", "--older-than", wrong]).await, 2);
    }
    printed(&run(folder.path(), &["prune"]).await, 2);
    for right in ["2w", "36h", "1 day 12h", "P1D"] {
        printed(&run(folder.path(), &["prune", "--older-than", right]).await, 0);
    }
}

#[tokio::test]
async fn prune_deletes_rows_after_the_duplicate_window() {
    let (inbox, folder) = held();
    inbox.store().insert((0..5).map(record).collect()).await.unwrap();
    settle_all(&inbox, |_| Outcome::Done(vec![])).await;
    let short = run(folder.path(), &["prune", "--rows-older-than", "2d"]).await;
    assert_eq!(short.status.code(), Some(2));
    let error = String::from_utf8(short.stderr).unwrap();
    assert!(error.contains("3 days"), "{error}");

    let all =
        ["prune", "--older-than", "0s", "--rows-older-than", "3d", "--objects-older-than", "3d"];
    let pruned = json(&run(folder.path(), &[&all[..], &["--json"]].concat()).await, 0);
    assert_eq!(pruned, serde_json::json!({ "pruned": 5, "notifications": 0, "objects": 0 }));
    let age = "UPDATE inqud_inbox_notification SET received_at = received_at - 4 * 86400000000,
        settled_at = settled_at - 4 * 86400000000";
    inbox.write(move |db| db.execute_batch(age)).await.unwrap();
    let text = printed(&run(folder.path(), &all).await, 0);
    // The last row keeps its number.
    assert_eq!(text, "0 bodies deleted\n4 notifications deleted\n4 objects deleted\n");
}

#[tokio::test]
async fn erases_an_object() {
    let (inbox, folder) = held();
    inbox.store().insert(vec![record(1), record(2)]).await.unwrap();
    let erase = ["erase", "--kind", "request", "--object", "CAPD-1"];
    let refused = run(folder.path(), &erase).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("not settled"));
    settle_all(&inbox, dead).await;
    assert_eq!(printed(&run(folder.path(), &erase).await, 0), "1 notifications erased\n");
    assert_eq!(inbox.dead(9).await.unwrap().len(), 1);
    let order = ["erase", "--order", "order-9"];
    assert_eq!(printed(&run(folder.path(), &order).await, 1), "nothing found: check the ids\n");
    // The object of a tenant is another one.
    inbox.store().insert(vec![record(2).of_tenant("acme")]).await.unwrap();
    let list = ["list", "--tenant", "acme", "--object", "CAPD-2"];
    let shown = printed(&run(folder.path(), &list).await, 0);
    assert!(shown.contains("acme/CAPD-2") && shown.ends_with("1 shown\n"), "{shown}");
    let of_tenant = ["erase", "--kind", "request", "--object", "CAPD-2", "--tenant", "acme"];
    assert_eq!(run(folder.path(), &of_tenant).await.status.code(), Some(2), "it is not settled");
    let forced = [&of_tenant[..], &["--force"]].concat();
    assert_eq!(printed(&run(folder.path(), &forced).await, 0), "1 notifications erased\n");
    assert!(printed(&run(folder.path(), &list).await, 0).contains("erased"));
    assert_eq!(inbox.dead(9).await.unwrap().len(), 1);
    let unknown = ["erase", "--kind", "request", "--object", "CAPD-9", "--json"];
    assert_eq!(json(&run(folder.path(), &unknown).await, 1)["erased"], 0);
}

#[tokio::test]
async fn backs_up_beside_a_server() {
    let (inbox, folder) = held();
    inbox.store().insert((0..50).map(record).collect()).await.unwrap();
    let to = folder.path().join("copy.db");
    let file = folder.path().join("inbox.db");
    let back_up = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
        command.args(["inbox", "backup", "--sqlite"]).arg(&file).arg(&to);
        timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    };
    let done = printed(&back_up().await, 0);
    assert!(done.ends_with(&format!("bytes written to {}\n", to.display())), "{done}");
    let again = back_up().await;
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8(again.stderr).unwrap().contains("never overwritten"));
    let copy = Inbox::sqlite(&to).unwrap();
    assert_eq!(copy.stats().await.unwrap().backlog(), 50);
}

#[tokio::test]
async fn lists_rejected_calls() {
    use tower::{Layer, ServiceExt};
    use tower_inqud::{Secret, WebhookLayer};

    let (inbox, folder) = held();
    assert_eq!(printed(&run(folder.path(), &["rejected"]).await, 0), "no rejected calls\n");
    let source = "192.0.2.7".parse().unwrap();
    let log = inbox.rejection_log().source(move |_| Some(source));
    let layer = WebhookLayer::<PaymentRequest>::new(Secret::new("whsec-lathe-and-loom").unwrap());
    let service = layer.on_rejection(log.observer::<PaymentRequest>());
    let service = service.layer(inbox.receiver::<PaymentRequest>());
    let request = http::Request::post("/")
        .header("x-payload-digest", "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46")
        .header("content-length", 17);
    let request = request.body(r#"{"field":"value"}"#.to_owned());
    service.oneshot(request.unwrap()).await.unwrap();
    while inbox.rejections(1).await.unwrap().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let text = printed(&run(folder.path(), &["refused"]).await, 0);
    let [heads, call, count, _]: [&str; 4] = text.lines().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(
        heads,
        "AT                    KIND     REASON           FROM       BYTES  DIAGNOSIS"
    );
    assert!(call.ends_with("Z  request  digest_mismatch  192.0.2.7  17     unexplained"), "{call}");
    assert_eq!(count, "1 rejected calls shown, newest first");
    let calls = json(&run(folder.path(), &["rejected", "--json"]).await, 0);
    assert_eq!(calls["rejected"][0]["reason"], "digest_mismatch");
    assert_eq!(calls["rejected"][0]["content_length"], 17);
}

#[tokio::test]
async fn says_how_many_rejected_calls_are_not_in_the_log() {
    let (inbox, folder) = held();
    let log = inbox.rejection_log();
    let verifier = tower_inqud::Verifier::new(tower_inqud::Secret::new("whsec").unwrap());
    let rejection = verifier.verify("no digest", "{}").unwrap_err();
    let (head, ()) = http::Request::new(()).into_parts();
    // The queue has room for 64 of them.
    for _ in 0..70 {
        log.record("request", &rejection, &head);
    }
    while inbox.rejections(1).await.unwrap().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let text = printed(&run(folder.path(), &["rejected", "--limit", "64"]).await, 0);
    let lines = text.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 1 + 64 + 1 + 1, "{text}");
    assert_eq!(lines[2], "  6 more before it are not in the log");
}

#[tokio::test]
async fn a_missing_or_foreign_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["stats"]).await;
    printed(&output, 2);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error = Inbox::attach(folder.path().join("inbox.db")).err().unwrap();
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(stderr.contains(&format!("inbox.db: {error}")), "{stderr}");
    assert!(!folder.path().join("inbox.db").exists());

    std::fs::write(folder.path().join("inbox.db"), "no database").unwrap();
    let output = run(folder.path(), &["dead"]).await;
    printed(&output, 2);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("not a database"), "{stderr}");

    // No store given.
    let command =
        Command::new(env!("CARGO_BIN_EXE_inqud-webhook")).args(["inbox", "stats"]).output();
    let output = timeout(PATIENCE, command).await.unwrap().unwrap();
    printed(&output, 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--sqlite"));
}

#[tokio::test]
async fn prints_keys_the_way_it_reads_them() {
    let (inbox, folder) = held();
    let key = Key::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
    let record = Record { key, dead: Some("never".to_owned()), ..record(1) };
    inbox.store().insert(vec![record]).await.unwrap();
    let text = printed(&run(folder.path(), &["dead"]).await, 0);
    assert!(text.contains("\n000102030405060708090a0b0c0d0eff  "), "{text}");
    printed(&run(folder.path(), &["redrive", "000102030405060708090A0B0C0D0EFF"]).await, 0);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}

#[tokio::test]
async fn maintains_a_postgres_inbox() {
    let Some(server) = postgres::shared() else { return };
    let config = server.database("tended").await;
    let url = OsString::from(server.url("tended"));
    let run = async |args: &[&str]| {
        run_in(url.clone(), &[&args[..1], &["--postgres"], &args[1..]].concat()).await
    };

    let output = run(&["stats"]).await;
    printed(&output, 2);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: ") && stderr.contains("migrate"), "{stderr}");
    assert_eq!(json(&run(&["migrate", "--json"]).await, 0), serde_json::json!({ "version": 1 }));
    assert_eq!(printed(&run(&["migrate"]).await, 0), "the tables are at version 1\n");
    assert_eq!(printed(&run(&["stats"]).await, 0), NOTHING);

    let inbox = Inbox::postgres(config, NoTls).await.unwrap();
    inbox.store().insert(vec![record(1), record(2), record(3)]).await.unwrap();
    let stats = json(&run(&["stats", "--json"]).await, 0);
    assert_eq!((&stats["backlog"], &stats["dead"]), (&3.into(), &0.into()));
    assert!(stats["oldest"].is_string(), "{stats}");
    settle_all(&inbox, dead).await;
    let text = printed(&run(&["dead"]).await, 0);
    assert!(text.contains("CAPD-1") && text.contains("3 dead letters\n"), "{text}");
    assert!(!text.contains(HIDDEN) && !text.contains('\u{1b}'), "{text}");
    let text = printed(&run(&["dead", "--bodies", "--limit", "1"]).await, 0);
    assert!(text.contains(HIDDEN) && text.contains("2 not shown"), "{text}");

    let key = inbox.dead(1).await.unwrap()[0].key.to_string();
    let shown = json(&run(&["redrive", &key, "--json"]).await, 0);
    assert_eq!(shown, serde_json::json!({ "redriven": 1, "unmatched": 0 }));
    printed(&run(&["redrive", &key]).await, 1);
    let key = inbox.dead(1).await.unwrap()[0].key.to_string();
    assert_eq!(printed(&run(&["discard", &key]).await, 0), "1 discarded\n");
    assert_eq!(printed(&run(&["redrive", "--all"]).await, 0), "1 requeued\n");
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2);
    settle_all(&inbox, |_| Outcome::Skipped).await;
    assert_eq!(printed(&run(&["prune", "--older-than", "1h"]).await, 0), "0 bodies deleted\n");
    let shown = json(&run(&["prune", "--older-than", "0s", "--json"]).await, 0);
    assert_eq!(shown, serde_json::json!({ "pruned": 3 }));
}

#[tokio::test]
async fn prints_the_sql_of_migrate() {
    let sql = printed(&run_in(None, &["sql"]).await, 0);
    let shown = json(&run_in(None, &["sql", "--json"]).await, 0);
    assert_eq!(shown, serde_json::json!({ "migrations": Postgres::MIGRATIONS }));
    let Some(server) = postgres::shared() else { return };
    let config = server.database("by_hand").await;
    postgres::connect(&config).await.batch_execute(&sql).await.unwrap();
    let url = OsString::from(server.url("by_hand"));
    let text = printed(&run_in(url.clone(), &["stats", "--postgres"]).await, 0);
    assert_eq!(text, NOTHING);
    printed(&run_in(url, &["migrate", "--postgres"]).await, 0);
}

#[tokio::test]
async fn no_output_or_argument_contains_a_database_password() {
    let Some(server) = postgres::shared() else { return };
    server.inbox("hidden").await;
    let port = server.config("hidden").get_ports()[0];
    let at = format!("127.0.0.1:{port}/hidden");

    let in_arguments = [
        format!("--postgres=postgres://inqud:{HIDDEN}@{at}"),
        format!("--postgres=host=127.0.0.1 port={port} user=inqud password={HIDDEN}"),
        format!("--postgres=postgres://inqud@{at}?password={HIDDEN}"),
    ];
    for argument in &in_arguments {
        for command in [&["stats"][..], &["redrive", "--all"], &["migrate"]] {
            let told = error_of(None, &[command, &[argument]].concat()).await;
            assert!(told.starts_with("error: --postgres: every user of this machine"), "{told}");
        }
    }
    let wrong: [(String, &str); 10] = [
        // A wrong password.
        (format!("postgres://inqud:{HIDDEN}@{at}"), "authentication failed"),
        (format!("postgres://inqud:{HIDDEN}@127.0.0.1:{HIDDEN}/hidden"), "not a database URL"),
        (format!("postgres://inqud:a@{HIDDEN}@{at}"), "not a database URL"),
        (format!("postgres://inqud:a@{HIDDEN}/hidden?sslmode=prefer"), "another machine"),
        (format!("postgres://inqud:a@{HIDDEN}.invalid/hidden"), "connecting"),
        (format!("postgres://inqud:a@{HIDDEN}.invalid/hidden?sslmode=disable"), "connecting"),
        (format!("postgres://inqud@{at}?{HIDDEN}=1"), "not a database URL"),
        (format!("postgres://inqud@{at}?sslmode={HIDDEN}"), "sslmode must be"),
        (format!("postgres://inqud@{at}?sslmode=require&sslrootcert={HIDDEN}"), "No such file"),
        (HIDDEN.to_owned(), "not a database URL"),
    ];
    for (url, reason) in wrong {
        for command in ["stats", "migrate"] {
            let told = error_of(Some(url.clone().into()), &[command, "--postgres"]).await;
            assert!(told.contains(reason), "{url}: {told}");
        }
    }
    let mut urls = vec![None];
    #[cfg(unix)]
    urls.push(Some(std::os::unix::ffi::OsStringExt::from_vec(
        [HIDDEN.as_bytes(), b"\xff"].concat(),
    )));
    for url in urls {
        let told = error_of(url, &["stats", "--postgres"]).await;
        assert!(told.contains("set DATABASE_URL"), "{told}");
    }
    // A URL without a password is allowed as an argument, but the server requires a password.
    let argument = format!("--postgres=postgres://inqud@{at}");
    let told = error_of(Some(server.url("hidden").into()), &["stats", &argument]).await;
    assert!(told.contains("password missing"), "{told}");
    printed(&run_in(OsString::from(server.url("hidden")), &["stats", "--postgres"]).await, 0);
    let help = printed(&run_in(OsString::from(HIDDEN), &["stats", "--help"]).await, 0);
    assert!(help.contains("sslmode=verify-full") && !help.contains(HIDDEN), "{help}");
}

/// The server's text cannot be trusted: it may be someone else's server, or no database at all.
#[tokio::test]
async fn server_errors_cannot_control_the_terminal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            _ = stream.read(&mut [0; 1024]).unwrap();
            let text = "no\u{1b}]0;title\u{7}\u{1b}[2J\nopen 0\n\u{202e}";
            let fields = format!("SFATAL\0VFATAL\0C28000\0M{text}\0\0");
            let len = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            stream.write_all(&[b"E", &len[..], fields.as_bytes()].concat()).unwrap();
        }
    });
    let url = format!("--postgres=postgres://someone@{address}/inbox");
    for command in ["stats", "dead", "migrate"] {
        let error = error_of(None, &[command, &url]).await;
        assert!(error.contains(r"no\u{1b}]0;title\u{7}\u{1b}[2J\u{a}open 0"), "{error:?}");
        let mut characters = error.strip_suffix('\n').unwrap().chars();
        assert!(!characters.any(|it| it.is_control() || it == '\u{202e}'), "{error:?}");
    }
}

/// `tls.rs` has the connections that are encrypted.
#[tokio::test]
async fn refuses_unencrypted_remote_connections_by_default() {
    let Some(server) = postgres::shared() else { return };
    server.inbox("near").await;
    let near = server.url("near");
    for host in ["10.0.0.1", "db.example.com", "127.0.0.1,db.example.com", "[2001:db8::1]"] {
        let url = format!("postgres://inqud:{HIDDEN}@{host}/near?sslmode=prefer");
        let told = error_of(Some(url.clone().into()), &["stats", "--postgres"]).await;
        assert!(told.contains("another machine"), "{url}: {told}");
    }
    let url = near.clone() + "?hostaddr=10.0.0.1&sslmode=prefer";
    let told = error_of(Some(url.into()), &["stats", "--postgres"]).await;
    assert!(told.contains("another machine"), "{told}");
    // Not a loopback address, although it reaches this machine.
    let elsewhere = near.replace("127.0.0.1", "0.0.0.0");
    let told = error_of(Some(elsewhere.clone().into()), &["stats", "--postgres"]).await;
    assert!(told.contains("add sslmode=disable"), "{told}");
    for url in [
        elsewhere + "?sslmode=disable",
        near.replace("127.0.0.1", "localhost"),
        near.clone() + "?sslmode=prefer",
    ] {
        printed(&run_in(OsString::from(url), &["stats", "--postgres"]).await, 0);
    }
    let folder = tempfile::tempdir().unwrap();
    for mode in ["", " sslmode=require"] {
        let url = format!("host={} user=inqud{mode}", folder.path().display());
        let told = error_of(Some(url.into()), &["stats", "--postgres"]).await;
        assert!(told.contains("No such file"), "{told}");
    }
}

#[tokio::test]
async fn requires_exactly_one_store() {
    for (args, reason) in [
        (&["stats"][..], "required"),
        (&["migrate"], "required"),
        (&["stats", "--postgres", "--sqlite", "inbox.db"], "cannot be used with"),
        (&["migrate", "--sqlite", "inbox.db"], "unexpected"),
    ] {
        let told = error_of(None, args).await;
        assert!(told.contains(reason), "{told}");
    }
}

/// Runs a command that must fail with 2, and returns standard error.
async fn error_of(url: Option<OsString>, args: &[&str]) -> String {
    let output = run_in(url, args).await;
    assert_eq!(printed(&output, 2), "");
    String::from_utf8(output.stderr).unwrap()
}

/// The operator's first question: did we get the webhook for this order?
#[tokio::test]
async fn lists_by_order_and_shows_by_key() {
    let (inbox, folder) = held();
    let of = |id: u32, order: &str| {
        let body = format!(
            r#"{{"id":"CAPD-{id}","status":"SUCCESS","clientOrderId":"{order}","note":"{HIDDEN}"}}"#
        );
        Record::decode::<PaymentRequest>(body).unwrap()
    };
    let records = vec![of(1, "order-1"), of(2, r"order-2\u001b[2J"), of(3, "order-1")];
    inbox.store().insert(records).await.unwrap();

    let text = printed(&run(folder.path(), &["list", "--order", "order-1"]).await, 0);
    assert!(
        text.contains("CAPD-1") && text.contains("CAPD-3") && !text.contains("CAPD-2"),
        "{text}"
    );
    assert!(text.starts_with("KEY") && text.ends_with("2 shown\n"), "{text}");
    // The columns are aligned, and nothing from elsewhere reaches the terminal as it is.
    let text = printed(&run(folder.path(), &["list", "--newest"]).await, 0);
    let at = text.lines().next().unwrap().find("STATE").unwrap();
    for line in text.lines().skip(1).take(3) {
        assert_eq!(&line[at..], "open, fetched", "{text}");
    }
    assert!(text.lines().nth(1).unwrap().contains("CAPD-3"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains(HIDDEN), "{text}");

    let text = printed(&run(folder.path(), &["list", "--order", "order-9"]).await, 1);
    assert_eq!(text, "no notifications match\n");
    let shown = json(
        &run(folder.path(), &["list", "--status", "SUCCESS", "--limit", "2", "--json"]).await,
        0,
    );
    let cursor = shown["next"].as_str().unwrap().to_owned();
    let rest = json(&run(folder.path(), &["list", "--cursor", &cursor, "--json"]).await, 0);
    assert_eq!((rest["entries"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    let entry = &rest["entries"][0];
    assert_eq!(entry["order_id"], "order-1");
    assert_eq!(
        (&entry["state"], &entry["source"], entry.get("body")),
        (&"open".into(), &"fetched".into(), None)
    );
    assert!(!shown.to_string().contains(HIDDEN), "{shown}");

    let key = entry["key"].as_str().unwrap();
    let text = printed(&run(folder.path(), &["show", key]).await, 0);
    assert!(text.starts_with(key) && text.contains(HIDDEN), "{text}");
    let shown = json(&run(folder.path(), &["show", key, "--json"]).await, 0);
    assert!(shown["body"].as_str().unwrap().contains(HIDDEN), "{shown}");
    let none = "0".repeat(32);
    printed(&run(folder.path(), &["show", &none]).await, 1);
    for wrong in [
        &["list", "--state", "lost"][..],
        &["list", "--since", "soon"],
        &["list", "--cursor", "x"],
        &["show"],
    ] {
        printed(&run(folder.path(), wrong).await, 2);
    }
    for right in [["--since", "1h"], ["--since", "2020-01-01T00:00Z"], ["--state", "open"]] {
        printed(&run(folder.path(), &[&["list"], &right[..]].concat()).await, 0);
    }
    printed(&run(folder.path(), &["list", "--before", "1h"]).await, 1);
}

#[tokio::test]
async fn reprocesses_what_is_done() {
    let (inbox, folder) = held();
    inbox.store().insert((1..=3).map(record).collect()).await.unwrap();
    settle_all(&inbox, |_| Outcome::Done(vec![])).await;
    inbox.store().insert(vec![record(4)]).await.unwrap();
    let key = inbox.list(State::Done, 1).await.unwrap().entries[0].key.to_string();

    let text = printed(&run(folder.path(), &["reprocess", "--all", "--dry-run"]).await, 0);
    assert_eq!(text, "3 would be requeued\n");
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    let text = printed(&run(folder.path(), &["reprocess", &key]).await, 0);
    assert_eq!(text, "1 requeued\n");
    let shown = json(&run(folder.path(), &["reprocess", "--since", "1h", "--json"]).await, 0);
    assert_eq!((&shown["requeued"], &shown["dry_run"]), (&2.into(), &false.into()));
    assert_eq!(inbox.stats().await.unwrap().backlog(), 4);
    let replays = inbox.list(Filter::new(), 9).await.unwrap().entries;
    assert_eq!(replays.iter().map(|it| it.replays).collect::<Vec<_>>(), [1, 1, 1, 0]);

    let open = replays[3].key.to_string();
    let text = printed(&run(folder.path(), &["reprocess", &open]).await, 1);
    assert_eq!(text, "0 requeued\n1 not requeued: never processed\n");
    let none = "0".repeat(32);
    let text = printed(&run(folder.path(), &["reprocess", &none]).await, 1);
    assert!(text.contains("1 not found"), "{text}");
    for wrong in
        [&["reprocess"][..], &["reprocess", "--dry-run"], &["reprocess", &key, "--kind", "x"]]
    {
        printed(&run(folder.path(), wrong).await, 2);
    }
}

#[tokio::test]
async fn shows_replays_and_attempts_if_there_are_any() {
    let (inbox, folder) = held();
    let records: Vec<_> = (1..=3).map(record).collect();
    let [replayed, dead_letter, open] = [0, 1, 2].map(|at| records[at].key.to_string());
    for (settled, record) in records.into_iter().enumerate() {
        inbox.store().insert(vec![record]).await.unwrap();
        match settled {
            0 => settle_all(&inbox, |_| Outcome::Done(vec![])).await,
            1 => settle_all(&inbox, dead).await,
            _ => {}
        }
    }
    printed(&run(folder.path(), &["reprocess", &replayed]).await, 0);
    for (key, replays, attempts) in
        [(replayed, Some("1"), None), (dead_letter, None, Some("1 attempts")), (open, None, None)]
    {
        let text = printed(&run(folder.path(), &["show", &key]).await, 0);
        let field = |name: &str| text.lines().find_map(|it| it.trim().strip_prefix(name));
        assert_eq!(field("replays  "), replays, "{text}");
        assert_eq!(field("failed   "), attempts, "{text}");
    }
}

#[tokio::test]
async fn imports_at_most_1_mib() {
    const MIB: usize = 1024 * 1024;
    let (_inbox, folder) = held();
    let path = folder.path().join("large.json");
    for (len, code) in [(MIB, 0), (MIB + 1, 2)] {
        let mut body = br#"{"id":"CAPD-1","status":"SUCCESS"}"#.to_vec();
        body.resize(len, b' ');
        std::fs::write(&path, body).unwrap();
        let import = ["import", "--kind", "request", path.to_str().unwrap()];
        let output = run(folder.path(), &import).await;
        printed(&output, code);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr.contains("large.json: is longer than 1 MiB"), len > MIB, "{stderr}");
    }
}

/// What is imported beside a running server, and delivered later, is one notification.
#[tokio::test]
async fn imports_beside_the_server() {
    let (inbox, folder) = held();
    inbox.store().insert(vec![record(1)]).await.unwrap();
    for id in 1..=2 {
        std::fs::write(folder.path().join(format!("{id}.json")), &record(id).body).unwrap();
    }
    std::fs::write(folder.path().join("bad.json"), r#"{"id":"PMT-1","status":"SUCCESS"}"#).unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, two, bad) = (file("1.json"), file("2.json"), file("bad.json"));

    let output = run(folder.path(), &["import", "--kind", "request", &two, &bad]).await;
    printed(&output, 2);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("bad.json"), "{stderr}");
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1, "nothing is stored");

    std::fs::write(folder.path().join("huge.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    let huge = file("huge.json");
    let output = run(folder.path(), &["import", "--kind", "request", &two, &huge]).await;
    printed(&output, 2);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("huge.json: is longer than 1 MiB"), "{stderr}");

    let text = printed(&run(folder.path(), &["import", "--kind", "request", &one, &two]).await, 0);
    assert_eq!(text, "1 imported, 1 known\n");
    assert_eq!(inbox.store().insert(vec![record(2)]).await.unwrap(), [Inserted::Duplicate]);
    let sources = inbox.list(Filter::new(), 9).await.unwrap().entries;
    let sources: Vec<_> = sources.iter().map(|it| it.source).collect();
    assert_eq!(sources, [Source::Pushed, Source::Fetched]);
    let claimed = inbox.store().claim(Claim::new("request", 9, PATIENCE)).await.unwrap();
    assert_eq!(claimed.len(), 2);
    let tenant = ["import", "--kind", "request", "--tenant", "acme", &two];
    assert_eq!(printed(&run(folder.path(), &tenant).await, 0), "1 imported, 0 known\n");
}
