WITH it AS MATERIALIZED (
    SELECT it.*, its.leased_until IS NOT NULL AS is_valid, its.due_at
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::bytea[], $7::boolean[])
        WITH ORDINALITY AS it (seq, kind, object, claim, state, processed, newest_first, nth)
    JOIN inqud_inbox.object AS its ON its.kind = it.kind AND its.object = it.object AND its.claim = it.claim
    JOIN inqud_inbox.notification AS mine ON mine.seq = it.seq AND mine.state = it.state
), freed AS (
    UPDATE inqud_inbox.object AS mine SET
        processed = coalesce(it.processed, mine.processed), leased_until = NULL, crashes = 0,
        -- Subqueries, not a join: see insert.sql.
        due_at = CASE WHEN it.newest_first THEN coalesce(
            -- Replays come first nevertheless.
            (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = it.kind AND next.object = it.object AND next.state = 0
                AND next.position < -4611686018427387904
            ORDER BY next.position, next.seq LIMIT 1),
            (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = it.kind AND next.object = it.object AND next.state = 0
            ORDER BY next.position DESC, next.seq DESC LIMIT 1))
        ELSE
            (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = it.kind AND next.object = it.object AND next.state = 0
            ORDER BY next.position, next.seq LIMIT 1)
        END
    FROM it WHERE it.is_valid AND mine.kind = it.kind AND mine.object = it.object
    RETURNING it.nth, mine.due_at
)
SELECT nth, due_at, due_at <= statement_timestamp(), true FROM freed
UNION ALL
-- Settled before, by the same claim, when the answer was lost.
SELECT nth, due_at, due_at <= statement_timestamp(), false FROM it WHERE NOT is_valid
