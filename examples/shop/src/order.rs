//! An order as pages show it: what the database has, and the phase of its payment.

use inqud_inbox::rusqlite::{Connection, OptionalExtension, Result, Row, params};
use jiff::Timestamp;
use tower_inqud::{ConflictReason, RequestStatus};

use crate::phase::Phase;
use crate::product::{self, Product};

#[derive(Clone, Debug)]
pub struct Order {
    pub id: String,
    pub product: String,
    pub recipient: String,
    pub amount: String,
    pub currency: String,
    pub created_at: Timestamp,
    pub shipped: bool,
    pub version: i64,
    /// `None` until the Request is created at Inqud.
    pub request: Option<Request>,
}

/// A Request at Inqud. Any of its fields can be missing in a notification.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: String,
    pub status: String,
    pub reason: Option<String>,
    pub asset: String,
    pub network: String,
    pub address: Option<String>,
    pub pay_amount: Option<String>,
    pub paid_amount: Option<String>,
    pub overpaid: bool,
    pub expires_at: Option<Timestamp>,
    pub is_paid: bool,
    pub was_paid: bool,
}

/// Of several Requests, the one that paid for the order, or else the latest.
const SELECT: &str = "
    SELECT o.id, o.product, o.recipient, o.amount, o.currency, o.created_at, o.shipped, o.version,
        r.id, r.status, r.reason, r.asset, r.network, r.address, r.pay_amount, r.paid_amount, r.overpaid,
        r.expires_at, r.is_paid, r.was_paid
    FROM orders AS o LEFT JOIN requests AS r ON r.id =
        (SELECT id FROM requests WHERE order_id = o.id ORDER BY is_paid DESC, was_paid DESC, rowid DESC LIMIT 1)";

impl Order {
    pub fn find(db: &Connection, id: &str) -> Result<Option<Self>> {
        db.prepare(&format!("{SELECT} WHERE o.id = ?1"))?.query_row([id], Self::from_row).optional()
    }

    /// The orders that changed after this version, the earliest change first.
    pub fn changed_since(db: &Connection, version: i64, limit: usize) -> Result<Vec<Self>> {
        let select = format!("{SELECT} WHERE o.version > ?1 ORDER BY o.version LIMIT ?2");
        let mut select = db.prepare(&select)?;
        select.query_map(params![version, to_sql(limit)], Self::from_row)?.collect()
    }

    /// The newest orders.
    pub fn latest(db: &Connection, limit: usize) -> Result<Vec<Self>> {
        let select = format!("{SELECT} ORDER BY o.created_at DESC, o.rowid DESC LIMIT ?1");
        db.prepare(&select)?.query_map([to_sql(limit)], Self::from_row)?.collect()
    }

    /// The orders whose payment is still to come, the oldest first.
    pub fn open(db: &Connection, limit: usize) -> Result<Vec<Self>> {
        let select = format!(
            "{SELECT} WHERE r.id IS NULL OR r.status IN ('WAITING_PAYMENT', 'PENDING_PAYMENT')
             ORDER BY o.created_at LIMIT ?1"
        );
        db.prepare(&select)?.query_map([to_sql(limit)], Self::from_row)?.collect()
    }

    /// The orders that no Request was created for, the oldest first.
    pub fn without_request(db: &Connection, limit: usize) -> Result<Vec<Self>> {
        let select = format!("{SELECT} WHERE r.id IS NULL ORDER BY o.created_at LIMIT ?1");
        db.prepare(&select)?.query_map([to_sql(limit)], Self::from_row)?.collect()
    }

    pub fn last_version(db: &Connection) -> Result<i64> {
        db.prepare("SELECT coalesce(max(version), 0) FROM orders")?.query_row([], |row| row.get(0))
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        let time = |it: i64| Timestamp::from_microsecond(it).unwrap_or_default();
        let request = match row.get(8)? {
            None => None,
            Some(id) => Some(Request {
                id,
                status: row.get(9)?,
                reason: row.get(10)?,
                asset: row.get::<_, Option<_>>(11)?.unwrap_or_default(),
                network: row.get::<_, Option<_>>(12)?.unwrap_or_default(),
                address: row.get(13)?,
                pay_amount: row.get(14)?,
                paid_amount: row.get(15)?,
                overpaid: row.get(16)?,
                expires_at: row.get::<_, Option<i64>>(17)?.map(time),
                is_paid: row.get(18)?,
                was_paid: row.get(19)?,
            }),
        };
        Ok(Self {
            id: row.get(0)?,
            product: row.get(1)?,
            recipient: row.get(2)?,
            amount: row.get(3)?,
            currency: row.get(4)?,
            created_at: time(row.get(5)?),
            shipped: row.get::<_, i64>(6)? > 0,
            version: row.get(7)?,
            request,
        })
    }

    pub fn product(&self) -> Option<&'static Product> {
        product::find(&self.product)
    }

    pub fn product_name(&self) -> &str {
        self.product().map_or(&self.product, |product| product.name)
    }

    pub fn created(&self) -> String {
        minute(&self.created_at)
    }

    pub fn phase(&self) -> Phase {
        let Some(request) = &self.request else { return Phase::Preparing };
        let underpaid = Some(ConflictReason::Underpaid.as_str());
        match RequestStatus::from(request.status.as_str()) {
            _ if request.is_paid && request.overpaid => Phase::Overpaid,
            _ if request.is_paid => Phase::Paid,
            // Inqud's support can change a final status.
            _ if request.was_paid => Phase::Reversed,
            RequestStatus::WaitingPayment => Phase::Waiting,
            RequestStatus::PendingPayment => Phase::Seen,
            RequestStatus::Conflict if request.reason.as_deref() == underpaid => Phase::Underpaid,
            // A conflict that Inqud's support settled with less than the order costs.
            RequestStatus::Success => Phase::Underpaid,
            RequestStatus::Expired => Phase::Expired,
            RequestStatus::Cancelled => Phase::Cancelled,
            // Another conflict, or a status that this program does not know.
            _ => Phase::Problem,
        }
    }
}

impl Request {
    /// When the payment window ends, as a machine reads it.
    pub fn ends(&self) -> String {
        self.expires_at.map(|at| at.to_string()).unwrap_or_default()
    }

    pub fn ends_text(&self) -> String {
        self.expires_at.map(|at| at.strftime("%H:%M UTC").to_string()).unwrap_or_default()
    }

    pub fn network_name(&self) -> String {
        let mut letters = self.network.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
    }
}

fn to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A time to the second.
pub fn minute(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
