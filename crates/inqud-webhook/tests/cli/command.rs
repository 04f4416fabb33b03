//! Runs the command `inqud-webhook` as a real process, over real sockets, and reads both outputs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use serde_json::Value;
use tower::{Layer, service_fn};
use tower_inqud::{Ack, Diagnosis, PaymentRequest, Secret, WebhookBody, WebhookLayer};

use crate::process::{
    BODY, DIGEST, File, Listener, PATIENCE, SECRET, accept, call, command, deliveries, file,
    head_with, json, read_call, run, run_with, server, stderr, stdout, within,
};

#[test]
#[should_panic(expected = "fewer calls than --count")]
fn listener_fails_if_calls_are_missing() {
    _ = Listener::start(&["--count", "1"]).end_within(Duration::from_millis(100));
}

#[test]
fn listen_shows_what_send_sends() {
    let listener = Listener::start(&["--count", "6"]);
    let sent = run(&["send", &listener.url, "--scenario", "success", "--times", "2", "--shuffle"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let table = stdout(&sent);
    for status in ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"] {
        let row = table.lines().find(|line| line.starts_with(status)).unwrap();
        let row = row.split_whitespace().collect::<Vec<_>>();
        assert_eq!(row[1..], ["2", "0", "2", "0", "200", "OK", "(2)"], "{table}");
    }
    assert!(table.contains("all acknowledged, seed "), "{table}");

    let (code, shown) = listener.end();
    assert_eq!(code, Some(0));
    assert_eq!(shown.matches("verified Request ").count(), 6, "{shown}");
    assert_eq!(
        shown.matches(" verified Request SUCCESS order-1 100 USDT, answered 200 OK\n").count(),
        2,
        "{shown}"
    );
    assert!(shown.ends_with("6 verified, 0 rejected\n"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !table.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(stderr(&sent), "", "and no progress bar");
}

#[test]
fn json_of_send_and_listen_agrees_and_a_seed_repeats_the_order() {
    let order = |seed: &str| {
        let listener = Listener::start(&["--json", "--count", "8"]);
        let args = [
            "--scenario",
            "resolved-conflict",
            "--times",
            "2",
            "--shuffle",
            "--seed",
            seed,
            "--json",
        ];
        let sent = run(&[&["send", &listener.url], &args[..]].concat());
        let (sent, all) = deliveries(&sent);
        assert_eq!((&all["ok"], all["seed"].to_string().as_str()), (&true.into(), seed));
        assert_eq!((&all["delivered"], &all["acknowledged"]), (&8.into(), &8.into()));
        assert_eq!(sent.len(), 8, "otherwise the listener would wait for more");
        let sent = sent.iter().map(|it| it["label"].as_str().unwrap().to_owned());

        let (_, shown) = listener.end();
        let shown = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let shown = shown.collect::<Vec<_>>();
        let last = shown.last().unwrap();
        assert_eq!((&last["verified"], &last["rejected"]), (&8.into(), &0.into()));
        let came = shown[..8].iter().zip(1..).map(|(line, number)| {
            assert_eq!((&line["verified"], &line["number"]), (&true.into(), &number.into()));
            let body: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
            body["status"].as_str().unwrap().to_owned()
        });
        let came = came.collect::<Vec<_>>();
        assert!(sent.eq(came.iter().cloned()));
        came
    };
    let shuffled = order("7");
    assert_eq!(shuffled, order("7"));
    let kept = ["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "SUCCESS"];
    assert_ne!(shuffled, kept.iter().flat_map(|status| [*status; 2]).collect::<Vec<_>>());
}

#[test]
fn rejected_forgeries_are_a_success_of_send() {
    let listener = Listener::start(&["--json", "--count", "3"]);
    let sent = run(&["send", &listener.url, "--forge", "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let (sent, all) = deliveries(&sent);
    assert_eq!((sent.len(), &all["ok"], &all["rejected"]), (3, &true.into(), &3.into()));
    for delivery in sent {
        assert_eq!(delivery["status"], 401);
        assert_eq!(delivery["text"], "the digest does not match the body");
    }
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1), "{shown}");
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(first["rejected"]["kind"], "digest_mismatch");
    assert!(
        first["body"].as_str().unwrap().contains("WAITING_PAYMENT"),
        "the body of a rejected delivery is shown too"
    );
}

#[test]
fn lost_forgeries_are_a_failure_of_send() {
    let unreachable = run(&["send", "http://127.0.0.1:1/", "--forge"]);
    assert_eq!(unreachable.status.code(), Some(1), "{unreachable:?}");
    let shown = stdout(&unreachable);
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("not rejected ")).count(),
        1,
        "{shown}"
    );
    assert!(shown.ends_with("not all rejected with 401\n"), "{shown}");

    let (url, server) = server(&["401 Unauthorized", "404 Not Found|no such path", "200 OK"]);
    let sent = run(&["send", &url, "--forge"]);
    assert_eq!(sent.status.code(), Some(1), "{sent:?}");
    let amiss = stdout(&sent).lines().filter(|line| line.starts_with("not rejected "));
    let amiss = amiss.collect::<Vec<_>>();
    assert_eq!(amiss.len(), 2, "{sent:?}");
    assert!(amiss[0].ends_with("404 Not Found: no such path"), "{amiss:?}");
    assert!(amiss[1].ends_with("200 OK"), "{amiss:?}");
    assert_eq!(server.join().unwrap(), Some(()));
}

/// Starts a server for Requests that runs until the process ends.
fn server_of_requests() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let layer = WebhookLayer::<PaymentRequest>::new(Secret::new(SECRET).unwrap());
        let handler = service_fn(|_: hyper::Request<WebhookBody<hyper::body::Incoming>>| {
            std::future::ready(Ok::<_, Infallible>(hyper::Response::<String>::from(Ack::Done)))
        });
        let service = TowerToHyperService::new(layer.layer(handler));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = TokioIo::new(stream);
                let server = hyper::server::conn::http1::Builder::new();
                _ = server.serve_connection(stream, service.clone()).await;
            }
        })
    });
    url
}

