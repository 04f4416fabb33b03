WITH due AS MATERIALIZED (
    SELECT object, due_at FROM inqud_inbox.object
    WHERE kind = $1 AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE inqud_inbox.object AS mine
SET due_at = statement_timestamp() + $3::bigint * interval '1 microsecond', claim = claim + 1
WHERE kind = $1 AND object = ANY (ARRAY(SELECT object FROM due))
RETURNING object, claim, processed, (SELECT due_at FROM due WHERE due.object = mine.object) AS since
