//! What `send` sends: set fields, bodies of your own, and many at a time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::process::{
    Listener, accept, command, deliveries, file, read_call, run, run_with, stdout,
};

/// The bodies that `send` sends with these arguments, in the order of their arrival.
fn bodies(args: &[&str], count: &str, input: &[u8]) -> Vec<String> {
    let listener = Listener::start(&["--json", "--count", count]);
    let sent = run_with(command(&[&["send", &listener.url], args].concat()), input);
    assert_eq!(sent.status.code(), Some(0), "{args:?}: {sent:?}");
    let (code, shown) = listener.end();
    assert_eq!(code, Some(0), "{shown}");
    let lines = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["body"].as_str().map(str::to_owned)).collect()
}

#[test]
fn sets_fields_of_every_webhook() {
    let sets = ["--set", "paidAmount=99.10", "--set", "reason=null", "--set", "clientOrderId=17"];
    let sets = [&sets[..], &["--set", "payment.fee:=1E-8", "--set", "overpaid=true"]].concat();
    let bodies = bodies(&sets, "3", b"");
    assert_eq!(bodies.len(), 3);
    for body in bodies {
        for part in [
            r#""paidAmount":99.10,"#,
            r#""reason":null,"#,
            r#""clientOrderId":"17","#,
            r#""payment":{"fee":1E-8},"#,
            r#""overpaid":true,"#,
        ] {
            assert!(body.contains(part), "{part}: {body}");
        }
        assert!(body.starts_with(r#"{"id":"CAPD-"#), "the order of the fields is kept: {body}");
    }
}

#[test]
fn sends_a_body_byte_for_byte() {
    let body = "{ \"id\" : \"CAPD-1\",\r\n\"status\":\"SUCCESS\", \"payAmount\": 1.10 }\n";
    let path = file("sent.json", body.as_bytes());
    assert_eq!(bodies(&["--body", path.to_str().unwrap()], "1", b""), [body]);
    assert_eq!(bodies(&["--body", "-", "--times", "2"], "2", body.as_bytes()), [body, body]);
}

#[test]
fn sends_many_at_a_time_and_keeps_the_order_of_each_object() {
    let listener = Listener::start(&["--json", "--count", "300"]);
    let args = ["--count", "100", "--concurrency", "10", "--json"];
    let sent = run(&[&["send", &listener.url], &args[..]].concat());
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let (all, total) = deliveries(&sent);
    assert_eq!((all.len(), &total["acknowledged"]), (300, &300.into()));
    for name in ["p50_us", "p95_us", "p99_us", "max_us"] {
        assert!(total["latency"][name].as_u64().unwrap() > 0, "{total}");
    }
    let (_, shown) = listener.end();
    let mut orders = BTreeMap::<String, Vec<String>>::new();
    for line in shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let Some(order) = line["notification"]["order"].as_str() else { continue };
        let status = line["notification"]["status"].as_str().unwrap().to_owned();
        orders.entry(order.to_owned()).or_default().push(status);
    }
    assert_eq!(orders.len(), 100);
    assert!(orders.contains_key("order-1-1") && orders.contains_key("order-1-100"));
    for statuses in orders.values() {
        assert_eq!(*statuses, ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"]);
    }
}

#[test]
fn copies_are_sent_at_the_same_time() {
    // Without concurrency, the second copy would wait for the response to the first.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let streams = (0..4).map(|_| accept(&listener).unwrap()).collect::<Vec<_>>();
        for mut stream in streams {
            read_call(&mut stream).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
        }
    });
    let sent = run(&["send", &port, "--status", "SUCCESS", "--times", "4", "--concurrency", "4"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    assert!(stdout(&sent).contains("latency: median "), "{sent:?}");
    server.join().unwrap();
}

/// Accepts a connection that is waiting, reads its request and responds.
fn respond(listener: &TcpListener) {
    let mut stream = accept(listener).unwrap();
    read_call(&mut stream).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).unwrap();
}

#[test]
fn the_webhooks_of_one_order_wait_for_each_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let mut first = accept(&listener).unwrap();
        read_call(&mut first).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert!(listener.accept().is_err(), "the second waits for the response to the first");
        drop(first);
        respond(&listener);
    });
    let args = ["send", &port, "--scenario", "expired", "--concurrency", "4"];
    assert_eq!(run(&args).status.code(), Some(1), "one was lost");
    server.join().unwrap();
}

#[test]
fn a_webhook_that_a_retry_delivers_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let mut first = accept(&listener).unwrap();
        read_call(&mut first).unwrap();
        drop(first);
        respond(&listener);
    });
    let sent = run(&["send", &port, "--status", "SUCCESS", "--retry=0,0"]);
    server.join().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let shown = stdout(&sent);
    assert!(
        shown.contains("no response (1), 200 OK (1)")
            || shown.contains("200 OK (1), no response (1)"),
        "{shown}"
    );
    assert!(!shown.lines().any(|line| line.starts_with("lost")), "{shown}");
}

#[test]
fn concurrent_senders_share_the_rate() {
    let listener = Listener::start(&["--count", "30"]);
    let args =
        ["--status", "SUCCESS", "--count", "30", "--concurrency", "5", "--rate", "50", "--json"];
    let sent = run(&[&["send", &listener.url], &args[..]].concat());
    let total = deliveries(&sent).1;
    // The thirtieth starts after 29 intervals of 20 ms.
    assert!(total["elapsed_ms"].as_u64().unwrap() >= 575, "{total}");
}

#[test]
fn listen_shows_only_what_the_filters_select_and_counts_all() {
    for (args, shown_lines) in [
        (&["--status", "success"][..], 4),
        (&["--order", "order-1-2"], 3),
        (&["--order", "order-1-2", "--status", "SUCCESS", "--status", "EXPIRED"], 1),
        (&["--kind", "payment"], 0),
        (&["--kind", "payment", "--kind", "request"], 12),
    ] {
        let listener = Listener::start(&[&["--count", "13"], args].concat());
        assert_eq!(run(&["send", &listener.url, "--count", "4"]).status.code(), Some(0));
        // What is rejected is always shown.
        _ = run(&["send", &listener.url, "--forge", "--status", "SUCCESS"]);
        let (code, shown) = listener.end();
        assert_eq!(code, Some(1));
        assert_eq!(shown.matches(" verified Request ").count(), shown_lines, "{args:?}: {shown}");
        assert_eq!(shown.matches(" rejected POST /hook: ").count(), 1, "{shown}");
        let hidden = 12 - shown_lines;
        let hidden = if hidden > 0 { format!(", {hidden} not shown") } else { String::new() };
        assert!(shown.ends_with(&format!("12 verified, 1 rejected{hidden}\n")), "{shown}");
    }
}
