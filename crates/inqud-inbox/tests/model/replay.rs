//! Replays what the model does as calls of a real store, and compares all that can be seen of both.

mod look;
mod upkeep;

use std::time::Duration;

use inqud_inbox::{
    Claim, Claimed, Entry, Filter, Inbox, Inserted, Key, Outcome, Record, Settled, Settlement,
    Store, WatchList,
};
use tower_inqud::{Dedup, Verdict};

use self::look::Looking;
use crate::state::{Ending, Kept, Limits, Object, Receiver, Row, State, Ticket};
use crate::step::Action;
use crate::store::{self, Model};

/// Longer than all waits of a path together.
const LEASE: Duration = Duration::from_secs(100_000_000);
const WAIT: Duration = Duration::from_secs(3600);
const WINDOW: Duration = tower_inqud::contract::DUPLICATE_WINDOW;

/// One path of the model in a store. Its notifications have a kind of their own, so that it does not see others.
pub(crate) struct Replay<'a, S: Store> {
    model: &'a Model,
    inbox: &'a Inbox<S>,
    kind: &'static str,
    state: State,
    /// The keys of the rows of each object.
    keys: [Vec<Key>; 2],
    /// What the runners hold.
    held: [Option<Claimed>; 2],
    path: Vec<Action>,
    looking: Option<Looking>,
}

impl<'a, S: Store + WatchList> Replay<'a, S> {
    pub(crate) fn new(
        model: &'a Model,
        inbox: &'a Inbox<S>,
        number: usize,
        limits: Limits,
    ) -> Self {
        // A reconciler knows the kinds of its types only.
        let kind = match model.world.is_watched {
            true => model.world.notes[0].record.kind,
            false => Box::leak(format!("replay-{number}").into_boxed_str()),
        };
        let state = State::new(&model.world, limits);
        Self {
            model,
            inbox,
            kind,
            state,
            keys: Default::default(),
            held: Default::default(),
            path: Vec::new(),
            looking: None,
        }
    }

    /// Does what `choose` chooses from, until it chooses nothing. The error says where the store and the model differ.
    pub(crate) async fn run(
        mut self,
        can_wake: bool,
        mut choose: impl FnMut(&[Action]) -> Option<Action>,
    ) -> Result<(), String> {
        let mut actions = Vec::new();
        if self.model.world.is_watched {
            self.expect().await;
        }
        loop {
            self.model.actions(&self.state, &mut actions);
            let actions: Vec<_> = actions.iter().map(|(action, _)| *action).collect();
            let is_possible = |it: &Action| can_wake || self.is_possible_now(*it);
            let actions: Vec<_> = actions.into_iter().filter(is_possible).collect();
            let Some(action) = choose(&actions) else { break };
            self.path.push(action);
            let done = async {
                self.step(action, can_wake).await?;
                // The others are no calls of the store.
                let is_call = !matches!(
                    action,
                    Action::Deliver { .. }
                        | Action::Answer { .. }
                        | Action::LoseReceiver { .. }
                        | Action::Crash { .. }
                );
                if is_call { self.compare().await } else { Ok(()) }
            };
            let done = done.await;
            done.map_err(|error| self.told(&error))?;
        }
        let done = async {
            self.compare_lists().await?;
            self.compare_watch_list().await
        };
        done.await.map_err(|error| self.told(&error))
    }

    fn told(&self, error: &str) -> String {
        let path: String = self.path.iter().map(|action| format!("  {action}\n")).collect();
        let mut rows = String::new();
        for row in self.state.objects.iter().flat_map(Object::rows) {
            let Row { note, kept, verdict, .. } = *row;
            rows += &format!("  {}: {kept:?} {verdict:?}\n", self.model.world.note(note).name);
        }
        format!("{}: {error}, after\n{path}with\n{rows}", self.model.world.name)
    }

