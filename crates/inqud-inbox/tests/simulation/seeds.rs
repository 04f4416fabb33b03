//! Many runs, on all cores.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::bug::Bug;
use crate::run::{Run, run};

/// The longest time that a run may take. It takes milliseconds, unless a task goes round in a circle.
const TOO_LONG: Duration = Duration::from_secs(120);

/// What many runs have shown.
#[derive(Debug, Default)]
pub(crate) struct Found {
    runs: u64,
    interleavings: usize,
    took: Duration,
    /// How often each thing happened.
    pub(crate) events: BTreeMap<&'static str, usize>,
    /// The run with the lowest seed that violates anything.
    pub(crate) violation: Option<Run>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, interleavings, took, events, .. } = self;
        let sum: usize = events.values().sum();
        write!(f, "{runs} seeds, {sum} events, {interleavings} interleavings, {took:.1?}")?;
        events.iter().try_for_each(|(what, count)| write!(f, "\n{count:>10} {what}"))
    }
}

/// What a run adds to it.
struct Part {
    seed: u64,
    shape: u64,
    events: BTreeMap<&'static str, usize>,
    violation: Option<Run>,
}

impl Part {
    fn of(run: Run) -> Self {
        let mut events = BTreeMap::new();
        run.events.iter().for_each(|event| *events.entry(event.what).or_default() += 1);
        let (seed, shape) = (run.seed, run.shape);
        let violation = run.violation.is_some().then_some(run);
        Self { seed, shape, events, violation }
    }
}

/// Runs seeds until one of them violates something.
pub(crate) fn seeds(range: Range<u64>, bug: Option<Bug>) -> Found {
    let began = Instant::now();
    let (next, last) = (Arc::new(AtomicU64::new(range.start)), range.end);
    let running = Arc::new(Mutex::new(BTreeSet::new()));
    let (sender, receiver) = mpsc::channel();
    let worker = |_| {
        let (next, running, sender) = (Arc::clone(&next), Arc::clone(&running), sender.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= last {
                    break;
                }
                running.lock().unwrap().insert(seed);
                let part = Part::of(run(seed, bug));
                running.lock().unwrap().remove(&seed);
                if part.violation.is_some() {
                    next.store(last, Ordering::SeqCst);
                }
                if sender.send(part).is_err() {
                    break;
                }
            }
        })
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<_> = (0..count).map(worker).collect();
    drop(sender);
    let (mut found, mut shapes) = (Found::default(), HashSet::new());
    loop {
        match receiver.recv_timeout(TOO_LONG) {
            Ok(part) => {
                found.runs += 1;
                shapes.insert(part.shape);
                for (what, count) in part.events {
                    *found.events.entry(what).or_default() += count;
                }
                let is_lowest = found.violation.as_ref().is_none_or(|it| part.seed < it.seed);
                if part.violation.is_some() && is_lowest {
                    found.violation = part.violation;
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("one of the seeds {:?} does not end", running.lock().unwrap());
            }
        }
    }
    for worker in workers {
        let ended = worker.join();
        assert!(ended.is_ok(), "one of the seeds {:?} panicked", running.lock().unwrap());
    }
    let is_complete = found.violation.is_some() || found.runs == last - range.start;
    assert!(is_complete, "only {} seeds have run", found.runs);
    (found.interleavings, found.took) = (shapes.len(), began.elapsed());
    found
}

/// The violation, what happened before it, and how to repeat it.
pub(crate) fn described(run: &Run) -> String {
    const LAST: usize = 60;
    let from = run.events.len().saturating_sub(LAST);
    let last: String = run.events[from..].iter().map(|event| format!("{event}\n")).collect();
    let violation = run.violation.as_deref().unwrap_or_default();
    format!(
        "seed {seed}: {violation}\nthe last events:\n{last}to repeat it:\n\
         SIMULATION_SEED={seed} cargo test -p inqud-inbox --test simulation every_seed -- --nocapture",
        seed = run.seed
    )
}
