//! One run: what Inqud sends, who receives it, what goes wrong, and how it ends.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use inqud_inbox::{Admin, Filter, Record, State, Storable};
use inqud_mock::{Fault as SentFault, Lifecycle, Message, MockInqud, Scenario};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_inqud::{Payment, PaymentRequest, Subscription};

use crate::bug::Bug;
use crate::network::{Expected, Network};
use crate::panics::report_to;
use crate::process::{Kind, Process, RETIRED_SECRET, SECRET, Signal};
use crate::trace::{Event, NOBODY};
use crate::world::{Fault, World};

static INQUD: LazyLock<MockInqud> =
    LazyLock::new(|| MockInqud::new(SECRET.clone(), "/webhooks/inqud".parse().unwrap()).seed(0));

/// Somebody with a secret that was rotated out.
static THIEF: LazyLock<MockInqud> = LazyLock::new(|| {
    MockInqud::new(RETIRED_SECRET.clone(), "/webhooks/inqud".parse().unwrap()).seed(0)
});

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) violation: Option<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) hash: u64,
    pub(crate) shape: u64,
}

/// How long Inqud waits before each retry. Shorter than in truth, but as often.
const RETRIES: [u64; 6] = [1, 2, 4, 8, 16, 30];

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
    sleep(length).await;
    world.heal();
    world.note(NOBODY, "faults end", NOBODY, 0);
    match timeout(SETTLED, settle(world, &mut deliveries)).await {
        Ok(()) => {}
        Err(_) => {
            let open = world.ledger().count(State::Open);
            return world.violate(format!("{open} are never settled"));
        }
    }
    finish.give();
    let ended = async { while processes.join_next().await.is_some() {} };
    if timeout(SETTLED, ended).await.is_err() {
        return world.violate("a process never ends".to_owned());
    }
    look_back(world).await;
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

/// The lifecycles that Inqud sends, and what somebody else sends.
fn send(world: &Arc<World>, kinds: &[Kind], length: Duration) -> JoinSet<()> {
    let mut deliveries = JoinSet::new();
    for order in 0..world.draw(|random| random.range(1, 5)) {
        let kind = world.draw(|random| random.pick(kinds));
        let lifecycle = lifecycle(world, kind, &format!("order-{order}"));
        let is_in_order = world.draw(|random| random.chance(300));
        let messages: Vec<_> = lifecycle.into_iter().collect();
        for (step, message) in messages.iter().enumerate() {
            let record = decode(kind, message);
            let object = {
                let mut ledger = world.ledger();
                ledger.authentic.insert(message.body().clone());
                ledger.object(record.kind, &record.object)
            };
            let expected = Expected::Stored { object, order_key: record.order_key };
            for _ in 0..world.draw(|random| random.range(1, 4)) {
                let mut at = world.draw(|random| random.range(0, length.as_millis() as u64));
                if is_in_order {
                    at = length.as_millis() as u64 * step as u64 / messages.len() as u64;
                }
                let network = network(world, kind, expected.clone());
                let network = Network { body: Duration::ZERO, ..network };
                deliveries.spawn(deliver(network, message.clone(), at, INQUD.clone()));
            }
        }
    }
    for order in 0..world.draw(|random| random.range(0, 4)) {
        let kind = world.draw(|random| random.pick(kinds));
        let message = lifecycle(world, kind, &format!("forged-{order}")).into_iter().last();
        let sender = match world.draw(|random| random.range(0, 4)) {
            0 => INQUD.clone().fault(SentFault::Forged),
            1 => INQUD.clone().fault(SentFault::Unsigned),
            2 => INQUD.clone().fault(SentFault::Truncated),
            _ => THIEF.clone(),
        };
        let at = world.draw(|random| random.range(0, length.as_millis() as u64));
        let network = network(world, kind, Expected::Rejected);
        deliveries.spawn(deliver(network, message.unwrap(), at, sender));
    }
    deliveries
}

fn lifecycle(world: &World, kind: Kind, order: &str) -> Lifecycle {
    let scenarios: &[Scenario] = match kind {
        Kind::Request => &[
            Scenario::Success,
            Scenario::ResolvedConflict,
            Scenario::Reversed,
            Scenario::Amended,
            Scenario::Expired,
        ],
        Kind::Payment => &[Scenario::Payment, Scenario::ReversedPayment, Scenario::PartialPayment],
        Kind::Subscription => &[Scenario::Subscription, Scenario::Renewal],
    };
    let lifecycle = Lifecycle::new(world.draw(|random| random.pick(scenarios)));
    let comes_back: &[&str] = match kind {
        Kind::Request => &[],
        Kind::Payment => &["NEW", "SUCCESS", "FAILED", "SUCCESS"],
        Kind::Subscription => &["INITIATED", "ACTIVE", "RENEWING", "ACTIVE", "CANCELLED"],
    };
    let lifecycle = lifecycle.client_order_id(order);
    if !comes_back.is_empty() && world.draw(|random| random.chance(300)) {
        return lifecycle.statuses(comes_back.iter().copied());
    }
    lifecycle
}

fn decode(kind: Kind, message: &Message) -> Record {
    fn record<T: Storable>(message: &Message) -> Record {
        Record::decode::<T>(message.body().clone()).unwrap()
    }
    match kind {
        Kind::Request => record::<PaymentRequest>(message),
        Kind::Payment => record::<Payment>(message),
        Kind::Subscription => record::<Subscription>(message),
    }
}

fn network(world: &Arc<World>, kind: Kind, expected: Expected) -> Network {
    Network { world: Arc::clone(world), kind, expected, body: Duration::ZERO }
}

/// Sends a message until it is acknowledged.
async fn deliver(mut network: Network, message: Message, at: u64, mut inqud: MockInqud) {
    let (chunk, pause) = network
        .world
        .draw(|random| (random.pick(&[0, 0, 100, 1000]), random.pick(&[0, 0, 20, 200])));
    if chunk > 0 {
        let frames = message.body().len().div_ceil(chunk) as u32;
        let pause = Duration::from_millis(pause);
        inqud = inqud.chunked(chunk).frame_delay(pause);
        network.body = pause * frames;
    }
    sleep(Duration::from_millis(at)).await;
    let world = Arc::clone(&network.world);
    // A rejection is not sent again.
    let is_authentic = matches!(network.expected, Expected::Stored { .. });
    if is_authentic {
        let waits = RETRIES.into_iter().chain([30; 60]).map(Duration::from_secs);
        inqud = inqud.retries(&waits.collect::<Vec<_>>());
    }
    let report = inqud.deliver([message], network).await;
    if is_authentic && !report.all_acknowledged() {
        world.violate("a message was never acknowledged".to_owned());
    }
}

/// Waits until all messages are delivered and everything is settled. An operator redrives dead letters.
async fn settle(world: &World, deliveries: &mut JoinSet<()>) {
    while deliveries.join_next().await.is_some() {}
    world.note(NOBODY, "all is delivered", NOBODY, 0);
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
            let letters = operator.inbox.dead(100).await.unwrap();
            operator.inbox.redrive(letters.iter().map(|it| it.key)).await.unwrap();
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
    let found: Vec<_> = page.entries.iter().map(|it| (it.state, &it.body)).collect();
    let expected: Vec<_> = ledger.rows.iter().map(|it| (it.state, &it.body)).collect();
    if found != expected {
        world.violate("the disk is not as it was left".to_owned());
    }
    world.check(ledger.counted(&stats));
    world.check(ledger.end());
}
