//! Builds the JSON that Inqud would send about an object in one status.

use std::iter;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::scenario::Kind;
use tower_inqud::Amount;

/// An object at one moment.
pub(super) struct Snapshot<'a> {
    pub(super) ids: &'a Ids,
    pub(super) client_order_id: &'a str,
    pub(super) status: &'a str,
    pub(super) amount: &'a Amount,
    pub(super) paid: Paid,
    pub(super) created: Timestamp,
    pub(super) changed: Timestamp,
    pub(super) is_first: bool,
    /// How many times a subscription was charged so far: once for each `ACTIVE`.
    pub(super) charges: usize,
    /// The number of partial payments so far.
    pub(super) parts: usize,
}

/// How much is paid once something is.
#[derive(Clone, Copy)]
pub(super) enum Paid {
    /// Half.
    Under,
    /// All of it, and this much more.
    Over(usize),
}

/// The variable parts of the ids of an object and its related objects.
pub(super) struct Ids {
    uuid: String,
    address: String,
    transaction: String,
}

impl Ids {
    /// Derives the ids from an order id. Different orders almost certainly get different ids.
    pub(super) fn of(client_order_id: &str) -> Self {
        // FNV-1a is enough, because the ids need not be unpredictable.
        let seed = client_order_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let mut hex =
            |digits: usize| iter::repeat_with(|| random.digit(16)).take(digits).collect::<String>();
        let uuid = [hex(8), hex(4), hex(4), hex(4), hex(12)].join("-");
        Self { uuid, address: format!("0x{}", hex(40)), transaction: format!("0x{}", hex(64)) }
    }
}

pub(super) fn body(kind: Kind, snapshot: &Snapshot<'_>) -> String {
    fill(template(kind), &|name| value(kind, snapshot, name))
}

fn template(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => include_str!("templates/request.json"),
        Kind::Checkout => include_str!("templates/checkout.json"),
        Kind::Payment => include_str!("templates/payment.json"),
        Kind::OnRamp => include_str!("templates/on_ramp.json"),
        Kind::Subscription => include_str!("templates/subscription.json"),
        Kind::Invoice => include_str!("templates/invoice.json"),
        Kind::Authorization => include_str!("templates/authorization.json"),
    }
}

/// Replaces each `@name` in a template and joins its lines. An unknown name stays and makes the JSON invalid, so
/// that tests detect a wrong template.
fn fill(template: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let line = template.lines().map(str::trim_start).collect::<String>();
    let mut parts = line.split('@');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        filled.push_str(&value(name).unwrap_or_else(|| format!("@{name}")));
        filled.push_str(rest);
    }
    filled
}

/// The JSON value of a name in a template.
fn value(kind: Kind, snapshot: &Snapshot<'_>, name: &str) -> Option<String> {
    let id = |prefix: &str| text(&format!("{prefix}-{}", snapshot.ids.uuid));
    let only_if = |shown: bool, json: String| if shown { json } else { "null".to_owned() };
    let is_conflict = snapshot.status == "CONFLICT";
    let is_settled = is_conflict || snapshot.status == "SUCCESS";
    let is_paid = is_settled || snapshot.status.starts_with("P"); // PENDING.., PAYMENT_DETECTED
    Some(match name {
        "requestId" => id("CAPD"),
        "orderId" => id("ORD"),
        "projectId" => id("CAP"),
        "checkoutId" => id("CCO"),
        "checkoutOrNull" => only_if(kind == Kind::Checkout, id("CCO")),
        "paymentId" => id("PMT"),
        "paymentOrNull" => only_if(is_paid, id("PMT")),
        "onRampId" => id("ORCO"),
        "onRampProjectId" => id("ORP"),
        "subscriptionId" => id("SUB"),
        "planId" => id("PLAN"),
        "authorizationId" => id("AGR"),
        // The prefix of an invoice's id is not public.
        "invoiceId" => text(&snapshot.ids.uuid),
        "clientOrderId" => text(snapshot.client_order_id),
        "address" => text(&snapshot.ids.address),
        "txId" => text(&snapshot.ids.transaction),
        "txHash" => only_if(is_paid, text(&snapshot.ids.transaction)),
        "status" => text(snapshot.status),
        "subStatus" => sub_status(snapshot.status).map_or_else(|| "null".to_owned(), text),
        "nextWriteOffAt" => only_if(
            snapshot.status == "ACTIVE",
            text(&renewal(snapshot.created, snapshot.charges).to_string()),
        ),
        "reason" => only_if(is_conflict && matches!(snapshot.paid, Paid::Under), text("UNDERPAID")),
        "paymentStatus" => only_if(is_paid, text(if is_settled { "SUCCESS" } else { "PENDING" })),
        "amount" if kind == Kind::Payment && snapshot.status == "PARTIAL_SUCCESS" => {
            part(snapshot.amount, snapshot.parts).to_string()
        }
        "amount" => snapshot.amount.to_string(),
        "paidAmount" => only_if(is_paid, paid(snapshot.amount, snapshot.paid).to_string()),
        "overpaid" => (is_paid && matches!(snapshot.paid, Paid::Over(1..))).to_string(),
        "createdAt" => text(&snapshot.created.to_string()),
        "changedAt" => text(&snapshot.changed.to_string()),
        "updatedAt" => only_if(!snapshot.is_first, text(&snapshot.changed.to_string())),
        "expiresAt" => text(&expiry(snapshot.created).to_string()),
        "request" => only_if(!snapshot.is_first, nested_request(snapshot)),
        _ => return None,
    })
}

