//! What an inbox in a SQLite file has after a power loss, and what it does when the disk fails.
#![cfg(unix)]
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
mod history;
mod image;
mod random;
mod vfs;
mod workload;

use self::check::check;
use self::disk::{Disk, Lie};
use self::image::{WAYS, image};
use self::random::Random;

/// How many images to check.
fn images(default: usize) -> usize {
    std::env::var("POWER_LOSS_IMAGES").map_or(default, |it| it.parse().unwrap())
}

/// Lets the inbox work on a disk that lies, and checks images of it. Returns what is wrong with some of them.
async fn power_loss(lie: Lie, count: usize) -> BTreeMap<usize, String> {
    let disk = Disk::new(lie);
    let history = workload::work(&disk).await.history();
    let mut random = Random::new(1);
    let mut wrong = BTreeMap::new();
    for number in 0..count {
        let cut = random.below(disk.now() + 1);
        let kept = WAYS[number % WAYS.len()];
        let image = disk.with_ops(|ops| image(&ops[..cut], kept, &mut random));
        if let Err(what) = check(&image, &history, cut).await {
            wrong.insert(number, format!("after {cut} operations, {kept:?} kept: {what}"));
        }
    }
    println!("{lie:?}: {count} images of {} operations, {} wrong", disk.now(), wrong.len());
    disk.remove();
    wrong
}

#[tokio::test]
async fn keeps_what_was_acknowledged() {
    let wrong = power_loss(Lie::None, images(100)).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn finds_each_lie_about_a_sync() {
    for lie in [Lie::Log, Lie::SomeOfLog, Lie::File, Lie::Folder, Lie::Normal] {
        let wrong = power_loss(lie, images(100)).await;
        println!("{:#?}", wrong.iter().take(3).collect::<Vec<_>>());
        assert!(!wrong.is_empty(), "{lie:?}");
    }
}
