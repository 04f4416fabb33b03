WITH closed AS (
    UPDATE inqud_inbox.notification AS mine
    SET state = it.state, verdict = it.verdict, error = coalesce(it.error, mine.error),
        failures = mine.failures + (it.state IN (0, 3))::integer,
        retry_at = CASE it.state WHEN 0 THEN statement_timestamp() + it.wait * interval '1 microsecond' END,
        settled_at = CASE WHEN it.state > 0 THEN statement_timestamp() END
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::bigint[], $7::text[],
        $8::smallint[]) AS it (seq, kind, object, claim, state, wait, error, verdict)
    JOIN inqud_inbox.object AS its ON its.kind = it.kind AND its.object = it.object AND its.claim = it.claim
        AND its.leased_until IS NOT NULL
    WHERE mine.seq = it.seq AND mine.state < 1 -- not = 0, so that the planner uses seq and not the index of open ones
    RETURNING mine.kind, mine.state
)
INSERT INTO inqud_inbox.tally (kind, backlog, skipped, dead, review)
SELECT kind, -count(*), count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3),
    count(*) FILTER (WHERE state = 4)
FROM closed WHERE state > 0 GROUP BY kind
