INSERT INTO inqud_inbox.object AS mine (kind, object, due_at)
-- The same time that insert.sql stores as received_at: both use the time of the transaction.
SELECT kind, object,
    transaction_timestamp() + min(later) FILTER (WHERE dead IS NULL) * interval '1 microsecond'
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS it (kind, object, dead, later)
GROUP BY kind, object ORDER BY kind COLLATE "C", object COLLATE "C"
-- An object that exists is locked, and made due if it is idle or waits for a retry. insert.sql reverts that if
-- it stores nothing.
ON CONFLICT (kind, object) DO UPDATE SET due_at = excluded.due_at
WHERE excluded.due_at IS NOT NULL AND mine.leased_until IS NULL
    AND (mine.due_at IS NULL OR mine.due_at > transaction_timestamp())
