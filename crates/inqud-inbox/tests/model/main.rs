//! The protocol of an inbox, model-checked: two receivers, two runners, a naive store, and all that can go wrong between
//! them. What the model says is then replayed against the real stores.
//!
//! `docs/TESTING.md` lists the properties and the bugs planted for each. `MODEL_LIMITS` sets how much may go wrong in
//! `all_worlds_hold`, and `MODEL_WORLD` names the only world to search.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod bug;
mod look;
mod pack;
#[path = "../support/postgres.rs"]
mod postgres;
mod properties;
mod replay;
mod replays;
mod search;
mod state;
mod step;
mod store;
mod upkeep;
mod world;

use std::time::Instant;

use crate::bug::Bug;
use crate::search::{Search, search};
use crate::state::Limits;
use crate::store::Model;
use crate::world::World;

fn limits(faults: u8, repeats: u8, operations: u8) -> Limits {
    Limits { faults, repeats, operations, ..Limits::default() }
}

fn searched(world: World, bug: Option<Bug>, limits: Limits) -> Search {
    let began = Instant::now();
    let model = Model { world, bug };
    let found = search(&model, limits);
    let Search { states, transitions, depth, ends, .. } = &found;
    eprintln!(
        "{}, {bug:?}, {limits:?}: {states} states, {transitions} transitions, {depth} deep, {ends} ends, {:.1?}",
        model.world.name,
        began.elapsed()
    );
    found
}

fn holds(world: World, limits: Limits) {
    if let Some(violation) = searched(world, None, limits).violation {
        panic!("{violation}");
    }
}

#[test]
fn request_holds() {
    holds(World::request(), limits(1, 0, 0));
}

#[test]
fn payment_holds() {
    holds(World::payment(), limits(0, 1, 1));
}

#[test]
fn review_holds() {
    holds(World::review(), limits(0, 1, 1));
}

#[test]
fn subscription_holds() {
    holds(World::subscription(), limits(0, 1, 1));
}

/// More of everything can go wrong, with two notifications of one object and one of another.
#[test]
fn smaller_worlds_hold() {
    for world in World::ALL {
        holds(world().smaller(), limits(2, 1, 1));
    }
}

/// An operator reprocesses, and a retention deletes bodies.
#[test]
fn reprocess_holds() {
    for world in [World::timed, World::payment] {
        let limits = Limits { replays: 1, sweeps: 1, ..limits(1, 0, 0) };
        holds(world().alone().with_replays(), limits);
    }
}

/// A retention deletes bodies, notifications and objects.
#[test]
fn retention_holds() {
    for world in World::ALL {
        holds(world().alone(), Limits { sweeps: 2, ..limits(0, 1, 1) });
    }
}

/// Runners handle the newest notification only.
#[test]
fn newest_only_holds() {
    for world in World::ALL {
        holds(world().smaller().newest_only(), limits(1, 0, 1));
    }
    let limits = Limits { replays: 1, ..limits(1, 0, 0) };
    holds(World::payment().alone().with_replays().newest_only(), limits);
}

/// Inqud gives up any of its notifications, and looks race those that come.
#[test]
fn reconcile_holds() {
    holds(World::request().pair().watched(), limits(0, 0, 0));
    holds(World::payment().pair().watched(), limits(0, 0, 0));
    holds(World::undone().pair().watched(), limits(1, 0, 0));
}

/// More of each.
#[test]
#[ignore = "takes minutes; run it in a release build"]
fn larger_worlds_of_their_own_hold() {
    for world in [World::timed, World::payment, World::review] {
        let limits = Limits { replays: 2, sweeps: 1, ..limits(1, 0, 1) };
        holds(world().alone().with_replays(), limits);
    }
    for world in World::ALL {
        holds(world().alone(), Limits { sweeps: 3, ..limits(0, 2, 1) });
        holds(world().smaller().newest_only(), limits(2, 1, 1));
        let limits = Limits { replays: 1, ..limits(1, 0, 1) };
        holds(world().alone().with_replays().newest_only(), limits);
    }
    for world in [World::request, World::timed, World::undone] {
        holds(world().alone().watched(), limits(0, 0, 0));
    }
    for world in [World::request, World::payment] {
        holds(world().pair().watched(), limits(2, 0, 0));
    }
}

/// As much as there is time for.
#[test]
#[ignore = "takes minutes; run it in a release build"]
fn all_worlds_hold() {
    let given = std::env::var("MODEL_LIMITS").unwrap_or_else(|_| "1,1,1".to_owned());
    let given: Vec<u8> = given.split(',').map(|it| it.parse().unwrap()).collect();
    let only = std::env::var("MODEL_WORLD").ok();
    for world in World::ALL.map(|world| world()) {
        if only.as_ref().is_none_or(|only| *only == world.name) {
            holds(world, limits(given[0], given[1], given[2]));
        }
    }
}

type NewWorld = fn() -> World;

fn replayed() -> World {
    World::payment().alone().with_replays()
}

/// A payment in part and in full, which can be told by arrival only.
fn newest() -> World {
    World::subscription().newest_only()
}

