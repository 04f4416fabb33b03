use serde::{Deserialize, Serialize};

use super::{Dedup, Notification, OrderKey, Processed, Verdict};
use crate::Webhook;

/// The notifications that have arrived about one object. Detects duplicates and late deliveries without an
/// inbox.
///
/// Keep one for each [`id`](Notification::id), beside your own row of the object, and change both in one
/// transaction. A history serializes to about 130 bytes per distinct notification of the object.
/// [`guide::order`](crate::guide::order) shows how to use it.
///
/// # Example
///
/// ```
/// use std::collections::HashMap;
/// use tower_inqud::{History, OrderKey, PaymentRequest, Verdict};
///
/// let mut objects = HashMap::<String, (History, Option<PaymentRequest>)>::new();
/// let mut receive = |body: &str| {
///     let request: PaymentRequest = serde_json::from_str(body)?;
///     let (history, latest) = objects.entry(request.id.clone()).or_default();
///     let verdict = history.receive_order_key(OrderKey::new(&request, body.as_bytes()));
///     if verdict.should_handle() {
///         *latest = Some(request);
///     }
///     Ok::<_, serde_json::Error>(verdict)
/// };
///
/// let paid = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00Z"}"#;
/// let seen = r#"{"id":"CAPD-1","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#;
/// assert_eq!(receive(paid)?, Verdict::Newer);
/// assert_eq!(receive(paid)?, Verdict::Duplicate);
/// assert_eq!(receive(seen)?, Verdict::Stale);
/// assert!(objects["CAPD-1"].1.as_ref().unwrap().is_paid());
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct History {
    stored: Vec<OrderKey>,
    processed: Option<Processed>,
}

impl History {
    /// Adds a delivery, and returns its verdict against what was handled before.
    ///
    /// If the verdict [should be handled](Verdict::should_handle), the notification counts as handled from
    /// now on.
    pub fn receive<T: Notification>(&mut self, webhook: &Webhook<T>) -> Verdict {
        self.receive_order_key(OrderKey::new(&**webhook, webhook.raw_body()))
    }

    /// Does the same as [`receive`](Self::receive), for a notification that is not a [`Webhook`].
    pub fn receive_order_key(&mut self, order_key: OrderKey) -> Verdict {
        let dedup = order_key.dedup(&self.stored);
        if dedup == Dedup::Duplicate {
            return Verdict::Duplicate;
        }
        let number = i64::try_from(self.stored.len()).unwrap_or(i64::MAX);
        let verdict = match dedup {
            Dedup::Review => Verdict::Review,
            _ => order_key.verdict(number, false, self.processed.as_ref()),
        };
        if verdict.should_handle() {
            self.processed = Some(Processed::after(self.processed.as_ref(), &order_key, number));
        }
        self.stored.push(order_key);
        verdict
    }
}
