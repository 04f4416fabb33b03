use std::fmt;

use jiff::Timestamp;

use super::{Content, Stage};

/// What all of Inqud's notifications have in common: enough to tell duplicates, and to order them.
///
/// Inqud delivers at least once and in any order (confirmed). A [`History`](crate::History) per object,
/// or an inbox, makes that harmless: they are told apart and ordered by their
/// [`OrderKey`](crate::OrderKey), which is made of what this trait says.
///
/// # A type of your own
///
/// Implement it for the fields that you read. What you do not implement has a default that loses
/// nothing: each delivery with other content is another notification, and notifications without a time
/// are handled in the order of their arrival.
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
///     /// Their order is that of this number.
///     fn status_rank(&self) -> u8 {
///         self.sequence
///     }
///
///     fn stage(&self) -> Stage {
///         Stage::Early
///     }
///
///     /// Two with the same number are the same, whatever else they say.
///     fn content(&self, _: &[u8]) -> Content {
///         Content::of_bytes(&[self.sequence])
///     }
/// }
/// ```
pub trait Notification {
    /// The id of the object that this is about.
    fn id(&self) -> &str;

    /// Its status in Inqud's word; of several that are read as the same, always the same one.
    fn status_text(&self) -> &str;

    /// When it last changed; `None` while it is in its first state, and for the kinds of which Inqud
    /// does not say it.
    fn last_update(&self) -> Option<Timestamp>;

    /// How far along its status is: a later one has a greater rank. Orders notifications with the same
    /// [`last_update`](Self::last_update), and [early](Stage::Early) ones without. Defaults to 0.
    fn status_rank(&self) -> u8 {
        0
    }

    /// How far along its status is where there is no time to order by. Defaults to
    /// [`Settled`](Stage::Settled), of which each is handled in the order of arrival.
    fn stage(&self) -> Stage {
        Stage::Settled
    }

    /// Whether a status comes back by nature, as the `ACTIVE` of a subscription does. Without a time, a
    /// settled status that is told again after another one is then handled. By default it is kept for
    /// [review](crate::Verdict::Review), because it may be a late duplicate.
    fn recurs(&self) -> bool {
        false
    }

    /// The names of fields in which two deliveries may differ and be the same all the same, such as
    /// estimates, which Inqud may compute for each delivery. Defaults to none. A dot leads into an
    /// object: `request.convertRate`.
    fn ignored_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it says, for duplicates to be told by. `body` is the JSON that it was read from. Defaults to
    /// all of that, without what is [ignored](Self::ignored_fields).
    fn content(&self, body: &[u8]) -> Content {
        Content::of_json(body, self.ignored_fields())
    }

    /// What groups the amendments of one notification: id, status and last update.
    ///
    /// It is **no idempotency key**: notifications with other content share it. Effects that must happen
    /// once need a key of your own, such as your order's id.
    fn delivery_key(&self) -> DeliveryKey {
        DeliveryKey::new(self.id(), self.status_text(), self.last_update())
    }
}

/// The id of an object, its status and its last update, which is floored to the millisecond.
///
/// `Display` is a text that is different for different keys:
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
    /// Of any object.
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
        // Escaped, for the slash to part unambiguously whatever the texts are.
        let escaped = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}/", escaped(&self.id), escaped(&self.status))?;
        match self.last_update {
            Some(last_update) => write!(f, "{last_update}"),
            None => f.write_str("-"),
        }
    }
}
