use super::{Row, Tables, number};
use crate::entry::Entry;
use crate::filter::{Cursor, Filter, Page};
use crate::state::State;
use crate::tenant;

impl Tables {
    pub(super) fn list(&self, filter: &Filter, limit: usize) -> Page {
        let rows = self.rows.iter().enumerate().map(|(seq, row)| (number(seq), row));
        let is_left = |number: i64| match filter.after {
            Some(Cursor(last)) if filter.newest_first => number < last,
            Some(Cursor(last)) => number > last,
            None => true,
        };
        let rows = rows.filter(|(number, row)| {
            is_left(*number) && filter.up_to.is_none_or(|it| *number <= it) && row.matches(filter)
        });
        let mut entries: Vec<_> = if filter.newest_first {
            rows.rev().take(limit.saturating_add(1)).map(|it| entry(it, filter)).collect()
        } else {
            rows.take(limit.saturating_add(1)).map(|it| entry(it, filter)).collect()
        };
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().map(|entry| Cursor(entry.number)).or(filter.after);
        Page { entries, next: next.filter(|_| has_more) }
    }
}

impl Row {
    fn matches(&self, filter: &Filter) -> bool {
        fn is<T: PartialEq<U>, U>(wanted: Option<&T>, its: U) -> bool {
            wanted.is_none_or(|wanted| *wanted == its)
        }
        let (tenant, object) = tenant::split(&self.record.object);
        let is_of_tenant = filter.tenant.as_ref().is_none_or(|it| tenant.as_ref() == Some(it));
        let is_object = filter
            .object
            .as_ref()
            .is_none_or(|it| *it == object && (filter.tenant.is_some() || tenant.is_none()));
        let is_of_order = filter.order_id.is_none() || filter.order_id == self.record.order_id;
        !self.is_deleted
            && is(filter.key.as_ref(), self.record.key)
            && is_of_order
            && is_object
            && is_of_tenant
            && is(filter.kind.as_ref(), self.record.kind)
            && is(filter.status.as_ref(), self.record.order_key.status())
            && is(filter.state.as_ref(), self.state)
            && filter.verdict.is_none_or(|it| self.state == State::Done && self.verdict == Some(it))
            && filter.since.is_none_or(|it| self.received_at >= it)
            && filter.before.is_none_or(|it| self.received_at < it)
    }
}

fn entry((number, row): (i64, &Row), filter: &Filter) -> Entry {
    let (tenant, object) = tenant::split(&row.record.object);
    Entry {
        key: row.record.key,
        number,
        kind: row.record.kind.to_owned(),
        tenant,
        object: object.to_owned(),
        order_id: row.record.order_id.clone(),
        status: row.record.order_key.status().to_owned(),
        state: row.state,
        verdict: row.verdict.filter(|_| row.state == State::Done),
        source: row.record.source,
        replays: row.replays,
        attempts: row.failures,
        error: row.error.clone(),
        received_at: row.received_at,
        settled_at: row.settled_at,
        body_len: row.record.body.len(),
        body: if filter.with_bodies { row.record.body.clone() } else { bytes::Bytes::new() },
    }
}