/// A merchant may paste a URL into the row of another kind of webhook.
#[test]
fn rejects_scenarios_of_another_kind() {
    let url = server_of_requests();
    for scenario in
        ["success", "overpaid", "conflict", "resolved-conflict", "reversed", "amended", "expired"]
    {
        let sent = run(&["send", &url, "--scenario", scenario]);
        assert_eq!(sent.status.code(), Some(0), "{scenario}: {}", stdout(&sent));
    }
    // Invoices are left out: their id prefix is not public, so the scenario's ids have none.
    for scenario in [
        "payment",
        "reversed-payment",
        "partial-payment",
        "checkout",
        "on-ramp",
        "subscription",
        "renewal",
        "authorization",
    ] {
        let sent = run(&["send", &url, "--scenario", scenario, "--json"]);
        assert_eq!(sent.status.code(), Some(1), "{scenario}: {}", stdout(&sent));
        for delivery in deliveries(&sent).0 {
            assert_eq!(delivery["status"], 422, "{scenario}: {delivery}");
        }
    }
}

#[test]
fn a_wrong_secret_fails_on_both_sides_and_says_why() {
    let listener = Listener::start(&["--count", "1"]);
    let mut send = command(&["send", &listener.url, "--status", "A_NEW_WORD"]);
    let sent = run_with(
        {
            send.env("INQUD_WEBHOOK_SECRET", "another");
            send
        },
        b"",
    );
    assert_eq!(sent.status.code(), Some(1));
    assert!(stdout(&sent).contains("A_NEW_WORD"), "{sent:?}");
    assert!(stdout(&sent).contains("the digest does not match the body"), "{sent:?}");
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(shown.contains("rejected POST /hook: the digest does not match the body"), "{shown}");
}

#[test]
fn send_retries_the_status_that_listen_responds_with() {
    let listener = Listener::start(&["--answer", "202", "--count", "3", "--json"]);
    let args = ["send", &listener.url, "--status", "SUCCESS", "--retry=0,0", "--json"];
    let sent = run(&args);
    assert_eq!(sent.status.code(), Some(1));
    let (deliveries, _) = deliveries(&sent);
    let retries = deliveries.iter().map(|it| (it["retry"].as_u64(), it["status"].as_u64()));
    let expected = [(Some(0), Some(202)), (Some(1), Some(202)), (Some(2), Some(202))];
    assert_eq!(retries.collect::<Vec<_>>(), expected);
    assert_eq!(deliveries[2]["lost"], true);
    assert_eq!(listener.end().0, Some(0), "the listener verified all of them");
}

