//! One run: what Inqud sends, who receives it, what goes wrong, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use inqud_inbox::__private::{Reach, Scheduled};
use inqud_inbox::{Admin, Filter, State, WatchList};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bug::Bug;
use crate::operator::operate;
use crate::panics::report_to;
use crate::process::{Kind, Process, Signal};
use crate::send::send;
use crate::trace::{Event, NOBODY};
use crate::world::{Fault, World};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) violation: Option<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) hash: u64,
    pub(crate) shape: u64,
}

/// How long anything may take after faults have ended.
const SETTLED: Duration = Duration::from_secs(3600);

pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Run {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(seed, bug));
        report_to(&world);
        tokio::select! {
            biased;
            () = world.violated.notified() => {}
            () = play(&world) => {}
        }
        world
    });
    // Ends what the processes have left behind.
    drop(runtime);
    let trace = world.trace.lock().unwrap();
    Run {
        seed,
        violation: world.violation.lock().unwrap().clone(),
        events: trace.events.clone(),
        hash: trace.hash(),
        shape: trace.shape(),
    }
}

async fn play(world: &Arc<World>) {
    let kinds: &[Kind] = world.draw(|random| {
        random.pick(&[&[Kind::Request, Kind::Payment][..], &[Kind::Request, Kind::Subscription]])
    });
    let length = Duration::from_millis(world.draw(|random| random.range(5_000, 40_000)));
    let finish = Arc::new(Signal::default());
    let mut processes = JoinSet::new();
    for process in 0..world.draw(|random| random.range(1, 4) as usize) {
        // The first one has runners, so there is always one that has.
        let runs = process == 0 || world.draw(|random| random.chance(700));
        processes.spawn(live(Arc::clone(world), process, kinds, runs, Arc::clone(&finish)));
    }
    let mut deliveries = send(world, kinds, length);
    let work = async {
        sleep(length).await;
        world.heal();
        world.note(NOBODY, "faults end", NOBODY, 0);
    };
    tokio::join!(operate(world), work);
    let settled = async {
        while deliveries.join_next().await.is_some() {}
        world.note(NOBODY, "all is delivered", NOBODY, 0);
        settle(world).await;
    };
    if timeout(SETTLED, settled).await.is_err() {
        let open = world.ledger().count(State::Open);
        return world.violate(format!("{open} are never settled"));
    }
    finish.give();
    let ended = async { while processes.join_next().await.is_some() {} };
    if timeout(SETTLED, ended).await.is_err() {
        return world.violate("a process never ends".to_owned());
    }
    if world.reconciles {
        catch_up(world, kinds).await;
    }
    look_back(world).await;
}

/// How often, and after which time, a job looks at what is due after all processes have ended: until no look is due any more.
/// The API may have failed five times in a row, and then asked for a pause.
const TURNS: usize = 40;
const TURN: Duration = Duration::from_secs(20);

/// Looks at what is due, until all objects have left the watch list.
async fn catch_up(world: &Arc<World>, kinds: &[Kind]) {
    let job = Process::start(world, (0, u32::MAX), &[], false);
    for _ in 0..TURNS {
        sleep(TURN).await;
        for kind in kinds {
            if let Err(error) = job.catch_up(world, *kind).await {
                world.violate(format!("a job ended with an error: {error}"));
            }
        }
    }
    settle(world).await;
    job.shut_down(world).await;
    for truth in &*world.truths() {
        let looked = world.ledger().looked(truth);
        world.check(looked);
    }
    for kind in kinds {
        let kind = kind.name();
        let objects = || {
            world
                .truths()
                .iter()
                .filter(|it| it.kind == kind)
                .map(|it| it.id.clone())
                .collect::<Vec<_>>()
        };
        // One that waits until its fetched notification is read leaves the list with the next arrival.
        world.disk.schedule(kind, Reach::new(-1, i64::MAX), Vec::new()).await.unwrap();
        // It adds an object, unless it is on the list.
        let add = |id| Scheduled::new(id, (i64::MIN, i64::MIN), 0, 0);
        let added = objects().into_iter().map(add).collect();
        world.disk.schedule(kind, Reach::new(-1, -1), added).await.unwrap();
        let looks = world.disk.claim_looks(kind, usize::MAX, TURN).await.unwrap();
        if looks.len() != objects().len() {
            world.violate(format!("only {} objects have left the watch list", looks.len()));
        }
    }
}

/// The lives of a process, one after another.
async fn live(
    world: Arc<World>,
    process: usize,
    kinds: &'static [Kind],
    runs: bool,
    finish: Arc<Signal>,
) {
    for generation in 0.. {
        let life = Process::start(&world, (process, generation), kinds, runs);
        loop {
            let millis = world.draw(|random| random.range(100, 8_000));
            if timeout(Duration::from_millis(millis), finish.given()).await.is_ok() {
                return life.shut_down(&world).await;
            }
            if world.fault(Fault::Crash) {
                life.crash(&world);
                break;
            }
            if world.fault(Fault::Restart) {
                let patience = world.draw(|random| random.range(1_000, 60_000));
                let patience = Duration::from_millis(patience);
                if timeout(patience, life.shut_down(&world)).await.is_err() {
                    life.crash(&world);
                }
                break;
            }
        }
        drop(life);
        let millis = world.draw(|random| random.range(0, 5_000));
        sleep(Duration::from_millis(millis)).await;
    }
}

/// Waits until everything is settled. An operator redrives dead letters.
async fn settle(world: &World) {
    // A call that was slow before faults ended can still store what was meanwhile delivered again.
    sleep(Duration::from_secs(30)).await;
    loop {
        let (open, dead) = {
            let ledger = world.ledger();
            (ledger.count(State::Open), ledger.count(State::Dead))
        };
        if open + dead == 0 {
            return;
        }
        let operator = world.serving.lock().unwrap().first().cloned();
        if let Some(operator) = operator.filter(|_| dead > 0) {
            for letter in operator.inbox.dead(100).await.unwrap() {
                // A replay cannot be redriven after the body of a later notification was deleted.
                if operator.inbox.redrive([letter.key]).await.unwrap() == 0 {
                    operator.inbox.discard([letter.key]).await.unwrap();
                }
            }
        }
        sleep_until(Instant::now() + Duration::from_secs(1)).await;
    }
}

/// What is on the disk is what the ledger says.
async fn look_back(world: &World) {
    let disk = &world.disk;
    let page = Admin::list(disk, Filter::new().with_bodies(), 10_000).await.unwrap();
    let stats = Admin::stats(disk).await.unwrap();
    let ledger = world.ledger();
    let found = page.entries.iter().map(|it| (it.state, &it.body[..]));
    if !found.eq(ledger.left()) {
        world.violate("the disk is not as it was left".to_owned());
    }
    world.check(ledger.counted(&stats));
    world.check(ledger.end());
}
