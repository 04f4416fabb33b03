//! Notes of the handler for a person.

use inqud_inbox::rusqlite::{Connection, Result, Row};
use jiff::Timestamp;

/// Something that a person has to look at.
pub struct Note {
    pub order: String,
    pub object: String,
    pub why: String,
    pub at: Timestamp,
}

impl Note {
    /// The notes on one order or on all, the newest first.
    pub fn list(db: &Connection, order: Option<&str>) -> Result<Vec<Self>> {
        let select = "SELECT order_id, object, why, at FROM attention
            WHERE ?1 IS NULL OR order_id = ?1 ORDER BY number DESC LIMIT 20";
        let row = |row: &Row<'_>| {
            let at = Timestamp::from_microsecond(row.get(3)?).unwrap_or_default();
            Ok(Self { order: row.get(0)?, object: row.get(1)?, why: row.get(2)?, at })
        };
        db.prepare(select)?.query_map([order], row)?.collect()
    }
}