#[test]
fn prints_each_delivery_as_json_when_it_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let args = ["send", &url, "--scenario", "expired", "--json"];
    let mut child = command(&args).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || stdout.lines().try_for_each(|line| tell.send(line.unwrap())));
    for status in ["WAITING_PAYMENT", "EXPIRED"] {
        let mut stream = accept(&listener).unwrap();
        read_call(&mut stream).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).unwrap();
        // The line is printed before the next delivery gets its response.
        let line: Value = serde_json::from_str(&told.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert_eq!((&line["label"], &line["acknowledged"]), (&status.into(), &true.into()));
    }
    let all: Value = serde_json::from_str(&told.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!((&all["ok"], &all["delivered"]), (&true.into(), &2.into()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn sends_no_timestamps_in_the_future() {
    let table: [(&str, &[&str]); 3] = [
        ("4", &["--scenario", "resolved-conflict"]),
        ("1", &["--status", "CONFLICT"]),
        ("2", &["--scenario", "on-ramp"]),
    ];
    for (count, args) in table {
        let listener = Listener::start(&["--json", "--count", count]);
        let before = Timestamp::now();
        assert_eq!(run(&[&["send", &listener.url], args].concat()).status.code(), Some(0));
        let after = Timestamp::now();
        let (_, shown) = listener.end();
        let times = shown.lines().flat_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let body = line["body"].as_str().unwrap_or("{}");
            let body: Value = serde_json::from_str(body).unwrap();
            ["createdAt", "lastUpdatedAt", "modifiedAt"]
                .map(|name| body[name].as_str().map(|time| time.parse::<Timestamp>().unwrap()))
        });
        let last = times.flatten().max().unwrap();
        assert!(before <= last && last <= after, "{last} of {args:?}");
    }
}

#[test]
fn send_keeps_to_the_rate() {
    let listener = Listener::start(&["--count", "3"]);
    let sent = run(&["send", &listener.url, "--rate", "20", "--json"]);
    let at = deliveries(&sent).0[2]["at_ms"].as_u64().unwrap();
    assert!(at >= 100, "the third must wait 100 ms, not {at} ms");
}

/// A certificate for 127.0.0.1 in a file, and a server that uses it, responds with 200 to one request and returns
/// that request.
fn tls_server() -> (String, File, JoinHandle<Option<String>>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let trusted = file("tls.pem", made.cert.pem().as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let tls = rustls::ServerConnection::new(config.into()).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, accept(&listener)?);
        let received = read_call(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        Some(received)
    });
    (url, trusted, server)
}

#[test]
fn https_requires_a_trusted_certificate() {
    for is_trusted in [true, false] {
        let (url, trusted, server) = tls_server();
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let other = file("other.pem", other.cert.pem().as_bytes());
        let mut send = command(&["send", &url, "--status", "SUCCESS"]);
        send.env("SSL_CERT_FILE", if is_trusted { &*trusted } else { &*other });
        let sent = run_with(send, b"");
        assert_eq!(sent.status.code(), Some(if is_trusted { 0 } else { 1 }), "{sent:?}");
        let received = server.join().unwrap();
        assert_eq!(received.is_some(), is_trusted);
        if let Some(received) = received {
            let (head, body) = received.split_once("\r\n\r\n").unwrap();
            let secret = tower_inqud::Secret::new(SECRET).unwrap();
            let digest = tower_inqud::sign(&secret, body.as_bytes());
            assert!(head.contains(&format!("x-payload-digest: {digest}")), "{head}");
        } else {
            assert!(stdout(&sent).contains("certificate"), "{sent:?}");
        }
    }
}

#[test]
fn an_unreachable_server_is_a_failure() {
    let sent = run(&["send", "http://127.0.0.1:1/", "--status", "SUCCESS"]);
    assert_eq!(sent.status.code(), Some(1));
    assert!(stdout(&sent).contains("nothing listens on 127.0.0.1:1: start the server"), "{sent:?}");
}

