//! A soak test: good and bad calls against a real server process.
//!
//! ```text
//! cargo run --release --all-features --example soak               # 30 s, 200 calls a second
//! cargo run --release --all-features --example soak -- 600 500    # seconds, calls a second
//! ```
//!
//! 50% of the calls are good, 20% are forged, 10% are too large, 10% stall, and 10% disconnect in the middle of
//! their body. It exits with 0 if every call got the right response, the handler saw the good calls and no others, and
//! the server leaked neither memory nor descriptors.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print what they do")]

use std::env;
use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower_inqud::{Ack, PaymentRequest, Secret, Webhook, WebhookLayer, contract, sign};

const SECRET: &str = "whsec-kiln-and-clay";
const WEBHOOK: &str = "/webhooks/inqud/request";
const BODY_LIMIT: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for every call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const IN_FLIGHT: usize = 400;
/// Memory that the server's allocator may retain. A leak of 100 bytes a call would take far more.
const MEMORY_SLACK_KIB: u64 = 4 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve().await.map(|()| ExitCode::SUCCESS),
        _ => {
            let number = |at: usize, unless: u64| {
                arguments.get(at).map_or(Ok(unless), |text| text.parse::<u64>())
            };
            let duration = Duration::from_secs(number(0, 30)?.max(1));
            let rate = u32::try_from(number(1, 200)?.clamp(1, 10_000))?;
            soak(duration, rate).await
        }
    }
}

// ---------------------------------------------------------------- the server's process

/// Counts of the calls that reached the handler.
#[derive(Default)]
struct Seen {
    good: AtomicU64,
    bad: AtomicU64,
}

async fn serve() -> Result<(), BoxError> {
    let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new(SECRET)?)
        .body_limit(BODY_LIMIT)
        .body_timeout(BODY_TIMEOUT);
    let app = Router::new()
        .route(WEBHOOK, post(on_request).layer(webhooks))
        .route("/seen", get(seen))
        .with_state(Arc::<Seen>::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    // Exits together with the parent process, even if that is killed.
    let parent_is_gone = async {
        let _ = tokio::io::stdin().read(&mut [0]).await;
    };
    tokio::select! {
        served = axum::serve(listener, app) => Ok(served?),
        () = parent_is_gone => Ok(()),
    }
}

async fn on_request(State(seen): State<Arc<Seen>>, request: Webhook<PaymentRequest>) -> Ack {
    let counter = if request.id.starts_with("CAPD-good") { &seen.good } else { &seen.bad };
    counter.fetch_add(1, Ordering::Relaxed);
    Ack::Done
}

async fn seen(State(seen): State<Arc<Seen>>) -> String {
    format!("{} {}", seen.good.load(Ordering::Relaxed), seen.bad.load(Ordering::Relaxed))
}

// ---------------------------------------------------------------- the calls

#[derive(Clone, Copy)]
enum Kind {
    Good,
    Forged,
    Oversized,
    Stalled,
    Disconnects,
}

impl Kind {
    const ALL: [(Self, &str); 5] = [
        (Self::Good, "good"),
        (Self::Forged, "forged"),
        (Self::Oversized, "oversized"),
        (Self::Stalled, "stalled"),
        (Self::Disconnects, "disconnects"),
    ];

    fn of(call: u64) -> Self {
        match call % 10 {
            0 | 2 | 4 | 6 | 8 => Self::Good,
            1 | 5 => Self::Forged,
            3 => Self::Oversized,
            7 => Self::Stalled,
            _ => Self::Disconnects,
        }
    }
}

