use serde::{Deserialize, Serialize};

use super::{Arrival, Notification, Processed, Verdict, Version};
use crate::Webhook;

/// What has arrived about one object, for a merchant who keeps it beside their own row of that object:
/// without an inbox, it tells duplicates and late deliveries.
///
/// Keep one for each [`id`](Notification::id), in the transaction that changes your row. It serializes to
/// about 130 bytes per distinct notification of the object.
///
/// # Example
///
/// ```
/// use std::collections::HashMap;
/// use tower_inqud::{History, PaymentRequest, Verdict, Version};
///
/// let mut objects = HashMap::<String, (History, Option<PaymentRequest>)>::new();
/// let mut receive = |body: &str| {
///     let request: PaymentRequest = serde_json::from_str(body)?;
///     let (history, latest) = objects.entry(request.id.clone()).or_default();
///     let verdict = history.receive_version(Version::new(&request, body.as_bytes()));
///     if verdict.applies() {
///         *latest = Some(request);
///     }
///     Ok::<_, serde_json::Error>(verdict)
/// };
///
/// let paid = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00Z"}"#;
/// let seen = r#"{"id":"CAPD-1","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#;
/// assert_eq!(receive(paid)?, Verdict::Newer);
/// assert_eq!(receive(paid)?, Verdict::Duplicate);
/// assert_eq!(receive(seen)?, Verdict::Older);
/// assert!(objects["CAPD-1"].1.as_ref().unwrap().is_paid());
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct History {
    stored: Vec<Version>,
    processed: Option<Processed>,
}

impl History {
    /// Adds a delivery, and tells how it stands to what was handled before. If the verdict
    /// [applies](Verdict::applies), it counts as handled from now on.
    pub fn receive<T: Notification>(&mut self, webhook: &Webhook<T>) -> Verdict {
        self.receive_version(Version::new(&**webhook, webhook.raw_body()))
    }

    /// The same for a notification that did not come as a [`Webhook`].
    pub fn receive_version(&mut self, version: Version) -> Verdict {
        let arrival = version.arrival(&self.stored);
        if arrival == Arrival::Duplicate {
            return Verdict::Duplicate;
        }
        let number = i64::try_from(self.stored.len()).unwrap_or(i64::MAX);
        let verdict = match arrival {
            Arrival::Review => Verdict::Review,
            _ => version.verdict(number, false, self.processed.as_ref()),
        };
        if verdict.applies() {
            self.processed = Some(Processed::after(self.processed.as_ref(), &version, number));
        }
        self.stored.push(version);
        verdict
    }
}
