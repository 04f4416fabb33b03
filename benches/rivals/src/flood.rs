//! Nine of ten calls are forged: how many good ones get through in a second.

use std::io;

use crate::contender::{HAND, LAYER, find};
use crate::effort::Effort;
use crate::end_to_end::CONNECTIONS;
use crate::load::{self, Outcome};
use crate::process::Server;
use crate::rounds::Rounds;
use crate::sample::{Call, LIMIT, USUAL};

pub const NAMES: [&str; 2] = [HAND, LAYER];

pub struct Flood(Rounds<Outcome>);

impl Flood {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let mut servers = Vec::new();
        for name in NAMES {
            servers.push(Server::of(name, LIMIT)?);
        }
        let rounds = Rounds::run(effort.rounds, 2 * NAMES.len(), |at| {
            let scheme = find(NAMES[at / 2]).scheme;
            let mut calls = vec![Call::good(scheme, USUAL)];
            if at % 2 == 1 {
                calls.extend((0..9).map(|_| Call::forged(scheme, USUAL)));
            }
            load::run(&servers[at / 2], CONNECTIONS, &calls, effort)
        })?;
        Ok(Self(rounds))
    }

    pub fn median(&self, name: usize, is_flooded: bool, figure: impl Fn(&Outcome) -> f64) -> f64 {
        self.0.median(|row| figure(&row[2 * name + usize::from(is_flooded)]))
    }
}
