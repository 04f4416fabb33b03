WITH known AS MATERIALIZED (
    -- Finds an earlier notification with the same content: its key has the same first half.
    SELECT nth, kind, object, is_plain AND same.key = it.key AS is_duplicate,
        same.body IS NOT NULL AND same.body <> ($6::bytea[])[nth] AS differs
    FROM unnest($1::bytea[], $2::text[], $3::text[], $8::boolean[])
        WITH ORDINALITY AS it (key, kind, object, is_plain, nth)
    CROSS JOIN LATERAL (
        SELECT mine.key, mine.body FROM inqud_inbox.notification AS mine
        WHERE mine.kind = it.kind AND mine.object = it.object AND mine.key BETWEEN substring(it.key for 8)
            AND substring(it.key for 8) || decode('ffffffffffffffff', 'hex')
        ORDER BY mine.key LIMIT 1
    ) AS same
    UNION ALL
    -- Some of its notifications are deleted.
    SELECT nth, kind, object, false, false
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS it (kind, object, nth)
    JOIN inqud_inbox.object AS mine USING (kind, object) WHERE mine.pruned_at IS NOT NULL
), stored AS (
    INSERT INTO inqud_inbox.notification
        (key, kind, object, position, order_key, order_id, status, source, body, received_at, state, settled_at,
            error)
    SELECT key, kind, object, position, order_key, order_id, status, source, body,
        transaction_timestamp() + later * interval '1 microsecond',
        CASE WHEN dead IS NULL THEN 0 ELSE 3 END,
        CASE WHEN dead IS NOT NULL THEN statement_timestamp() END, dead
    FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bytea[],
            $7::text[], $9::bigint[], $10::text[], $11::text[], $12::smallint[])
        WITH ORDINALITY AS it (key, kind, object, position, order_key, body, dead, later, order_id, status, source,
            nth)
    -- A record that needs a decision is left out, and so are all later ones of its object, so that the order of
    -- arrival is kept.
    WHERE NOT EXISTS (
        SELECT FROM known WHERE known.kind = it.kind AND known.object = it.object
            AND (known.nth = it.nth OR known.nth < it.nth AND NOT known.is_duplicate)
    )
    ORDER BY nth
    ON CONFLICT (kind, object, key) DO NOTHING
    RETURNING key, kind, object, state
), counted AS (
    INSERT INTO inqud_inbox.tally (kind, backlog, dead)
    SELECT kind, count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 3)
    FROM stored GROUP BY kind
), idle AS (
    UPDATE inqud_inbox.object AS mine SET due_at = NULL FROM known
    WHERE mine.kind = known.kind AND mine.object = known.object
        AND NOT EXISTS (SELECT FROM stored
            WHERE stored.kind = known.kind AND stored.object = known.object)
        -- A subquery for each row, not a join: with stale statistics that show nothing open, the planner would
        -- join by reading all open notifications.
        AND (SELECT open.seq FROM inqud_inbox.notification AS open
            WHERE open.kind = known.kind AND open.object = known.object AND open.state = 0
            ORDER BY open.position, open.seq LIMIT 1) IS NULL
)
SELECT transaction_timestamp(), key, NULL::bigint AS nth, NULL::boolean AS is_duplicate,
    NULL::boolean AS differs,
    -- Makes this commit wait for the disk even if the role or the database has synchronous_commit off.
    CASE current_setting('synchronous_commit')
        WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
FROM stored
UNION ALL SELECT transaction_timestamp(), NULL, nth, is_duplicate, differs, NULL FROM known
