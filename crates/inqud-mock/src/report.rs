use std::fmt;

use super::Delivery;

/// The deliveries that a [`MockInqud`](super::MockInqud) made, with their responses.
///
/// It keeps every delivery in memory. Use [`deliver_each`](super::MockInqud::deliver_each) for very many.
///
/// `Display` prints a line for each delivery, and the seed. Print it in failed assertions.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    pub(super) seed: u64,
    pub(super) deliveries: Vec<Delivery>,
}

impl Report {
    /// All deliveries in the order in which they were made, including retries.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Whether every message was acknowledged in the end. `false` if nothing was delivered.
    #[must_use]
    pub fn all_acknowledged(&self) -> bool {
        !self.deliveries.is_empty() && self.lost().next().is_none()
    }

    /// Whether every delivery was [rejected](Delivery::is_rejected), as requests with a
    /// [`Fault`](super::Fault) should be. `false` if nothing was delivered.
    ///
    /// An unreachable or failing server does not count as a rejection.
    #[must_use]
    pub fn all_rejected(&self) -> bool {
        !self.deliveries.is_empty() && self.deliveries.iter().all(Delivery::is_rejected)
    }

    /// The last delivery of each message that was never acknowledged. Inqud gives such a message up.
    pub fn lost(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|delivery| delivery.is_lost())
    }

    /// The seed of the order. Pass it to [`MockInqud::seed`](super::MockInqud::seed) to repeat the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (delivery, number) in self.deliveries.iter().zip(1_usize..) {
            writeln!(f, "{number:>4}. {delivery}")?;
        }
        write!(f, "seed {}", self.seed)
    }
}
