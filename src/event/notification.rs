use std::fmt;

use jiff::Timestamp;

/// What all of Inqud's notifications have in common: enough to handle each once, and in order.
///
/// Inqud delivers at least once and in any order (confirmed). Two rules make that harmless:
///
/// 1. Do nothing for a [`delivery_key`](Self::delivery_key) that you have handled already.
/// 2. Let a notification change the state of an object only if it
///    [`supersedes`](Self::supersedes) the one that the state came from.
///
/// # Example
///
/// ```
/// use std::collections::HashMap;
/// use tower_inqud::{Notification, PaymentRequest};
///
/// fn apply(states: &mut HashMap<String, PaymentRequest>, new: PaymentRequest) -> bool {
///     let newer = states.get(new.id()).is_none_or(|old| new.supersedes(old));
///     if newer {
///         states.insert(new.id().to_owned(), new);
///     }
///     newer
/// }
///
/// let mut states = HashMap::new();
/// let paid = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00Z"}"#;
/// let seen = r#"{"id":"CAPD-1","status":"PENDING_PAYMENT","lastUpdatedAt":"2026-11-22T10:01:00Z"}"#;
/// assert!(apply(&mut states, serde_json::from_str(paid)?));
/// assert!(!apply(&mut states, serde_json::from_str(paid)?)); // a duplicate
/// assert!(!apply(&mut states, serde_json::from_str(seen)?)); // a straggler
/// assert!(states["CAPD-1"].is_paid());
/// # Ok::<_, serde_json::Error>(())
/// ```
pub trait Notification {
    /// The id of the object that this is about.
    fn id(&self) -> &str;

    /// Its status in Inqud's word; of several that are read as the same, always the same one.
    fn status_text(&self) -> &str;

    /// When it last changed; `None` while it is in its first state, and for the kinds of which Inqud
    /// does not say it.
    fn last_update(&self) -> Option<Timestamp>;

    /// How far along its status is: a later one has a greater rank. Tells between notifications
    /// with the same [`last_update`](Self::last_update). 0 for all unless implemented.
    fn status_rank(&self) -> u8 {
        0
    }

    /// Equal for all deliveries of the same notification: the key to handle each once.
    ///
    /// It is made of the id, the status and the last update, and of nothing else: whether a retry
    /// repeats the body byte for byte is not public, and this holds either way. Kinds that need more
    /// to tell two notifications apart say so: a [`Subscription`](crate::Subscription), for its
    /// renewals, and an [`OtherEvent`](crate::OtherEvent) without a status.
    fn delivery_key(&self) -> DeliveryKey {
        DeliveryKey::new(self.id().to_owned(), self.status_text().to_owned(), self.last_update())
    }

    /// Whether this is news compared with `other`: about the same object, and later.
    ///
    /// Later is a later [`last_update`](Self::last_update), then a greater
    /// [`status_rank`](Self::status_rank), then the greater status text. So between any two
    /// notifications with different [keys](Self::delivery_key) one supersedes the other, and any
    /// order of arrival ends with the same one. A duplicate does not supersede.
    ///
    /// No last update is earlier than any: it is absent in the first state (confirmed), and should
    /// not be in a later one (inferred). If you mean to be safe from that too, let a first
    /// [`is_paid`](crate::RequestStatus::is_paid) count whatever it supersedes.
    fn supersedes(&self, other: &Self) -> bool
    where
        Self: Sized,
    {
        fn age<N: Notification>(it: &N) -> (Option<Timestamp>, u8, &str) {
            (it.last_update(), it.status_rank(), it.status_text())
        }
        self.id() == other.id() && age(self) > age(other)
    }
}

/// Identifies one notification, however often it is delivered: the object's id, status and last
/// update.
///
/// `Display` is a text for a unique column, different for different keys:
///
/// ```
/// use tower_inqud::{Notification, PaymentRequest};
///
/// let json = r#"{"id":"CAPD-1","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:05:00.250Z"}"#;
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
    pub(super) fn new(id: String, status: String, last_update: Option<Timestamp>) -> Self {
        Self { id, status, last_update }
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, for the slash to part unambiguously whatever the texts are.
        let escaped = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}/", escaped(&self.id), escaped(&self.status))?;
        match self.last_update {
            Some(last_update) => write!(f, "{last_update}"),
            None => f.write_str("-"),
        }
    }
}
