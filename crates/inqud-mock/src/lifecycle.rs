use std::time::Duration;
use std::vec;

use jiff::{SignedDuration, Timestamp};

use super::snapshot::{self, Ids, Paid, Snapshot};
use super::{Message, Scenario};
use tower_inqud::Amount;

/// What Inqud sends about one object, from its first status to its last.
///
/// An iterator over its [`Message`]s, in the order in which Inqud would make them. For several
/// objects, chain lifecycles: `first.into_iter().chain(second)`.
///
/// The bodies have the fields that Inqud's samples have. Of an invoice no sample is public, nor is what
/// its id begins with: its fields are those of [`Invoice`](tower_inqud::Invoice), and its id is a UUID alone.
/// The ids are made from the [`client_order_id`](Self::client_order_id), so that the same order is the
/// same object each time. Nothing in them is random.
///
/// # Example
///
/// ```
/// use tower_inqud::PaymentRequest;
/// use inqud_mock::{Lifecycle, Scenario};
///
/// let lifecycle = Lifecycle::new(Scenario::Conflict).client_order_id("shop-1").amount("99.46291".parse()?);
/// for message in lifecycle {
///     let request: PaymentRequest = serde_json::from_slice(message.body())?;
///     assert_eq!(request.client_order_id.as_deref(), Some("shop-1"));
///     assert_eq!(request.status.as_str(), message.label());
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Lifecycle {
    scenario: Scenario,
    statuses: Vec<String>,
    client_order_id: String,
    amount: Amount,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    pace: Duration,
}

impl Lifecycle {
    /// The lifecycle that this scenario tells.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            statuses: scenario.statuses().iter().copied().map(str::to_owned).collect(),
            client_order_id: "order-1".to_owned(),
            amount: Amount::from(rust_decimal::Decimal::ONE_HUNDRED),
            starts_at: Timestamp::constant(1_767_268_800, 207_141_577),
            ends_at: None,
            pace: Duration::from_secs(90),
        }
    }

    /// Goes through these statuses instead of the scenario's. Any words will do, also one that Inqud
    /// may say tomorrow.
    pub fn statuses<I>(mut self, statuses: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.statuses = statuses.into_iter().map(Into::into).collect();
        self
    }

    /// Your own id of the order: `order-1` unless set. The other ids are made from it.
    pub fn client_order_id(mut self, id: impl Into<String>) -> Self {
        self.client_order_id = id.into();
        self
    }

    /// The amount to be paid, in USDT: 100 unless set. In a conflict half of it is paid; if it is
    /// overpaid or amended, one more. A payment that succeeded in part has 40 % of it, and then 90 %.
    pub fn amount(mut self, amount: Amount) -> Self {
        self.amount = amount;
        self
    }

    /// When the object was created: noon of 2026-01-01 in UTC and a fraction of a second unless set.
    pub fn starts_at(mut self, at: Timestamp) -> Self {
        self.starts_at = at;
        self.ends_at = None;
        self
    }

    /// When its last status came. Set instead of [`starts_at`](Self::starts_at), which then is as many
    /// [paces](Self::pace) before.
    pub fn ends_at(mut self, at: Timestamp) -> Self {
        self.ends_at = Some(at);
        self
    }

    /// The time between two statuses in their timestamps: 90 s unless set. It is not waited for. An
    /// amendment has the time of what it amends. The next write-off of a subscription is 30 days after the last one, whatever the pace.
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    fn paces(&self, steps: usize) -> SignedDuration {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        SignedDuration::try_from(self.pace.saturating_mul(steps)).unwrap_or(SignedDuration::MAX)
    }

    /// How much is paid, if anything is, at the time of an amendment: 0 before the first.
    fn paid(&self, amendment: usize) -> Paid {
        match self.scenario {
            Scenario::Overpaid => Paid::Over(1),
            Scenario::Amended => Paid::Over(amendment),
            // Nobody says why, so nothing is said to be missing.
            Scenario::Reversed => Paid::Over(0),
            _ if self.statuses.iter().any(|status| status == "CONFLICT") => Paid::Under,
            _ => Paid::Over(0),
        }
    }

    /// How often this status was said right before: those that amend it have its last update.
    fn amendment(&self, step: usize) -> usize {
        let said = self.statuses.iter().take(step.saturating_add(1)).rev();
        let same = said.clone().zip(said.skip(1)).take_while(|(it, before)| it == before).count();
        if self.scenario == Scenario::Amended { same } else { 0 }
    }
}

impl IntoIterator for Lifecycle {
    type Item = Message;
    type IntoIter = vec::IntoIter<Message>;

    fn into_iter(self) -> Self::IntoIter {
        let ids = Ids::of(&self.client_order_id);
        // What is in another status than the first has changed before.
        let first = self.scenario.statuses().first().copied();
        let is_older = self.statuses.first().map(String::as_str) != first;
        let changes = |step: usize| {
            let steps = 1..step.saturating_add(1);
            let changes = steps.filter(|step| self.amendment(*step) == 0).count();
            changes.saturating_add(usize::from(is_older))
        };
        let last = self.paces(changes(self.statuses.len().saturating_sub(1)));
        // What is too early or too late for a timestamp is as much so as one can be.
        let created = match self.ends_at {
            Some(ends_at) => ends_at.checked_sub(last).unwrap_or(Timestamp::MIN),
            None => self.starts_at,
        };
        let times = |word: &str, step: usize| {
            let said = self.statuses.iter().take(step.saturating_add(1));
            said.filter(|status| *status == word).count()
        };
        let message = |(step, status): (usize, &String)| {
            let changed = created.checked_add(self.paces(changes(step)));
            let snapshot = Snapshot {
                ids: &ids,
                client_order_id: &self.client_order_id,
                status,
                amount: &self.amount,
                paid: self.paid(self.amendment(step)),
                created,
                changed: changed.unwrap_or(Timestamp::MAX),
                // No last update while it is in its first state (confirmed).
                is_first: changes(step) == 0,
                charges: times("ACTIVE", step),
                parts: times("PARTIAL_SUCCESS", step),
            };
            Message::new(status, snapshot::body(self.scenario.kind(), &snapshot))
        };
        self.statuses.iter().enumerate().map(message).collect::<Vec<_>>().into_iter()
    }
}
