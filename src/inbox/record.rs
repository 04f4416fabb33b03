use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Key;
use crate::{
    Authorization, Checkout, Event, Invoice, Notification, OnRampCheckout, Payment, PaymentRequest,
    Rejection, Subscription, Undecodable,
};

/// What an inbox can keep: a notification with a name for its kind, by which a
/// [`Runner`](super::Runner) finds the ones that are its own.
///
/// All of Inqud's kinds are, and so is [`Event`]. For a type of your own:
///
/// ```
/// use serde::Deserialize;
/// use tower_inqud::inbox::Storable;
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
    /// Different for different notifications. Those with the same key are about the same object.
    pub key: Key,
    /// The name of its type, [`Storable::KIND`].
    pub kind: &'static str,
    /// The id of the object that it is about. Of those with the same kind and object one is processed
    /// at a time.
    pub object: String,
    /// Where it stands in the life of its object.
    pub version: Version,
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
            .field("version", &self.version)
            .field("body_len", &self.body.len())
            .field("dead", &self.dead)
            .finish()
    }
}

impl Record {
    /// Of an event and the body that it was read from.
    #[must_use]
    pub fn new<T: Storable>(event: &T, body: Bytes) -> Self {
        Self {
            key: Key::new(T::KIND, &event.delivery_key()),
            kind: T::KIND,
            object: event.id().to_owned(),
            version: Version::of(event),
            body,
            dead: None,
        }
    }

    /// Of an authentic body that could not be decoded. Nothing is known of it, so its key is from its
    /// bytes, and it is an object of its own.
    #[must_use]
    pub fn undecodable<T: Storable>(undecodable: &Undecodable<T>) -> Self {
        let body = undecodable.raw_body().clone();
        let key = Key::of_undecodable(T::KIND, &body);
        Self {
            key,
            kind: T::KIND,
            object: object_of_undecodable(key),
            version: Version(Vec::new()),
            body,
            dead: Some(why(undecodable.rejection())),
        }
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
pub(super) fn why(rejection: &Rejection) -> String {
    match rejection.field_path() {
        // In a map a field has the name that the sender gave it.
        Some(path) => format!("{rejection}: at {}", path.chars().take(100).collect::<String>()),
        None => rejection.to_string(),
    }
}

/// Where a notification stands in the life of its object, to sort by: last update, rank of the status,
/// status. Without a last update it comes before those that have one.
///
/// That one comes first does not prove that it is older: see [`Freshness::new`].
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(Vec<u8>);

/// How many bytes a last update takes.
const TIME: usize = size_of::<i128>();

impl Version {
    /// The version of a notification.
    #[must_use]
    pub fn of(event: &impl Notification) -> Self {
        // Bytes that sort as the numbers do, for a database to sort by.
        let mut bytes = Vec::with_capacity(40);
        if let Some(time) = event.last_update() {
            bytes.push(1);
            let sign_flipped = time.as_nanosecond() ^ i128::MIN;
            bytes.extend(sign_flipped.to_be_bytes());
        } else {
            bytes.push(0);
        }
        bytes.push(event.status_rank());
        bytes.extend(event.status_text().as_bytes());
        Self(bytes)
    }

    /// As it was stored.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// To be stored: sorts byte by byte.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn has_time(&self) -> bool {
        self.0.first() == Some(&1)
    }

    /// Without the text of the status, which says nothing of time.
    fn age(&self) -> &[u8] {
        let len = if self.has_time() { TIME.saturating_add(2) } else { 2 };
        self.0.get(..len).unwrap_or(&self.0)
    }
}

/// How a notification stands to the latest one of its object that was processed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Freshness {
    /// Later, or the first.
    Newer,
    /// Neither: they differ, but in nothing that proves which is later. So are the renewals of a
    /// [`Subscription`], and what has no last update after one that has.
    Same,
    /// A straggler: both have a last update, and its own is earlier, or equal with a lesser rank.
    Older,
}

impl Freshness {
    /// Of `version`, where `processed` is the latest that was. A straggler is skipped, so it takes a
    /// proof to be one: between two statuses of the same time and rank, or where one has no last update,
    /// there is none.
    #[must_use]
    pub fn new(version: &Version, processed: Option<&Version>) -> Self {
        let Some(processed) = processed else { return Self::Newer };
        match version.age().cmp(processed.age()) {
            Ordering::Greater => Self::Newer,
            Ordering::Less if version.has_time() && processed.has_time() => Self::Older,
            Ordering::Less | Ordering::Equal => Self::Same,
        }
    }
}
