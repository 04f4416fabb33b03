WITH it AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::bigint[],
            $7::text[], $8::smallint[], $9::bytea[])
        WITH ORDINALITY AS it (seq, kind, object, claim, state, wait, error, verdict, processed, nth)
), closed AS (
    UPDATE inqud_inbox.notification AS mine
    SET state = it.state, verdict = it.verdict, error = coalesce(it.error, mine.error),
        failures = mine.failures + (it.state IN (0, 3))::integer,
        retry_at = CASE it.state WHEN 0 THEN statement_timestamp() + it.wait * interval '1 microsecond' END,
        settled_at = CASE WHEN it.state > 0 THEN statement_timestamp() END
    FROM it JOIN inqud_inbox.object AS its
        ON its.kind = it.kind AND its.object = it.object AND its.claim = it.claim
            AND its.leased_until IS NOT NULL
    WHERE mine.seq = it.seq AND mine.state < 1 -- not = 0, so that the planner uses seq and not the index of open ones
    RETURNING it.nth, mine.seq, mine.kind, mine.object, mine.state, mine.retry_at, it.processed
), freed AS (
    UPDATE inqud_inbox.object AS mine SET
        processed = coalesce(closed.processed, mine.processed), leased_until = NULL, crashes = 0,
        due_at = CASE closed.state WHEN 0 THEN CASE (
                SELECT other.seq IS NOT NULL FROM inqud_inbox.notification AS other
                WHERE other.kind = closed.kind AND other.object = closed.object AND other.state = 0
                    AND other.seq <> closed.seq
                ORDER BY other.position, other.seq LIMIT 1)
                WHEN true THEN least(closed.retry_at, statement_timestamp()) ELSE closed.retry_at END
            ELSE (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
                WHERE next.kind = closed.kind AND next.object = closed.object AND next.state = 0
                    AND next.seq <> closed.seq
                ORDER BY next.position, next.seq LIMIT 1)
            END
    FROM closed WHERE mine.kind = closed.kind AND mine.object = closed.object
    RETURNING closed.nth, mine.due_at
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, skipped, dead, review)
    SELECT kind, -count(*), count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3),
        count(*) FILTER (WHERE state = 4)
    FROM closed WHERE state > 0 GROUP BY kind
)
SELECT nth, due_at, due_at <= statement_timestamp(), true FROM freed
UNION ALL
-- Settled before, when the answer was lost.
SELECT it.nth, its.due_at, its.due_at <= statement_timestamp(), false
FROM it JOIN inqud_inbox.object AS its
    ON its.kind = it.kind AND its.object = it.object AND its.claim = it.claim AND its.leased_until IS NULL
JOIN inqud_inbox.notification AS mine ON mine.seq = it.seq AND mine.state = it.state
