//! Breadth-first search of all states.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::pack::Packed;
use crate::properties::{Broken, Ends, broken, broken_watch, is_settled};
use crate::state::{Limits, State};
use crate::step::Action;
use crate::store::Model;

/// The most states of a search, of about 180 bytes each.
const MOST: usize = 58_000_000;

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// The length of the longest of the shortest ways to a state.
    pub(crate) depth: u32,
    /// States in which nothing is left to do.
    pub(crate) ends: usize,
    pub(crate) violation: Option<Violation>,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) property: Broken,
    pub(crate) trace: Vec<Action>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "violated: {}", self.property)?;
        self.trace.iter().try_for_each(|action| writeln!(f, "  {action}"))
    }
}

/// Visits all states, until a property is violated.
///
/// That everything is settled in the end is checked like this: what must happen sooner or later never leads in a circle,
/// and where nothing must happen any more, everything is settled. Faults are limited, so they end.
pub(crate) fn search(model: &Model, limits: Limits) -> Search {
    let first = State::new(&model.world, limits);
    let mut all = All { next: [first].into(), ways: vec![(0, None, 0)], known: Map::default() };
    all.known.insert(first.pack(), 0);
    let mut search = Search { states: 0, transitions: 0, depth: 0, ends: 0, violation: None };
    let (mut ends, mut actions) = (Ends::default(), Vec::new());
    // What must happen, from which state to which.
    let mut forward: Vec<(u32, u32)> = Vec::new();
    let mut numbers = 0_u32..;
    while let Some(state) = all.next.pop_front() {
        assert!(all.ways.len() < MOST, "more states than the memory may hold");
        let from = numbers.next().unwrap();
        model.actions(&state, &mut actions);
        if let Some(property) = model.forgets_replay(&state) {
            search.violation = Some(all.violation(property, from, None));
            break;
        }
        let goes_on = actions.iter().any(|(_, is_forward)| *is_forward);
        if !goes_on && !is_settled(&model.world, &state) {
            search.violation = Some(all.violation("everything is settled in the end", from, None));
            break;
        }
        if let Some(property) = broken_watch(&model.world, &state).filter(|_| !goes_on) {
            search.violation = Some(all.violation(property, from, None));
            break;
        }
        search.ends += usize::from(!goes_on);
        for (action, is_forward) in &actions {
            search.transitions += 1;
            let broken = match model.apply(&state, *action) {
                Err(property) => Some(property),
                Ok(next) => {
                    let (to, is_new) = all.add(next, from, *action);
                    if *is_forward {
                        forward.push((from, to));
                    }
                    if is_new { broken(&model.world, &next, &mut ends) } else { None }
                }
            };
            if let (Some(property), None) = (broken, &search.violation) {
                search.violation = Some(all.violation(property, from, Some(*action)));
            }
        }
        if search.violation.is_some() {
            break;
        }
    }
    search.states = all.ways.len();
    search.depth = all.ways.last().unwrap().2;
    if search.violation.is_none()
        && let Some(state) = in_a_circle(all.ways.len(), &forward)
    {
        search.violation = Some(all.violation("nothing goes on in a circle", state, None));
    }
    search
}

type Map = HashMap<Packed, u32, BuildHasherDefault<Mix>>;

struct All {
    /// Those that were not visited yet. Of the others, only the bits are kept.
    next: VecDeque<State>,
    /// From which state, by which action, after how many.
    ways: Vec<(u32, Option<Action>, u32)>,
    known: Map,
}

impl All {
    /// Returns its number, and whether it is new.
    fn add(&mut self, state: State, from: u32, action: Action) -> (u32, bool) {
        let number = u32::try_from(self.ways.len()).unwrap();
        let known = *self.known.entry(state.pack()).or_insert(number);
        if known == number {
            let depth = self.ways[from as usize].2 + 1;
            self.next.push_back(state);
            self.ways.push((from, Some(action), depth));
        }
        (known, known == number)
    }

    fn violation(&self, property: Broken, mut state: u32, last: Option<Action>) -> Violation {
        let mut trace: Vec<_> = last.into_iter().collect();
        while let (from, Some(action), _) = self.ways[state as usize] {
            trace.push(action);
            state = from;
        }
        trace.reverse();
        Violation { property, trace }
    }
}

/// Returns a state that leads back to itself: what is left after all states have been removed, again and again, that no
/// other leads to.
fn in_a_circle(states: usize, forward: &[(u32, u32)]) -> Option<u32> {
    let mut into = vec![0_u32; states];
    let mut starts = vec![0_usize; states + 1];
    for (from, to) in forward {
        into[*to as usize] += 1;
        starts[*from as usize + 1] += 1;
    }
    for at in 0..states {
        starts[at + 1] += starts[at];
    }
    // The edges are sorted by where they come from, because the search went through the states in order.
    let mut free: Vec<u32> =
        (0..).zip(&into).filter(|(_, into)| **into == 0).map(|(at, _)| at).collect();
    while let Some(at) = free.pop() {
        for (_, to) in &forward[starts[at as usize]..starts[at as usize + 1]] {
            into[*to as usize] -= 1;
            if into[*to as usize] == 0 {
                free.push(*to);
            }
        }
    }
    (0..).zip(&into).find(|(_, into)| **into > 0).map(|(at, _)| at)
}

/// A hash that takes little time.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks::<8>().0 {
            self.0 = (self.0.rotate_left(5) ^ u64::from_ne_bytes(*word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}
