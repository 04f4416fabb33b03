//! What the mock plays for an order.

use std::time::Duration;

use inqud_mock::Scenario;

/// What a customer of the demonstration can choose.
pub const OUTCOMES: &[(&str, &str)] = &[
    ("success", "It is paid in full"),
    ("overpaid", "Too much is paid"),
    ("conflict", "Half of it is paid"),
    ("expired", "Nobody pays, and it expires"),
    ("reversed", "It is paid, and then reversed"),
];

/// An order, and what happens to it.
pub struct Played {
    pub order: String,
    pub scenario: Scenario,
    /// Between two statuses.
    pub pause: Duration,
}

impl Played {
    pub fn chosen(order: String, outcome: Option<&str>) -> Self {
        let scenario = match outcome {
            Some("overpaid") => Scenario::Overpaid,
            Some("conflict") => Scenario::Conflict,
            Some("expired") => Scenario::Expired,
            Some("reversed") => Scenario::Reversed,
            _ => Scenario::Success,
        };
        Self { order, scenario, pause: Duration::from_secs(6) }
    }
}
