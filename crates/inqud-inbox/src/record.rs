use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::order_id;
use crate::source::Source;
use crate::tenant;
use tower_inqud::{
    Authorization, Checkout, CheckoutStatus, Dedup, Event, Invoice, Notification, OnRampCheckout,
    OrderKey, Payment, PaymentRequest, Rejection, RequestStatus, Stage, Subscription, Undecodable,
    danger,
};

/// A notification type that an inbox can store.
///
/// All types of Inqud implement it, and so does [`Event`]. For a type of your own:
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
    /// The name of this type in the store. A [`Runner`](crate::Runner) claims the notifications with the name
    /// of its type.
    ///
    /// It must be unique among the types that share an inbox. Do not change it once notifications are
    /// stored: no runner would find them any more.
    const KIND: &'static str;

    /// Whether the object is expected to change. A [`Reconciler`](crate::Reconciler) looks at it again and again then,
    /// and once otherwise.
    ///
    /// Defaults to `true` for an early or partial [`stage`](Notification::stage), for `EXPIRED`, because a payment
    /// can come late, and for `FROZEN`.
    fn is_open(&self) -> bool {
        matches!(self.stage(), Stage::Early | Stage::Partial)
            || matches!(self.status_text(), "EXPIRED" | "FROZEN")
    }

    /// Until when no news about the object is normal. A [`Reconciler`](crate::Reconciler) does not look at it before.
    ///
    /// Defaults to `None`. For a Request that waits for its payment, and for a checkout, it is the time at which it
    /// expires.
    fn quiet_until(&self) -> Option<Timestamp> {
        None
    }
}

macro_rules! storable {
    ($($type:ident = $kind:literal $(, $quiet_until:expr)?;)*) => {
        $(impl Storable for $type {
            const KIND: &'static str = $kind;

            $(fn quiet_until(&self) -> Option<Timestamp> {
                let quiet_until: fn(&Self) -> Option<Timestamp> = $quiet_until;
                quiet_until(self)
            })?
        })*
    };
}

storable! {
    Authorization = "authorization";
    Checkout = "checkout", |it| {
        let is_waiting = matches!(it.status, CheckoutStatus::New | CheckoutStatus::RequestCreated);
        it.expires_at.filter(|_| is_waiting)
    };
    Event = "event", |it| match it {
        Event::Request(it) => it.quiet_until(),
        Event::Checkout(it) => it.quiet_until(),
        _ => None,
    };
    Invoice = "invoice";
    OnRampCheckout = "on_ramp_checkout";
    Payment = "payment";
    PaymentRequest = "request", |it| {
        it.expires_at.filter(|_| it.status == RequestStatus::WaitingPayment)
    };
    Subscription = "subscription";
}

/// A notification as it is stored.
#[derive(Clone, Eq, PartialEq)]
pub struct Record {
    /// The key. A store replaces it by [`key_after`](Self::key_after) if the notification repeats an earlier
    /// one and is not a duplicate.
    pub key: Key,
    /// The name of its type, [`Storable::KIND`].
    pub kind: &'static str,
    /// The id of the object that it is about, with its [tenant](Self::of_tenant). Notifications with the same kind
    /// and object are processed one at a time.
    pub object: String,
    /// Detects duplicates among the notifications about one object, and orders the others.
    pub order_key: OrderKey,
    /// The body, byte for byte as it was received.
    pub body: Bytes,
    /// The [id of the order](Notification::order_id), at most 255 bytes. If it is longer, its start and a hash.
    pub order_id: Option<String>,
    /// How the body got here.
    pub source: Source,
    /// Why it cannot be processed. If set, the record is stored as a dead letter, and its object does not
    /// become due.
    pub dead: Option<String>,
}

/// Omits the body, because it holds personal data.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("object", &self.object)
            .field("order_key", &self.order_key)
            .field("body_len", &self.body.len())
            .field("order_id", &self.order_id)
            .field("source", &self.source)
            .field("dead", &self.dead)
            .finish()
    }
}

impl Record {
    /// Creates a record of an event and the body that it was decoded from.
    #[must_use]
    pub fn new<T: Storable>(event: &T, body: Bytes) -> Self {
        let object = tenant::qualify(None, event.id()).into_owned();
        let order_key = OrderKey::new(event, &body);
        let key = Key::new(T::KIND, &object, &order_key);
        let order_id = event.order_id().and_then(order_id::stored);
        let source = Source::Pushed;
        Self { key, kind: T::KIND, object, order_key, body, order_id, source, dead: None }
    }

