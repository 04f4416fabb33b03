WITH processed AS MATERIALIZED (
    -- All that was processed of the objects, and the position of its replay: see replay.rs.
    SELECT it.seq, it.kind, it.object, it.state, it.body IS NULL AS is_pruned, CASE WHEN it.replays > 0 THEN it.position
        ELSE (-9223372036854775808)::bigint + (extract(epoch FROM it.settled_at) * 1000000)::bigint END AS rank
    FROM (
        SELECT DISTINCT kind, object FROM inqud_inbox.notification WHERE seq = ANY ($1::bigint[])
    ) AS chosen
    JOIN inqud_inbox.object AS its USING (kind, object)
    JOIN inqud_inbox.notification AS it USING (kind, object)
    WHERE (its.leased_until IS NULL OR its.leased_until <= statement_timestamp())
        AND (it.state = 1 OR it.state > 1 AND it.state IN (2, 3) AND it.replays > 0)
    FOR UPDATE OF it -- so that a body that is deleted at the same time is seen as deleted
), beginning AS (
    SELECT kind, object, min(rank) FILTER (WHERE seq = ANY ($1::bigint[])) AS chosen,
        max(rank) FILTER (WHERE is_pruned) AS pruned
    FROM processed GROUP BY kind, object
), opened AS (
    UPDATE inqud_inbox.notification AS mine
    SET state = 0, position = processed.rank, replays = mine.replays + 1, failures = 0, retry_at = NULL,
        settled_at = NULL, error = NULL
    FROM processed JOIN beginning USING (kind, object)
    WHERE mine.seq = processed.seq AND processed.rank >= beginning.chosen
        AND (beginning.pruned IS NULL OR processed.rank > beginning.pruned)
    RETURNING mine.seq, mine.kind, mine.object, processed.state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, skipped, dead)
    SELECT kind, count(*), -count(*) FILTER (WHERE state = 2), -count(*) FILTER (WHERE state = 3)
    FROM opened GROUP BY kind
), due AS (
    -- A lease that has expired is void.
    UPDATE inqud_inbox.object AS mine
    SET due_at = CASE WHEN mine.due_at <= statement_timestamp() THEN mine.due_at ELSE statement_timestamp() END,
        crashes = mine.crashes + (mine.leased_until IS NOT NULL)::integer, leased_until = NULL
    FROM (SELECT DISTINCT kind, object FROM opened) AS it
    WHERE mine.kind = it.kind AND mine.object = it.object
)
SELECT seq FROM opened ORDER BY seq
