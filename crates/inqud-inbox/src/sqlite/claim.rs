//! Leasing objects.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, Result, Row, params};

use super::row::{body, micros, order_key, time, verdict};
use super::tables::Tables;
use crate::key::Key;
use crate::source::Source;
use crate::store::{Claim, Claimed, Ticket};
use tower_inqud::Processed;

/// How often to write that a runner claims a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

/// An object that may be claimed.
struct Object {
    number: i64,
    id: Arc<str>,
    processed: Option<Processed>,
    /// The number of its latest claim.
    claim: i64,
    crashes: u32,
}

impl Object {
    fn read(row: &Row<'_>) -> Result<Self> {
        let processed: Option<Vec<u8>> = row.get(2)?;
        Ok(Self {
            number: row.get(0)?,
            id: row.get(1)?,
            processed: processed.and_then(|bytes| Processed::from_bytes(&bytes)),
            claim: row.get(3)?,
            crashes: row.get(4)?,
        })
    }
}

impl Tables<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>> {
        let now = self.now();
        self.record_runner(claim.kind, now)?;
        // Another one if it turns out to wait for a retry. It is not due any more then.
        while let Some(object) = self.next_suspect(claim, now)? {
            if let Some(claimed) = self.lease(claim, object, now)? {
                return Ok(vec![claimed]);
            }
        }
        let mut all = Vec::new();
        // Again if some of them turn out to wait for a retry. They are not due any more then.
        while all.len() < claim.count {
            let room = claim.count.saturating_sub(all.len());
            let room = i64::try_from(room).unwrap_or(i64::MAX);
            let due = self.due.query_map(params![claim.kind, now, room], Object::read)?;
            let due = due.collect::<Result<Vec<_>>>()?;
            if due.is_empty() {
                break;
            }
            for object in due {
                all.extend(self.lease(claim, object, now)?);
            }
        }
        Ok(all)
    }

    pub(super) fn has_suspect(&mut self, kind: &'static str) -> Result<bool> {
        let now = self.now();
        self.suspect.exists(params![kind, now])
    }

    /// A suspect that is due, if the claim looks for one.
    fn next_suspect(&mut self, claim: &Claim, now: i64) -> Result<Option<Object>> {
        if !claim.with_suspect || claim.count == 0 {
            return Ok(None);
        }
        self.suspect.query_row(params![claim.kind, now], Object::read).optional()
    }

    fn record_runner(&mut self, kind: &'static str, now: i64) -> Result<()> {
        let asked = self.asked.get(kind);
        if asked.is_none_or(|asked| now.saturating_sub(*asked) >= micros(RECORD_RUNNER)) {
            self.record_runner.execute(params![kind, now])?;
            self.asked.insert(kind, now);
        }
        Ok(())
    }

    /// Leases an object for its next open notification, unless that waits for a retry.
    fn lease(&mut self, claim: &Claim, object: Object, now: i64) -> Result<Option<Claimed>> {
        let Object { number, id, processed, claim: last, crashes } = object;
        let this = last.saturating_add(1);
        let next = if claim.newest_first { &mut self.last } else { &mut self.first };
        let next = next.query_row([number], |row| {
            let order_key = order_key(row.get_ref(2)?.as_blob()?);
            let ticket = Ticket::new(
                row.get(0)?,
                (claim.kind, id),
                this,
                (&order_key, row.get(6)?),
                processed.as_ref(),
                claim.newest_first,
            );
            let is_replay = row.get::<_, i64>(10)? > 0;
            let claimed = Claimed {
                ticket: if is_replay { ticket.replay_of(verdict(row.get(9)?)) } else { ticket },
                key: Key::from_bytes(row.get(1)?),
                body: body(row.get(3)?),
                failures: row.get(4)?,
                crashes,
                received_at: time(row.get(5)?),
                source: Source::of_code(row.get(8)?),
            };
            Ok((claimed, row.get::<_, Option<i64>>(7)?))
        });
        let Some((claimed, retry_at)) = next.optional()? else {
            // Only if somebody deleted rows.
            self.free(number, claim.newest_first, None)?;
            return Ok(None);
        };
        if let Some(retry_at) = retry_at.filter(|at| *at > now) {
            self.wait.execute(params![number, retry_at, crashes])?;
            return Ok(None);
        }
        let until = now.saturating_add(micros(claim.lease));
        self.lease.execute(params![number, until, this, crashes])?;
        Ok(Some(claimed))
    }
}
