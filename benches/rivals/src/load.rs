//! The load generator: calls over connections that are kept, each with one call in flight.
//!
//! Own code, because each answer is checked against its call, good and forged calls are mixed, and
//! the server's CPU time and memory are read in the same moments as the counters. It sends bytes made
//! beforehand and parses no more than the head of the response, so that one core of it is enough for
//! one core of any server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::effort::Effort;
use crate::process::Server;
use crate::sample::Call;

/// No call takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than one of these heads has.
const HEADERS: usize = 32;

pub struct Outcome {
    /// Accepted calls a second.
    pub good: f64,
    /// Calls a second.
    pub calls: f64,
    /// Microseconds of the server's CPU time a call.
    pub cpu: f64,
    /// Of one core, how much the server used.
    pub busy: f64,
    /// Milliseconds from call to answer that 99 of 100 stay below.
    pub p99: f64,
    /// Bytes of the server's memory for each connection.
    pub memory: f64,
}

/// Makes `calls` in turn on each connection, begun at another one on each.
pub fn run(
    server: &Server,
    connections: usize,
    calls: &[Call],
    effort: &Effort,
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let script: Arc<[(Call, Vec<u8>)]> =
        calls.iter().map(|call| (call.clone(), call.bytes())).collect();
    runtime.block_on(async {
        let phase = Arc::new(AtomicU8::new(WARMING_UP));
        let memory_before = server.memory()?;
        let mut tasks = Vec::new();
        for at in 0..connections {
            let connection = Connection::open(server.address).await?;
            tasks.push(tokio::spawn(connection.converse(Arc::clone(&script), at, phase.clone())));
        }
        tokio::time::sleep(effort.warm_up).await;
        let (cpu, began) = (server.cpu()?, Instant::now());
        phase.store(MEASURING, Ordering::Relaxed);
        tokio::time::sleep(effort.window).await;
        phase.store(OVER, Ordering::Relaxed);
        let (cpu, took) = (server.cpu()? - cpu, began.elapsed().as_secs_f64());
        let memory = server.memory()?.saturating_sub(memory_before) as f64 / connections as f64;
        let mut tally = Tally::default();
        for task in tasks {
            let one = tokio::time::timeout(PATIENCE, task).await???;
            tally.good += one.good;
            tally.latencies.extend(one.latencies);
        }
        tally.latencies.sort_unstable();
        let count = tally.latencies.len();
        if count == 0 {
            return Err(io::Error::other("no answer in time"));
        }
        Ok(Outcome {
            good: tally.good as f64 / took,
            calls: count as f64 / took,
            cpu: cpu.as_secs_f64() * 1e6 / count as f64,
            busy: cpu.as_secs_f64() / took,
            p99: tally.latencies[(count * 99 / 100).min(count - 1)].as_secs_f64() * 1e3,
            memory,
        })
    })
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

#[derive(Default)]
struct Tally {
    good: usize,
    latencies: Vec<Duration>,
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Whether the server has neither answered nor left.
    pub fn is_silent(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn converse(
        mut self,
        script: Arc<[(Call, Vec<u8>)]>,
        begin: usize,
        phase: Arc<AtomicU8>,
    ) -> io::Result<Tally> {
        let mut tally = Tally::default();
        for at in begin.. {
            let (call, bytes) = &script[at % script.len()];
            let began = Instant::now();
            self.send(bytes).await?;
            let status = self.status().await?;
            if !call.is_answered_by(status) {
                return Err(io::Error::other(format!("wrongly answered: {status}")));
            }
            match phase.load(Ordering::Relaxed) {
                WARMING_UP => (),
                MEASURING => {
                    tally.good += usize::from(call.is_good);
                    tally.latencies.push(began.elapsed());
                }
                _ => break,
            }
        }
        Ok(tally)
    }

    /// Reads one response to its end.
    async fn status(&mut self) -> io::Result<u16> {
        self.buffer.clear();
        let mut end = None;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if end.is_none() {
                end = head(&self.buffer)?;
            }
            match end {
                Some((status, end)) if self.buffer.len() >= end => return Ok(status),
                _ => continue,
            }
        }
    }
}

/// The status, and where the response ends.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let mut headers = response.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|header| header.value);
    let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse::<usize>().ok());
    let length = length.ok_or(io::Error::other("a response without Content-Length"))?;
    Ok(Some((response.code.unwrap_or_default(), head + length)))
}
