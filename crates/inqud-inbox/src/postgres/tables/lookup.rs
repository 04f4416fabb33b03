//! Lists notifications.

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{body, code, count_of, key, object, text, time, verdict};
use crate::entry::Entry;
use crate::filter::{Filter, Page};
use crate::source::Source;
use crate::state::State;
use crate::tenant;
use crate::walk::Walk;

/// All kinds, each found by one step in the index of objects.
const KINDS: &str = "
    WITH RECURSIVE kinds (kind) AS (
        SELECT min(kind) FROM inqud_inbox.object
        UNION ALL SELECT (SELECT min(kind) FROM inqud_inbox.object AS next WHERE next.kind > kinds.kind)
        FROM kinds WHERE kinds.kind IS NOT NULL)
    SELECT kind FROM kinds";

pub(in crate::postgres) async fn list(
    client: &Client,
    filter: &Filter,
    limit: usize,
) -> Result<Page, Error> {
    let numbers = "SELECT min(seq), max(seq) FROM inqud_inbox.notification";
    let numbers = client.query_one(numbers, &[]).await?;
    let (first, last): (Option<i64>, Option<i64>) = (numbers.try_get(0)?, numbers.try_get(1)?);
    let query = Query::new(filter);
    let statement = client.prepare(&query.sql).await?;
    let mut walk = Walk::new(filter, limit, first.zip(last));
    while let Some((first, last, room)) = walk.window() {
        let room_as_number = i64::try_from(room).unwrap_or(i64::MAX);
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&first, &last, &room_as_number];
        values.extend(query.values.iter().map(|value| &**value as &(dyn ToSql + Sync)));
        let rows = client.query(&statement, &values).await?;
        let entries: Result<Vec<_>, Error> = rows.iter().map(entry).collect();
        walk.add((first, last, room), entries?);
    }
    Ok(walk.page())
}

/// A statement for a window: its first three parameters are the first and last number, and the limit.
struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
}

impl Query {
    fn new(filter: &Filter) -> Self {
        let mut query = Self { sql: String::new(), values: Vec::new() };
        let mut from = "inqud_inbox.notification AS it".to_owned();
        let mut conditions = vec!["it.seq BETWEEN $1 AND $2".to_owned()];
        if let Some(key) = filter.key {
            let key = query.value(key.as_bytes().to_vec());
            conditions.push(format!("it.key = {key}::bytea"));
        }
        if let Some(id) = &filter.object {
            let id = object(&tenant::qualify(filter.tenant.as_deref(), id));
            let id = query.value(id);
            conditions.push(format!("it.object = {id}::text AND it.kind IN ({KINDS})"));
        }
        if let Some(order_id) = &filter.order_id {
            let order_id = query.value(text(order_id));
            from = format!(
                "generate_series($1::bigint / 1024, $2::bigint / 1024) AS block (n)
                CROSS JOIN LATERAL (
                    SELECT * FROM inqud_inbox.notification AS its
                    WHERE its.seq / 1024 = block.n AND its.order_id = {order_id}::text
                ) AS it"
            );
        }
        if let Some(tenant) = &filter.tenant {
            let start = query.value(text(&tenant::qualify(Some(tenant), "")));
            conditions.push(format!("starts_with(it.object, {start}::text)"));
        }
        if let Some(kind) = &filter.kind {
            conditions.push(format!("it.kind = {}::text", query.value(text(kind))));
        }
        if let Some(status) = &filter.status {
            conditions.push(format!("it.status = {}::text", query.value(text(status))));
        }
        match filter.state {
            None => {}
            // Not as the index of open ones says it, which only the statements of runners use.
            Some(State::Open) => conditions.push("it.state < 1".to_owned()),
            Some(State::Done) => conditions.push("it.state = 1".to_owned()),
            Some(state) => conditions.push(format!("it.state > 1 AND it.state = {}", state as i16)),
        }
        if let Some(verdict) = filter.verdict {
            let code = code(verdict);
            let flagged = if code > 0 { " AND it.verdict > 0" } else { "" };
            conditions.push(format!("it.state = 1 AND it.verdict = {code}{flagged}"));
        }
        for (time, compared) in [(filter.since, ">="), (filter.before, "<")] {
            if let Some(time) = time {
                let micros = query.value(time.as_microsecond());
                conditions.push(format!(
                    "it.received_at {compared}
                        'epoch'::timestamptz + {micros}::bigint * interval '1 microsecond'"
                ));
            }
        }
        let body = if filter.with_bodies { "it.body" } else { "NULL::bytea" };
        let order = if filter.newest_first { "DESC" } else { "ASC" };
        query.sql = format!(
            "SELECT it.seq, it.key, it.kind, it.object, it.order_id, it.status, it.state, it.verdict,
                it.source, it.replays, it.failures, it.error,
                (extract(epoch FROM it.received_at) * 1000000)::bigint,
                (extract(epoch FROM it.settled_at) * 1000000)::bigint, octet_length(it.body), {body}
            FROM {from} WHERE {} ORDER BY it.seq {order} LIMIT $3",
            conditions.join(" AND ")
        );
        query
    }

    /// Adds a parameter, and returns its name.
    fn value(&mut self, value: impl ToSql + Send + Sync + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len().saturating_add(3))
    }
}

fn entry(row: &Row) -> Result<Entry, Error> {
    let (tenant, object) = tenant::split(row.try_get(3)?);
    let state = State::of_code(row.try_get::<_, i16>(6)?.into());
    let settled_at: Option<i64> = row.try_get(13)?;
    let body_len: Option<i32> = row.try_get(14)?;
    Ok(Entry {
        key: key(row.try_get(1)?),
        number: row.try_get(0)?,
        kind: row.try_get(2)?,
        tenant,
        object: object.to_owned(),
        order_id: row.try_get(4)?,
        status: row.try_get(5)?,
        state,
        verdict: (state == State::Done).then_some(verdict(row.try_get(7)?)),
        source: Source::of_code(row.try_get(8)?),
        replays: count_of(row.try_get(9)?),
        attempts: count_of(row.try_get(10)?),
        error: row.try_get::<_, Option<String>>(11)?.unwrap_or_default(),
        received_at: time(row.try_get(12)?),
        settled_at: settled_at.map(time),
        body_len: usize::try_from(body_len.unwrap_or_default()).unwrap_or_default(),
        body: body(row.try_get(15)?),
    })
}
