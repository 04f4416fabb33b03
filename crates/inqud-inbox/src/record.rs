use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::key::Key;
use tower_inqud::{
    Authorization, Checkout, Dedup, Event, Invoice, Notification, OnRampCheckout, OrderKey,
    Payment, PaymentRequest, Rejection, Subscription, Undecodable,
};

/// What an inbox can keep: a notification with a name for its kind, by which a
/// [`Runner`](crate::Runner) finds the ones that are its own.
///
/// All of Inqud's kinds are, and so is [`Event`]. For a type of your own:
///
/// ```
/// use serde::Deserialize;
/// use inqud_inbox::Storable;
/// use tower_inqud::Notification;
///
/// #[derive(Deserialize)]
/// struct Paid {
///     id: String,
///     status: String,
/// }
///
/// impl Notification for Paid {
///     fn id(&self) -> &str {
///         &self.id
///     }
///     fn status_text(&self) -> &str {
///         &self.status
///     }
///     fn last_update(&self) -> Option<jiff::Timestamp> {
///         None
///     }
/// }
///
/// impl Storable for Paid {
///     const KIND: &'static str = "paid";
/// }
/// ```
pub trait Storable: Notification + DeserializeOwned + Send + Sync + 'static {
    /// The name, different for each type that shares an inbox. It is stored: once in use, it stays.
    const KIND: &'static str;
}

macro_rules! storable {
    ($($type:ident = $kind:literal,)*) => {
        $(impl Storable for $type {
            const KIND: &'static str = $kind;
        })*
    };
}

storable! {
    Authorization = "authorization",
    Checkout = "checkout",
    Event = "event",
    Invoice = "invoice",
    OnRampCheckout = "on_ramp_checkout",
    Payment = "payment",
    PaymentRequest = "request",
    Subscription = "subscription",
}

/// One notification as it is stored.
#[derive(Clone, Eq, PartialEq)]
pub struct Record {
    /// Different for different notifications. A store gives another one to what says what was said before.
    pub key: Key,
    /// The name of its type, [`Storable::KIND`].
    pub kind: &'static str,
    /// The id of the object that it is about. Of those with the same kind and object one is processed
    /// at a time.
    pub object: String,
    /// What it is told by from others about its object, and ordered by among them.
    pub order_key: OrderKey,
    /// The body, byte for byte as it was received.
    pub body: Bytes,
    /// Why it cannot be processed. Such a record is a dead letter from the start, and makes nothing due.
    pub dead: Option<String>,
}

/// Without the body, which holds personal data.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("object", &self.object)
            .field("order_key", &self.order_key)
            .field("body_len", &self.body.len())
            .field("dead", &self.dead)
            .finish()
    }
}

impl Record {
    /// Of an event and the body that it was read from.
    #[must_use]
    pub fn new<T: Storable>(event: &T, body: Bytes) -> Self {
        let (object, order_key) = (event.id().to_owned(), OrderKey::new(event, &body));
        let key = Key::new(T::KIND, &object, &order_key);
        Self { key, kind: T::KIND, object, order_key, body, dead: None }
    }

    /// Of an authentic body that could not be decoded. Nothing is known of it, so its key is from its
    /// bytes, and it is an object of its own.
    #[must_use]
    pub fn undecodable<T: Storable>(undecodable: &Undecodable<T>) -> Self {
        let body = undecodable.raw_body().clone();
        let key = Key::of_undecodable(T::KIND, &body);
        let object = object_of_undecodable(key);
        let order_key = OrderKey::of_undecodable(&body);
        Self {
            key,
            kind: T::KIND,
            object,
            order_key,
            body,
            dead: Some(dead_reason(undecodable.rejection())),
        }
    }

    /// What the key is, if it says what was said before: `last` is that of the last notification of its
    /// object that was stored.
    #[must_use]
    pub fn key_after(&self, last: Key) -> Key {
        Key::following(self.kind, &self.object, &self.order_key, Some(last))
    }

    /// What becomes of it, and the key that it is then stored under; `None` if it is a duplicate. `rows` are
    /// all of its object, in the order of their arrival, and whether each counts: a review that was discarded
    /// says that nothing has happened between what is around it.
    pub(super) fn dedup(&self, rows: &[(Key, &OrderKey, bool)]) -> Option<(Dedup, Key)> {
        let counted = rows.iter().filter(|(.., counts)| *counts);
        let dedup = self.order_key.dedup(counted.map(|(_, order_key, _)| *order_key));
        let mut key = self.key;
        if dedup == Dedup::Duplicate {
            return None;
        }
        if dedup != Dedup::New {
            key = rows.last().map_or(key, |(last, ..)| self.key_after(*last));
            // One that was decoded later than it arrived may have it.
            while rows.iter().any(|(its, ..)| *its == key) {
                key = self.key_after(key);
            }
        }
        Some((dedup, key))
    }

    /// Whether a notification with this key and object was stored as an undecodable one.
    pub(super) fn is_undecodable(key: Key, object: &str) -> bool {
        object.starts_with(UNDECODABLE) && object == object_of_undecodable(key)
    }
}

const UNDECODABLE: &str = "undecodable:";

/// No event can have this id, for its key, which is a hash of its id, would be in it.
fn object_of_undecodable(key: Key) -> String {
    format!("{UNDECODABLE}{key}")
}

/// What was wrong, and where. No value of the body: dead letters are listed without their bodies.
pub(super) fn dead_reason(rejection: &Rejection) -> String {
    match rejection.field_path() {
        // In a map a field has the name that the sender gave it.
        Some(path) => format!("{rejection}: at {}", path.chars().take(100).collect::<String>()),
        None => rejection.to_string(),
    }
}
