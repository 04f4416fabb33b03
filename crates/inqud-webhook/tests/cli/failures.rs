//! Servers that do not respond, and errors as text and as JSON.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use crate::process::{Listener, accept, command, file, run, run_with, stderr, stdout};

/// Accepts connections, reads a little, writes `answer` and closes. Runs until the process ends.
fn rude_server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Some(mut stream) = accept(&listener) {
            let mut buffer = [0; 16 * 1024];
            _ = stream.read(&mut buffer);
            _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn send_says_once_why_there_is_no_response() {
    let plain = rude_server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let tls = rude_server(b"\x15\x03\x03\x00\x02\x02\x0a");
    let silent = rude_server(b"");
    for (url, words) in [
        (
            "127.0.0.1:1".to_owned(),
            "nothing listens on 127.0.0.1:1: start the server, or check the port",
        ),
        (format!("https://{plain}"), "does not use TLS: use http:// instead of https://"),
        (format!("http://{tls}"), "does not speak HTTP: if it expects TLS, use https://"),
        (silent, "closed the connection before it responded"),
        (
            "http://shop.invalid".to_owned(),
            "there is no host named shop.invalid: check its spelling",
        ),
    ] {
        let sent = run(&["send", &url]);
        assert_eq!(sent.status.code(), Some(1), "{url}: {sent:?}");
        let shown = stdout(&sent);
        assert_eq!(shown.matches(words).count(), 1, "{url}: {shown}");
        assert!(shown.contains("lost no response: ") && shown.contains("(3 times)\n"), "{shown}");
        assert!(shown.contains("no response (1)") && !shown.contains("latency"), "{shown}");
    }
}

#[test]
fn every_subcommand_prints_its_errors_as_json() {
    let missing = "/no/such/file";
    let public = file("public.jsonl", b"");
    let public = public.to_str().unwrap();
    let table: &[(&[&str], &str)] = &[
        (&["sign", missing], "cannot read /no/such/file"),
        (&["verify", missing, "--digest", "x"], "cannot read /no/such/file"),
        (&["verify"], "--digest <HEX>"),
        (&["send", "3000", "--body", missing], "cannot read /no/such/file"),
        (
            &["send", "3000", "--set", "payAmount=much"],
            "`payAmount` of a Request must be a number, not `much`",
        ),
        (&["send", "3000", "--set", "payAmount"], "use FIELD=VALUE"),
        (
            &["send", "3000", "--count", "10000", "--times", "1000"],
            "30000000 webhooks are too many",
        ),
        (&["listen", "0", "--secret-file", missing], "secret file /no/such/file"),
        (
            &["listen", "0", "--capture", "/no/such/folder/file"],
            "cannot capture to /no/such/folder/file",
        ),
        (&["listen", "0", "--answer", "200", "--forward-to", "1"], "cannot be used with"),
        (&["listen", "0", "--unverified", "--secret-file", missing], "cannot be used with"),
        (&["replay", missing, "3000"], "cannot read /no/such/file"),
        (&["kinds", "--unknown"], "unexpected argument '--unknown'"),
        (&["completions", "bash"], "remove --json"),
        (&["unknown"], "unrecognized subcommand 'unknown'"),
        #[cfg(unix)]
        (&["listen", "0", "--capture", public], "others can read it: run chmod 600"),
        #[cfg(feature = "sqlite")]
        (&["inbox", "stats", "--sqlite", "/no/such/folder/file"], "/no/such/folder/file"),
        #[cfg(feature = "postgres")]
        (&["inbox", "stats", "--postgres=x"], "--postgres: not a database URL"),
    ];
    for (args, words) in table {
        let ended = run(&[args, &["--json"][..]].concat());
        assert_eq!((ended.status.code(), stdout(&ended)), (Some(2), ""), "{args:?}: {ended:?}");
        assert_eq!(stderr(&ended).lines().count(), 1, "{args:?}: {ended:?}");
        let error: Value = serde_json::from_str(stderr(&ended)).unwrap();
        assert_eq!(error.as_object().unwrap().len(), 1);
        assert!(error["error"].as_str().unwrap().contains(words), "{args:?}: {error}");
        if args[0] != "completions" {
            let ended = run(args);
            assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
            assert!(stderr(&ended).starts_with("error: "), "{args:?}: {ended:?}");
            assert!(stderr(&ended).contains(words), "{args:?}: {ended:?}");
        }
    }
}

#[test]
fn listen_without_a_secret_shows_deliveries_as_unverified() {
    for (args, code) in [(&["--count", "3"][..], 1), (&["--count", "3", "--unverified"], 0)] {
        let mut listen = command(&[&["listen", "0"], args].concat());
        if code == 1 {
            listen.env_remove("INQUD_WEBHOOK_SECRET");
        }
        let listener = Listener::spawn(listen);
        let sent = run(&["send", &listener.url]);
        assert_eq!(sent.status.code(), Some(0), "{sent:?}");
        let (ended, shown) = listener.end();
        assert_eq!(ended, Some(code), "{shown}");
        let first = shown.lines().next().unwrap();
        assert!(first.to_lowercase().starts_with("nothing is verified: "), "{shown}");
        if code == 1 {
            let advice = "NOTHING IS VERIFIED: no secret is set; set INQUD_WEBHOOK_SECRET, or pass --secret-file";
            assert_eq!(first, advice);
        }
        let success = " unverified Request SUCCESS order-1 100 USDT, answered 200 OK\n";
        assert_eq!(shown.matches(success).count(), 1, "{shown}");
        assert!(!shown.contains(" verified Request"), "{shown}");
        assert!(shown.ends_with("0 verified, 0 rejected, 3 unverified\n"), "{shown}");
    }
}

#[test]
fn forwards_what_is_unverified_only_if_asked() {
    let mut listen = command(&["listen", "0", "--forward-to", "1"]);
    listen.env_remove("INQUD_WEBHOOK_SECRET");
    let ended = run_with(listen, b"");
    assert_eq!((ended.status.code(), stdout(&ended)), (Some(2), ""));
    assert!(
        stderr(&ended).contains("pass --unverified to forward what anyone may have sent"),
        "{ended:?}"
    );
}
