//! The log of rejected calls.

use std::collections::BTreeSet;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::{BEGIN, text};
use crate::rejection::LoggedRejection;

const INSERT: &str = "
INSERT INTO inqud_inbox.rejection (at, content_length, dropped, kind, reason, diagnosis, source)
SELECT to_timestamp(0) + at * interval '1 microsecond', content_length, dropped, kind, reason, diagnosis, source
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
    WITH ORDINALITY AS it (at, content_length, dropped, kind, reason, diagnosis, source, nth) ORDER BY nth";

/// Deletes all but the newest of some reasons.
const TRIM: &str = "
DELETE FROM inqud_inbox.rejection AS mine USING unnest($1::text[]) AS it (reason)
WHERE mine.reason = it.reason AND mine.id <= (
    SELECT its.id FROM inqud_inbox.rejection AS its WHERE its.reason = it.reason
    ORDER BY its.id DESC LIMIT 1 OFFSET $2)";

pub(in crate::postgres) async fn log_rejections(
    client: &Client,
    calls: &[LoggedRejection],
    keep: usize,
) -> Result<(), Error> {
    let (insert, trim) =
        tokio::try_join!(client.prepare_cached(INSERT), client.prepare_cached(TRIM))?;
    let numbers: Vec<_> = calls.iter().map(LoggedRejection::numbers).collect();
    let at: Vec<i64> = numbers.iter().map(|it| it.0).collect();
    let lengths: Vec<Option<i64>> = numbers.iter().map(|it| it.1).collect();
    let dropped: Vec<i64> = numbers.iter().map(|it| it.2).collect();
    let kinds: Vec<String> = calls.iter().map(|it| text(&it.kind)).collect();
    let reasons: Vec<&str> = calls.iter().map(|it| &*it.reason).collect();
    let diagnoses: Vec<Option<String>> =
        calls.iter().map(|it| it.diagnosis.as_deref().map(text)).collect();
    let sources: Vec<Option<String>> =
        calls.iter().map(|it| it.source.map(|it| it.to_string())).collect();
    let columns: [&(dyn ToSql + Sync); 7] =
        [&at, &lengths, &dropped, &kinds, &reasons, &diagnoses, &sources];
    let distinct: Vec<&str> =
        reasons.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let of: [&(dyn ToSql + Sync); 2] = [&distinct, &keep];
    let (begun, inserted, trimmed, committed) = tokio::join!(
        client.batch_execute(BEGIN),
        client.execute(&insert, &columns),
        client.execute(&trim, &of),
        client.batch_execute("COMMIT"),
    );
    begun?;
    inserted?;
    trimmed?;
    committed
}

pub(in crate::postgres) async fn rejections(
    client: &Client,
    limit: usize,
) -> Result<Vec<LoggedRejection>, Error> {
    let list = "
        SELECT (extract(epoch FROM at) * 1000000)::bigint, content_length, dropped, kind, reason, diagnosis, source
        FROM inqud_inbox.rejection ORDER BY id DESC LIMIT $1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(list, &[&limit]).await?;
    let calls = rows.iter().map(|row| {
        Ok(LoggedRejection::of(
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            [row.try_get(3)?, row.try_get(4)?],
            row.try_get(5)?,
            row.try_get(6)?,
        ))
    });
    calls.collect()
}
