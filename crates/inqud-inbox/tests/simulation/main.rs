//! A deterministic simulation: the layer, the receiver, the queue, the runner and the reconciler of several processes, over
//! a network, a disk, an API and handlers that fail. The time is Tokio's, paused. Everything random comes from a seed, so a seed is a run.
//!
//! `docs/TESTING.md` says what is checked and what is found. `SIMULATION_SEED=17` runs one seed and prints all that
//! happens; `SIMULATION_SEEDS=100000` runs so many.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod admin;
mod api;
mod bug;
mod disk;
mod ledger;
mod looks;
mod merchant;
mod network;
mod operator;
mod panics;
mod process;
mod random;
mod run;
mod seeds;
mod send;
mod trace;
mod world;

use crate::bug::Bug;
use crate::run::run;
use crate::seeds::{described, seeds};

/// Returns the number that an environment variable has.
fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = given("SIMULATION_SEED") {
        let run = run(seed, None);
        run.events.iter().for_each(|event| eprintln!("{event}"));
        assert_eq!(run.violation, None, "seed {seed}");
        return;
    }
    let count = given("SIMULATION_SEEDS").unwrap_or(500);
    let found = seeds(0..count, None);
    eprintln!("{found}");
    if let Some(run) = found.violation {
        panic!("{}", described(&run));
    }
    if count >= 500 {
        for what in HAPPENS {
            assert!(found.events.contains_key(what), "{what:?} never happened");
        }
    }
}

/// What must have happened in some of many seeds. Otherwise they show less than they should.
const HAPPENS: [&str; 60] = [
    "a dead letter",
    "a webhook arrived meanwhile",
    "answers",
    "begins a look",
    "bodies are deleted",
    "busy",
    "claim fails",
    "claimed",
    "claiming looks fails",
    "claims a suspect",
    "crashes",
    "discarded",
    "done",
    "ending looks fails",
    "expecting fails",
    "has no body",
    "has shut down",
    "hastening fails",
    "insert fails",
    "known as a duplicate",
    "leaves the watch list",
    "look for suspects fails",
    "notifications are deleted",
    "objects are deleted",
    "reading arrivals fails",
    "reading what is known fails",
    "recovered",
    "redriven",
    "reprocessed",
    "reprocessing fails",
    "retention fails",
    "scheduling fails",
    "settlement fails",
    "skipped",
    "stats are lost",
    "stats fail",
    "stored",
    "stored for review",
    "storing what was fetched fails",
    "the answer of the API is lost",
    "the answer of the retention is lost",
    "the answer to a claim is lost",
    "the answer to a settlement is lost",
    "the answer to an insert is lost",
    "the answer to reprocessing is lost",
    "the answer to scheduling is lost",
    "the answer to storing what was fetched is lost",
    "the API fails",
    "the API knows no object",
    "the API tells",
    "the API tells an old state",
    "the call is dropped",
    "the effect failed",
    "the handler fails",
    "the handler hangs",
    "the handler panics",
    "the lease has expired",
    "the response is lost",
    "to be retried",
    "unreachable",
];

#[test]
fn a_seed_repeats_a_run_exactly() {
    for seed in 0..50 {
        let (one, other) = (run(seed, None), run(seed, None));
        let differs = one.events.iter().zip(&other.events).position(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: {:?}", differs.map(|at| one.events[at]));
        assert_eq!((one.hash, one.events.len()), (other.hash, other.events.len()), "seed {seed}");
    }
}

/// The number of seeds until each planted bug is found.
#[test]
fn each_planted_bug_is_found() {
    let given = given("SIMULATION_SEEDS").unwrap_or(2_000);
    for bug in Bug::ALL {
        let found = seeds(0..given, Some(bug));
        let Some(run) = found.violation else { panic!("{bug:?} is not found in {given} seeds") };
        eprintln!("{bug:?}: {} seeds: {}", run.seed + 1, run.violation.unwrap());
    }
}
