//! `examples/production.rs` as a process of its own, over real sockets, and the page that explains it.
#![cfg(unix)]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{env, fs};

use inqud_inbox::rusqlite::Connection;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tower_inqud::{Secret, contract, sign};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../examples/production.rs"]
mod example;

const LONG: Duration = Duration::from_secs(60);

/// Not a test: the process of the others.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests start it as their server"]
async fn serves() {
    example::run().await.unwrap();
}

struct Server {
    process: Child,
    lines: mpsc::UnboundedReceiver<String>,
    address: String,
    metrics: String,
    folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("secrets"), "2026-05 the former one\n").unwrap();
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serves", "--nocapture"])
            .env("REQUEST_SECRETS", file("secrets"))
            .env("PAYMENT_SECRETS", file("secrets"))
            .env("INBOX", file("inbox.db"))
            .env("LISTEN", "127.0.0.1:0")
            .env("METRICS", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                _ = sender.send(line);
            }
        });
        let mut server =
            Self { process, lines, address: String::new(), metrics: String::new(), folder };
        server.address = server.line("webhooks at http://").await;
        server.metrics = server.line("metrics at http://").await.replace("/metrics", "");
        server
    }

    /// What follows `prefix` in the next line that has it.
    async fn line(&mut self, prefix: &str) -> String {
        let line = async {
            loop {
                let line = self.lines.recv().await.expect("the server ended");
                if let Some((_, rest)) = line.split_once(prefix) {
                    return rest.trim_end_matches("\u{1b}[0m").to_owned();
                }
            }
        };
        timeout(LONG, line).await.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> Connection {
        Connection::open(self.file("inbox.db")).unwrap()
    }

    async fn deliver(&self, path: &str, secret: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(head(path, secret, body).as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        status(stream).await
    }

    async fn kill(&self, signal: &str) {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }
}

fn head(path: &str, secret: &str, body: &str) -> String {
    let digest = sign(&Secret::new(secret).unwrap(), body.as_bytes());
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop.test\r\n{}: {digest}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        contract::DIGEST_HEADER,
        body.len()
    )
}

