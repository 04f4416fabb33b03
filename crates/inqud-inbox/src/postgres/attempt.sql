UPDATE inqud_inbox.notification SET attempts = attempts + 1
WHERE seq = ANY (ARRAY(
    SELECT oldest.seq FROM unnest($2::text[]) AS due (object) CROSS JOIN LATERAL (
        SELECT seq FROM inqud_inbox.notification AS it
        WHERE it.kind = $1 AND it.object = due.object AND it.state = 0
        ORDER BY it.position, it.seq LIMIT 1
    ) AS oldest
))
RETURNING object, seq, key, order_key, body, attempts,
    (extract(epoch FROM received_at) * 1000000)::bigint, reviewed
