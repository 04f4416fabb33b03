//! The watch list.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::{body, bytes_of, count_of, key, micros, object, order_key, text, transact};
use crate::record::Record;
use crate::source::Source;
use crate::watch::{
    Arrival, Arrived, Expected, Extent, Known, KnownRow, Look, NEVER, Next, Reach, Scheduled,
};
use tower_inqud::Processed;

pub(in crate::postgres) async fn expect(
    client: &Client,
    expected: &[Expected],
) -> Result<(), Error> {
    let expect = "
        INSERT INTO inqud_inbox.watch (kind, object, look_at, since, added_at)
        SELECT kind, object, now, coalesce(since, now), now
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS it (kind, object, since),
            inqud_inbox.micros(statement_timestamp()) AS now
        ON CONFLICT DO NOTHING";
    let kinds: Vec<&str> = expected.iter().map(|it| it.kind).collect();
    let objects: Vec<String> = expected.iter().map(|it| text(&it.object)).collect();
    let since: Vec<Option<i64>> = expected.iter().map(|it| it.since).collect();
    transact(client, expect, &[&kinds, &objects, &since]).await.map(drop)
}

pub(in crate::postgres) async fn arrived(
    client: &Client,
    kind: &'static str,
    limit: usize,
    horizon: Duration,
) -> Result<Arrived, Error> {
    let reach = "
        SELECT from_seq, to_seq, newest > to_seq
        FROM inqud_inbox.reach($1, $2::bigint * interval '1 microsecond')";
    // If no transaction is under way, the second call can read what the first has found.
    let (mut ends, mut is_behind) = (Reach::new(0, 0), false);
    for _ in 0..2 {
        let rows = transact(client, reach, &[&kind, &micros(horizon)]).await?;
        let Some(row) = rows.first() else { break };
        (ends, is_behind) = (Reach::new(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        if ends.to > ends.from {
            break;
        }
    }
    let arrivals = "
        SELECT seq, object, order_key, inqud_inbox.micros(received_at), body, source
        FROM inqud_inbox.notification
        WHERE seq > $1 AND seq <= $2 AND kind = $3 ORDER BY seq LIMIT $4";
    let statement = client.prepare_cached(arrivals).await?;
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(&statement, &[&ends.from, &ends.to, &kind, &count]).await?;
    let mut arrivals = Vec::with_capacity(rows.len());
    for row in &rows {
        let order_key = order_key(row.try_get(2)?);
        let body = body(row.try_get(4)?);
        let (seq, object, received_at) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
        let arrival = Arrival::new(seq, object, order_key, received_at, body);
        arrivals.push(arrival.fetched(Source::of_code(row.try_get(5)?) == Source::Fetched));
    }
    let has_more = arrivals.len() >= limit;
    let to = arrivals.last().filter(|_| has_more).map_or(ends.to, |it| it.seq);
    let mut arrived = Arrived::new(Reach::new(ends.from, to), has_more, arrivals);
    arrived.is_behind = is_behind;
    Ok(arrived)
}

pub(in crate::postgres) async fn schedule(
    client: &Client,
    kind: &'static str,
    reach: Reach,
    looks: &[Scheduled],
) -> Result<(), Error> {
    // Claims can begin with any number. A fetched one begins with 1, so that ON CONFLICT knows it: another transaction can
    // add the object after NOT EXISTS has looked.
    let schedule = "
        WITH newest AS (
            SELECT DISTINCT ON (object COLLATE \"C\") *
            FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $9::boolean[])
                AS it (object, position, seq, since, look_at, is_fetched)
            ORDER BY object COLLATE \"C\", is_fetched, position DESC, seq DESC
        ), read AS (
            UPDATE inqud_inbox.watch_read SET seq = $8 WHERE kind = $1 AND seq = $7
        )
        INSERT INTO inqud_inbox.watch AS mine
            (kind, object, look_at, since, looks, added_at, position, seq, claim)
        SELECT $1, object, look_at, since, 0, inqud_inbox.micros(statement_timestamp()), position, seq,
            is_fetched::integer
        FROM newest WHERE NOT is_fetched OR NOT EXISTS (
            SELECT FROM inqud_inbox.watch AS its WHERE its.kind = $1 AND its.object = newest.object)
        ORDER BY object COLLATE \"C\"
        ON CONFLICT (kind, object) DO UPDATE SET look_at = excluded.look_at, since = excluded.since,
            looks = 0, failures = 0, leased = false, claim = mine.claim + 1,
            position = excluded.position, seq = excluded.seq
        WHERE (excluded.position, excluded.seq) > (mine.position, mine.seq) AND excluded.claim = 0";
    let objects: Vec<&str> = looks.iter().map(|it| &*it.object).collect();
    let positions: Vec<i64> = looks.iter().map(|it| it.position.0).collect();
    let seqs: Vec<i64> = looks.iter().map(|it| it.position.1).collect();
    let since: Vec<i64> = looks.iter().map(|it| it.since).collect();
    let look_at: Vec<i64> = looks.iter().map(|it| it.look_at).collect();
    let is_fetched: Vec<bool> = looks.iter().map(|it| it.is_fetched).collect();
    let (from, to) = (&reach.from, &reach.to);
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&kind, &objects, &positions, &seqs, &since, &look_at, from, to, &is_fetched];
    transact(client, schedule, &parameters).await?;
    let over = "
        DELETE FROM inqud_inbox.watch WHERE kind = $1 AND look_at = $2 AND seq <= $3";
    transact(client, over, &[&kind, &NEVER, &reach.to]).await.map(drop)
}

const BEGIN_UNFLUSHED: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off";

pub(in crate::postgres) async fn claim_looks(
    client: &Client,
    kind: &'static str,
    count: usize,
    lease: Duration,
) -> Result<Vec<Look>, Error> {
    let claim = "
        UPDATE inqud_inbox.watch AS mine
        SET claim = mine.claim + 1, leased = true, look_at = now + $3
        FROM inqud_inbox.micros(statement_timestamp()) AS now, (
            SELECT object FROM inqud_inbox.watch
            WHERE kind = $1 AND look_at <= inqud_inbox.micros(statement_timestamp())
            ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) AS due
        WHERE mine.kind = $1 AND mine.object = due.object
        RETURNING mine.object, mine.claim, now, mine.added_at, mine.since, mine.looks, mine.failures";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    // Not flushed. If a crash of the server loses the claim, the look is repeated, which costs a request. Its number is
    // given again. If an arrival gets it, the object is not leased, so the lost look cannot end (see `end_looks`). If the
    // repeated look gets it, nothing has arrived in between, and either of the two ends both.
    let claim = client.prepare_cached(claim).await?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&kind, &count, &micros(lease)];
    let (begun, rows, committed) = tokio::join!(
        client.batch_execute(BEGIN_UNFLUSHED),
        client.query(&claim, &parameters),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let rows = rows?;
    committed?;
    let look = |row: &tokio_postgres::Row| {
        let object: Arc<str> = Arc::from(row.try_get::<_, &str>(0)?);
        let mut look = Look::new((kind, object), row.try_get(1)?, row.try_get(2)?);
        (look.added_at, look.since) = (row.try_get(3)?, row.try_get(4)?);
        look.looks = row.try_get::<_, Option<i32>>(5)?.map(count_of);
        look.failures = count_of(row.try_get(6)?);
        Ok(look)
    };
    rows.iter().map(look).collect()
}

pub(in crate::postgres) async fn end_looks(
    client: &Client,
    ended: &[(Look, Next)],
) -> Result<(), Error> {
    let end = "
        WITH ended AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::integer[],
                $6::integer[], $7::bigint[], $8::bigint[], $9::bigint[])
                AS it (kind, object, claim, look_at, looks, failures, position, seq, added_at)
        ), locked AS MATERIALIZED (
            SELECT mine.kind, mine.object FROM inqud_inbox.watch AS mine
            JOIN ended USING (kind, object, claim, added_at)
            WHERE mine.leased
            ORDER BY mine.kind, mine.object FOR UPDATE OF mine
        ), done AS (
            DELETE FROM inqud_inbox.watch AS mine USING ended, locked
            WHERE mine.kind = ended.kind AND mine.object = ended.object AND mine.claim = ended.claim
                AND locked.kind = mine.kind AND locked.object = mine.object AND ended.look_at IS NULL
        )
        UPDATE inqud_inbox.watch AS mine
        SET look_at = ended.look_at, looks = ended.looks, failures = ended.failures, leased = false,
            claim = mine.claim + 1,
            looked_at = CASE WHEN mine.looks IS NOT NULL
                THEN inqud_inbox.micros(statement_timestamp()) END,
            position = coalesce(ended.position, mine.position), seq = coalesce(ended.seq, mine.seq)
        FROM ended, locked
        WHERE mine.kind = ended.kind AND mine.object = ended.object AND mine.claim = ended.claim
            AND locked.kind = mine.kind AND locked.object = mine.object
            AND ended.look_at IS NOT NULL";
    let looks = || ended.iter().map(|(look, _)| look);
    let kinds: Vec<&str> = looks().map(|it| it.kind).collect();
    let objects: Vec<&str> = looks().map(|it| &*it.object).collect();
    let claims: Vec<i64> = looks().map(|it| it.claim).collect();
    let of = |next: &Next| match next {
        Next::Done => (None, 0, 0, None),
        Next::At { look_at, looks, failures, stored } => {
            let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
            (Some(*look_at), number(*looks), number(*failures), *stored)
        }
    };
    let next: Vec<_> = ended.iter().map(|(_, next)| of(next)).collect();
    let look_at: Vec<Option<i64>> = next.iter().map(|it| it.0).collect();
    let answered: Vec<i32> = next.iter().map(|it| it.1).collect();
    let failures: Vec<i32> = next.iter().map(|it| it.2).collect();
    let positions: Vec<Option<i64>> = next.iter().map(|it| it.3.map(|(it, _)| it)).collect();
    let seqs: Vec<Option<i64>> = next.iter().map(|it| it.3.map(|(_, it)| it)).collect();
    let added_at: Vec<i64> = looks().map(|it| it.added_at).collect();
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&kinds, &objects, &claims, &look_at, &answered, &failures, &positions, &seqs, &added_at];
    transact(client, end, &parameters).await.map(drop)
}

