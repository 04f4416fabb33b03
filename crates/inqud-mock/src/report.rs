use std::fmt;

use super::Delivery;

/// What a [`MockInqud`](super::MockInqud) delivered, how often, and what it was answered.
///
/// It keeps each delivery, with the beginning of its answer; see
/// [`deliver_each`](super::MockInqud::deliver_each) for very many.
///
/// Its `Display` is a line for each delivery, and the seed: the text for a failed assertion.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    pub(super) seed: u64,
    pub(super) deliveries: Vec<Delivery>,
}

impl Report {
    /// All deliveries, in the order in which they were made, retries among them.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Whether something was delivered, and all of it acknowledged in the end.
    #[must_use]
    pub fn all_acknowledged(&self) -> bool {
        !self.deliveries.is_empty() && self.lost().next().is_none()
    }

    /// Whether something was delivered, and every time [refused](Delivery::is_rejected): what is to be
    /// expected of anything with a [`Fault`](super::Fault). A server that cannot be reached has refused
    /// nothing, nor has one that fails.
    #[must_use]
    pub fn all_rejected(&self) -> bool {
        !self.deliveries.is_empty() && self.deliveries.iter().all(Delivery::is_rejected)
    }

    /// The last try of each message that was never acknowledged. At Inqud it is lost then.
    pub fn lost(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|delivery| delivery.is_lost())
    }

    /// The seed of the order, for [`MockInqud::seed`](super::MockInqud::seed).
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