    async fn step(&mut self, action: Action, can_wake: bool) -> Result<(), String> {
        let store = self.inbox.store();
        let mut action = action;
        match action {
            Action::Deliver { .. } | Action::Answer { .. } | Action::LoseReceiver { .. } => {}
            Action::Commit { receiver } => self.insert(&[receiver]).await?,
            Action::CommitBoth => self.insert(&[0, 1]).await?,
            Action::Claim { is_suspect, lapses, .. } => {
                let lease = if lapses { Duration::ZERO } else { LEASE };
                let claim = self.claim(1, lease).with_suspect(is_suspect);
                let claimed = store.claim(claim).await.unwrap();
                let [claimed] = <[_; 1]>::try_from(claimed).map_err(|_| "nothing was claimed")?;
                let object = usize::from(*claimed.ticket.object != *self.id(0));
                if self.model.due(&self.state, object) != Some(is_suspect) {
                    return Err(format!("{} was claimed", claimed.ticket.object));
                }
                // The store decides which one.
                action = Action::Claim { object: object as u8, is_suspect, lapses };
                let runner = self.state.runners.iter().position(Option::is_none).unwrap();
                self.held[runner] = Some(claimed);
            }
            Action::Settle { runner, ending } => {
                self.settle(runner, ending).await?;
                self.held[usize::from(runner)] = None;
            }
            Action::LoseAnswer { runner, ending } => self.settle(runner, ending).await?,
            Action::Crash { runner } => self.held[usize::from(runner)] = None,
            Action::Wake => tokio::time::advance(WAIT).await,
            Action::Redrive { object, row } => {
                let key = self.keys[usize::from(object)][usize::from(row)];
                same("redriven", store.redrive([key]).await.unwrap(), 1)?;
            }
            Action::Discard { object, row } => {
                let key = self.keys[usize::from(object)][usize::from(row)];
                same("discarded", store.discard([key]).await.unwrap(), 1)?;
            }
            Action::Reprocess { object, row } => self.reprocess(object, row).await?,
            Action::Age if can_wake => tokio::time::advance(WINDOW).await,
            Action::Age => {}
            Action::Happen | Action::GiveUp { .. } => {}
            Action::Enrol => self.enrol().await,
            Action::BeginLook { lapses } => self.begin_look(lapses).await?,
            // The store hears of it when the look goes on.
            Action::Fetch => {}
            Action::FailFetch => self.fail_look().await?,
            Action::StoreLook => self.store_look().await?,
            Action::EndLook => self.end_look().await,
            Action::CrashLook => self.crash_look(),
            Action::Sweep(sweep) => {
                self.sweep(sweep, if can_wake { WINDOW } else { Duration::ZERO }).await?;
            }
        }
        self.state = self.model.apply(&self.state, action).map_err(str::to_owned)?;
        match action {
            Action::Claim { object, .. } => self.compare_claim(object),
            Action::Reprocess { .. } | Action::Sweep(_) => self.compare_lists().await,
            _ => Ok(()),
        }
    }

    fn claim(&self, count: usize, lease: Duration) -> Claim {
        Claim::new(self.kind, count, lease).newest_first(self.model.world.newest_only)
    }

    /// The id of an object. Empty if the world does not have it.
    fn id(&self, object: usize) -> &str {
        let note = self.model.world.notes.iter().find(|it| it.object == object);
        note.map_or("", |it| &it.record.object)
    }

    fn record(&self, note: u8) -> Record {
        let record = self.model.world.note(note).record.clone();
        let key = Key::new(self.kind, &record.object, &record.order_key);
        Record { kind: self.kind, key, ..record }
    }

    async fn insert(&mut self, receivers: &[u8]) -> Result<(), String> {
        let notes =
            receivers.iter().map(|receiver| match self.state.receivers[usize::from(*receiver)] {
                Receiver::Holds(note) => note,
                _ => unreachable!(),
            });
        let notes: Vec<_> = notes.collect();
        let records = notes.iter().map(|note| self.record(*note)).collect();
        let inserted = self.inbox.store().insert(records).await.unwrap();
        let mut state = self.state;
        let mut expected = Vec::new();
        for note in notes {
            let object = self.model.world.note(note).object;
            let key = self.next_key(&state.objects[object], note);
            let inserted = self.model.insert(&mut state, note)?;
            if inserted != store::Inserted::Duplicate {
                self.keys[object].push(key);
            }
            expected.push(match inserted {
                store::Inserted::New => Inserted::New,
                store::Inserted::Duplicate => Inserted::Duplicate,
                store::Inserted::Review => Inserted::Review,
            });
        }
        same("inserted", inserted, expected)
    }

