//! What happened in a run, in its order.

use std::fmt;

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    /// Milliseconds since the start of the run.
    pub(crate) at: u64,
    /// The process, or [`NOBODY`].
    pub(crate) process: usize,
    pub(crate) what: &'static str,
    /// The object, or [`NOBODY`].
    pub(crate) object: usize,
    /// What else is known: a number of records or of a row, a status.
    pub(crate) detail: u64,
}

pub(crate) const NOBODY: usize = usize::MAX;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  ", self.at as f64 / 1000.0)?;
        match self.process {
            NOBODY => write!(f, "         ")?,
            process => write!(f, "process {process}")?,
        }
        write!(f, "  {:<34}", self.what)?;
        if self.object != NOBODY {
            write!(f, " object {}", self.object)?;
        }
        write!(f, " ({})", self.detail)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
}

impl Trace {
    /// A hash of all that happened.
    pub(crate) fn hash(&self) -> u64 {
        self.events.iter().fold(FNV, |hash, event| {
            let hash = event.shape(hash);
            mix(mix(hash, event.at), event.detail)
        })
    }

    /// A hash of who did what to which object in which order, without times and data: the interleaving.
    pub(crate) fn shape(&self) -> u64 {
        self.events.iter().fold(FNV, |hash, event| event.shape(hash))
    }
}

impl Event {
    fn shape(&self, hash: u64) -> u64 {
        let hash = mix(mix(hash, self.process as u64), self.object as u64);
        self.what.bytes().fold(hash, |hash, byte| mix(hash, u64::from(byte)))
    }
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
}
