//! Nine of ten calls are forged: how many good ones get through in a second.

use std::io;

use crate::contender::{HAND, LAYER, find};
use crate::effort::Effort;
use crate::end_to_end::CONNECTIONS;
use crate::load::{self, Outcome};
use crate::process::Server;
use crate::rounds::{Rounds, Spread};
use crate::sample::{Call, LIMIT, USUAL};

/// The hand-written version first: this crate is compared with it.
pub const NAMES: [&str; 2] = [HAND, LAYER];

pub struct Flood(Rounds<Outcome>);

impl Flood {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let rounds = Rounds::of_starts(effort.starts, |start| {
            let mut servers = Vec::new();
            for name in NAMES {
                servers.push(Server::of(name, LIMIT)?);
            }
            Rounds::run(start, effort.flood_rounds, 2 * NAMES.len(), |at| {
                let scheme = find(NAMES[at / 2]).scheme;
                let mut calls = vec![Call::good(scheme, USUAL)];
                if at % 2 == 1 {
                    calls.extend((0..9).map(|_| Call::forged(scheme, USUAL)));
                }
                load::run(&servers[at / 2], CONNECTIONS, &calls, effort)
            })
        })?;
        Ok(Self(rounds))
    }

    /// With the flood over without.
    pub fn ratio(&self, name: usize, figure: impl Fn(&Outcome) -> f64) -> Spread {
        self.0.spread(|row| figure(&row[2 * name + 1]) / figure(&row[2 * name]))
    }

    /// Good calls a second in the flood, over those of the hand-written version.
    pub fn good_to_hand(&self, name: usize) -> Spread {
        self.0.spread(|row| row[2 * name + 1].good / row[1].good)
    }

    pub fn median(&self, name: usize, is_flooded: bool, figure: impl Fn(&Outcome) -> f64) -> f64 {
        self.0.median(|row| figure(&row[2 * name + usize::from(is_flooded)]))
    }
}
