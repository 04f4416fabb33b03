use std::time::Duration;
use std::vec;

use jiff::{SignedDuration, Timestamp};

use super::snapshot::{self, Ids, Paid, Snapshot};
use super::{Message, Scenario};
use tower_inqud::Amount;

/// The sequence of notifications that Inqud sends about one object.
///
/// It iterates over [`Message`]s in the order in which Inqud would create them. For several objects, chain
/// lifecycles: `first.into_iter().chain(second)`.
///
/// Bodies have the fields of Inqud's published samples. Inqud has published neither a sample of an invoice nor
/// the prefix of its id, so the body of an invoice has the fields of [`Invoice`](tower_inqud::Invoice) and its
/// id is a bare UUID.
///
/// Ids are derived from the [`client_order_id`](Self::client_order_id), so the same order id always gives the
/// same object. Nothing in a body is random.
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
    /// Creates the lifecycle of a scenario.
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

    /// Replaces the statuses of the scenario.
    ///
    /// Any word is allowed. Use an unknown status to test how your handler treats one that Inqud adds later.
    pub fn statuses<I>(mut self, statuses: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.statuses = statuses.into_iter().map(Into::into).collect();
        self
    }

    /// Your id for the order. Defaults to `order-1`. The other ids are derived from it.
    pub fn client_order_id(mut self, id: impl Into<String>) -> Self {
        self.client_order_id = id.into();
        self
    }

    /// The requested amount, in USDT. Defaults to 100.
    ///
    /// The payer pays half of it in a conflict, and 1 USDT more if the Request is overpaid or amended. Partial
    /// payments are 40 % of it, then 90 %.
    pub fn amount(mut self, amount: Amount) -> Self {
        self.amount = amount;
        self
    }

    /// When the object was created. Defaults to noon UTC on 2026-01-01, plus a fraction of a second.
    pub fn starts_at(mut self, at: Timestamp) -> Self {
        self.starts_at = at;
        self.ends_at = None;
        self
    }

    /// When the object reached its last status. Overrides [`starts_at`](Self::starts_at), which is then computed
    /// from the [pace](Self::pace).
    pub fn ends_at(mut self, at: Timestamp) -> Self {
        self.ends_at = Some(at);
        self
    }

    /// The time between the timestamps of two consecutive statuses. Defaults to 90 s.
    ///
    /// It does not delay delivery. An amendment has the timestamp of the notification that it amends. The
    /// next write-off of a subscription is always 30 days after the previous one.
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    fn paces(&self, steps: usize) -> SignedDuration {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        SignedDuration::try_from(self.pace.saturating_mul(steps)).unwrap_or(SignedDuration::MAX)
    }

    /// Returns how much is paid once the payer has paid. `amendment` counts the amendments so far.
    fn paid(&self, amendment: usize) -> Paid {
        match self.scenario {
            Scenario::Overpaid => Paid::Over(1),
            Scenario::Amended => Paid::Over(amendment),
            // The reason for a reversal is not public, so the full amount stays paid.
            Scenario::Reversed => Paid::Over(0),
            _ if self.statuses.iter().any(|status| status == "CONFLICT") => Paid::Under,
            _ => Paid::Over(0),
        }
    }

    /// Returns the number of the amendment at this step, or 0 if it is not one.
    ///
    /// It is the number of times that the same status directly precedes the step in [`Scenario::Amended`]. An
    /// amendment keeps the time of its last update.
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
        // An object that starts in a later status has already changed.
        let first = self.scenario.statuses().first().copied();
        let is_older = self.statuses.first().map(String::as_str) != first;
        let changes = |step: usize| {
            let steps = 1..step.saturating_add(1);
            let changes = steps.filter(|step| self.amendment(*step) == 0).count();
            changes.saturating_add(usize::from(is_older))
        };
        let last = self.paces(changes(self.statuses.len().saturating_sub(1)));
        // Times out of range saturate.
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
                // An object in its first status has no last update (confirmed).
                is_first: changes(step) == 0,
                charges: times("ACTIVE", step),
                parts: times("PARTIAL_SUCCESS", step),
            };
            Message::new(status, snapshot::body(self.scenario.kind(), &snapshot))
        };
        self.statuses.iter().enumerate().map(message).collect::<Vec<_>>().into_iter()
    }
}