    /// The key of the next row.
    fn next_key(&self, object: &Object, note: u8) -> Key {
        let record = self.record(note);
        let keys = self.known_keys(self.model.world.note(note).object, object);
        let counted = Model::known(object).filter(|row| !row.is_discarded);
        let counted = counted.map(|row| self.model.world.note(row.note).order_key());
        let mut key = match (record.order_key.dedup(counted), keys.last()) {
            (Dedup::New, _) | (_, None) => record.key,
            (_, Some(last)) => record.key_after(*last),
        };
        while keys.contains(&key) {
            key = record.key_after(key);
        }
        key
    }

    async fn settle(&mut self, runner: u8, ending: Ending) -> Result<(), String> {
        let ticket = self.held[usize::from(runner)].as_ref().unwrap().ticket.clone();
        let error = "planned".to_owned();
        let outcome = match ending {
            Ending::Done => Outcome::Done(Vec::new()),
            Ending::Skipped => Outcome::Skipped,
            Ending::Review => Outcome::Review,
            Ending::Retry { waits: true } => Outcome::Retry { after: WAIT, error },
            Ending::Retry { waits: false } => Outcome::Retry { after: Duration::ZERO, error },
            Ending::Dead => Outcome::Dead { error },
        };
        let mut settlement = Settlement { ticket, outcome };
        let settled = self.inbox.store().settle(&mut settlement).await.unwrap();
        let ticket = self.state.runners[usize::from(runner)].unwrap();
        let expected = match self.model.settle(&mut self.state.clone(), &ticket, ending)? {
            store::Settled::Done { next_is_due } => Settled::Done { next_is_due },
            store::Settled::LeaseExpired => Settled::LeaseExpired,
        };
        same("settled", settled, expected)
    }

    fn compare_claim(&self, object: u8) -> Result<(), String> {
        let of =
            |(ticket, held): (&Option<Ticket>, &Option<Claimed>)| Some(((*ticket)?, held.clone()?));
        let mut all = self.state.runners.iter().zip(&self.held).filter_map(of);
        let claimed =
            all.find(|(ticket, _)| ticket.object == usize::from(object) && ticket.is_valid);
        let (ticket, claimed) = claimed.ok_or("the model claims nothing")?;
        let it = &self.state.objects[ticket.object];
        let row = it.row(ticket.row);
        let key = self.keys[ticket.object][usize::from(ticket.row)];
        same("claimed", claimed.key, key)?;
        same("body", &claimed.body, &self.model.world.note(row.note).record.body)?;
        same("verdict", claimed.ticket.verdict, ticket.verdict)?;
        same("processed", claimed.ticket.processed.is_some(), ticket.seen.is_some())?;
        same("failures", claimed.failures, u32::from(row.failures))?;
        same("crashes", claimed.crashes, u32::from(it.crashes))
    }

    /// Compares the counts, and what can be claimed.
    async fn compare(&self) -> Result<(), String> {
        let stats = self.inbox.store().stats().await.unwrap();
        let kind = stats.kinds.into_iter().find(|it| it.kind == self.kind).unwrap_or_default();
        let count = |kept: Kept| {
            let rows = self.state.objects.iter().flat_map(Object::rows);
            rows.filter(|row| row.kept == kept && !row.is_deleted).count() as u64
        };
        let counts = [kind.backlog, kind.skipped, kind.dead, kind.review];
        same(
            "backlog, skipped, dead, review",
            counts,
            [Kept::Open, Kept::Skipped, Kept::Dead, Kept::Review].map(count),
        )?;
        let due = [0, 1].map(|object| self.model.due(&self.state, object));
        let has_suspect = self.inbox.store().has_suspect(self.kind).await.unwrap();
        same("has a suspect", has_suspect, due.contains(&Some(true)))?;
        self.compare_looks().await?;
        // A claim that finds nothing changes nothing.
        for with_suspect in [false, true] {
            if !due.contains(&Some(false)) && (!with_suspect || !due.contains(&Some(true))) {
                let claim = self.claim(9, LEASE).with_suspect(with_suspect);
                let claimed = self.inbox.store().claim(claim).await.unwrap();
                same("claimed too much", claimed.iter().map(|it| it.key).collect(), Vec::new())?;
            }
        }
        Ok(())
    }

