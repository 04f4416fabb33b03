//! Reconciliation heals what webhooks did not bring, although the merchant's process is killed.
//!
//! `RECONCILE_CRASH_REQUESTS=5000 cargo test --all-features --test reconcile_crash -- --nocapture` runs it at full size.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{HashMap, HashSet};
use std::env;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use self::child::Stop;
use self::found::Place;
use self::process::Merchant;
use self::world::World;

mod child;
mod found;
mod judge;
#[path = "../support/postgres.rs"]
mod postgres;
mod process;
mod world;

/// How long nothing may happen.
const STUCK: Duration = Duration::from_secs(60);

/// The process that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other tests"]
async fn merchant() {
    if env::var_os(child::PLACE).is_some() {
        child::serve().await;
    }
}

fn folder() -> Place {
    Place::Folder(tempfile::tempdir().unwrap())
}

/// A new database. `None` if Postgres is not installed.
async fn database(name: &str) -> Option<Place> {
    let server = postgres::shared()?;
    server.database(name).await;
    Some(Place::Database(server, name.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn heals_lost_webhooks_in_spite_of_kills_in_sqlite() {
    heals_lost_webhooks("SQLite", folder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heals_lost_webhooks_in_spite_of_kills_in_postgres() {
    if let Some(place) = database("heals").await {
        heals_lost_webhooks("Postgres", place).await;
    }
}

async fn heals_lost_webhooks(engine: &str, place: Place) {
    let count = env::var("RECONCILE_CRASH_REQUESTS").map_or(200, |count| count.parse().unwrap());
    let per_second = env::var("RECONCILE_CRASH_RATE").map_or(40, |rate| rate.parse().unwrap());
    let world = World::new();
    let mut merchant = Merchant::new(&place, world.serve().await);
    merchant.start(Stop::Never).await;
    let (its, address) = (world.clone(), merchant.address());
    let playing = tokio::spawn(async move { its.play(count, per_second, address).await });

    // The last look at the last Request is about 7 s after its creation.
    let length = Duration::from_secs(1) * count / per_second + Duration::from_secs(7);
    let began = Instant::now();
    let mut interrupted = HashMap::<String, usize>::new();
    for kill in 1..=3 {
        sleep((length * kill / 4).saturating_sub(began.elapsed())).await;
        for object in merchant.kill().await {
            *interrupted.entry(object).or_default() += 1;
        }
        merchant.start(Stop::Never).await;
    }
    playing.await.unwrap();
    settled(&place).await;
    merchant.kill().await;
    let (rows, effects) = (place.rows().await, place.effects().await);
    let report = judge::judge(&world, &rows, &effects, &interrupted);
    println!("{}", report.table(engine, &merchant.outcomes()));
    let first = report.wrong.first();
    assert!(first.is_none(), "{} are wrong: {first:?}", report.wrong.len());
    assert!(report.recovered > count as usize / 5, "{} are recovered", report.recovered);
}

/// Waits until nothing is watched or open any more.
async fn settled(place: &Place) {
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let left = place.left().await;
        if (left.watched, left.open) == (0, 0) {
            return;
        }
        if last != Some(left) {
            (last, since) = (Some(left), Instant::now());
        }
        assert!(since.elapsed() < STUCK, "{left:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_that_was_killed_is_repeated_in_sqlite() {
    for stop in [Stop::Fetched, Stop::Stored] {
        look_that_was_killed_is_repeated(folder(), stop).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_that_was_killed_is_repeated_in_postgres() {
    for stop in [Stop::Fetched, Stop::Stored] {
        if let Some(place) = database(stop.word()).await {
            look_that_was_killed_is_repeated(place, stop).await;
        }
    }
}

async fn look_that_was_killed_is_repeated(place: Place, stop: Stop) {
    let world = World::new();
    let mut merchant = Merchant::new(&place, world.serve().await);
    merchant.start(stop).await;
    world.place_and_lose("CAPD-1", "SUCCESS", &merchant.address()).await;
    timeout(STUCK, merchant.stopped()).await.unwrap();
    let stored = usize::from(stop == Stop::Stored);
    assert_eq!(merchant.kill().await, ["CAPD-1"], "it is still leased");
    assert_eq!(place.rows().await.len(), stored, "{stop:?}");

    merchant.start(Stop::Never).await;
    settled(&place).await;
    merchant.kill().await;
    let rows = place.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].is_fetched && rows[0].status == "SUCCESS", "{rows:?}");
    assert_eq!(place.effects().await, [("CAPD-1".to_owned(), "SUCCESS".to_owned())]);
    // The first look, its repetition or the one that the fetched row causes, and one that confirms.
    let gets = world.gets()["CAPD-1"].len();
    assert!((2..=3).contains(&gets), "{stop:?}: {gets}");
    let outcomes: HashSet<_> = merchant.outcomes().into_keys().collect();
    assert!(outcomes.contains("recovered") && outcomes.contains("agreed"), "{outcomes:?}");
}
