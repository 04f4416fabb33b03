//! Calls over loopback HTTP: what each contender's server does in a second, and costs a call.

use std::io;

use crate::contender;
use crate::effort::Effort;
use crate::foreign;
use crate::load::{self, Outcome};
use crate::process::Server;
use crate::rounds::Rounds;
use crate::sample::{Call, LIMIT, Scheme, USUAL};

pub const CONNECTIONS: usize = 64;

pub struct EndToEnd {
    pub names: Vec<&'static str>,
    /// Those that could not be started here.
    pub missing: Vec<&'static str>,
    rounds: Rounds<Outcome>,
}

impl EndToEnd {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let (mut rivals, mut missing) = (Vec::new(), Vec::new());
        for contender in &contender::ALL {
            let server = Server::of(contender.name, LIMIT)?;
            rivals.push((contender.name, contender.scheme, server));
        }
        for foreign in &foreign::ALL {
            match foreign.start() {
                Ok(server) => rivals.push((foreign.name, Scheme::Inqud, server)),
                Err(error) => {
                    eprintln!("{} is left out: {error}", foreign.name);
                    missing.push(foreign.name);
                }
            }
        }
        for (name, scheme, server) in &rivals {
            let both = [Call::good(*scheme, USUAL), Call::forged(*scheme, USUAL)];
            for _ in 0..effort.practice {
                load::run(server, CONNECTIONS, &both, effort)
                    .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
            }
        }
        let rounds = Rounds::run(effort.rounds, rivals.len(), |at| {
            let (_, scheme, server) = &rivals[at];
            load::run(server, CONNECTIONS, &[Call::good(*scheme, USUAL)], effort)
        })?;
        let names = rivals.iter().map(|(name, ..)| *name).collect();
        Ok(Self { names, missing, rounds })
    }

    pub fn median(&self, name: &str, figure: impl Fn(&Outcome) -> f64) -> Option<f64> {
        let at = self.at(name)?;
        Some(self.rounds.median(|row| figure(&row[at])))
    }

    /// How many times as much CPU time a call costs one as it costs the other.
    pub fn cpu_ratio(&self, name: &str, to: &str) -> Option<f64> {
        let (name, to) = (self.at(name)?, self.at(to)?);
        Some(self.rounds.median(|row| row[name].cpu / row[to].cpu))
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }
}
