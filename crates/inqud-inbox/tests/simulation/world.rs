//! What a run consists of, and what everybody in it uses: the clock, the dice, the disk, the trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use inqud_inbox::{Memory, Record};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::api::Truth;
use crate::bug::Bug;
use crate::ledger::Ledger;
use crate::process::Process;
use crate::random::Random;
use crate::trace::{Event, Trace};

/// What can go wrong. How often it does is drawn for each run, and is often never, because rare faults are found best
/// where others do not hide them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    StoreFails,
    AnswerLost,
    StoreSlow,
    HandlerFails,
    HandlerHangs,
    HandlerPanics,
    HandlerSlow,
    EffectFails,
    Unreachable,
    ResponseLost,
    NetworkSlow,
    Crash,
    Restart,
    ApiFails,
    ApiLost,
    ApiOld,
    ApiSlow,
}

const FAULTS: usize = 17;
const RATES: [u64; 5] = [0, 0, 20, 100, 300];

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) bug: Option<Bug>,
    pub(crate) disk: Memory,
    pub(crate) max_attempts: u32,
    /// Whether the runners handle the newest notification only.
    pub(crate) newest_only: bool,
    /// Whether Inqud gives up notifications, and reconcilers look for them.
    pub(crate) reconciles: bool,
    /// The processes that accept calls.
    pub(crate) serving: Mutex<Vec<Arc<Process>>>,
    /// Notified at the first violation.
    pub(crate) violated: Notify,
    pub(crate) violation: Mutex<Option<String>>,
    pub(crate) trace: Mutex<Trace>,
    ledger: Mutex<Ledger>,
    /// What the API knows, in runs with reconcilers.
    truths: Mutex<Vec<Truth>>,
    random: Mutex<Random>,
    rates: [u64; FAULTS],
    is_healed: AtomicBool,
    began: Instant,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        let rates = std::array::from_fn(|_| random.pick(&RATES));
        Self {
            bug,
            disk: Memory::default(),
            max_attempts: random.pick(&[2, 4, 300]),
            newest_only: random.chance(300),
            reconciles: random.chance(300),
            serving: Mutex::default(),
            violated: Notify::new(),
            violation: Mutex::default(),
            trace: Mutex::default(),
            ledger: Mutex::default(),
            truths: Mutex::default(),
            random: Mutex::new(random),
            rates,
            is_healed: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(crate) fn truths(&self) -> MutexGuard<'_, Vec<Truth>> {
        self.truths.lock().unwrap()
    }

    /// A look has stored what it has fetched.
    pub(crate) fn fetched(&self, record: &Record, number: i64) -> Result<(), String> {
        let truths = self.truths();
        let truth = truths.iter().find(|it| (it.kind, &*it.id) == (record.kind, &*record.object));
        let truth = truth.ok_or("an object that Inqud does not know was stored")?;
        self.ledger().fetched(record, number, truth)
    }

    pub(crate) fn draw<R>(&self, draw: impl FnOnce(&mut Random) -> R) -> R {
        draw(&mut self.random.lock().unwrap())
    }

    /// Whether this goes wrong now.
    pub(crate) fn fault(&self, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        rate > 0 && !self.is_healed() && self.draw(|random| random.chance(rate))
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.is_healed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::SeqCst)
    }

    /// Waits for nothing, a few turns of other tasks or a few milliseconds: the order of tasks is random.
    pub(crate) async fn wobble(&self) {
        let (turns, millis) = self.draw(|random| match random.range(0, 8) {
            0..=3 => (0, 0),
            4 => (1, 0),
            5 => (random.range(2, 6), 0),
            6 => (0, random.range(1, 5)),
            _ => (0, random.range(1, 200)),
        });
        for _ in 0..turns {
            yield_now().await;
        }
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
    }

    /// Waits shortly, or for seconds if that goes wrong.
    pub(crate) async fn pause(&self, slow: Fault) {
        if self.fault(slow) {
            let millis = self.draw(|random| random.pick(&[500, 2_000, 4_000, 7_000, 12_000]));
            sleep(Duration::from_millis(millis)).await;
        }
        self.wobble().await;
    }

    pub(crate) fn note(&self, process: usize, what: &'static str, object: usize, detail: u64) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.trace.lock().unwrap().events.push(Event { at, process, what, object, detail });
    }

    /// Takes down the first violation. It ends the run.
    pub(crate) fn check<R>(&self, checked: Result<R, String>) -> Option<R> {
        checked.map_err(|violation| self.violate(violation)).ok()
    }

    pub(crate) fn violate(&self, violation: String) {
        self.violation.lock().unwrap().get_or_insert(violation);
        self.violated.notify_one();
    }
}
