//! How much is run.

use std::time::Duration;

pub struct Effort {
    /// In one process.
    pub calm_rounds: usize,
    /// Between two processes.
    pub rounds: usize,
    pub window: Duration,
    pub warm_up: Duration,
    /// So many windows before all rounds, for those that compile while they run.
    pub practice: usize,
    pub connections: &'static [usize],
    pub stalled: usize,
}

/// About ten minutes.
pub const FULL: Effort = Effort {
    calm_rounds: 301,
    rounds: 11,
    window: Duration::from_secs(1),
    warm_up: Duration::from_millis(300),
    practice: 3,
    connections: &[1, 4, 16, 64, 256, 1024],
    stalled: 512,
};

/// Only the answers count.
pub const SMOKE: Effort = Effort {
    calm_rounds: 3,
    rounds: 1,
    window: Duration::from_millis(100),
    warm_up: Duration::from_millis(50),
    practice: 1,
    connections: &[1, 64],
    stalled: 16,
};
