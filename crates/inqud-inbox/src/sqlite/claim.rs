//! Leasing objects.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, Result, params};

use super::row::{body, micros, order_key, time};
use super::tables::Tables;
use crate::key::Key;
use crate::store::{Claimed, Ticket};
use tower_inqud::Processed;

/// How often to write that a runner claims a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

impl Tables<'_> {
    pub(super) fn claim(
        &mut self,
        kind: &'static str,
        count: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>> {
        let now = self.now();
        let until = now.saturating_add(micros(lease));
        let asked = self.asked.get(kind);
        if asked.is_none_or(|asked| now.saturating_sub(*asked) >= micros(RECORD_RUNNER)) {
            self.record_runner.execute(params![kind, now])?;
            self.asked.insert(kind, now);
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let due = self.due.query_map(params![kind, now, count], |row| {
            let (object, processed) =
                (row.get::<_, Arc<str>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?);
            Ok((row.get(0)?, object, processed, row.get(3)?))
        })?;
        let due = due.collect::<Result<Vec<(i64, _, _, i64)>>>()?;
        let mut all = Vec::with_capacity(due.len());
        for (number, object, processed, claim) in due {
            let claim = claim.saturating_add(1);
            let processed = processed.and_then(|bytes| Processed::from_bytes(&bytes));
            let first = self.oldest.query_row([number], |row| {
                let attempts: i64 = row.get(4)?;
                let order_key = order_key(row.get_ref(2)?.as_blob()?);
                Ok(Claimed {
                    ticket: Ticket::new(
                        row.get(0)?,
                        (kind, Arc::clone(&object)),
                        claim,
                        (&order_key, row.get(6)?),
                        processed.as_ref(),
                    ),
                    key: Key::from_bytes(row.get(1)?),
                    body: body(row.get(3)?),
                    attempt: u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1),
                    received_at: time(row.get(5)?),
                })
            });
            let Some(claimed) = first.optional()? else {
                self.go_on.execute([number])?;
                continue;
            };
            self.attempt.execute([claimed.ticket.seq])?;
            self.lease.execute([number, until, claim])?;
            all.push(claimed);
        }
        Ok(all)
    }
}