struct Caller {
    address: SocketAddr,
    secret: Secret,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Caller {
    /// Makes a call. Returns `Ok` if the response is the expected one.
    async fn call(&self, kind: Kind, call: u64) -> Result<(), String> {
        let body = body(if matches!(kind, Kind::Good) { "good" } else { "bad" }, call);
        let right = sign(&self.secret, body.as_bytes()).to_string();
        let variant = call / 10;
        let outcome = timeout(CALL_TIMEOUT, async {
            match kind {
                Kind::Good => self.expect(200, Some(&right), body).await,
                Kind::Forged => {
                    let another = sign(&self.secret, b"another body").to_string();
                    let forged = match variant % 3 {
                        0 => None,
                        1 => Some(right.split_at(39).0),
                        _ => Some(another.as_str()),
                    };
                    self.expect(401, forged, body).await
                }
                Kind::Oversized if variant.is_multiple_of(2) => {
                    let length = BODY_LIMIT + 1;
                    self.raw(&right, &format!("content-length: {length}"), "", Some(413)).await
                }
                Kind::Oversized => {
                    let chunk = format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096));
                    self.raw(&right, "transfer-encoding: chunked", &chunk.repeat(5), Some(413))
                        .await
                }
                Kind::Stalled => {
                    let began = Instant::now();
                    let length = format!("content-length: {}", body.len());
                    self.raw(&right, &length, half(&body), Some(408)).await?;
                    if began.elapsed() < BODY_TIMEOUT {
                        return Err("408 before the timeout".into());
                    }
                    Ok(())
                }
                Kind::Disconnects => {
                    let length = format!("content-length: {}", body.len());
                    self.raw(&right, &length, half(&body), None).await
                }
            }
        });
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no response".into()),
        }
    }

    /// Makes a whole call over a pooled connection.
    async fn expect(
        &self,
        status: u16,
        digest: Option<&str>,
        body: String,
    ) -> Result<(), BoxError> {
        let mut request = Request::post(format!("http://{}{WEBHOOK}", self.address));
        if let Some(digest) = digest {
            request = request.header(contract::DIGEST_HEADER, digest);
        }
        let response = self.client.request(request.body(Full::from(body))?).await?;
        let answered = response.status().as_u16();
        response.into_body().collect().await?;
        is(answered, status)
    }

    /// Writes a call to a connection of its own. Disconnects after the body if no status is expected.
    async fn raw(
        &self,
        digest: &str,
        framing: &str,
        body: &str,
        expected: Option<u16>,
    ) -> Result<(), BoxError> {
        let mut stream = TcpStream::connect(self.address).await?;
        let head = format!(
            "POST {WEBHOOK} HTTP/1.1\r\nhost: shop.example\r\nx-payload-digest: {digest}\r\n\
             {framing}\r\n\r\n{body}"
        );
        // The server may reject the call before the body is sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let Some(expected) = expected else { return Ok(()) };
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        let status = line.split(' ').nth(1).ok_or("no status in the response")?.parse()?;
        is(status, expected)
    }

    async fn seen(&self) -> Result<(u64, u64), BoxError> {
        let uri = format!("http://{}/seen", self.address).parse()?;
        let body = self.client.get(uri).await?.into_body().collect().await?.to_bytes();
        let text = std::str::from_utf8(&body)?;
        let (good, bad) = text.split_once(' ').ok_or("expected two numbers")?;
        Ok((good.parse()?, bad.parse()?))
    }
}