async fn status(mut stream: TcpStream) -> u16 {
    let mut response = String::new();
    timeout(LONG, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    response[9..12].parse().unwrap()
}

fn request(id: u32, order: &str, payment: &str) -> String {
    format!(
        r#"{{"id":"CAPD-{id}","clientOrderId":"{order}","paymentId":"{payment}","status":"SUCCESS","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100,"currency":"USDT","lastUpdatedAt":"2026-11-22T10:05:00Z"}}"#
    )
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ships_once_rotates_secrets_and_reports() {
    let mut server = Server::start().await;
    let database = server.database();
    let order = "INSERT INTO orders (id, amount, currency) VALUES ('order-1', '100', 'USD')";
    assert_eq!(database.execute(order, []).unwrap(), 1);
    let count = |query: &str| database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();

    // The Request, a duplicate of it, the same payment with more details, and a Request with another payment.
    let first = request(1, "order-1", "PMT-1");
    let amended = first.replace("10:05", "10:06");
    for body in [&first, &first, &amended, &request(2, "order-1", "PMT-2")] {
        assert_eq!(server.deliver("/inqud/request", "the former one", body).await, 200);
    }
    let paid_again =
        "SELECT count(*) FROM attention WHERE request = 'CAPD-2' AND why = 'paid again'";
    until("paid again", || count(paid_again) == 1).await;
    assert_eq!(count("SELECT shipped FROM orders"), 1);

    // A payment and a payout have a row each, and ship nothing. What support takes back is seen.
    for (id, kind) in [("PMT-1", "PAYIN"), ("PMT-9", "PAYOUT")] {
        let body = format!(
            r#"{{"id":"{id}","status":"SUCCESS","orderType":"{kind}","clientOrderId":"order-1","amount":100,"currency":"USD"}}"#
        );
        assert_eq!(server.deliver("/inqud/payment", "the former one", &body).await, 200);
    }
    until("payments", || count("SELECT count(*) FROM payments WHERE status = 'SUCCESS'") == 2)
        .await;
    let expired = r#"{"id":"CAPD-1","clientOrderId":"order-1","status":"EXPIRED","lastUpdatedAt":"2026-11-22T11:00:00Z"}"#;
    assert_eq!(server.deliver("/inqud/request", "the former one", expired).await, 200);
    until("taken back", || count("SELECT count(*) FROM attention WHERE why = 'EXPIRED'") == 1)
        .await;
    assert_eq!(count("SELECT count(*) FROM attention"), 2);
    assert_eq!(count("SELECT shipped FROM orders"), 1);

    // Rotation: both, then the new one only. A broken file changes nothing.
    let body = request(3, "order-1", "PMT-3");
    assert_eq!(server.deliver("/inqud/request", "the new one", &body).await, 401);
    fs::write(server.file("secrets"), "2026-11 the new one\n2026-05 the former one\n").unwrap();
    server.kill("-HUP").await;
    server.line("reloaded").await;
    server.line("reloaded").await;
    assert_eq!(server.deliver("/inqud/request", "the new one", &body).await, 200);
    assert_eq!(server.deliver("/inqud/request", "the former one", &body).await, 200);
    fs::write(server.file("secrets"), "\n").unwrap();
    server.kill("-HUP").await;
    server.line("secrets not reloaded").await;
    server.line("secrets not reloaded").await;
    assert_eq!(server.deliver("/inqud/request", "the former one", &body).await, 200);
    fs::write(server.file("secrets"), "2026-11 the new one\n").unwrap();
    server.kill("-HUP").await;
    server.line("reloaded").await;
    server.line("reloaded").await;
    assert_eq!(server.deliver("/inqud/request", "the former one", &body).await, 401);

    let mut stream = TcpStream::connect(&server.metrics).await.unwrap();
    let get = "GET /metrics HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut metrics = String::new();
    timeout(LONG, stream.read_to_string(&mut metrics)).await.unwrap().unwrap();
    for line in [
        r#"inqud_webhook_requests_total{outcome="accepted",reason="",secret_label="2026-11"} 1"#,
        r#"inqud_webhook_requests_total{outcome="rejected",reason="digest_mismatch",secret_label=""} 2"#,
        "inqud_inbox_processed_total{",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn closes_connections_without_a_whole_head() {
    let server = Server::start().await;
    for head in ["", "P", "POST /inqud/request HTTP/1.1\r\nhost: sh"] {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let start = Instant::now();
        let mut rest = Vec::new();
        _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(15), "{head:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn answers_what_is_in_flight_and_then_ends() {
    let mut server = Server::start().await;
    let body = request(1, "order-1", "PMT-1");
    let (first, second) = body.split_at(20);
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = head("/inqud/request", "the former one", &body);
    stream.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    server.kill("-TERM").await;
    until("it stops listening", || std::net::TcpStream::connect(&server.address).is_err()).await;
    stream.write_all(second.as_bytes()).await.unwrap();
    assert_eq!(status(stream).await, 200);
    assert!(timeout(LONG, server.process.wait()).await.unwrap().unwrap().success());
    let stored = "SELECT count(*) FROM inqud_inbox_notification";
    let stored: i64 = server.database().query_row(stored, [], |row| row.get(0)).unwrap();
    assert_eq!(stored, 1);
}

#[test]
fn the_page_shows_the_code_of_the_example() {
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let page = include_str!("../docs/production.md");
    let example = trimmed(include_str!("../examples/production.rs"));
    let blocks = page.split("```").skip(1).step_by(2);
    let blocks: Vec<_> = blocks.filter_map(|block| block.strip_prefix("ignore\n")).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        assert!(example.contains(&trimmed(block)), "{block}");
    }
}