    /// Creates a record of a body that was fetched elsewhere, for [`Admin::import`](crate::Admin::import).
    ///
    /// # Security
    ///
    /// Nothing verifies the body. Take it only from where you would take a payment from: Inqud's API, or a backup.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] of a body that is not JSON, is of another kind, or does not have the shape of `T`.
    pub fn decode<T: Storable>(body: impl Into<Bytes>) -> Result<Self, Rejection> {
        let body = body.into();
        let event: T = danger::decode(&body)?;
        Ok(Self::new(&event, body).fetched())
    }

    /// Creates a record of an authentic body that could not be decoded. Its key is a hash of its bytes, and
    /// it is an object of its own.
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
            order_id: None,
            source: Source::Pushed,
            dead: Some(dead_reason(undecodable.rejection())),
        }
    }

    /// Makes this the record of a tenant's object. Objects of two tenants are never the same, whatever their ids are.
    #[must_use]
    pub fn of_tenant(mut self, name: &str) -> Self {
        let (_, id) = tenant::split(&self.object);
        if Self::is_undecodable(self.key, &self.object) {
            let len = name.len().to_string();
            self.key = Key::hash([self.key.as_bytes(), len.as_bytes(), name.as_bytes()]);
            let id = object_of_undecodable(self.key);
            self.object = tenant::qualify(Some(name), &id).into_owned();
        } else {
            self.object = tenant::qualify(Some(name), id).into_owned();
            self.key = Key::new(self.kind, &self.object, &self.order_key);
        }
        self
    }

    /// Makes this the record of a body that was fetched from Inqud or imported, and not delivered by a webhook.
    #[must_use]
    pub fn fetched(mut self) -> Self {
        self.source = Source::Fetched;
        self
    }

    /// Returns the key to store this record under if it repeats an earlier one. `last` is the key of the
    /// object's notification that was stored last.
    #[must_use]
    pub fn key_after(&self, last: Key) -> Key {
        Key::following(self.kind, &self.object, &self.order_key, Some(last))
    }

    /// Decides how to store this record, and under which key. Returns `None` if it is a duplicate.
    ///
    /// `rows` are all stored notifications of its object in the order of arrival. The flag of a row says
    /// whether it counts. A notification that was kept for review and then discarded does not count:
    /// discarding it means that it was a late duplicate, so nothing happened between its neighbours.
    pub(super) fn dedup(&self, rows: &[(Key, &OrderKey, bool)]) -> Option<(Dedup, Key)> {
        let counted = rows.iter().filter(|(.., counts)| *counts);
        let dedup = self.order_key.dedup(counted.map(|(_, order_key, _)| *order_key));
        let mut key = self.key;
        if dedup == Dedup::Duplicate {
            return None;
        }
        if dedup != Dedup::New {
            key = rows.last().map_or(key, |(last, ..)| self.key_after(*last));
        }
        // The key can be taken: by a review that was discarded and does not count, or by a row that was undecodable at
        // first. Such a row keeps its early place, but was keyed after the same last row when it was decoded.
        while rows.iter().any(|(its, ..)| *its == key) {
            key = self.key_after(key);
        }
        Some((dedup, key))
    }

    /// Whether the notification with this key and object was stored as undecodable.
    pub(super) fn is_undecodable(key: Key, object: &str) -> bool {
        let (_, id) = tenant::split(object);
        id.starts_with(UNDECODABLE) && id == object_of_undecodable(key)
    }
}

const UNDECODABLE: &str = "undecodable:";

/// Returns an object id that no decoded event can have: it would have to contain a hash of itself.
fn object_of_undecodable(key: Key) -> String {
    format!("{UNDECODABLE}{key}")
}

/// Describes what is wrong and where. It contains no value of the body, because dead letters are listed
/// without their bodies.
pub(super) fn dead_reason(rejection: &Rejection) -> String {
    match rejection.field_path() {
        // Limited, because the keys of a map come from the sender.
        Some(path) => format!("{rejection}: at {}", path.chars().take(100).collect::<String>()),
        None => rejection.to_string(),
    }
}
