INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
-- As `insert.sql` will say that they were received: both know the time of the transaction.
SELECT kind, object,
    transaction_timestamp() + min(later) FILTER (WHERE dead IS NULL) * interval '1 microsecond'
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS it (kind, object, dead, later)
GROUP BY kind, object ORDER BY kind COLLATE "C", object COLLATE "C"
-- Locks what is there, and makes it due if it is idle: `insert.sql` takes that back if nothing is stored.
ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at
WHERE mine.due_at IS NULL AND excluded.due_at IS NOT NULL
