//! Addresses as people type them, for `send` and `listen`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use crate::process::{Listener, accept, command, read_call, run, run_with, stderr, stdout};

/// The path and the host of the call that `send` makes to an address with the free port in place of `PORT`.
fn sent_to(address: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = address.replace("PORT", &listener.local_addr().unwrap().port().to_string());
    let server = thread::spawn(move || {
        use std::io::Write;
        let mut stream = accept(&listener).unwrap();
        let call = read_call(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        call
    });
    let sent = run(&["send", &address, "--status", "SUCCESS"]);
    assert_eq!(sent.status.code(), Some(0), "{address}: {sent:?}");
    let call = server.join().unwrap();
    let path = call.split(' ').nth(1).unwrap().to_owned();
    let host =
        call.lines().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
    (path, host.unwrap().split(':').next().unwrap().to_owned())
}

#[test]
fn send_accepts_friendly_addresses() {
    for (address, path, host) in [
        ("PORT", "/", "127.0.0.1"),
        (":PORT", "/", "127.0.0.1"),
        ("PORT/hook", "/hook", "127.0.0.1"),
        (":PORT/hook?a=1", "/hook?a=1", "127.0.0.1"),
        ("localhost:PORT", "/", "localhost"),
        ("127.0.0.1:PORT/hook", "/hook", "127.0.0.1"),
        ("http://127.0.0.1:PORT", "/", "127.0.0.1"),
        ("HTTP://localhost:PORT/hook", "/hook", "localhost"),
    ] {
        assert_eq!(sent_to(address), (path.to_owned(), host.to_owned()), "{address}");
    }
}

#[test]
fn send_explains_addresses_that_it_cannot_use() {
    for (address, words) in [
        (
            "shop.example/hook",
            "has no scheme: use https://shop.example/hook, or http://shop.example/hook",
        ),
        ("shop:8080", "has no scheme: use https://shop:8080"),
        ("ftp://shop.example/", "`ftp://` is not supported: use http:// or https://"),
        ("http:/localhost:3000", "write `http://` with two slashes"),
        ("/hook", "has no host: use http://127.0.0.1:3000/hook"),
        ("nowhere", "not an address: use a port such as 3000"),
        ("70000", "the port must be between 1 and 65535"),
        ("0", "the port must be between 1 and 65535"),
        ("localhost:99999", "the port must be between 1 and 65535"),
        ("http://", "not a URL"),
        ("localhost:3000/a b", "not a URL"),
    ] {
        let sent = run(&["send", address]);
        assert_eq!(sent.status.code(), Some(2), "{address}: {sent:?}");
        assert!(stderr(&sent).contains(words), "{address}: {}", stderr(&sent));
        let sent = run(&["send", address, "--json"]);
        let error: Value = serde_json::from_str(stderr(&sent)).unwrap();
        assert!(error["error"].as_str().unwrap().contains(words), "{address}: {error}");
        assert_eq!((stdout(&sent), sent.status.code()), ("", Some(2)));
    }
}

/// A port that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn listen_accepts_friendly_addresses() {
    for address in ["PORT", ":PORT", "localhost:PORT", "127.0.0.1:PORT", "http://127.0.0.1:PORT/"] {
        let port = free_port();
        let listener = Listener::start_at(&address.replace("PORT", &port), &["--count", "1"]);
        assert_eq!(listener.url, format!("http://127.0.0.1:{port}/hook"), "{address}");
        assert_eq!(run(&["send", &port, "--status", "SUCCESS"]).status.code(), Some(0));
        assert_eq!(listener.end().0, Some(0));
    }
    let listener = Listener::start_at("0.0.0.0:0", &["--count", "1"]);
    assert!(listener.url.starts_with("http://0.0.0.0:"), "{}", listener.url);
}

#[test]
fn listen_explains_addresses_that_it_cannot_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    let next = taken.checked_add(1).unwrap_or(3000);
    for (address, words) in [
        ("https://localhost:3000", "TLS is not supported: use localhost:3000".to_owned()),
        ("ftp://localhost", "`ftp://` is not supported".to_owned()),
        (
            "localhost:3000/hook",
            "every path is accepted: use localhost:3000 without /hook".to_owned(),
        ),
        ("http://:3000/hook", "every path is accepted: use :3000 without /hook".to_owned()),
        ("70000", "the port must be at most 65535".to_owned()),
        ("127.0.0.1:70000", "the port must be at most 65535".to_owned()),
        ("localhost:web", "`web` is not a port".to_owned()),
        (
            "shop.example:3000",
            "must be a port such as 3000, or an IP address of this machine".to_owned(),
        ),
        ("192.0.2.1:3000", "this machine does not have the address 192.0.2.1".to_owned()),
        (
            &taken.to_string(),
            format!(
                "another program listens on port {taken}: stop it, or choose another port, as in \
                 `inqud-webhook listen {next}`"
            ),
        ),
    ] {
        let ended = run(&["listen", address]);
        assert_eq!(ended.status.code(), Some(2), "{address}: {ended:?}");
        assert!(stderr(&ended).contains(&words), "{address}: {}", stderr(&ended));
        let ended = run(&["listen", address, "--json"]);
        let error: Value = serde_json::from_str(stderr(&ended)).unwrap();
        assert!(error["error"].as_str().unwrap().contains(&words), "{address}: {error}");
    }
}

#[test]
fn prints_its_own_name_and_version() {
    let version = run(&["--version"]);
    let expected = format!("inqud-webhook {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((stdout(&version), version.status.code()), (&*expected, Some(0)));
    let version = run(&["--version", "--json"]);
    assert_eq!((stdout(&version), version.status.code()), (&*expected, Some(0)));
    let help = run_with(command(&["send", "--help"]), b"");
    assert!(stdout(&help).contains("Usage: inqud-webhook send"), "{help:?}");
}
