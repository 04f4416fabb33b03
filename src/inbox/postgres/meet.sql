INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
SELECT kind, object, CASE WHEN bool_or(dead IS NULL) THEN statement_timestamp() END
FROM unnest($1::text[], $2::text[], $3::text[]) AS it (kind, object, dead)
GROUP BY kind, object ORDER BY kind, object
-- Locks what is there, and leaves it as it is.
ON CONFLICT (kind, object) DO UPDATE SET due_at = mine.due_at WHERE false
