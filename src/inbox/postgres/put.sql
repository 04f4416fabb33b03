WITH arrived AS (
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
        WITH ORDINALITY AS it (key, kind, object, version, body, dead, nth)
), stored AS (
    INSERT INTO inqud_inbox.notification
        (key, kind, object, version, body, received_at, state, settled_at, error)
    SELECT key, kind, object, version, body,
        statement_timestamp() + (nth - cardinality($1)) * interval '1 microsecond',
        CASE WHEN dead IS NULL THEN 0 ELSE 3 END,
        CASE WHEN dead IS NOT NULL THEN statement_timestamp() END, dead
    FROM arrived ORDER BY key
    ON CONFLICT (key) DO NOTHING
    RETURNING key, kind, object, received_at, state
), due AS (
    INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
    SELECT kind, object, min(received_at) FROM stored WHERE state = 0
    GROUP BY kind, object ORDER BY kind, object
    ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at WHERE mine.due_at IS NULL
)
-- Of all who commit at once each waits for the disk, also where the role or the database does not.
SELECT key, CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
FROM stored
