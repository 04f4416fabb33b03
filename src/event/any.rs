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

/// A notification of any kind, for an endpoint that receives several.
///
/// Each of Inqud's webhooks has its own URL and secret (confirmed), and no header names the kind. If
/// several webhooks point to one endpoint, put a [`WebhookLayer::<Event>`](crate::WebhookLayer) there,
/// with the secrets of all of them (see [`Secrets`](crate::Secrets)).
///
/// # How the kind is detected
///
/// The first rule that matches decides:
///
/// 1. If the `id` has the [prefix](EventKind::id_prefix) of a kind, the notification is of that kind,
///    whatever its fields are.
/// 2. If the `id` has an unknown prefix, it is [`Other`](Self::Other), whatever its fields are. A prefix
///    is a capital letter, then capital letters, digits or underscores, then a hyphen, as in `RFD-1`.
///    Whether invoices have a prefix is not public. If Inqud sends one, an invoice is `Other` too; read
///    its [`OtherEvent::json`] as an [`Invoice`].
/// 3. If the `id` has no prefix, as in one of Inqud's samples, it is an invoice or a subscription if it
///    has a field that only this kind has. If it has such fields of both, it is `Other`.
/// 4. If there is no `id`, it is a payment in the old form if it has a `paymentId` with the prefix of a
///    payment, a `userId`, a `timestamp`, and no id that a payment does not have. For example, a
///    `refundId` beside the `paymentId` makes it `Other`.
/// 5. Everything else is `Other`, and so is what rule 3 detects but cannot be read as that kind. A new
///    kind at Inqud is not an error, and is never mistaken for a known one.
///
/// A notification with the prefix of a known kind *is* an error if it cannot be read as that kind. So is
/// one with two ids, or with an `id` that is neither a string nor `null`. The error has the path of the
/// wrong field if the `id` came before that field. Otherwise the text of the error has it.
///
/// # Parsing
///
/// The body is parsed once, except that everything before the `id` is parsed twice. In all but one of
/// Inqud's samples the `id` comes first. As for an [`Amount`](crate::Amount), use
/// `serde_json::from_str` or `from_slice`, as the layer does. An event serializes as its kind does.
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
    /// An invoice, detected by its fields.
    Invoice(Box<Invoice>),
    /// An authorization: `AGR-`.
    Authorization(Box<Authorization>),
    /// A kind that this version does not know. If a later version knows it, it becomes another variant.
    Other(Box<OtherEvent>),
}

impl Event {
    /// The kind of the notification.
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

    /// Your own id of the order. `None` if it was not sent, and always `None` for authorizations and
    /// [`Other`](Self::Other).
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

/// Delegates to the notification inside.
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

    fn order_id(&self) -> Option<&str> {
        self.inner().order_id()
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
                    // Its fields name a kind, but it cannot be read as one.
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

/// The kind of an object whose `id` does not have the prefix of a kind.
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

/// Whether an id starts with something that looks like the prefix of a kind. The first part of a UUID
/// does not count.
fn has_prefix(id: &str) -> bool {
    let Some((prefix, _)) = id.split_once('-') else { return false };
    let is_of_uuid = prefix.len() == 8 && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    prefix.starts_with(|first: char| first.is_ascii_uppercase())
        && prefix.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
        && !is_of_uuid
}
