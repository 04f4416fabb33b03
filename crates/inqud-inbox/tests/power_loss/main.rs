//! What an inbox in a SQLite file has after a power loss, and what it does when the disk fails.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeMap;

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod check;
mod disk;
mod faults;
mod history;
mod image;
mod random;
mod system;
mod vfs;
mod workload;

use self::check::check;
use self::disk::{Call, Disk, Errno, Fault, Lie};
use self::image::{WAYS, image};
use self::random::Random;

/// A number that the environment can set.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

/// What is wrong with each image in which anything is.
type Wrong = BTreeMap<usize, String>;

/// Lets the inbox work on a disk, and checks images of it until `is_enough`.
async fn power_loss(lie: Lie, count: usize, is_enough: fn(&Wrong) -> bool) -> Wrong {
    let disk = Disk::new(lie);
    let history = workload::work(&disk).await.history();
    let mut random = Random::new(1);
    let (mut wrong, mut checked) = (Wrong::new(), 0);
    while checked < count && !is_enough(&wrong) {
        let cut = random.below(disk.now() + 1);
        let kept = WAYS[checked % WAYS.len()];
        let image = disk.with_ops(|ops| image(&ops[..cut], kept, &mut random));
        if let Err(what) = check(&image, &history, cut).await {
            wrong.insert(checked, format!("after {cut} operations, {kept:?} kept: {what}"));
        }
        checked += 1;
    }
    println!("{lie:?}: {} of {checked} images are wrong, {} operations", wrong.len(), disk.now());
    disk.remove();
    wrong
}

#[tokio::test]
async fn power_loss_loses_nothing_acknowledged() {
    let wrong = power_loss(Lie::None, number("POWER_LOSS_IMAGES", 100), |_| false).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn each_lie_of_the_disk_is_found() {
    let count = number("POWER_LOSS_LIES", 300);
    let is_enough =
        if count == 300 { |wrong: &Wrong| !wrong.is_empty() } else { |_: &Wrong| false };
    for lie in [Lie::Log, Lie::SomeOfLog, Lie::File, Lie::Folder, Lie::Normal] {
        let wrong = power_loss(lie, count, is_enough).await;
        println!("{:?}", wrong.first_key_value());
        assert!(!wrong.is_empty(), "{lie:?}");
    }
}

/// Meets some of the faults at all calls, or at all calls of a kind.
async fn meet_faults(only: Option<Call>, some: usize) {
    let some = number("POWER_LOSS_FAULTS", some);
    let mut random = Random::new(2);
    let never = Fault { errno: Errno::Io, after: usize::MAX, count: 0, only };
    let met = faults::meet(never, &mut random).await;
    assert!(met.wrong.is_empty(), "without a fault: {:#?}", met.wrong);
    let all = faults::all(met.calls, only);
    let step = all.len().div_ceil(some).max(1);
    let (mut wrong, mut count, mut failed) = (Vec::new(), 0, BTreeMap::new());
    for fault in all.iter().step_by(step) {
        let met = faults::meet(*fault, &mut random).await;
        count += 1;
        for call in met.failed {
            *failed.entry(format!("{call:?}")).or_insert(0) += 1;
        }
        if !met.wrong.is_empty() {
            wrong.push((*fault, met.wrong));
        }
    }
    println!("{only:?}: {count} of {} faults, {failed:?} failed, {} wrong", all.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn failed_call_is_an_error_and_loses_nothing() {
    meet_faults(None, 40).await;
}

#[tokio::test]
async fn failed_sync_loses_nothing_acknowledged() {
    meet_faults(Some(Call::Sync), usize::MAX).await;
}
