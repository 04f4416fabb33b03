//! Calls in one process from one worker thread and from two: whether the contenders share what they
//! should not.

use std::io;
use std::time::{Duration, Instant};

use tower::Service;

use crate::contender::{FLOOR, HAND, LAYER, find};
use crate::effort::Effort;
use crate::rounds::{Rounds, Spread};
use crate::sample::{Call, LIMIT, USUAL};

/// The floor first: the others are compared with it.
pub const NAMES: [&str; 3] = [FLOOR, HAND, LAYER];
const TASKS_EACH: usize = 4;
/// After so many calls other tasks get their turn.
const TURN: usize = 64;

pub struct Workers(Rounds<f64>);

impl Workers {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let rounds = Rounds::run(1, effort.worker_rounds, 2 * NAMES.len(), |at| {
            throughput(NAMES[at / 2], at % 2 + 1, effort.window)
        })?;
        Ok(Self(rounds))
    }

    /// Calls a second.
    pub fn throughput(&self, name: usize, workers: usize) -> f64 {
        self.0.median(|row| row[2 * name + workers - 1])
    }

    /// Throughput of two workers over that of one.
    pub fn gain(&self, name: usize) -> Spread {
        self.0.spread(|row| row[2 * name + 1] / row[2 * name])
    }

    /// Throughput over the floor's with as many workers.
    pub fn share(&self, name: usize, workers: usize) -> Spread {
        self.0.spread(|row| row[2 * name + workers - 1] / row[workers - 1])
    }
}

fn throughput(name: &str, workers: usize, window: Duration) -> io::Result<f64> {
    let contender = find(name);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let router = (contender.router)(LIMIT);
    let call = Call::good(contender.scheme, USUAL);
    let began = Instant::now();
    let tasks: Vec<_> = (0..workers * TASKS_EACH)
        .map(|_| {
            let (mut router, call) = (router.clone(), call.clone());
            runtime.spawn(async move {
                let mut calls = 0_usize;
                while began.elapsed() < window {
                    for _ in 0..TURN {
                        let Ok(response) = router.call(call.request()).await;
                        assert!(call.is_answered_by(response.status().as_u16()));
                    }
                    calls += TURN;
                    tokio::task::yield_now().await;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += runtime.block_on(task)?;
    }
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}
