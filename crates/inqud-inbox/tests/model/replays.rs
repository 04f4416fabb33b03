//! The model and each real store do the same.

use inqud_inbox::{Inbox, Store, WatchList};

use crate::bug::Bug;
use crate::postgres;
use crate::replay::{Paths, Replay, at_random};
use crate::state::Limits;
use crate::step::Action;
use crate::store::Model;
use crate::world::World;

/// The length of a random path.
const STEPS: usize = 60;

const LIMITS: Limits = Limits { faults: 9, repeats: 2, operations: 3, replays: 2, sweeps: 3 };

const LOOK_LIMITS: Limits = Limits { replays: 0, sweeps: 0, ..LIMITS };

/// Whether retries become due, which needs a clock that can be advanced.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Clock {
    Paused,
    Real,
}

/// How many paths a store gets before a new one is made. The more it has, the longer it takes to look at all.
const PATHS: usize = 50;

/// Replays random paths, and all short ones that begin when all notifications of an object have arrived, in their order or in
/// the opposite one.
async fn same_as_the_model<S: Store + WatchList>(
    new: impl AsyncFn(usize) -> Inbox<S>,
    clock: Clock,
    (walks, length): (u64, usize),
) {
    let can_wake = clock == Clock::Paused;
    let mut inbox = new(0).await;
    let (mut number, mut paths) = (0, 0);
    for world in worlds() {
        let model = Model { world, bug: None };
        let beginnings = [[0, 1, 2], [2, 1, 0]].map(|order| arrivals(&order));
        let mut short = beginnings.map(|beginning| Paths::new(beginning, length));
        let mut seeds = 1..=walks;
        loop {
            number += 1;
            if number % PATHS == 0 {
                inbox.close().await;
                inbox = new(number).await;
            }
            let replay = Replay::new(&model, &inbox, number, LIMITS);
            let done = if let Some(seed) = seeds.next() {
                replay.run(can_wake, at_random(seed, STEPS)).await
            } else if let Some(all) =
                short.iter_mut().find(|it| !it.is_over() && (can_wake || !model.world.newest_only))
            {
                paths += 1;
                let done = replay.run(can_wake, all.choose()).await;
                all.advance();
                done
            } else {
                break;
            };
            done.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    eprintln!("{} random paths, {paths} short ones", 8 * walks);
}

/// Replays random paths of reconciliation, each in a store of its own.
async fn looks_like_the_model<S: Store + WatchList>(
    new: impl AsyncFn(usize) -> Inbox<S>,
    can_wake: bool,
    walks: u64,
) {
    let mut number = 0;
    for world in watched_worlds() {
        let model = Model { world, bug: None };
        for seed in 1..=walks {
            number += 1;
            let inbox = new(number).await;
            let replay = Replay::new(&model, &inbox, 0, LOOK_LIMITS);
            let done = replay.run(can_wake, at_random(seed, looks_steps(seed))).await;
            done.unwrap_or_else(|error| panic!("{error}"));
            inbox.close().await;
        }
    }
}

/// Each world, also with runners that handle the newest only.
fn worlds() -> impl Iterator<Item = World> {
    let all = World::ALL.map(|it| [it().with_replays(), it().with_replays().newest_only()]);
    all.into_iter().flatten()
}

/// Paths of looks have different lengths, because their watch lists are compared at the end.
fn looks_steps(seed: u64) -> usize {
    STEPS - seed as usize % STEPS
}

/// Worlds whose first object is looked at.
fn watched_worlds() -> impl Iterator<Item = World> {
    [World::request().alone(), World::timed(), World::payment().alone(), World::undone()]
        .into_iter()
        .map(World::watched)
}

/// What delivers notifications, one after the other.
fn arrivals(notes: &[u8]) -> Vec<Action> {
    // The other receiver is idle, and idle ones come first.
    let receiver = 1;
    let arrive =
        |note| [Action::Deliver { note }, Action::Commit { receiver }, Action::Answer { receiver }];
    notes.iter().copied().flat_map(arrive).collect()
}

#[tokio::test(start_paused = true)]
async fn memory_is_like_the_model() {
    same_as_the_model(async |_| Inbox::memory(), Clock::Paused, (125, 3)).await;
}

#[tokio::test]
async fn sqlite_is_like_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let new = async |number| Inbox::sqlite(folder.path().join(format!("{number}.db"))).unwrap();
    same_as_the_model(new, Clock::Real, (12, 2)).await;
}

#[tokio::test]
async fn postgres_is_like_the_model() {
    let Some(server) = postgres::shared() else { return };
    let new = async |number| server.inbox(&format!("model_{number}")).await;
    same_as_the_model(new, Clock::Real, (8, 2)).await;
}

/// Shows that the comparison notices a store that does otherwise than the model.
#[tokio::test(start_paused = true)]
async fn replay_notices_each_bug_of_the_store() {
    for bug in [
        Bug::DropsOtherContent,
        Bug::DropsRepeats,
        Bug::SortsByRank,
        Bug::HandlesStale,
        Bug::SkipsUnordered,
        Bug::ForgetsTime,
        Bug::RedriveMoves,
        Bug::CrashIsFailure,
        Bug::ClaimIsDone,
        Bug::IgnoresClaim,
        Bug::SettlesTwice,
        Bug::IgnoresLease,
        Bug::ForgetsSuspects,
        Bug::DeadBlocks,
        Bug::ClaimsInACircle,
        Bug::ReplaysOne,
        Bug::ReplayIsProcessed,
        Bug::ReplayIsJudged,
        Bug::ReplaysLast,
        Bug::ReplaysLeased,
        Bug::ReplaysEmpty,
        Bug::ReplayWaits,
        Bug::SweepsYoung,
        Bug::SweepsOpen,
        Bug::SweepForgets,
    ] {
        let mut is_noticed = false;
        'worlds: for world in worlds() {
            let model = Model { world, bug: Some(bug) };
            for seed in 1..=200 {
                let inbox = Inbox::memory();
                let replay = Replay::new(&model, &inbox, 0, LIMITS);
                if replay.run(true, at_random(seed, STEPS)).await.is_err() {
                    eprintln!("{bug:?}: {}, seed {seed}", model.world.name);
                    is_noticed = true;
                    break 'worlds;
                }
            }
        }
        assert!(is_noticed, "{bug:?}");
    }
}

