WITH became AS (
    UPDATE inqud_inbox.notification
    SET key = $2::bytea, object = $3::text, position = $4::bigint, order_key = $5::bytea,
        state = $6::smallint, error = $7::text, failures = 0, retry_at = NULL, verdict = 0,
        order_id = $8::text, status = $9::text,
        settled_at = CASE WHEN $6::smallint > 0 THEN statement_timestamp() END
    WHERE seq = $1::bigint
    RETURNING kind, object, state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, review) SELECT kind, -1, 1 FROM became WHERE state = 4
)
UPDATE inqud_inbox.object AS mine SET due_at = statement_timestamp() FROM became
WHERE mine.kind = became.kind AND mine.object = became.object AND mine.leased_until IS NULL
    AND (mine.due_at IS NULL OR mine.due_at > statement_timestamp()) AND became.state = 0
