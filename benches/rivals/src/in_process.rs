//! Calls of the routers themselves, without a socket: what a body of each size costs each contender.

use std::future::Future;
use std::hint::black_box;
use std::io;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use axum::Router;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use tower::Service;
use tower_inqud::PaymentRequest;

use crate::contender::{ALL, FLOOR};
use crate::effort::Effort;
use crate::fit::Line;
use crate::rounds::{Rounds, Spread};
use crate::sample::{Call, LIMIT, SECRET, SIZES, body, sha1};

/// As few as a connection has in flight. More would be beyond what the allocator has at hand for each
/// size, which no server does.
const BATCH: usize = 4;

/// The work that cannot be left out, and nothing else.
pub const BARE: &str = "HMAC + parse";
const PROGRAMS: usize = ALL.len() + 1;

/// Nanoseconds a call.
pub struct InProcess {
    rounds: Rounds<f64>,
    pub lengths: Vec<usize>,
}

impl InProcess {
    /// Each start in a process of its own.
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let rounds = Rounds::of_starts(effort.starts, |start| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["in-process", &start.to_string(), &effort.calm_rounds.to_string()]);
            let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                return Err(io::Error::other(format!("in-process: {}", output.status)));
            }
            Rounds::from_text(&String::from_utf8_lossy(&output.stdout))
        })?;
        Ok(Self { rounds, lengths: SIZES.map(|size| body(size).len()).to_vec() })
    }

    /// `in-process START ROUNDS`: what each round gives, for the process that asked.
    pub fn start(start: &str, rounds: &str) -> io::Result<String> {
        let [start, rounds] = [start, rounds].map(str::parse);
        let (start, rounds) = (start.map_err(io::Error::other)?, rounds.map_err(io::Error::other)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _context = runtime.enter();
        let mut routers = ALL.map(|contender| {
            let mut router = (contender.router)(LIMIT);
            timed(&mut router, &Call::forged(contender.scheme, SIZES[1]));
            router
        });
        let calls = SIZES.map(|size| ALL.map(|contender| Call::good(contender.scheme, size)));
        let rounds = Rounds::run(start, rounds, SIZES.len() * PROGRAMS, |at| {
            let (size, program) = (at / PROGRAMS, at % PROGRAMS);
            let mut run = || match program.checked_sub(1) {
                None => bare(&calls[size][0]),
                Some(contender) => timed(&mut routers[contender], &calls[size][contender]),
            };
            // Once to have the caches warm, whatever ran before.
            run();
            Ok(run())
        })?;
        Ok(rounds.to_text())
    }

    pub fn rounds(&self) -> usize {
        self.rounds.count()
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        [BARE].into_iter().chain(ALL.iter().map(|contender| contender.name))
    }

    pub fn time(&self, name: &str, size: usize) -> f64 {
        let at = at(name, size);
        self.rounds.median(|row| row[at])
    }

    /// How many times as long one takes as the other.
    pub fn ratio(&self, name: &str, to: &str, size: usize) -> Spread {
        let (name, to) = (at(name, size), at(to, size));
        self.rounds.spread(|row| row[name] / row[to])
    }

    /// The same, to HMAC + parse on top of a route that reads the body: nobody can do it in less.
    pub fn ratio_to_least(&self, name: &str, size: usize) -> Spread {
        let (name, floor, bare) = (at(name, size), at(FLOOR, size), at(BARE, size));
        self.rounds.spread(|row| row[name] / (row[floor] + row[bare]))
    }

    pub fn line(&self, name: &str) -> Line {
        Line {
            constant: self.rounds.median(|row| self.fitted(row, name).constant),
            slope: self.rounds.median(|row| self.fitted(row, name).slope),
        }
    }

    /// How much steeper the cost of one rises with the body than that of the other.
    pub fn slope_ratio(&self, name: &str, to: &str) -> Spread {
        self.rounds.spread(|row| self.fitted(row, name).slope / self.fitted(row, to).slope)
    }

    fn fitted(&self, row: &[f64], name: &str) -> Line {
        let point = |(size, length): (usize, &usize)| (*length as f64, row[at(name, size)]);
        Line::through(self.lengths.iter().enumerate().map(point))
    }
}

fn at(name: &str, size: usize) -> usize {
    size * PROGRAMS + InProcess::names().position(|known| known == name).expect("a known name")
}

/// The time of a call in a batch, without that of making the requests.
fn timed(router: &mut Router, call: &Call) -> f64 {
    let requests: [_; BATCH] = std::array::from_fn(|_| call.request());
    let mut cx = Context::from_waker(Waker::noop());
    let began = Instant::now();
    for request in requests {
        let mut future = pin!(router.call(request));
        let response = loop {
            if let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) {
                break response;
            }
        };
        assert!(call.is_answered_by(response.status().as_u16()), "{}", response.status());
        black_box(response);
    }
    per_call(began)
}

fn bare(call: &Call) -> f64 {
    let key = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("any length");
    let digest = sha1(&call.body);
    let text = std::str::from_utf8(&call.body).expect("JSON");
    let began = Instant::now();
    for _ in 0..BATCH {
        let text = black_box(text);
        let mut mac = key.clone();
        mac.update(text.as_bytes());
        assert!(mac.verify_slice(&digest).is_ok());
        black_box(serde_json::from_str::<PaymentRequest>(text).expect("a Request"));
    }
    per_call(began)
}

fn per_call(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() / BATCH as f64 * 1e9
}