pub(in crate::postgres) async fn hasten(
    client: &Client,
    kind: &'static str,
    objects: &[String],
    pause: Duration,
) -> Result<(), Error> {
    let hasten = "
        INSERT INTO inqud_inbox.watch AS mine (kind, object, look_at, since, looks, added_at)
        SELECT $1, object, now, now, 0, now
        FROM unnest($2::text[]) AS it (object), inqud_inbox.micros(statement_timestamp()) AS now
        ORDER BY object COLLATE \"C\"
        ON CONFLICT (kind, object) DO UPDATE SET look_at = excluded.look_at
        WHERE mine.look_at > excluded.look_at AND NOT mine.leased AND mine.failures = 0
            AND (mine.looked_at IS NULL OR mine.looked_at <= excluded.look_at - $3)";
    transact(client, hasten, &[&kind, &objects, &micros(pause)]).await.map(drop)
}

pub(in crate::postgres) async fn known(
    client: &Client,
    kind: &'static str,
    id: &str,
) -> Result<Known, Error> {
    let known = "
        SELECT seq, key, order_key, reviewed, state = 4, state = 2 AND verdict IN (3, 4),
            state IN (2, 3) AND replays = 0
        FROM inqud_inbox.notification WHERE kind = $1 AND object = $2 ORDER BY seq";
    let pruned = "
        SELECT processed FROM inqud_inbox.object WHERE kind = $1 AND object = $2 AND pruned_at IS NOT NULL";
    let latest = "
        SELECT body FROM inqud_inbox.notification WHERE seq = $1";
    let (all, pruned, latest) = tokio::try_join!(
        client.prepare_cached(known),
        client.prepare_cached(pruned),
        client.prepare_cached(latest)
    )?;
    let mut rows = Vec::new();
    for row in &client.query(&all, &[&kind, &object(id)]).await? {
        let (key, order_key) = (key(row.try_get(1)?), order_key(row.try_get(2)?));
        let known = KnownRow::new(row.try_get(0)?, key, order_key, row.try_get(3)?);
        let known = known.in_review(row.try_get(4)?).skipped(row.try_get(5)?);
        rows.push(known.given_up(row.try_get(6)?));
    }
    let processed = client.query_opt(&pruned, &[&kind, &object(id)]).await?;
    let processed: Option<&[u8]> =
        processed.as_ref().map(|row| row.try_get(0)).transpose()?.flatten();
    let processed = processed.and_then(Processed::from_bytes);
    let known = Known::new(rows).recall(kind, id, processed);
    let bytes = match known.end_seq() {
        Some(seq) => client.query_opt(&latest, &[&seq]).await?,
        None => None,
    };
    let bytes = bytes.map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(known.with_body(body(bytes)))
}

pub(in crate::postgres) async fn insert_after(
    client: &Client,
    record: &Record,
    extent: Extent,
) -> Result<Option<i64>, Error> {
    let insert = "SELECT inqud_inbox.insert_after($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let Record { key, kind, order_key, body, order_id, source, .. } = record;
    let parameters: [&(dyn ToSql + Sync); 11] = [
        kind,
        &object(&record.object),
        &extent.last,
        &extent.count,
        &bytes_of(key),
        &order_key.position(),
        &order_key.to_bytes(),
        &&body[..],
        order_id,
        &text(order_key.status()),
        &source.code(),
    ];
    let rows = transact(client, insert, &parameters).await?;
    rows.first().map_or(Ok(None), |row| row.try_get(0))
}
