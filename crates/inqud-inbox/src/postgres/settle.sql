WITH closed AS (
    UPDATE inqud_inbox.notification AS mine
    SET state = it.state, verdict = it.verdict, error = coalesce(it.error, mine.error),
        settled_at = CASE WHEN it.state > 0 THEN statement_timestamp() END
    FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::text[], $5::smallint[], $6::bytea[])
        AS it (seq, state, wait, error, verdict, processed)
    WHERE mine.seq = it.seq AND mine.state < 1 -- not = 0, so that the planner uses seq and not the index of open ones
    RETURNING mine.seq, mine.kind, mine.object, it.state, it.wait, it.processed
)
UPDATE inqud_inbox.object AS mine SET
    processed = coalesce(closed.processed, mine.processed),
    due_at = CASE closed.state
        WHEN 0 THEN statement_timestamp() + closed.wait * interval '1 microsecond'
        ELSE (SELECT next.received_at FROM inqud_inbox.notification AS next
            WHERE next.kind = closed.kind AND next.object = closed.object AND next.state = 0
                AND next.seq <> closed.seq
            ORDER BY next.position, next.seq LIMIT 1)
        END
FROM closed WHERE mine.kind = closed.kind AND mine.object = closed.object
RETURNING closed.seq