#[test]
fn verify_accepts_what_sign_signs() {
    let with_inquds_secret = |args: &[&str]| {
        let mut command = command(args);
        command.env("INQUD_WEBHOOK_SECRET", "secret_value");
        command
    };
    let signed = run_with(with_inquds_secret(&["sign"]), BODY.as_bytes());
    assert_eq!((stdout(&signed), signed.status.code()), (&*format!("{DIGEST}\n"), Some(0)));
    let path = file("body.json", BODY.as_bytes());
    let path = path.to_str().unwrap();
    let signed = run_with(with_inquds_secret(&["sign", path, "--json"]), b"");
    assert_eq!(json(&signed)["digest"], DIGEST);

    for input in [["-", BODY], [path, ""]] {
        let verified = with_inquds_secret(&["verify", input[0], "--digest", DIGEST]);
        let verified = run_with(verified, input[1].as_bytes());
        assert_eq!((stdout(&verified), verified.status.code()), ("verified\n", Some(0)));
    }
    let table = [
        (
            DIGEST.to_owned(),
            "{\"field\":\"value\"}\n",
            "digest_mismatch",
            Diagnosis::BodyHasNewline,
        ),
        (DIGEST.replace('7', "8"), BODY, "digest_mismatch", Diagnosis::Unexplained),
        (format!("sha1={DIGEST}"), BODY, "digest_malformed", Diagnosis::DigestHasMoreThanDigits),
    ];
    for (digest, body, kind, diagnosis) in table {
        let verify = with_inquds_secret(&["verify", "--digest", &digest]);
        let rejected = run_with(verify, body.as_bytes());
        assert_eq!(rejected.status.code(), Some(1));
        assert!(stdout(&rejected).starts_with("rejected: "), "{rejected:?}");
        assert!(stdout(&rejected).contains(&diagnosis.to_string()), "{rejected:?}");
        let verify = with_inquds_secret(&["verify", "--digest", &digest, "--json"]);
        let rejected = json(&run_with(verify, body.as_bytes()));
        assert_eq!(
            (&rejected["verified"], &rejected["rejected"]["kind"]),
            (&false.into(), &kind.into())
        );
    }
}

#[test]
fn reads_the_secret_from_a_file_without_its_newline() {
    for (name, content) in
        [("a", "secret_value"), ("b", "secret_value\n"), ("c", "secret_value\r\n")]
    {
        let path = file(name, content.as_bytes());
        let signed =
            run_with(command(&["sign", "--secret-file", path.to_str().unwrap()]), BODY.as_bytes());
        assert_eq!(
            stdout(&signed),
            format!("{DIGEST}\n"),
            "{content:?}: the file overrides the variable"
        );
    }
    for (name, content) in [("d", ""), ("e", "\n"), ("f", "secret_value \n"), ("g", "a\n\n")] {
        let path = file(name, content.as_bytes());
        let signed = run(&["sign", "--secret-file", path.to_str().unwrap()]);
        assert_eq!(signed.status.code(), Some(2), "{content:?}");
        assert!(stderr(&signed).contains("secret"), "{signed:?}");
    }
}

