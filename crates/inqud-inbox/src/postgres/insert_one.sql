WITH stored AS (
    INSERT INTO inqud_inbox.notification
        (key, kind, object, position, order_key, order_id, status, source, body, received_at, state, settled_at,
            error)
    VALUES ($1::bytea, $2::text, $3::text, $4::bigint, $5::bytea, $10::text, $11::text, $12::smallint, $6::bytea,
        $9::timestamptz,
        $7::smallint, CASE WHEN $7::smallint > 0 THEN statement_timestamp() END, $8::text)
    RETURNING kind, state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, dead, review)
    SELECT kind, (state = 0)::integer, (state = 3)::integer, (state = 4)::integer FROM stored
)
SELECT CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
FROM stored
