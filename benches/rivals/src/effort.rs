//! How much is run.

use std::time::Duration;

pub struct Effort {
    /// No more runs than this, whether or not the last two agree.
    pub most_runs: usize,
    /// How often all processes are started afresh in a run. Medians of one start differ by 2 to 12 %
    /// from those of the next, so that more starts help more than more rounds.
    pub starts: usize,
    /// In one process, for each start.
    pub calm_rounds: usize,
    /// End to end, for each start.
    pub rounds: usize,
    /// Of the forged flood, for each start.
    pub flood_rounds: usize,
    /// Of each number of connections, in a run.
    pub connection_rounds: usize,
    /// Of stalled senders, in a run.
    pub stalled_rounds: usize,
    /// Short, so that all contenders of a round run close together.
    pub window: Duration,
    pub warm_up: Duration,
    /// Before all rounds of a start, for those that compile while they run.
    pub practice: Duration,
    pub connections: &'static [usize],
    pub stalled: usize,
}

/// About twelve minutes a run.
pub const FULL: Effort = Effort {
    most_runs: 4,
    starts: 10,
    calm_rounds: 61,
    rounds: 6,
    flood_rounds: 4,
    connection_rounds: 40,
    stalled_rounds: 3,
    window: Duration::from_millis(250),
    warm_up: Duration::from_millis(100),
    practice: Duration::from_secs(4),
    connections: &[16, 256, 1024],
    stalled: 512,
};

/// About three minutes a run: to see that all of it works.
pub const TRIAL: Effort = Effort {
    most_runs: 2,
    starts: 3,
    calm_rounds: 21,
    rounds: 6,
    flood_rounds: 6,
    connection_rounds: 4,
    stalled_rounds: 1,
    connections: &[16, 256],
    ..FULL
};

/// Only the answers count.
pub const SMOKE: Effort = Effort {
    most_runs: 1,
    starts: 1,
    calm_rounds: 3,
    rounds: 1,
    flood_rounds: 1,
    connection_rounds: 1,
    stalled_rounds: 1,
    window: Duration::from_millis(100),
    warm_up: Duration::from_millis(50),
    practice: Duration::from_millis(100),
    connections: &[1, 64],
    stalled: 16,
};
