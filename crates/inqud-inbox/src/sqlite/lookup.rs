//! Lists notifications.

use rusqlite::types::Value;
use rusqlite::{Connection, Result, Row, params_from_iter};

use super::row::{State, body, time, verdict};
use crate::entry::Entry;
use crate::filter::{Filter, Page};
use crate::key::Key;
use crate::source::Source;
use crate::tenant;
use crate::walk::Walk;

/// The rows of one index page of `inqud_inbox_order`.
const BLOCK: i64 = 1024;

pub(super) fn list(connection: &Connection, filter: &Filter, limit: usize) -> Result<Page> {
    let numbers = connection.query_row(
        "SELECT (SELECT min(seq) FROM inqud_inbox_notification),
             (SELECT max(seq) FROM inqud_inbox_notification)",
        [],
        |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?)),
    )?;
    let query = Query::new(filter);
    let mut rows = connection.prepare(&query.sql)?;
    let mut walk = Walk::new(filter, limit, numbers);
    while let Some((first, last, room)) = walk.window() {
        let room = room.min(usize::try_from(i64::MAX).unwrap_or(usize::MAX));
        let window = [first, last, i64::try_from(room).unwrap_or(i64::MAX)].map(Value::Integer);
        let values = window.into_iter().chain(query.values.iter().cloned());
        let entries = rows.query_map(params_from_iter(values), entry)?;
        walk.add((first, last, room), entries.collect::<Result<_>>()?);
    }
    Ok(walk.page())
}

/// A statement for a window: its first three parameters are the first and last number, and the limit.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    fn new(filter: &Filter) -> Self {
        let mut query = Self { sql: String::new(), values: Vec::new() };
        let mut from = "inqud_inbox_notification AS it".to_owned();
        let mut conditions = Vec::new();
        if let Some(key) = filter.key {
            let key = query.value(key.as_bytes().to_vec());
            // Searches the index of keys.
            conditions.push(format!(
                "it.seq IN (SELECT seq FROM inqud_inbox_notification WHERE key = {key})"
            ));
        } else if let Some(object) = &filter.object {
            let id = tenant::qualify(filter.tenant.as_deref(), object).into_owned();
            let id = query.value(id);
            conditions.push(format!(
                "it.object IN (SELECT number FROM inqud_inbox_object WHERE id = {id}
                     AND kind IN (SELECT kind FROM inqud_inbox_count))"
            ));
        } else if let Some(order_id) = &filter.order_id {
            let order_id = query.value(order_id.clone());
            from = format!(
                "(WITH RECURSIVE block(n) AS (
                     SELECT ?1 / {BLOCK} UNION ALL SELECT n + 1 FROM block WHERE n < ?2 / {BLOCK})
                 SELECT n FROM block) CROSS JOIN inqud_inbox_notification AS it
                     ON it.seq / {BLOCK} = n AND it.order_id = {order_id}"
            );
        }
        if filter.key.is_some() || filter.object.is_some() {
            // Not by the index of numbers.
            conditions.push("+it.seq BETWEEN ?1 AND ?2".to_owned());
        } else {
            conditions.push("it.seq BETWEEN ?1 AND ?2".to_owned());
        }
        query.rest(filter, &mut conditions);
        let body = if filter.with_bodies { "body" } else { "NULL" };
        let order = if filter.newest_first { "DESC" } else { "ASC" };
        query.sql = format!(
            "SELECT it.seq, key, it.kind, id, order_id, status, state, verdict, source, replays, failures,
                 error, received_at, settled_at, length(body), {body}
             FROM {from} CROSS JOIN inqud_inbox_object AS its ON its.number = it.object
             WHERE {} ORDER BY it.seq {order} LIMIT ?3",
            conditions.join(" AND ")
        );
        query
    }

    fn rest(&mut self, filter: &Filter, conditions: &mut Vec<String>) {
        if let (true, Some(object)) = (filter.key.is_some(), &filter.object) {
            let id = tenant::qualify(filter.tenant.as_deref(), object).into_owned();
            conditions.push(format!("its.id = {}", self.value(id)));
        }
        if let Some(order_id) = &filter.order_id {
            conditions.push(format!("it.order_id = {}", self.value(order_id.clone())));
        }
        if let Some(tenant) = &filter.tenant {
            let start = self.value(tenant::qualify(Some(tenant), "").into_owned());
            conditions.push(format!("substr(its.id, 1, length({start})) = {start}"));
        }
        if let Some(kind) = &filter.kind {
            conditions.push(format!("it.kind = {}", self.value(kind.clone())));
        }
        if let Some(status) = &filter.status {
            conditions.push(format!("status = {}", self.value(status.clone())));
        }
        match filter.state {
            None => {}
            // As the index says it.
            Some(state @ (State::Skipped | State::Dead | State::Review)) => {
                let state = self.value(state as i64);
                conditions.push(format!("state > 1 AND state = {state}"));
            }
            Some(state) => conditions.push(format!("+state = {}", self.value(state as i64))),
        }
        if let Some(verdict) = filter.verdict {
            let code = super::row::code(verdict);
            let code = self.value(code);
            conditions.push(format!("state = 1 AND verdict = {code}"));
        }
        if let Some(since) = filter.since {
            let since = self.value(since.as_microsecond());
            conditions.push(format!("received_at >= {since}"));
        }
        if let Some(before) = filter.before {
            let before = self.value(before.as_microsecond());
            conditions.push(format!("received_at < {before}"));
        }
    }

    /// Adds a parameter, and returns its name.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len().saturating_add(3))
    }
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let (tenant, object) = tenant::split(row.get_ref(3)?.as_str()?);
    let state = State::of_code(row.get(6)?);
    let body_len: Option<i64> = row.get(14)?;
    Ok(Entry {
        key: Key::from_bytes(row.get(1)?),
        number: row.get(0)?,
        kind: row.get(2)?,
        tenant,
        object: object.to_owned(),
        order_id: row.get(4)?,
        status: row.get(5)?,
        state,
        verdict: (state == State::Done).then_some(verdict(row.get(7)?)),
        source: Source::of_code(row.get(8)?),
        replays: row.get(9)?,
        attempts: u32::try_from(row.get::<_, i64>(10)?).unwrap_or(u32::MAX),
        error: row.get::<_, Option<String>>(11)?.unwrap_or_default(),
        received_at: time(row.get(12)?),
        settled_at: row.get::<_, Option<i64>>(13)?.map(time),
        body_len: usize::try_from(body_len.unwrap_or_default()).unwrap_or_default(),
        body: body(row.get(15)?),
    })
}
