//! `listen --forward-to`, in front of the axum example and of raw sockets.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tower_inqud::{Secret, sign};

use crate::process::{
    Listener, PATIENCE, SECRET, accept, call, deliveries, head_with, run, stdout,
};

/// The axum example as a process of its own. Killed on drop.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        // Cargo becomes the example's process on Unix, so killing it ends the example.
        let mut child = Command::new(env!("CARGO"))
            .args([
                "run",
                "--quiet",
                "--offline",
                "--all-features",
                "--example",
                "axum",
                "--",
                "--serve",
            ])
            .current_dir(root)
            .env("INQUD_WEBHOOK_SECRET", SECRET)
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the example prints its address").unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().to_owned();
        // Its other output is not needed, but must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn digest(body: &[u8]) -> String {
    sign(&Secret::new(SECRET).unwrap(), body).to_string()
}

/// A response without the header that depends on the time.
fn without_date(response: &str) -> String {
    response
        .split_inclusive("\r\n")
        .filter(|line| !line.to_lowercase().starts_with("date:"))
        .collect()
}

#[test]
#[cfg(unix)]
fn a_thousand_deliveries_get_the_answers_of_the_axum_example() {
    let app = Example::start();
    let path = "/webhooks/inqud/request";
    let listener = Listener::start(&[
        "--json",
        "--forward-to",
        &format!("{}{path}", app.address),
        "--count",
        "1005",
    ]);
    let many =
        ["--scenario", "resolved-conflict", "--count", "250", "--concurrency", "8", "--json"];
    let sent = run(&[&["send", &listener.url], &many[..]].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", deliveries(&sent).1);
    let (sent, total) = deliveries(&sent);
    assert_eq!((sent.len(), &total["acknowledged"]), (1000, &1000.into()));

    // The whole response is that of the app: accepted, of another kind, not JSON.
    let app_url = format!("http://{}/hook", app.address);
    for body in [
        &br#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-17"}"#[..],
        br#"{"id":"PMT-1","status":"SUCCESS"}"#,
        b"{\"id\":",
        b"[]",
    ] {
        let head = head_with(&digest(body));
        let direct = call(&app_url, &head.replace("/hook", path), body);
        let forwarded = call(&listener.url, &head, body);
        assert_eq!(without_date(&forwarded), without_date(&direct));
        assert!(!direct.starts_with("HTTP/1.1 401"), "the app verified it too: {direct}");
    }
    // A forgery does not reach the app.
    let forged = call(&listener.url, &head_with(&digest(b"other")), b"{}");
    assert!(forged.starts_with("HTTP/1.1 401"), "{forged}");

    let (code, shown) = listener.end();
    assert_eq!(code, Some(1), "some were not acknowledged");
    let mut lines = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.by_ref().collect::<Vec<_>>();
    assert_eq!(lines.len(), 1006);
    let app_said = |line: &&Value| line["app"]["status"] == 200 && line["verified"] == true;
    assert_eq!(lines.iter().filter(app_said).count(), 1001);
    let last = lines.last().unwrap();
    assert_eq!((&last["verified"], &last["rejected"]), (&1004.into(), &1.into()));
    assert_eq!(last["unacknowledged"], 3);
}

/// Reads a request with a `Content-Length`.
fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..len]);
        let text = String::from_utf8_lossy(&received).to_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.unwrap().parse::<usize>().unwrap();
        if received.len() >= head.len() + 4 + length || len == 0 {
            return received;
        }
    }
}

/// An app that gives one response, and returns the request that it got. The response follows after `wait`.
fn app(response: Vec<u8>, wait: Duration) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut stream = accept(&listener).unwrap();
        _ = tell.send(read_request(&mut stream));
        thread::sleep(wait);
        _ = stream.write_all(&response);
    });
    (address, told)
}

/// Sends raw bytes to a listener, and returns the raw response.
fn raw(listener: &Listener, request: &[u8]) -> Vec<u8> {
    let address = listener.url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut response = Vec::new();
    _ = stream.read_to_end(&mut response);
    response
}

/// The lines of a head, sorted, and the body.
fn parts(message: &[u8]) -> (Vec<String>, &[u8]) {
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&message[..end]).unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned).collect::<Vec<_>>();
    lines[1..].sort();
    (lines, &message[end + 4..])
}

#[test]
fn forwards_bytes_and_headers_unchanged_in_both_directions() {
    let body = b"\xff\x00{\"id\": 1.10}\r\n";
    let answer = b"HTTP/1.1 418 Short And Stout\r\nX-Odd: b\r\nx-odd: a\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n\x00\xff\r\n!".to_vec();
    let (address, received) = app(answer, Duration::ZERO);
    let listener = Listener::start(&["--forward-to", &address, "--count", "1", "--verbose"]);
    let head = format!(
        "POST /any/path?a=%20b HTTP/1.1\r\nHost: shop.example\r\nX-PAYLOAD-Digest: {}\r\nContent-Type: application/JSON\r\n\
         X-Odd: b\r\nx-odd: a\r\nCookie: a=b\r\nContent-Length: {}\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n",
        digest(body),
        body.len(),
    );
    let response = raw(&listener, &[head.as_bytes(), body].concat());

    let request = received.recv_timeout(PATIENCE).unwrap();
    let (lines, forwarded) = parts(&request);
    let (mut sent, _) = parts(head.as_bytes());
    sent.retain(|line| !["Connection", "X-Hop", "TE"].iter().any(|name| line.starts_with(name)));
    assert_eq!((lines, forwarded), (sent, &body[..]));

    let (mut lines, answered) = parts(&response);
    // This is about the connection to the sender, not that to the app.
    lines.retain(|line| !line.eq_ignore_ascii_case("connection: close"));
    assert_eq!(answered, b"\x00\xff\r\n!");
    let expected = [
        "HTTP/1.1 418 Short And Stout",
        "Content-Length: 5",
        "Set-Cookie: a=b",
        "X-Odd: b",
        "x-odd: a",
    ];
    assert_eq!(lines, expected);

    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(shown.starts_with(&format!("forwarding to http://{address}/\n")), "{shown}");
    assert!(shown.contains(" #1 verified POST /any/path?a=%20b, app answered 418"), "{shown}");
    assert!(shown.contains(", which Inqud retries\n"), "{shown}");
    assert!(shown.ends_with("1 verified, 0 rejected, 1 not acknowledged by the app\n"), "{shown}");
}

