use std::fmt;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::buffered::{self, Member, Object};
use super::id_fields::IdFields;
use super::{
    Authorization, Checkout, EventKind, Invoice, Notification, OnRampCheckout, OtherEvent, Payment,
    PaymentRequest, Stage, Subscription,
};

/// A notification of any kind, for a single endpoint that receives them all.
///
/// Each of Inqud's webhooks has a URL and a secret of its own (confirmed), and nothing in a call
/// names the kind. If several are sent to one endpoint, put a
/// [`WebhookLayer::<Event>`](crate::WebhookLayer) there, with the secrets of all of them (see
/// [`Secrets`](crate::Secrets)).
///
/// # Which kind
///
/// 1. The one whose prefix the `id` has (see [`EventKind::id_prefix`]), whatever the fields are.
/// 2. [`Other`](Self::Other), if the `id` has an unknown prefix: capital letters, digits or underscores
///    and a hyphen, as in `RFD-1`. No field makes such a notification one of a known kind. An invoice
///    is `Other` too if Inqud gives invoices a prefix, because theirs is not public; then read
///    [`OtherEvent::json`] as an [`Invoice`].
/// 3. An invoice or a subscription, if the `id` has no prefix at all, as in one of Inqud's samples, and
///    there is a field that no other kind has. If there are such fields of both, it is neither.
/// 4. A payment in the old form, if there is no `id`: it has a `paymentId` with the prefix of a
///    its `userId` and `timestamp`, and no other id than those of a payment. A `refundId` beside the
///    `paymentId` makes it `Other`.
/// 5. `Other`, if nothing else tells, or what the fields tell does not fit. So is an object without an
///    `id`. A new kind of Inqud's is no error, and is never taken for a known one.
///
/// A notification with the prefix of a known kind that cannot be read as such *is* an error, and so is
/// one with two ids, or with an `id` that is neither a text nor `null`. The error has the path of the
/// field if the `id` came before it; otherwise its text has.
///
/// # Reading
///
/// The body is read once, and what comes before the `id` once more (in Inqud's samples the `id` is
/// the first, but in one). As for an [`Amount`](crate::Amount), use `serde_json::from_str` or
/// `from_slice`, as the layer does. Serialized, an event is as its kind is.
///
/// # Example
///
/// ```
/// use tower_inqud::{Event, EventKind, Notification};
///
/// let event: Event = serde_json::from_str(r#"{"id":"SUB-1","status":"ACTIVE"}"#)?;
/// assert_eq!(event.kind(), EventKind::Subscription);
/// assert_eq!(event.id(), "SUB-1");
/// match event {
///     Event::Request(request) => println!("{} is paid: {}", request.id, request.is_paid()),
///     Event::Subscription(subscription) => println!("until {:?}", subscription.next_write_off_at()),
///     Event::Other(other) => println!("new to me: {}", other.json()),
///     _ => {}
/// }
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(untagged)]
pub enum Event {
    /// A Request: `CAPD-`.
    Request(Box<PaymentRequest>),
    /// A crypto checkout: `CCO-`.
    Checkout(Box<Checkout>),
    /// A payment: `PMT-`.
    Payment(Box<Payment>),
    /// An on-ramp checkout: `ORCO-`.
    OnRampCheckout(Box<OnRampCheckout>),
    /// A subscription: `SUB-`.
    Subscription(Box<Subscription>),
    /// An invoice, told by its fields.
    Invoice(Box<Invoice>),
    /// An authorization: `AGR-`.
    Authorization(Box<Authorization>),
    /// Of a kind that this version does not know. A later version may, and then it is another
    /// variant.
    Other(Box<OtherEvent>),
}

