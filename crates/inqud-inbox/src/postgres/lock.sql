SELECT it.nth, mine.leased_until IS NOT NULL FROM unnest($1::text[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS it (kind, object, claim, nth)
JOIN inqud_inbox.object AS mine USING (kind, object)
WHERE mine.claim = it.claim
ORDER BY mine.kind, mine.object
FOR UPDATE OF mine