#[test]
fn answers_in_words_if_the_app_does_not() {
    let large =
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n".to_vec(), vec![b'x'; 2_000_000]]
            .concat();
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".to_vec();
    let odd = b"SSH-2.0-OpenSSH\r\n".to_vec();
    for (response, wait, status, words) in [
        (None, 0, "502 Bad Gateway", "nothing listens on 127.0.0.1:1: start the server"),
        (
            Some(Vec::new()),
            20,
            "504 Gateway Timeout",
            "no response within 1 s: store the notification",
        ),
        (Some(large), 0, "502 Bad Gateway", "its response is larger than 1048576 bytes"),
        (Some(short), 0, "502 Bad Gateway", "its response broke off"),
        (Some(odd), 0, "502 Bad Gateway", "does not speak HTTP"),
        (Some(Vec::new()), 0, "502 Bad Gateway", "closed the connection before it responded"),
    ] {
        let started = response.map(|response| app(response, Duration::from_secs(wait)));
        let address = started.as_ref().map_or("127.0.0.1:1", |(address, _)| address);
        let args = ["--forward-to", address, "--count", "1", "--timeout", "1"];
        let listener = Listener::start(&args);
        let began = Instant::now();
        let sent = run(&["send", &listener.url, "--status", "SUCCESS"]);
        assert!(began.elapsed() < Duration::from_secs(9), "in time for Inqud");
        assert_eq!(sent.status.code(), Some(1), "{sent:?}");
        let (sent, (code, shown)) = (stdout(&sent).to_owned(), listener.end());
        assert!(sent.contains(status) && sent.contains(words), "{sent}");
        assert_eq!(code, Some(1));
        assert!(
            shown.contains("verified Request SUCCESS order-1 100 USDT, app did not answer: "),
            "{shown}"
        );
        assert!(shown.contains(words), "{shown}");
        assert!(shown.contains(&format!("; answered {status}, which Inqud retries\n")), "{shown}");
    }
}

#[test]
fn forwards_a_response_of_at_most_1_mib() {
    const MIB: usize = 1024 * 1024;
    for (len, status) in [(MIB, "200 OK"), (MIB + 1, "502 Bad Gateway")] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
        let (address, _) = app([head.into_bytes(), vec![b'x'; len]].concat(), Duration::ZERO);
        let listener = Listener::start(&["--forward-to", &address, "--count", "1"]);
        let request = format!(
            "{}\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
            head_with(&digest(b"{}"))
        );
        let response = raw(&listener, request.as_bytes());
        assert!(response.starts_with(format!("HTTP/1.1 {status}\r\n").as_bytes()), "{len}");
        if len == MIB {
            assert_eq!(parts(&response).1.len(), len);
        }
    }
}

#[test]
fn a_delivery_is_forwarded_and_shown_even_if_the_sender_disconnects() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (address, received) = app(answer, Duration::from_millis(300));
    let listener = Listener::start(&["--forward-to", &address, "--count", "1"]);
    let tcp = listener.url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut stream = TcpStream::connect(tcp).unwrap();
    let request =
        format!("{}\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}", head_with(&digest(b"{}")));
    stream.write_all(request.as_bytes()).unwrap();
    received.recv_timeout(PATIENCE).unwrap();
    drop(stream);
    let (code, shown) = listener.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("app answered 200 OK in "), "{shown}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_waits_for_a_delivery_whose_sender_left() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (address, received) = app(answer, Duration::from_secs(1));
    let listener = Listener::start(&["--forward-to", &address]);
    let tcp = listener.url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut stream = TcpStream::connect(tcp).unwrap();
    let request =
        format!("{}\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}", head_with(&digest(b"{}")));
    stream.write_all(request.as_bytes()).unwrap();
    received.recv_timeout(PATIENCE).unwrap();
    drop(stream);
    let pid = listener.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let (code, shown) = listener.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("app answered 200 OK in "), "{shown}");
}

#[test]
fn does_not_forward_what_is_rejected() {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    app.set_nonblocking(true).unwrap();
    let address = app.local_addr().unwrap().to_string();
    let listener = Listener::start(&["--forward-to", &address, "--count", "3"]);
    let large = vec![b' '; 300 * 1024];
    for (head, body, status) in [
        (head_with(&digest(b"other")), &b"{}"[..], "401"),
        ("POST /hook HTTP/1.1".to_owned(), b"{}", "401"),
        (head_with(&digest(&large)) + "\r\nExpect: 100-continue", &large, "413"),
    ] {
        let request = format!(
            "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = if status == "413" {
            request.into_bytes()
        } else {
            [request.as_bytes(), body].concat()
        };
        let response = String::from_utf8(raw(&listener, &sent)).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(shown.ends_with("0 verified, 3 rejected\n"), "{shown}");
    assert!(app.accept().is_err(), "nothing reached the app");
}
