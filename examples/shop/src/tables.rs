//! The merchant's tables. They are in the SQLite file of the inbox, so a handler's writes and "done" are one commit.

use inqud_inbox::rusqlite::{Connection, Result, params};
use jiff::Timestamp;
use tower_inqud::PaymentRequest;

use crate::product::Product;

/// `requests` has a row for each Request at Inqud, because an order can have several, and the state of one must not
/// overwrite the state of another. `version` grows with each change of any order: `live.rs` finds changes by it.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,
    product TEXT NOT NULL,
    recipient TEXT NOT NULL,
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    shipped INTEGER NOT NULL DEFAULT 0,
    payment TEXT, -- the id of the payment that it was shipped for
    version INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_version ON orders (version);
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    asset TEXT,
    network TEXT,
    address TEXT,
    pay_amount TEXT,
    paid_amount TEXT,
    overpaid INTEGER NOT NULL,
    expires_at INTEGER,
    is_paid INTEGER NOT NULL, -- enough for the order
    was_paid INTEGER NOT NULL -- is_paid, now or at any earlier time
);
CREATE INDEX IF NOT EXISTS requests_order ON requests (order_id);
CREATE TABLE IF NOT EXISTS attention (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    object TEXT NOT NULL,
    why TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (order_id, object, why)
);";

pub fn create(db: &Connection) -> Result<()> {
    db.execute_batch(TABLES)
}

const NEXT: &str = "(SELECT coalesce(max(version), 0) + 1 FROM orders)";

pub fn insert_order(db: &Connection, id: &str, product: &Product, recipient: &str) -> Result<()> {
    let now = Timestamp::now().as_microsecond();
    let insert = format!(
        "INSERT INTO orders (id, product, recipient, amount, currency, created_at, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, {NEXT})"
    );
    let Product { slug, price, currency, .. } = product;
    db.execute(&insert, params![id, slug, recipient, price, currency, now])?;
    Ok(())
}

/// Writes a Request that was just created. If its webhook was faster, the row stays as it is.
pub fn insert_request(db: &Connection, order: &str, request: &PaymentRequest) -> Result<()> {
    write_request(db, order, request, false, "DO NOTHING")
}

/// Writes the state of a Request. Stale notifications do not get here, so the row never returns to an earlier state.
pub fn update_request(
    db: &Connection,
    order: &str,
    request: &PaymentRequest,
    is_paid: bool,
) -> Result<()> {
    // A notification may lack any of these, and then what is known stays.
    let update = "DO UPDATE SET
        status = excluded.status,
        reason = excluded.reason,
        asset = coalesce(excluded.asset, asset),
        network = coalesce(excluded.network, network),
        address = coalesce(excluded.address, address),
        pay_amount = coalesce(excluded.pay_amount, pay_amount),
        paid_amount = coalesce(excluded.paid_amount, paid_amount),
        overpaid = excluded.overpaid,
        expires_at = coalesce(excluded.expires_at, expires_at),
        is_paid = excluded.is_paid,
        was_paid = max(was_paid, excluded.was_paid)";
    write_request(db, order, request, is_paid, update)
}

fn write_request(
    db: &Connection,
    order: &str,
    request: &PaymentRequest,
    is_paid: bool,
    on_conflict: &str,
) -> Result<()> {
    let insert = format!(
        "INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)
            ON CONFLICT (id) {on_conflict}"
    );
    let amount = |amount: &Option<_>| amount.as_ref().map(tower_inqud::Amount::to_string);
    let row = params![
        request.id,
        order,
        request.status.as_str(),
        request.reason.as_ref().map(|reason| reason.as_str()),
        request.currency,
        request.blockchain,
        request.address,
        amount(&request.pay_amount),
        amount(&request.paid_amount),
        request.overpaid.unwrap_or_default(),
        request.expires_at.map(Timestamp::as_microsecond),
        is_paid,
    ];
    db.execute(&insert, row)?;
    changed(db, order)
}

/// Ships an order. It is called once per order.
pub fn ship(db: &Connection, order: &str, payment: &str) -> Result<()> {
    let ship = "UPDATE orders SET shipped = shipped + 1, payment = ?2 WHERE id = ?1";
    db.execute(ship, [order, payment])?;
    changed(db, order)
}

/// Notes what a person has to look at. The same thing is noted once.
pub fn note(db: &Connection, order: &str, object: &str, why: &str) -> Result<()> {
    let note =
        "INSERT OR IGNORE INTO attention (order_id, object, why, at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(note, params![order, object, why, Timestamp::now().as_microsecond()])?;
    Ok(())
}

fn changed(db: &Connection, order: &str) -> Result<()> {
    db.execute(&format!("UPDATE orders SET version = {NEXT} WHERE id = ?1"), [order])?;
    Ok(())
}