    async fn compare_lists(&self) -> Result<(), String> {
        let states =
            [inqud_inbox::State::Dead, inqud_inbox::State::Review, inqud_inbox::State::Skipped]
                .map(Filter::from);
        let verdicts = [Verdict::Amended, Verdict::Unordered].map(Filter::from);
        for (nth, filter) in states.into_iter().chain(verdicts).enumerate() {
            let page = self.inbox.store().list(&filter, 1_000_000).await.unwrap();
            assert_eq!(page.next, None);
            let is_in = |row: &Row| match nth {
                _ if row.is_deleted => false,
                0 => row.kept == Kept::Dead,
                1 => row.kept == Kept::Review,
                2 => row.kept == Kept::Skipped,
                3 => row.kept == Kept::Done && row.verdict == Some(Verdict::Amended),
                _ => row.kept == Kept::Done && row.verdict == Some(Verdict::Unordered),
            };
            for (at, object) in self.state.objects.iter().enumerate() {
                let its = |it: &&Entry| it.kind == self.kind && it.object == self.id(at);
                let listed = page.entries.iter().filter(its).map(|it| (it.key, it.attempts));
                let rows = self.keys[at].iter().zip(object.rows()).filter(|(_, row)| is_in(row));
                let rows = rows.map(|(key, row)| (*key, u32::from(row.failures)));
                same(&format!("{filter:?}"), listed.collect::<Vec<_>>(), rows.collect())?;
            }
        }
        self.compare_rows().await
    }
}

fn same<T: std::fmt::Debug + PartialEq>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: the store says {found:?}, the model {expected:?}"))
}

/// Chooses at random, from a seed.
pub(crate) fn at_random(seed: u64, steps: usize) -> impl FnMut(&[Action]) -> Option<Action> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut steps = 0..steps;
    move |actions| {
        steps.next()?;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = (random >> 11) as usize % actions.len().max(1);
        actions.get(at).copied()
    }
}

/// All paths of a length after a beginning, one after the other.
pub(crate) struct Paths {
    beginning: Vec<Action>,
    length: usize,
    /// The choice at each step, and among how many.
    choices: Vec<(usize, usize)>,
    is_over: bool,
}

impl Paths {
    pub(crate) fn new(beginning: Vec<Action>, length: usize) -> Self {
        Self { beginning, length, choices: Vec::new(), is_over: false }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn choose(&mut self) -> impl FnMut(&[Action]) -> Option<Action> + '_ {
        let Self { beginning, length, choices, .. } = self;
        let (mut beginning, length) = (beginning.iter(), *length);
        let mut step = 0;
        move |actions: &[Action]| {
            if let Some(action) = beginning.next() {
                return Some(*action);
            }
            if step == length || actions.is_empty() {
                return None;
            }
            match choices.get_mut(step) {
                Some((_, among)) => *among = actions.len(),
                None => choices.push((0, actions.len())),
            }
            step += 1;
            // Fewer, if the store has decided otherwise than in the path before.
            actions.get(choices[step - 1].0).copied()
        }
    }

    /// Goes on to the next path.
    pub(crate) fn advance(&mut self) {
        while let Some((choice, among)) = self.choices.pop() {
            if choice + 1 < among {
                self.choices.push((choice + 1, among));
                return;
            }
        }
        self.is_over = true;
    }
}