impl Event {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Request(_) => EventKind::Request,
            Self::Checkout(_) => EventKind::Checkout,
            Self::Payment(_) => EventKind::Payment,
            Self::OnRampCheckout(_) => EventKind::OnRampCheckout,
            Self::Subscription(_) => EventKind::Subscription,
            Self::Invoice(_) => EventKind::Invoice,
            Self::Authorization(_) => EventKind::Authorization,
            Self::Other(_) => EventKind::Other,
        }
    }

    /// Your own id of the order. None if it was not sent, and for the kinds without one, which are
    /// authorizations and [`Other`](Self::Other).
    #[must_use]
    pub fn client_order_id(&self) -> Option<&str> {
        match self {
            Self::Request(it) => it.client_order_id.as_deref(),
            Self::Checkout(it) => it.client_order_id.as_deref(),
            Self::Payment(it) => it.client_order_id.as_deref(),
            Self::OnRampCheckout(it) => it.client_order_id.as_deref(),
            Self::Subscription(it) => it.client_order_id.as_deref(),
            Self::Invoice(it) => it.client_order_id.as_deref(),
            Self::Authorization(_) | Self::Other(_) => None,
        }
    }

    fn inner(&self) -> &dyn Notification {
        match self {
            Self::Request(it) => &**it,
            Self::Checkout(it) => &**it,
            Self::Payment(it) => &**it,
            Self::OnRampCheckout(it) => &**it,
            Self::Subscription(it) => &**it,
            Self::Invoice(it) => &**it,
            Self::Authorization(it) => &**it,
            Self::Other(it) => &**it,
        }
    }
}

/// As of its kind.
impl Notification for Event {
    fn id(&self) -> &str {
        self.inner().id()
    }

    fn status_text(&self) -> &str {
        self.inner().status_text()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.inner().last_update()
    }

    fn status_rank(&self) -> u8 {
        self.inner().status_rank()
    }

    fn stage(&self) -> Stage {
        self.inner().stage()
    }

    fn recurs(&self) -> bool {
        self.inner().recurs()
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        self.inner().ignored_fields()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyKind;

        impl<'de> Visitor<'de> for AnyKind {
            type Value = Event;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Event, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = buffered::next(&mut object)? {
                    let id = (member.0 == "id").then(|| buffered::text(member.1)).flatten();
                    members.push(member);
                    if let Some(kind) = id.and_then(|id| EventKind::of_id(&id)) {
                        return read(kind, members, object);
                    }
                }
                let guess = guess(&members);
                match read(guess, members.clone(), &mut object) {
                    // Told by its fields, and not what they tell.
                    Err(_) if guess != EventKind::Payment => {
                        read(EventKind::Other, members, object)
                    }
                    event => event,
                }
            }
        }

        deserializer.deserialize_map(AnyKind)
    }
}

fn read<'de, A: MapAccess<'de>>(
    kind: EventKind,
    buffered: Vec<Member<'de>>,
    rest: A,
) -> Result<Event, A::Error> {
    Ok(match kind {
        EventKind::Request => Event::Request(Object::read(buffered, rest)?),
        EventKind::Checkout => Event::Checkout(Object::read(buffered, rest)?),
        EventKind::Payment => Event::Payment(Object::read(buffered, rest)?),
        EventKind::OnRampCheckout => Event::OnRampCheckout(Object::read(buffered, rest)?),
        EventKind::Subscription => Event::Subscription(Object::read(buffered, rest)?),
        EventKind::Invoice => Event::Invoice(Object::read(buffered, rest)?),
        EventKind::Authorization => Event::Authorization(Object::read(buffered, rest)?),
        EventKind::Other => Event::Other(Object::read(buffered, rest)?),
    })
}

/// The kind of an object whose `id` does not tell.
fn guess(members: &[Member<'_>]) -> EventKind {
    let ids = IdFields::of(members);
    let Some(id) = ids.id() else {
        let kind = ids.kind_of_old_payment();
        return kind.filter(|kind| *kind == EventKind::Payment).unwrap_or(EventKind::Other);
    };
    if has_prefix(&id) {
        return EventKind::Other;
    }
    let mut kinds = members.iter().filter_map(|member| EventKind::of_field(&member.0));
    match kinds.next() {
        Some(kind) if kinds.all(|other| other == kind) => kind,
        _ => EventKind::Other,
    }
}

/// Whether an id looks as if it told its kind. The first part of a UUID does not.
fn has_prefix(id: &str) -> bool {
    let Some((prefix, _)) = id.split_once('-') else { return false };
    let is_of_uuid = prefix.len() == 8 && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    prefix.starts_with(|first: char| first.is_ascii_uppercase())
        && prefix.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
        && !is_of_uuid
}