#[test]
fn errors_exit_with_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let table: &[&[&str]] = &[
        &[],
        &["unknown"],
        &["sign", "/no/such/file"],
        &["sign", "--secret-file", "/no/such/file"],
        &["sign", "--secret", "x"],
        &["verify"],
        &["send"],
        &["send", "/a/path"],
        &["send", "ftp://shop.example/"],
        &["send", "http://127.0.0.1:1/", "--scenario", "unknown"],
        &["send", "http://127.0.0.1:1/", "--times", "0"],
        &["send", "http://127.0.0.1:1/", "--times", "100001"],
        &["send", "http://127.0.0.1:1/", "--rate", "0"],
        &["send", "http://127.0.0.1:1/", "--amount", "much"],
        &["send", "http://127.0.0.1:1/", "--retry=soon"],
        &["completions", "bash", "--json"],
        &["listen", "nowhere"],
        &["listen", &taken],
        &["listen", "127.0.0.1:0", "--answer", "100"],
        &["listen", "127.0.0.1:0", "--count", "0"],
    ];
    for args in table {
        let ended = run(args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{args:?}: {ended:?}");
    }
    for args in
        [&["sign"][..], &["listen", "0", "--forward-to", "1"], &["send", "http://127.0.0.1:1/"]]
    {
        for secret in [None, Some(""), Some(" x")] {
            let mut command = command(args);
            command.env_remove("INQUD_WEBHOOK_SECRET");
            command.envs(secret.map(|secret| ("INQUD_WEBHOOK_SECRET", secret)));
            let ended = run_with(command, b"");
            assert_eq!(ended.status.code(), Some(2), "{args:?} {secret:?}: {ended:?}");
            assert!(stderr(&ended).contains("INQUD_WEBHOOK_SECRET"), "{ended:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_output_or_process_list_shows_the_secret() {
    let path = file("secret", format!("{SECRET}\n").as_bytes());
    let from_file = ["--secret-file", path.to_str().unwrap()];
    for args in [&[][..], &from_file] {
        let listener = Listener::start(&[args, &["--count", "6"]].concat());
        let processes = fs::read(format!("/proc/{}/cmdline", listener.child.id())).unwrap();
        let mut printed = String::from_utf8(processes).unwrap();
        assert!(printed.contains("listen"), "{printed:?}");
        for fault in [&[][..], &["--forge"]] {
            let sent = run(&[&["send", &listener.url, "--json"], fault, args].concat());
            printed += &(stdout(&sent).to_owned() + stderr(&sent));
        }
        printed += &listener.end().1;
        for args in
            [&["sign", "--help"][..], &["sign"], &["verify", "--digest", DIGEST], &["--help"]]
        {
            let ended = run(args);
            printed += &(stdout(&ended).to_owned() + stderr(&ended));
        }
        assert!(!printed.contains(SECRET), "{printed}");
        assert!(!printed.contains("whsec"), "{printed}");
    }
}

/// A regression test: keeping each frame separately took some 40 bytes for each byte.
#[test]
#[cfg(target_os = "linux")]
fn a_body_in_many_chunks_costs_little_memory() {
    // Few enough chunks to arrive within the body timeout on a busy machine.
    const CALLS: usize = 8;
    const BYTES: usize = 16 * 1024;
    // One call more than is measured, so that the process still runs when its memory is read.
    let listener = Listener::start(&["--count", &(CALLS + 1).to_string()]);
    let status = format!("/proc/{}/status", listener.child.id());
    let most = move || {
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let before = most();
    let url = listener.url.clone();
    let address = url.trim_start_matches("http://").trim_end_matches("/hook");
    let head = head_with(&"a".repeat(40)) + "\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "1\r\nx\r\n".repeat(BYTES);
    let begin = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(chunks.as_bytes()).unwrap();
        stream
    };
    let mut streams = (0..CALLS).map(begin).collect::<Vec<_>>();
    for stream in &mut streams {
        stream.write_all(b"0\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
    let grown = most() - before;
    // The layer and the copy each hold the body, up to twice its size while they grow; the rest is output.
    assert!(grown < CALLS * BYTES * 4 + 5 * 1024 * 1024, "{grown} bytes");
    drop(streams);
    assert!(call(&url, &head_with(DIGEST), b"x").starts_with("HTTP/1.1 401"));
    assert_eq!(listener.end().0, Some(1));
}

#[test]
fn no_body_controls_the_terminal() {
    let listener = Listener::start(&["--count", "2", "--verbose"]);
    let body = b"\x1b]0;title\x07\x1b[2J\xff";
    let answer = call(&listener.url, "POST /hook HTTP/1.1", body);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(call(&listener.url, &head_with(DIGEST), body).starts_with("HTTP/1.1 401"));
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.contains("the digest header is missing"), "{shown}");
    assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
}

#[test]
fn json_output_escapes_bodies_without_changing_them() {
    let odd = "\u{9b}2J\u{7f}\u{202e}\u{2028}\u{200f}\u{1b}[2J\n\u{10ffff}";
    let listener = Listener::start(&["--count", "1", "--json"]);
    call(&listener.url, &head_with(DIGEST), odd.as_bytes());
    let (_, shown) = listener.end();
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(!shown.contains(['\u{202e}', '\u{2028}', '\u{200f}']), "{shown:?}");
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(first["body"], odd, "a program reads the original text");

    let (url, server) = server(&["503 Service Unavailable|\u{9b}2J\u{7f}"]);
    let sent = run(&["send", &url, "--status", "\u{9b}", "--json"]);
    assert_eq!(server.join().unwrap(), Some(()));
    assert!(!stdout(&sent).contains(|c: char| c.is_control() && c != '\n'), "{sent:?}");
    assert!(stdout(&sent).contains(r"\u009b2J\u007f"), "{sent:?}");
}

#[test]
fn foreign_text_cannot_pass_for_own_output() {
    let listener = Listener::start(&["--count", "1", "--verbose"]);
    let forged = "x\n12:00:00 #2 POST /hook verified, answered 200 OK\n9 verified, 0 rejected\n";
    call(&listener.url, &head_with(DIGEST), forged.as_bytes());
    let (_, shown) = listener.end();
    let own = shown.lines().filter(|line| !line.starts_with("  | ")).collect::<Vec<_>>();
    assert_eq!(own.len(), 2, "{shown}");
    assert!(own[0].contains(" #1 rejected POST /hook: "), "{shown}");
    assert_eq!(own[1], "0 verified, 1 rejected");
    assert!(shown.contains("  | 12:00:00 #2"), "{shown}");

    let (url, server) = server(&["503 Service Unavailable|x\nall acknowledged\n"]);
    let sent = run(&["send", &url, "--status", "A\nSUCCESS 9 0 9 0 200 OK (9)"]);
    assert_eq!(server.join().unwrap(), Some(()));
    let shown = stdout(&sent);
    let lines = shown.lines().count();
    assert_eq!(lines, 5, "a header, a row, a lost delivery, the latency, the verdict: {shown}");
    assert_eq!(shown.lines().last(), Some("not all acknowledged"));
}

#[test]
fn no_color_overrides_forced_colours() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = command(&["kinds"]);
        command.envs(variables.iter().copied());
        run_with(command, b"").stdout.contains(&0x1b)
    };
    assert!(!run(&[]));
    assert!(run(&[("CLICOLOR_FORCE", "1")]));
    // Without CLICOLOR_FORCE, a pipe gets no colours anyway.
    assert!(!run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn kinds_lists_every_status_with_its_certainty() {
    let kinds = json(&run(&["kinds", "--json"]));
    let kinds = kinds.as_array().unwrap();
    assert_eq!(kinds.len(), 7);
    let words = kinds[0]["statuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|status| (status["value"].as_str().unwrap(), status["known"].as_str().unwrap()));
    let words = words.collect::<BTreeMap<_, _>>();
    assert_eq!((words["CONFLICT"], words["SUCCESS"]), ("confirmed", "inferred"));
    let fact = |kind: usize, name: &str| {
        let fact = &kinds[kind][name];
        (fact["value"].as_str(), fact["known"].as_str().unwrap())
    };
    assert_eq!(fact(5, "id_prefix"), (None, "not public"));
    assert_eq!(fact(4, "id_prefix"), (Some("SUB-"), "confirmed"));
    assert_eq!(fact(3, "changed_field"), (Some("modifiedAt"), "confirmed"));
    assert_eq!(fact(5, "changed_field"), (Some("modifiedAt"), "inferred"));
    for unknown in [2, 4, 6] {
        assert_eq!(fact(unknown, "changed_field"), (None, "not public"));
    }
    assert_eq!(
        kinds[3]["statuses"][1],
        serde_json::json!({ "value": "SUCCESS", "known": "not public" })
    );

    // It lists exactly the scenarios that `send` accepts.
    let named = kinds.iter().flat_map(|kind| kind["scenarios"].as_array().unwrap());
    let named = named.map(|scenario| scenario.as_str().unwrap()).collect::<HashSet<_>>();
    let scenarios = inqud_mock::Scenario::ALL;
    assert_eq!(named, scenarios.iter().map(|scenario| scenario.as_str()).collect());
    // A scenario uses only statuses that are listed for its kind.
    for scenario in scenarios {
        let kind = kinds
            .iter()
            .find(|kind| kind["scenarios"].as_array().unwrap().contains(&scenario.as_str().into()));
        let listed = kind.unwrap()["statuses"].to_string();
        for status in scenario.statuses() {
            assert!(listed.contains(&format!("\"{status}\"")), "{status} of {scenario}");
        }
    }
    let text = run(&["kinds"]);
    assert!(stdout(&text).contains("  status     SUCCESS                  inferred\n"), "{text:?}");
}

#[test]
fn prints_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(stdout(&script).contains("shuffle"), "{shell}");
    }
}

#[test]
fn listen_stops_when_its_output_is_closed() {
    let mut child = command(&["listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
    let output = within(PATIENCE, move || {
        // Retried, because a child of another test holds the pipe between its fork and its exec.
        while child.try_wait().unwrap().is_none() {
            _ = run(&["send", &url, "--status", "SUCCESS"]);
        }
        child.wait_with_output().unwrap()
    });
    let output = output.unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), ""),
        "all deliveries were verified"
    );
}

#[test]
fn greeting_as_json_says_if_nothing_is_verified() {
    for (args, verifying) in [(&[][..], None), (&["--unverified"], Some(false))] {
        let mut child =
            command(&[&["listen", "127.0.0.1:0", "--json"], args].concat()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let greeting = serde_json::from_str::<Value>(&line).unwrap();
        assert_eq!(greeting.get("verifying").and_then(Value::as_bool), verifying, "{line}");
        assert!(greeting["listening"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{line}");
    }
}

/// A delivery that was not shown is an error, even if the output works again afterwards.
#[test]
#[cfg(unix)]
fn listen_fails_if_its_output_fails_once() {
    let (mut output, full) = std::os::unix::net::UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    let mut listen = command(&["listen", "127.0.0.1:0", "--verbose"]);
    listen.stdout(std::os::fd::OwnedFd::from(full));
    let child = listen.spawn().unwrap();
    drop(listen);
    let mut line = String::new();
    BufReader::new(&output).read_line(&mut line).unwrap();
    let url = format!("{}/hook", line.trim_end().rsplit(' ').next().unwrap());

    // This call keeps the listener from ending before its output works again.
    let address = url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut held = TcpStream::connect(address).unwrap();
    let head =
        head_with(DIGEST) + "\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    held.write_all(head.as_bytes()).unwrap();
    let mut proceed = [0; 12];
    held.read_exact(&mut proceed).unwrap();
    assert_eq!(&proceed, b"HTTP/1.1 100");
    // The socket has no room for this body.
    let answer = call(&url, &head_with(DIGEST), &[b'x'; 256 * 1024]);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    output.set_nonblocking(true).unwrap();
    let mut shown = Vec::new();
    let left = output.read_to_end(&mut shown).unwrap_err();
    assert_eq!(left.kind(), std::io::ErrorKind::WouldBlock);
    held.write_all(b"{}").unwrap();

    let ended = within(PATIENCE, move || child.wait_with_output().unwrap()).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(stderr(&ended).starts_with("error: "), "{ended:?}");
}

/// Runs the command with a standard output that is closed already.
fn run_unread(args: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(args);
    command.stdout(writer);
    let ended = run_with(command, input);
    (ended.status.code(), stderr(&ended).to_owned())
}

#[test]
fn a_closed_output_does_not_change_the_exit_code() {
    let secret = tower_inqud::Secret::new(SECRET).unwrap();
    let digest = tower_inqud::sign(&secret, BODY.as_bytes()).to_string();
    for json in [&[][..], &["--json"]] {
        let verify = |digest: &str| {
            run_unread(&[&["verify", "--digest", digest], json].concat(), BODY.as_bytes())
        };
        assert_eq!(verify(&digest), (Some(0), String::new()));
        assert_eq!(verify(DIGEST), (Some(1), String::new()));
        assert_eq!(run_unread(&[&["sign"], json].concat(), b"").0, Some(0));
        assert_eq!(run_unread(&[&["kinds"], json].concat(), b"").0, Some(0));

        let (url, server) = server(&["200 OK", "503 Service Unavailable"]);
        for code in [0, 1] {
            let send = [&["send", &url, "--status", "SUCCESS"], json].concat();
            assert_eq!(run_unread(&send, b""), (Some(code), String::new()));
        }
        assert_eq!(server.join().unwrap(), Some(()));
    }
    assert_eq!(run_unread(&["completions", "bash"], b""), (Some(0), String::new()));
    let capture = file("unread.jsonl", b"no capture\n");
    let replay = run_unread(&["replay", capture.to_str().unwrap()], b"");
    assert_eq!(replay, (Some(1), String::new()));
}

#[test]
#[cfg(target_os = "linux")]
fn an_unwritable_output_is_an_error() {
    for args in
        [&["kinds"][..], &["sign"], &["verify", "--digest", DIGEST], &["completions", "bash"]]
    {
        let mut command = command(args);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ended = run_with(command, b"");
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
        assert!(stderr(&ended).contains("No space left"), "{ended:?}");
    }
}
