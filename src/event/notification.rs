use std::fmt;

use jiff::Timestamp;

use super::{Content, Stage};

/// What every notification has: enough to detect duplicates and to order them.
///
/// Inqud delivers at least once and in any order (confirmed). A [`History`](crate::History) per object, or
/// an inbox, makes that harmless. Both compare notifications by their [`OrderKey`](crate::OrderKey), which
/// is made from the methods of this trait.
///
/// # A type of your own
///
/// Implement this trait for your own type of notification. The default methods lose nothing: each delivery
/// with other content is another notification, and notifications without a time are handled in order of
/// arrival.
///
/// ```
/// use jiff::Timestamp;
/// use serde::Deserialize;
/// use tower_inqud::{Content, Notification, Stage};
///
/// #[derive(Deserialize)]
/// struct Refund {
///     id: String,
///     status: String,
///     sequence: u8,
/// }
///
/// impl Notification for Refund {
///     fn id(&self) -> &str {
///         &self.id
///     }
///
///     fn status_text(&self) -> &str {
///         &self.status
///     }
///
///     fn last_update(&self) -> Option<Timestamp> {
///         None
///     }
///
///     /// A larger number is later.
///     fn status_rank(&self) -> u8 {
///         self.sequence
///     }
///
///     fn stage(&self) -> Stage {
///         Stage::Early
///     }
///
///     /// Two notifications with the same number are duplicates, whatever else they say.
///     fn content(&self, _: &[u8]) -> Content {
///         Content::of_bytes(&[self.sequence])
///     }
/// }
/// ```
pub trait Notification {
    /// The id of the object that the notification is about.
    fn id(&self) -> &str;

    /// The status, as Inqud spells it. Spellings that mean the same return the same text.
    fn status_text(&self) -> &str;

    /// When the object last changed. `None` if Inqud does not say it: for some kinds never, for others only
    /// in the first state.
    fn last_update(&self) -> Option<Timestamp>;

    /// The id of the order: your own (`clientOrderId`), or Inqud's (`orderId`) if the notification does not have
    /// yours. Defaults to `None`.
    ///
    /// An inbox finds the notifications of an order by it.
    fn order_id(&self) -> Option<&str> {
        None
    }

    /// The rank of the status: the further along, the greater. Defaults to 0.
    ///
    /// Orders notifications with the same [`last_update`](Self::last_update), and [early](Stage::Early) ones
    /// without any.
    fn status_rank(&self) -> u8 {
        0
    }

    /// The stage of the status. Defaults to [`Settled`](Stage::Settled).
    ///
    /// Orders notifications that have no [`last_update`](Self::last_update). Settled ones are handled in order
    /// of arrival.
    fn stage(&self) -> Stage {
        Stage::Settled
    }

    /// Whether a status can recur, as the `ACTIVE` of a subscription does. Defaults to `false`.
    ///
    /// Decides about a notification without a time that repeats a settled status after another one. If
    /// `true`, it is handled. If `false`, it is kept for [review](crate::Verdict::Review), because it may be a
    /// late duplicate.
    fn recurs(&self) -> bool {
        false
    }

    /// The fields in which two deliveries of the same notification may differ. Defaults to none.
    ///
    /// For example, Inqud may compute estimates for each delivery. A dot leads into an object, as in
    /// `request.convertRate`.
    fn ignored_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// The content, for detecting duplicates. Defaults to the whole `body` without its
    /// [ignored fields](Self::ignored_fields).
    ///
    /// `body` is the JSON that the notification was decoded from.
    fn content(&self, body: &[u8]) -> Content {
        Content::of_json(body, self.ignored_fields())
    }

    /// The id, status and last update, which all amendments of a notification share.
    ///
    /// Because they share it, this is **not an idempotency key**. For effects that must happen once, use a
    /// key of your own, such as the id of your order.
    fn delivery_key(&self) -> DeliveryKey {
        DeliveryKey::new(self.id(), self.status_text(), self.last_update())
    }
}

/// The id of an object, its status and its last update, which is floored to the millisecond.
///
/// Different keys have different `Display` texts:
///
/// ```
/// use tower_inqud::{Notification, PaymentRequest};
///
/// let json = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00.250123Z"}"#;
/// let request: PaymentRequest = serde_json::from_str(json)?;
/// assert_eq!(request.delivery_key().to_string(), "CAPD-1/SUCCESS/2026-11-22T10:05:00.25Z");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeliveryKey {
    id: String,
    status: String,
    last_update: Option<Timestamp>,
}

impl DeliveryKey {
    /// Creates a key for any object.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        status: impl Into<String>,
        last_update: Option<Timestamp>,
    ) -> Self {
        let floored = last_update.map(super::content::milliseconds);
        let last_update = floored.and_then(|it| Timestamp::from_millisecond(it).ok());
        Self { id: id.into(), status: status.into(), last_update }
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, so that a slash in a text cannot be mistaken for the separator.
        let escaped = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}/", escaped(&self.id), escaped(&self.status))?;
        match self.last_update {
            Some(last_update) => write!(f, "{last_update}"),
            None => f.write_str("-"),
        }
    }
}