/// Shows that the comparison notices a watch list that does otherwise than the model.
#[tokio::test(start_paused = true)]
async fn replay_notices_each_bug_of_looks() {
    for bug in Bug::OF_LOOKS {
        let mut is_noticed = false;
        'worlds: for world in watched_worlds() {
            let model = Model { world, bug: Some(bug) };
            for seed in 1..=200 {
                let inbox = Inbox::memory();
                let replay = Replay::new(&model, &inbox, 0, LOOK_LIMITS);
                let done = replay.run(true, at_random(seed, looks_steps(seed))).await;
                // Not a property that the bug breaks.
                if let Some(error) = done.err().filter(|it| it.contains("the store says")) {
                    let what = error.lines().next().unwrap_or_default();
                    eprintln!("{bug:?}: seed {seed}, {what}");
                    is_noticed = true;
                    break 'worlds;
                }
            }
        }
        assert!(is_noticed, "{bug:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_in_memory_are_like_the_model() {
    looks_like_the_model(async |_| Inbox::memory(), true, 200).await;
}

#[tokio::test]
async fn looks_in_sqlite_are_like_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let new = async |number| Inbox::sqlite(folder.path().join(format!("{number}.db"))).unwrap();
    looks_like_the_model(new, false, 8).await;
}

#[tokio::test]
async fn looks_in_postgres_are_like_the_model() {
    let Some(server) = postgres::shared() else { return };
    let new = async |number| server.inbox(&format!("looks_{number}")).await;
    looks_like_the_model(new, false, 2).await;
}
