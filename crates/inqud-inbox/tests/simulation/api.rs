//! The true state of each object, and an Inqud API that reports it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use inqud_inbox::{Fetch, Fetched, Storable};
use inqud_mock::Message;
use tokio::time::Instant;
use tower_inqud::OrderKey;

use crate::process::Life;
use crate::trace::NOBODY;
use crate::world::{Fault, World};

/// The states of an object, one after another.
#[derive(Debug)]
pub(crate) struct Truth {
    /// Its number in the ledger.
    pub(crate) object: usize,
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) states: Vec<State>,
    /// Whether the API has told the last one.
    pub(crate) told_last: bool,
    /// Whether the API has told an old one.
    pub(crate) told_old: bool,
    /// How often it was asked about the object since faults have ended.
    pub(crate) asked: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    /// From when on it is true.
    pub(crate) at: Instant,
    pub(crate) body: Bytes,
    pub(crate) order_key: OrderKey,
    /// Whether Inqud sends it.
    pub(crate) is_sent: bool,
}

impl Truth {
    pub(crate) fn new<'a>(
        object: usize,
        (kind, id): (&'static str, &str),
        states: impl Iterator<Item = (Instant, &'a Message, OrderKey, bool)>,
    ) -> Self {
        let state = |(at, message, order_key, is_sent): (_, &Message, _, _)| State {
            at,
            body: message.body().clone(),
            order_key,
            is_sent,
        };
        let states: Vec<_> = states.map(state).collect();
        let (told_last, told_old, asked) = (false, false, 0);
        let id = id.to_owned();
        Self { object, kind, id, states, told_last, told_old, asked }
    }

    /// The last state that an order key can stand for, and the first one: statuses can come back.
    pub(crate) fn places(&self, order_key: &OrderKey) -> Option<(usize, usize)> {
        let is_it = |it: &State| it.order_key.is_duplicate_of(order_key);
        Some((self.states.iter().position(is_it)?, self.states.iter().rposition(is_it)?))
    }

    /// Whether a state and the one before it have times.
    fn is_timed(&self, state: usize) -> bool {
        let states = &self.states[state.saturating_sub(1)..=state];
        state > 0 && states.iter().all(|it| it.order_key.last_update().is_some())
    }

    /// Whether Inqud has given up all of its notifications.
    pub(crate) fn is_lost(&self) -> bool {
        self.states.iter().all(|it| !it.is_sent)
    }
}

/// The API, as one process sees it.
pub(crate) struct Api {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl<T: Storable> Fetch<T> for Api {
    async fn fetch(&self, id: &str) -> Fetched {
        let world = &self.world;
        let Some(at) = world.truths().iter().position(|it| (it.kind, &*it.id) == (T::KIND, id))
        else {
            world.violate(format!("the API was asked about {id}"));
            return Fetched::Missing;
        };
        let object = world.truths()[at].object;
        world.truths()[at].asked += usize::from(world.is_healed());
        world.pause(Fault::ApiSlow).await;
        if world.fault(Fault::ApiFails) {
            return self.later(object, "the API fails");
        }
        let (told, last) = {
            let truth = &world.truths()[at];
            let now = Instant::now();
            (truth.states.iter().rposition(|it| it.at <= now), truth.states.len() - 1)
        };
        let Some(mut told) = told else {
            world.note(self.life.process, "the API knows no object", object, 0);
            return Fetched::Missing;
        };
        // Without times, nobody can tell that an answer is old.
        let is_timed = world.truths()[at].is_timed(told);
        if is_timed && world.fault(Fault::ApiOld) {
            world.note(self.life.process, "the API tells an old state", object, told as u64);
            told -= 1;
            world.truths()[at].told_old = true;
        }
        // The answer is as old as the way back is long.
        world.pause(Fault::ApiSlow).await;
        self.life.lives().await;
        if world.fault(Fault::ApiLost) {
            return self.later(object, "the answer of the API is lost");
        }
        world.note(self.life.process, "the API tells", object, told as u64);
        let truth = &mut world.truths()[at];
        truth.told_last |= told == last;
        Fetched::Found(truth.states[told].body.clone())
    }
}

impl Api {
    fn later(&self, object: usize, what: &'static str) -> Fetched {
        self.world.note(self.life.process, what, object, NOBODY as u64);
        let after = self.world.draw(|random| random.pick(&[None, Some(3), Some(20)]));
        Fetched::Later { after: after.map(Duration::from_secs), reason: what.to_owned() }
    }
}
