//! From one status of an object to the JSON that Inqud would send.

use std::iter;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::story::Kind;
use crate::Amount;

/// An object at one moment.
pub(super) struct Scene<'a> {
    pub(super) ids: &'a Ids,
    pub(super) client_order_id: &'a str,
    pub(super) status: &'a str,
    pub(super) amount: Amount,
    pub(super) paid: Paid,
    pub(super) created: Timestamp,
    pub(super) changed: Timestamp,
    pub(super) is_first: bool,
}

/// How much is paid once something is.
#[derive(Clone, Copy)]
pub(super) enum Paid {
    Under,
    Full,
    Over,
}

/// What the ids of one object and of those around it end in.
pub(super) struct Ids {
    uuid: String,
    address: String,
    transaction: String,
}

impl Ids {
    /// Always the same for the same order, and very probably different for another.
    pub(super) fn of(client_order_id: &str) -> Self {
        // FNV-1a: neither secret nor in need of more.
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

pub(super) fn body(kind: Kind, scene: &Scene<'_>) -> String {
    fill(template(kind), &|name| value(kind, scene, name))
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

/// Puts a value for each `@name`, and everything in one line.
fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let line = template.lines().map(str::trim_start).collect::<String>();
    let mut parts = line.split('@');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        filled.push_str(&value(name));
        filled.push_str(rest);
    }
    filled
}

/// The JSON of what a template names.
fn value(kind: Kind, scene: &Scene<'_>, name: &str) -> String {
    let id = |prefix: &str| text(&format!("{prefix}-{}", scene.ids.uuid));
    let only_if = |shown: bool, json: String| if shown { json } else { "null".to_owned() };
    let is_conflict = scene.status == "CONFLICT";
    let is_settled = is_conflict || scene.status == "SUCCESS";
    let is_paid = is_settled || scene.status.starts_with("P"); // PENDING.., PAYMENT_DETECTED
    match name {
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
        // Which prefix an invoice has is not public.
        "invoiceId" => text(&scene.ids.uuid),
        "clientOrderId" => text(scene.client_order_id),
        "address" => text(&scene.ids.address),
        "txId" => text(&scene.ids.transaction),
        "txHash" => only_if(is_paid, text(&scene.ids.transaction)),
        "status" => text(scene.status),
        "reason" => only_if(is_conflict, text("UNDERPAID")),
        "paymentStatus" => only_if(is_paid, text(if is_settled { "SUCCESS" } else { "PENDING" })),
        "amount" => scene.amount.to_string(),
        "paidAmount" => only_if(is_paid, paid(scene.amount, scene.paid).to_string()),
        "overpaid" => (is_paid && matches!(scene.paid, Paid::Over)).to_string(),
        "createdAt" => text(&scene.created.to_string()),
        "changedAt" => text(&scene.changed.to_string()),
        "updatedAt" => only_if(!scene.is_first, text(&scene.changed.to_string())),
        "expiresAt" => text(&expiry(scene.created).to_string()),
        "request" => only_if(!scene.is_first, nested_request(scene)),
        _ => "null".to_owned(),
    }
}

/// The Request inside a checkout.
fn nested_request(scene: &Scene<'_>) -> String {
    let status = match scene.status {
        "REQUEST_CREATED" => "WAITING_PAYMENT",
        "PAYMENT_DETECTED" => "PENDING_PAYMENT",
        other => other,
    };
    let is_first = status == "WAITING_PAYMENT";
    let request = Scene { status, is_first, ..*scene };
    fill(template(Kind::Request), &|name| value(Kind::Checkout, &request, name))
}

fn paid(amount: Amount, paid: Paid) -> Amount {
    let decimal = amount.decimal();
    let paid = match paid {
        Paid::Under => decimal.checked_div(Decimal::TWO),
        Paid::Full => None,
        Paid::Over => decimal.checked_add(Decimal::ONE),
    };
    paid.map_or(amount, |paid| Amount::from(paid.normalize()))
}

/// In the sample of a Request it is ten minutes.
fn expiry(created: Timestamp) -> Timestamp {
    created.checked_add(SignedDuration::from_mins(10)).unwrap_or(Timestamp::MAX)
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
