//! `listen --capture` and `replay`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tower_inqud::{Secret, sign};

use crate::process::{
    File, Listener, SECRET, call, command, file, head_with, run, run_with, stderr, stdout,
};

/// A capture of a Request's three statuses, a body that is not UTF-8, and a forgery.
fn capture(name: &str) -> File {
    let path = file(name, b"");
    fs::remove_file(&*path).unwrap();
    let listener = Listener::start(&["--count", "5", "--capture", path.to_str().unwrap()]);
    assert_eq!(run(&["send", &listener.url]).status.code(), Some(0));
    let binary = b"\xff\x00\x1b";
    let digest = sign(&Secret::new(SECRET).unwrap(), binary).to_string();
    call(&listener.url, &head_with(&digest), binary);
    call(&listener.url, &(head_with(&"a".repeat(40)) + "\r\nCookie: private=1"), b"{}");
    assert_eq!(listener.end().0, Some(1));
    path
}

fn lines(path: &File) -> Vec<Value> {
    let text = fs::read_to_string(&**path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_capture_has_the_exact_bodies_and_nothing_private() {
    let path = capture("exact.jsonl");
    let text = fs::read_to_string(&*path).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("private"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let lines = lines(&path);
    assert_eq!(lines.len(), 5);
    for line in &lines[..3] {
        let body = line["body"].as_str().unwrap();
        let digest = sign(&Secret::new(SECRET).unwrap(), body.as_bytes()).to_string();
        let headers = line["headers"].as_array().unwrap();
        assert!(headers.contains(&serde_json::json!(["x-payload-digest", digest])), "{line}");
        assert_eq!((&line["method"], &line["path"]), (&"POST".into(), &"/hook".into()));
        line["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    }
    assert_eq!(lines[3]["body_base64"], "/wAb");
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&*path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_capture_replayed_a_day_later_verifies_and_a_changed_one_does_not() {
    let path = capture("replayed.jsonl");
    // A day passes: what is signed does not depend on the time.
    let aged = lines(&path).into_iter().map(|mut line| {
        let at = line["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
        line["at"] = (at - SignedDuration::from_hours(24)).to_string().into();
        line
    });
    let aged = aged.collect::<Vec<_>>();
    let write = |lines: &[Value]| {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&*path, text).unwrap();
    };
    write(&aged[..4]);
    let listener = Listener::start(&["--count", "4", "--json"]);
    let port = listener.url.trim_end_matches("/hook").rsplit(':').next().unwrap().to_owned();
    let replayed = run(&["replay", path.to_str().unwrap(), &port]);
    let shown = stdout(&replayed);
    assert!(
        shown.contains("line 3: verified Request SUCCESS order-1 100 USDT, answered 200 OK\n"),
        "{shown}"
    );
    // The last one is authentic, but not JSON.
    assert!(shown.ends_with("4 sent, 3 acknowledged\n"), "{shown}");
    assert_eq!(replayed.status.code(), Some(1));
    let (_, received) = listener.end();
    let received = received.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    for (received, sent) in received.zip(&aged[..3]) {
        assert_eq!(received["request"], "POST /hook", "it keeps its path");
        assert_eq!((&received["verified"], &received["body"]), (&true.into(), &sent["body"]));
    }

    // One digit of an amount, one line of something else, and half a line.
    let mut changed = aged;
    let body =
        changed[1]["body"].as_str().unwrap().replace("\"payAmount\":100", "\"payAmount\":900");
    changed[1]["body"] = body.into();
    write(&changed);
    let mut text = fs::read(&*path).unwrap();
    text.extend_from_slice(b"no JSON\n\n{\"at\":\"");
    fs::write(&*path, text).unwrap();
    let listener = Listener::start(&["--count", "1", "--status", "SUCCESS"]);
    let args = ["replay", path.to_str().unwrap(), &listener.url, "--status", "SUCCESS"];
    let replayed = run(&args);
    assert_eq!(replayed.status.code(), Some(1));
    let shown = stdout(&replayed).to_owned();
    for words in [
        "line 2: not sent: the digest does not match the body",
        "line 5: not sent: the digest does not match the body",
        "line 6: not sent: not a captured webhook",
        "line 8: not sent: not a captured webhook",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // The filter selects one of the others, and the body that is no notification.
    assert!(shown.ends_with("2 sent, 1 acknowledged, 4 did not verify\n"), "{shown}");

    let verified = run(&["replay", path.to_str().unwrap(), "--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let last: Value = serde_json::from_str(stdout(&verified).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["verified"], &last["changed"], &last["sent"]),
        (&3.into(), &4.into(), &Value::Null)
    );
    let mut other = command(&args);
    other.env("INQUD_WEBHOOK_SECRET", "another");
    let rejected = run_with(other, b"");
    assert!(
        stdout(&rejected).ends_with("0 sent, 0 acknowledged, 7 did not verify\n"),
        "{rejected:?}"
    );
}

#[test]
fn replay_keeps_to_the_rate_and_the_limit() {
    let path = capture("limited.jsonl");
    let path = path.to_str().unwrap();
    let listener = Listener::start(&["--count", "3"]);
    let began = std::time::Instant::now();
    let replayed = run(&["replay", path, &listener.url, "--limit", "3", "--rate", "20"]);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    assert!(began.elapsed().as_millis() >= 100);
    assert!(stdout(&replayed).ends_with("3 sent, 3 acknowledged\n"), "{replayed:?}");
    let (_, shown) = listener.end();
    assert!(shown.ends_with("3 verified, 0 rejected\n"), "{shown}");

    let refused = run(&["replay", path, "1", "--limit", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stdout(&refused).contains("no response: nothing listens on 127.0.0.1:1"),
        "{refused:?}"
    );
    assert_eq!(stderr(&refused), "");
}

#[test]
fn a_capture_is_appended_to_and_survives_half_a_line() {
    let path = capture("appended.jsonl");
    let text = fs::read(&*path).unwrap();
    fs::write(&*path, &text[..text.len() - 10]).unwrap();
    let listener = Listener::start(&["--count", "1", "--capture", path.to_str().unwrap()]);
    assert_eq!(run(&["send", &listener.url, "--status", "SUCCESS"]).status.code(), Some(0));
    assert_eq!(listener.end().0, Some(0));
    let verified = run(&["replay", path.to_str().unwrap()]);
    let shown = stdout(&verified);
    assert!(shown.contains("line 5: not sent: not a captured webhook"), "{shown}");
    assert!(shown.contains("line 6: verified Request SUCCESS "), "{shown}");
}

#[test]
fn replay_reads_lines_of_at_most_2_mib() {
    const LINE: usize = 2 * 1024 * 1024;
    // The longest line of a capture: JSON escapes each byte of this body as six.
    let body = "\u{1}".repeat(256 * 1024);
    let digest = sign(&Secret::new(SECRET).unwrap(), body.as_bytes()).to_string();
    let longest = serde_json::json!({
        "at": "2026-01-01T00:00:00Z",
        "method": "POST",
        "path": "/hook",
        "headers": [["x-payload-digest", digest]],
        "body": body,
    });
    let blank = " ".repeat(LINE - 1);
    let path = file("longest.jsonl", format!("{longest}\n{blank}\n{longest}").as_bytes());
    let verified = run(&["replay", path.to_str().unwrap()]);
    assert!(stdout(&verified).ends_with("\n2 verified\n"), "{verified:?}");
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");

    let path = file("longer.jsonl", format!("{blank} \n").as_bytes());
    let refused = run(&["replay", path.to_str().unwrap()]);
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(2), ""), "{refused:?}");
    assert!(stderr(&refused).contains("line 1 of "), "{refused:?}");
    assert!(
        stderr(&refused).contains(" is longer than 2097152 bytes: not a capture"),
        "{refused:?}"
    );
}

#[test]
fn a_body_that_was_not_read_is_not_captured() {
    let path = file("not-read.jsonl", b"");
    fs::remove_file(&*path).unwrap();
    let listener = Listener::start(&["--count", "1", "--capture", path.to_str().unwrap()]);
    // Without a digest, the call is rejected before its body is read.
    call(&listener.url, "POST /hook HTTP/1.1", b"{}");
    assert_eq!(listener.end().0, Some(1));
    assert_eq!(lines(&path)[0].get("body"), None);
    let replayed = run(&["replay", path.to_str().unwrap()]);
    let words = "line 1: not sent: its body did not arrive completely\n";
    assert!(stdout(&replayed).starts_with(words), "{replayed:?}");
}