/// The Request nested in a checkout.
fn nested_request(snapshot: &Snapshot<'_>) -> String {
    let status = match snapshot.status {
        "REQUEST_CREATED" => "WAITING_PAYMENT",
        "PAYMENT_DETECTED" => "PENDING_PAYMENT",
        other => other,
    };
    let is_first = status == "WAITING_PAYMENT";
    let request = Snapshot { status, is_first, ..*snapshot };
    fill(template(Kind::Request), &|name| value(Kind::Checkout, &request, name))
}

fn paid(amount: &Amount, paid: Paid) -> Amount {
    match paid {
        Paid::Under => calculated(amount, |it| it.checked_div(Decimal::TWO))
            .unwrap_or_else(|| Decimal::ZERO.into()),
        Paid::Over(0) => amount.clone(),
        Paid::Over(more) => {
            calculated(amount, |it| it.checked_add(more.into())).unwrap_or_else(|| {
                // Too many digits to calculate with: prepend digits instead.
                let text = amount.to_string();
                let over = format!("{more}{}", text.strip_prefix('0').unwrap_or(&text));
                over.parse().unwrap_or_else(|_| amount.clone())
            })
        }
    }
}

/// The first part is 40 % of the amount. Later ones are 90 %.
fn part(amount: &Amount, number: usize) -> Amount {
    let tenths = if number > 1 { 9 } else { 4 };
    calculated(amount, |it| it.checked_mul(Decimal::new(tenths, 1)))
        .unwrap_or_else(|| Decimal::from(tenths).into())
}

/// Applies `with` to the decimal value. Returns `None` if a `Decimal` cannot hold the amount or the result.
fn calculated(amount: &Amount, with: impl Fn(Decimal) -> Option<Decimal>) -> Option<Amount> {
    amount.decimal().and_then(with).map(|exact| exact.normalize().into())
}

/// The `subStatus` of a subscription, as far as it is known.
fn sub_status(status: &str) -> Option<&'static str> {
    match status {
        "ACTIVE" => Some("ACTIVE"),
        "CANCELLED" => Some("CANCELLED_BY_MERCHANT"),
        _ => None,
    }
}

/// The time of the next write-off: every thirty days.
fn renewal(created: Timestamp, charges: usize) -> Timestamp {
    let days = u32::try_from(charges).unwrap_or(u32::MAX).saturating_mul(30);
    let after = SignedDuration::from_hours(i64::from(days).saturating_mul(24));
    created.checked_add(after).unwrap_or(Timestamp::MAX)
}

/// Ten minutes after the creation, as in Inqud's sample of a Request.
fn expiry(created: Timestamp) -> Timestamp {
    created.checked_add(SignedDuration::from_mins(10)).unwrap_or(Timestamp::MAX)
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