fn body(kind: &str, call: u64) -> String {
    let padding = "x".repeat(900);
    format!(r#"{{"id":"CAPD-{kind}-{call}","status":"SUCCESS","padding":"{padding}"}}"#)
}

fn half(body: &str) -> &str {
    body.split_at(body.len() / 2).0
}

fn is(status: u16, expected: u16) -> Result<(), BoxError> {
    let status = StatusCode::from_u16(status)?;
    if status == expected { Ok(()) } else { Err(format!("{status} instead of {expected}").into()) }
}

// ---------------------------------------------------------------- the run

#[derive(Default)]
struct Tally {
    sent: [u64; 5],
    right: [u64; 5],
    wrong: Vec<String>,
    /// Latencies of good calls, in the order in which they ended.
    latencies: Vec<Duration>,
}

async fn soak(duration: Duration, rate: u32) -> Result<ExitCode, BoxError> {
    let mut server = Command::new(env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = server.stdout.take().ok_or("the server has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let address = lines.next_line().await?.ok_or("the server printed no address")?.parse()?;
    let pid = server.id().ok_or("the server has no process id")?;
    let caller = || Caller {
        address,
        secret: Secret::new(SECRET).expect("a good secret"),
        client: Client::builder(TokioExecutor::new()).build_http(),
    };

    println!(
        "server: process {pid} on {address}; {} s at {rate} calls a second",
        duration.as_secs()
    );
    // Warm up first, so that allocator, threads and pools are in their steady state at the start.
    let warm_up = run(Arc::new(caller()), pid, Duration::from_secs(5), rate, "warming up").await;
    let start = settled(pid, None).await;
    let caller = Arc::new(caller());
    let before = caller.seen().await?;
    let (tally, peak) = run(Arc::clone(&caller), pid, duration, rate, "running").await;
    let after = caller.seen().await?;
    drop(caller); // closes the pooled connections
    let end = settled(pid, start).await;
    if let Some(status) = server.try_wait()? {
        return Err(format!("the server ended: {status}").into());
    }
    stop(server).await?;

    let mut failures = warm_up.0.wrong;
    failures.extend(tally.wrong.iter().cloned());
    let handled = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    report(&tally, start, peak, end, handled);
    let [good, ..] = tally.sent;
    if handled != (good, 0) {
        failures.push(format!("the handler saw {} good and {} bad calls", handled.0, handled.1));
    }
    match (start, end) {
        (Some(start), Some(end)) => {
            if end.descriptors > start.descriptors {
                failures.push("descriptors were leaked".into());
            }
            if end.memory_kib > start.memory_kib.saturating_add(MEMORY_SLACK_KIB) {
                failures.push("memory was leaked".into());
            }
        }
        _ => println!("memory and descriptors were not checked, because there is no /proc"),
    }
    for failure in failures.iter().take(10) {
        eprintln!("wrong: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes calls at a constant rate, without waiting for earlier ones to finish.
async fn run(
    caller: Arc<Caller>,
    pid: u32,
    duration: Duration,
    rate: u32,
    what: &str,
) -> (Tally, Option<Usage>) {
    let mut tally = Tally::default();
    let mut peak = usage(pid);
    let mut calls = JoinSet::new();
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut ticks = interval(Duration::from_secs(1).checked_div(rate).unwrap_or_default());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut sampled, mut shown) = (Instant::now(), Instant::now(), Instant::now());
    let show_every = Duration::from_secs(if std::io::stdout().is_terminal() { 1 } else { 10 });
    for call in 0.. {
        if began.elapsed() >= duration {
            break;
        }
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let (kind, caller) = (Kind::of(call), Arc::clone(&caller));
        calls.spawn(async move {
            let began = Instant::now();
            let outcome = caller.call(kind, call).await;
            drop(permit);
            (kind, outcome, began.elapsed())
        });
        while let Some(Ok(done)) = calls.try_join_next() {
            tally.count(done);
        }
        if sampled.elapsed() >= Duration::from_secs(1) {
            sampled = Instant::now();
            peak = higher(peak, usage(pid));
        }
        if shown.elapsed() >= show_every {
            shown = Instant::now();
            tally.progress(what, began.elapsed(), usage(pid));
        }
    }
    while let Some(Ok(done)) = calls.join_next().await {
        tally.count(done);
    }
    if std::io::stdout().is_terminal() {
        println!();
    }
    (tally, higher(peak, usage(pid)))
}

impl Tally {
    fn count(&mut self, (kind, outcome, took): (Kind, Result<(), String>, Duration)) {
        let at = kind as usize;
        if let Some(sent) = self.sent.get_mut(at) {
            *sent = sent.saturating_add(1);
        }
        match outcome {
            Ok(()) => {
                if let Some(right) = self.right.get_mut(at) {
                    *right = right.saturating_add(1);
                }
            }
            Err(why) => {
                let name = Kind::ALL.get(at).map_or("", |(_, name)| *name);
                self.wrong.push(format!("{name}: {why}"));
            }
        }
        if matches!(kind, Kind::Good) {
            self.latencies.push(took);
        }
    }

    fn progress(&self, what: &str, elapsed: Duration, usage: Option<Usage>) {
        let line = format!(
            "{what} {:>4} s  sent {:>8}  wrong {}  {}",
            elapsed.as_secs(),
            self.sent.iter().sum::<u64>(),
            self.wrong.len(),
            usage.map_or_else(String::new, |usage| usage.to_string())
        );
        if std::io::stdout().is_terminal() {
            print!("\r{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }
}

fn report(
    tally: &Tally,
    start: Option<Usage>,
    peak: Option<Usage>,
    end: Option<Usage>,
    (good, bad): (u64, u64),
) {
    println!("\n{:<14}{:>10}{:>10}{:>10}", "calls", "sent", "right", "wrong");
    for ((_, name), (sent, right)) in Kind::ALL.iter().zip(tally.sent.iter().zip(tally.right)) {
        println!("{name:<14}{sent:>10}{right:>10}{:>10}", sent.saturating_sub(right));
    }
    println!("handler saw {good} good and {bad} bad calls");
    println!("\n{:<14}{:>10}{:>10}", "good calls", "p50", "p99");
    let tenth = (tally.latencies.len() / 10).max(1);
    let last = tally.latencies.len().saturating_sub(tenth);
    for (name, latencies) in [
        ("all", tally.latencies.as_slice()),
        ("first tenth", tally.latencies.get(..tenth).unwrap_or_default()),
        ("last tenth", tally.latencies.get(last..).unwrap_or_default()),
    ] {
        let mut latencies = latencies.to_vec();
        latencies.sort_unstable();
        let at = |percent: usize| {
            let index = latencies.len().saturating_mul(percent) / 100;
            latencies.get(index).map_or_else(String::new, |time| format!("{time:.1?}"))
        };
        println!("{name:<14}{:>10}{:>10}", at(50), at(99));
    }
    println!("\n{:<14}{:>14}{:>14}", "server", "memory", "descriptors");
    for (name, usage) in [("start", start), ("peak", peak), ("end", end)] {
        let Some(usage) = usage else { continue };
        println!("{name:<14}{:>10} KiB{:>14}", usage.memory_kib, usage.descriptors);
    }
}

/// Stops the server by closing its standard input.
async fn stop(mut server: Child) -> Result<(), BoxError> {
    drop(server.stdin.take());
    if timeout(Duration::from_secs(5), server.wait()).await.is_err() {
        server.kill().await?;
    }
    Ok(())
}

// ---------------------------------------------------------------- what the server uses

#[derive(Clone, Copy)]
struct Usage {
    memory_kib: u64,
    descriptors: usize,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB, {} descriptors", self.memory_kib, self.descriptors)
    }
}

/// Reads the usage of another process from /proc.
fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory_kib = line.split_whitespace().next()?.parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Usage { memory_kib, descriptors })
}

fn higher(a: Option<Usage>, b: Option<Usage>) -> Option<Usage> {
    let (a, b) = (a?, b?);
    Some(Usage {
        memory_kib: a.memory_kib.max(b.memory_kib),
        descriptors: a.descriptors.max(b.descriptors),
    })
}

/// Waits until the server has closed its connections: no more descriptors than at `start`, and no change for 2 s.
async fn settled(pid: u32, start: Option<Usage>) -> Option<Usage> {
    let mut last = usage(pid)?;
    for _ in 0..10 {
        sleep(Duration::from_secs(2)).await;
        let now = usage(pid)?;
        let is_back = start.is_none_or(|start| now.descriptors <= start.descriptors);
        if is_back && now.descriptors == last.descriptors {
            return Some(now);
        }
        last = now;
    }
    Some(last)
}
