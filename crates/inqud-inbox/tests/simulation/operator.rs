//! What an operator and a retention do at random moments, until faults end.

use std::time::Duration;

use inqud_inbox::{Admin, Filter, Inbox, Key, State, Sweep};
use tokio::time::{sleep, timeout};

use crate::disk::Disk;
use crate::world::World;

/// Works in half of the runs. A failure of the store is one of the faults, so errors are ignored.
pub(crate) async fn operate(world: &World) {
    let (reprocesses, deletes) = world.draw(|random| (random.chance(500), random.chance(500)));
    if !reprocesses && !deletes {
        return;
    }
    loop {
        let millis = world.draw(|random| random.range(200, 6_000));
        sleep(Duration::from_millis(millis)).await;
        if world.is_healed() {
            return;
        }
        let Some(process) = world.serving.lock().unwrap().first().cloned() else { continue };
        // If the process ends, it never answers.
        let work = work(world, &process.inbox, reprocesses, deletes);
        let _ = timeout(Duration::from_secs(20), work).await;
    }
}

async fn work(world: &World, inbox: &Inbox<Disk>, reprocesses: bool, deletes: bool) {
    match world.draw(|random| random.range(0, 4)) {
        0 | 1 if reprocesses => reprocess(world, inbox).await,
        2 if deletes => delete(world, inbox).await,
        3 => {
            let letters = inbox.dead(100).await.unwrap_or_default();
            let _ = inbox.redrive(letters.iter().map(|it| it.key)).await;
        }
        _ => {}
    }
}

/// Reprocesses a few notifications, or all that were processed.
async fn reprocess(world: &World, inbox: &Inbox<Disk>) {
    if world.draw(|random| random.chance(200)) {
        let _ = inbox.reprocess_all(State::Done, false).await;
        return;
    }
    let page = inbox.store().list(Filter::new(), 10_000).await.unwrap();
    let keys: Vec<Key> = page.entries.iter().map(|entry| entry.key).collect();
    let chosen = (0..world.draw(|random| random.range(1, 4))).filter(|_| !keys.is_empty());
    let chosen: Vec<_> = chosen.map(|_| world.draw(|random| random.pick(&keys))).collect();
    let _ = inbox.reprocess(chosen).await;
}

/// Deletes what is some seconds old. A `Retention` keeps everything for days, and deletes with the same calls.
async fn delete(world: &World, inbox: &Inbox<Disk>) {
    let (what, age) = world.draw(|random| (random.range(0, 3), random.pick(&[0, 2, 10])));
    let age = Duration::from_secs(age);
    let sweep = match what {
        0 => Sweep::Bodies(age),
        1 => Sweep::Notifications { age, includes_reviews: false, after: i64::MIN },
        _ => Sweep::Objects(age),
    };
    let _ = inbox.store().sweep_batch(sweep, 10_000).await;
}
