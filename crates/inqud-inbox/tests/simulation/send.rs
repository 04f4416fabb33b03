//! What Inqud sends, and what somebody else sends.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use inqud_inbox::{Record, Storable};
use inqud_mock::{Fault as SentFault, Lifecycle, Message, MockInqud, Scenario};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::{Payment, PaymentRequest, Subscription};

use crate::api::Truth;
use crate::network::{Expected, Network};
use crate::process::{Kind, RETIRED_SECRET, SECRET};
use crate::world::World;

static INQUD: LazyLock<MockInqud> =
    LazyLock::new(|| MockInqud::new(SECRET.clone(), "/webhooks/inqud".parse().unwrap()).seed(0));

/// Somebody with a secret that was rotated out.
static THIEF: LazyLock<MockInqud> = LazyLock::new(|| {
    MockInqud::new(RETIRED_SECRET.clone(), "/webhooks/inqud".parse().unwrap()).seed(0)
});

/// How long Inqud waits before each retry. Shorter than in truth, but as often.
const RETRIES: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// The lifecycles that Inqud sends, and what somebody else sends.
pub(crate) fn send(world: &Arc<World>, kinds: &[Kind], length: Duration) -> JoinSet<()> {
    let mut deliveries = JoinSet::new();
    for order in 0..world.draw(|random| random.range(1, 5)) {
        let kind = world.draw(|random| random.pick(kinds));
        let lifecycle = lifecycle(world, kind, &format!("order-{order}"));
        let is_in_order = world.draw(|random| random.chance(300));
        let messages: Vec<_> = lifecycle.into_iter().collect();
        let states = states(world, kind, &messages, length);
        if world.reconciles {
            let object = states[0].record.object.to_string();
            deliveries.spawn(expect(Arc::clone(world), kind, object));
        }
        for (step, (message, State { from, record, is_sent })) in
            messages.iter().zip(&states).enumerate()
        {
            let object = {
                let mut ledger = world.ledger();
                ledger.authentic.insert(message.body().clone());
                ledger.object(record.kind, &record.object)
            };
            let expected = Expected::Stored { object, order_key: record.order_key.clone() };
            for _ in 0..if *is_sent { world.draw(|random| random.range(1, 4)) } else { 0 } {
                let mut at = world.draw(|random| random.range(*from, length.as_millis() as u64));
                if is_in_order {
                    at = length.as_millis() as u64 * step as u64 / messages.len() as u64;
                    at = at.max(*from);
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

/// A state of an object.
struct State {
    /// From when on it is true, in milliseconds.
    from: u64,
    record: Record,
    /// Whether Inqud sends it.
    is_sent: bool,
}

/// The states of an object. With reconcilers, they follow one another in the first half of the run, and Inqud gives up some or
/// all of their notifications.
fn states(world: &World, kind: Kind, messages: &[Message], length: Duration) -> Vec<State> {
    let half = length.as_millis() as u64 / 2;
    let mut moments = vec![0; messages.len()];
    let mut lost = 0;
    if world.reconciles {
        world.draw(|random| {
            moments.iter_mut().for_each(|at| *at = random.range(0, half));
            lost = random.pick(&[0, 300, 1000]);
        });
        moments.sort_unstable();
    }
    let states = moments.into_iter().zip(messages).map(|(from, message)| {
        let is_sent = lost == 0 || !world.draw(|random| random.chance(lost));
        State { from, record: decode(kind, message), is_sent }
    });
    let states: Vec<_> = states.collect();
    if world.reconciles {
        let Record { kind, object, .. } = &states[0].record;
        let number = world.ledger().object(kind, object);
        let now = Instant::now();
        let true_states = states.iter().zip(messages).map(|(state, message)| {
            let at = now + Duration::from_millis(state.from);
            (at, message, state.record.order_key.clone(), state.is_sent)
        });
        let truth = Truth::new(number, (kind, object), true_states);
        world.truths().push(truth);
    }
    states
}

/// The merchant creates an order.
async fn expect(world: Arc<World>, kind: Kind, object: String) {
    loop {
        let process = world.serving.lock().unwrap().first().cloned();
        if let Some(process) = process {
            // If the process ends, it never answers.
            let expected = timeout(Duration::from_secs(20), process.expect(kind, &object)).await;
            if expected.is_ok_and(|it| it.is_ok()) {
                return;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
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
