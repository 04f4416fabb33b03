//! Calls over loopback HTTP: what each contender's server does in a second, and costs a call.

use std::io;
use std::time::Duration;

use crate::contender::{self, FLOOR};
use crate::effort::Effort;
use crate::foreign::{self, Foreign};
use crate::load::{self, Outcome};
use crate::process::Server;
use crate::rounds::{Rounds, Spread};
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
        let (mut present, mut missing) = (Vec::new(), Vec::new());
        for foreign in &foreign::ALL {
            match foreign.start() {
                Ok(_) => present.push(foreign),
                Err(error) => {
                    eprintln!("{} is left out: {error}", foreign.name);
                    missing.push(foreign.name);
                }
            }
        }
        let rounds = Rounds::of_starts(effort.starts, |start| {
            let rivals = started(&present, effort)?;
            Rounds::run(start, effort.rounds, rivals.len(), |at| {
                let (scheme, server) = &rivals[at];
                load::run(server, CONNECTIONS, &[Call::good(*scheme, USUAL)], effort)
            })
        })?;
        let names = contender::ALL.iter().map(|contender| contender.name);
        let names = names.chain(present.iter().map(|foreign| foreign.name)).collect();
        Ok(Self { names, missing, rounds })
    }

    pub fn rounds(&self) -> usize {
        self.rounds.count()
    }

    pub fn median(&self, name: &str, figure: impl Fn(&Outcome) -> f64) -> Option<f64> {
        let at = self.at(name)?;
        Some(self.rounds.median(|row| figure(&row[at])))
    }

    /// Throughput over the floor's in the same round.
    pub fn share(&self, name: &str) -> Option<Spread> {
        let (name, floor) = (self.at(name)?, self.at(FLOOR)?);
        Some(self.rounds.spread(|row| row[name].calls / row[floor].calls))
    }

    /// How many times as much CPU time a call costs one as it costs the other in the same round.
    pub fn cpu_ratio(&self, name: &str, to: &str) -> Option<Spread> {
        let (name, to) = (self.at(name)?, self.at(to)?);
        Some(self.rounds.spread(|row| row[name].cpu / row[to].cpu))
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }
}

/// A new server of each, warmed up, and its answers to good and forged calls checked.
fn started(foreign: &[&Foreign], effort: &Effort) -> io::Result<Vec<(Scheme, Server)>> {
    let mut rivals = Vec::new();
    for contender in &contender::ALL {
        let server = Server::of(contender.name, LIMIT)?;
        practise(contender.name, contender.scheme, &server, effort.window, effort)?;
        rivals.push((contender.scheme, server));
    }
    for foreign in foreign {
        let server = foreign.start()?;
        practise(foreign.name, Scheme::Inqud, &server, effort.practice, effort)?;
        rivals.push((Scheme::Inqud, server));
    }
    Ok(rivals)
}

fn practise(
    name: &str,
    scheme: Scheme,
    server: &Server,
    window: Duration,
    effort: &Effort,
) -> io::Result<()> {
    let both = [Call::good(scheme, USUAL), Call::forged(scheme, USUAL)];
    load::run(server, CONNECTIONS, &both, &Effort { window, ..*effort })
        .map(drop)
        .map_err(|error| io::Error::other(format!("{name}: {error}")))
}
