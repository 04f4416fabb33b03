//! From one connection to many: what a second holds, how long the slowest wait, and what a
//! connection costs.

use std::io;

use crate::contender::{FLOOR, HAND, LAYER, find};
use crate::effort::Effort;
use crate::load::{self, Outcome};
use crate::process::Server;
use crate::rounds::{Rounds, Spread};
use crate::sample::{Call, LIMIT, USUAL};

/// The floor first: the others are compared with it.
pub const NAMES: [&str; 3] = [FLOOR, HAND, LAYER];

pub struct Connections {
    pub counts: &'static [usize],
    rounds: Rounds<Outcome>,
}

impl Connections {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let counts = effort.connections;
        let rounds = Rounds::run(1, effort.connection_rounds, counts.len() * NAMES.len(), |at| {
            let (count, name) = (counts[at / NAMES.len()], NAMES[at % NAMES.len()]);
            let calls = [Call::good(find(name).scheme, USUAL)];
            // A new one each time: memory that is given back is not given back to the system.
            let server = Server::of(name, LIMIT)?;
            let brief = Effort { window: effort.warm_up, ..*effort };
            load::run(&server, 1, &calls, &brief)?;
            load::run(&server, count, &calls, effort)
        })?;
        Ok(Self { counts, rounds })
    }

    pub fn median(&self, count: usize, name: usize, figure: impl Fn(&Outcome) -> f64) -> f64 {
        self.rounds.median(|row| figure(&row[count * NAMES.len() + name]))
    }

    /// Over the floor's with as many connections.
    pub fn ratio(&self, count: usize, name: usize, figure: impl Fn(&Outcome) -> f64) -> Spread {
        let floor = count * NAMES.len();
        self.rounds.spread(|row| figure(&row[floor + name]) / figure(&row[floor]))
    }
}