fn watched() -> World {
    World::payment().pair().watched()
}

fn replays(faults: u8) -> Limits {
    Limits { replays: 1, ..limits(faults, 0, 0) }
}

/// Each bug is found with as few faults as it needs.
#[test]
fn each_planted_bug_is_found() {
    let settled = "everything is settled in the end";
    let cases: [(Bug, NewWorld, Limits, &str); Bug::ALL.len()] = [
        (
            Bug::AnswersBeforeCommit,
            World::request,
            limits(0, 0, 0),
            "what was answered with 200 is stored",
        ),
        (
            Bug::DropsOtherContent,
            World::payment,
            limits(0, 0, 0),
            "what was answered with 200 is stored",
        ),
        (
            Bug::DropsRepeats,
            World::payment,
            limits(0, 1, 0),
            "no repeat with something in between is dropped",
        ),
        (Bug::SortsByRank, World::payment, limits(0, 0, 0), "a late delivery never regresses"),
        (Bug::HandlesStale, World::request, limits(0, 0, 0), "a late delivery never regresses"),
        (Bug::SkipsUnordered, World::payment, limits(0, 0, 0), "only what is older is skipped"),
        (
            Bug::HandlesFirst,
            World::request,
            limits(0, 0, 0),
            "any order and any backlog end as a history does",
        ),
        (Bug::ForgetsTime, World::review, limits(0, 0, 1), "a late delivery never regresses"),
        (Bug::RedriveMoves, World::payment, limits(2, 0, 1), "a late delivery never regresses"),
        (
            Bug::CrashIsFailure,
            World::request,
            limits(2, 0, 0),
            "only failed attempts make a dead letter",
        ),
        (Bug::ClaimIsDone, World::request, limits(0, 0, 0), "done and the effect happen together"),
        (Bug::EffectsApart, World::request, limits(1, 0, 0), "done and the effect happen together"),
        (Bug::IgnoresClaim, World::request, limits(1, 0, 0), "a late delivery never regresses"),
        (Bug::SettlesTwice, World::request, limits(1, 0, 0), "an effect happens once"),
        (Bug::IgnoresLease, World::request, limits(0, 0, 0), "an object has one lease at a time"),
        (Bug::ForgetsSuspects, World::request, limits(1, 0, 0), settled),
        (Bug::ForgetsRetry, World::request, limits(1, 0, 0), settled),
        (Bug::DeadBlocks, World::request, limits(2, 0, 0), settled),
        (Bug::ClaimsInACircle, World::request, limits(1, 0, 0), "nothing goes on in a circle"),
        (Bug::ReplaysOne, replayed, replays(0), "replays end as it was"),
        (
            Bug::ReplayIsProcessed,
            || World::timed().with_replays().narrow(),
            replays(2),
            "a late delivery never regresses",
        ),
        (Bug::ReplayIsJudged, replayed, replays(0), "a replay has its first verdict"),
        (Bug::ReplaysLast, replayed, replays(0), "replays end as it was"),
        (Bug::ReplaysLeased, replayed, replays(0), "replays end as it was"),
        (
            Bug::ReplaysEmpty,
            replayed,
            Limits { sweeps: 1, ..replays(0) },
            "what is handled has a body",
        ),
        (Bug::SkipsAllOlder, newest, limits(0, 0, 0), "only what is older is skipped"),
        (Bug::ReplayWaits, || replayed().newest_only(), replays(1), "a replay waits for no other"),
        (
            Bug::SweepsYoung,
            || World::payment().alone(),
            Limits { sweeps: 1, ..limits(0, 1, 0) },
            "a repeat is handled once, within the duplicate window",
        ),
        (
            Bug::SweepsOpen,
            || World::payment().alone(),
            Limits { sweeps: 1, ..limits(2, 0, 0) },
            "only what is settled is deleted",
        ),
        (
            Bug::SweepForgets,
            || World::request().alone(),
            Limits { sweeps: 1, ..limits(0, 0, 0) },
            "a late delivery never regresses",
        ),
        (Bug::StoresLate, watched, limits(0, 0, 0), "a look stores nothing twice"),
        (Bug::KnowsLate, watched, limits(0, 0, 0), "a look never sets an object back"),
        (Bug::StoresAgain, watched, limits(0, 0, 0), "a look stores nothing twice"),
        (Bug::EndsOthers, watched, limits(0, 0, 0), "an object ends as the API says"),
        (Bug::WatchStays, watched, limits(0, 0, 0), "each object leaves the watch list"),
    ];
    for ((bug, world, limits, property), expected) in cases.into_iter().zip(Bug::ALL) {
        assert_eq!(bug, expected);
        // It must be searched deep, or to its end.
        let is_large = limits.faults > 1 || property == settled || bug == Bug::ClaimsInACircle;
        let world = world();
        let world = if is_large && world.notes.len() > 3 { world.smaller() } else { world };
        let found = searched(world, Some(bug), limits);
        let violation = found.violation.unwrap_or_else(|| panic!("{bug:?} is not found"));
        assert_eq!(violation.property, property, "{bug:?}: {violation}");
    }
}
