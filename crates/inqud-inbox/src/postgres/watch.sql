
-- The watch list: the objects that a reconciler looks at. Only a reconciler, and those who expect objects, write it.
-- Times are in microseconds since 1970.
CREATE TABLE inqud_inbox.watch (
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL CHECK (octet_length(object) <= 1200),
    look_at bigint NOT NULL, -- when to look; the end of the lease while leased
    leased boolean NOT NULL DEFAULT false,
    claim bigint NOT NULL DEFAULT 0, -- ending a look with an earlier number changes nothing
    since bigint NOT NULL, -- what the schedule counts from
    looks integer, -- that the API has answered since; null if the first one is not scheduled yet
    failures integer NOT NULL DEFAULT 0, -- looks in a row that the API has not answered
    added_at bigint NOT NULL,
    looked_at bigint,
    position bigint NOT NULL DEFAULT -9223372036854775808, -- of the notification that moved the look last
    seq bigint NOT NULL DEFAULT 0, -- its number
    PRIMARY KEY (kind, object)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

CREATE INDEX watch_due ON inqud_inbox.watch (kind, look_at);

-- Up to which notification a reconciler has read the arrivals of each kind. Transactions can commit in another order
-- than that of their numbers, so the numbers up to `next_seq` are read only when every transaction before `next_xid` has
-- ended.
CREATE TABLE inqud_inbox.watch_read (
    kind text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL,
    next_seq bigint,
    next_xid xid8,
    next_at timestamptz
);

CREATE FUNCTION inqud_inbox.micros(at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM at) * 1000000)::bigint
$$;

-- Makes a reconciler look at an object even if no webhook about it ever arrives: some minutes after `expires_at` at
-- first. Call it in the transaction that stores the order. `tenant` is the tenant that the object belongs to, if any.
CREATE FUNCTION inqud_inbox.expect(
    kind text,
    object text,
    expires_at timestamptz DEFAULT NULL,
    tenant text DEFAULT NULL
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO inqud_inbox.watch (kind, object, look_at, since, added_at)
    SELECT expect.kind,
        CASE WHEN coalesce(expect.tenant, '') = '' AND left(expect.object, 1) <> '@' THEN expect.object
            ELSE '@' || replace(replace(coalesce(expect.tenant, ''), '%', '%25'), '/', '%2F') || '/' || expect.object END,
        inqud_inbox.micros(statement_timestamp()),
        inqud_inbox.micros(least(coalesce(expect.expires_at, statement_timestamp()),
            statement_timestamp() + interval '400 days')),
        inqud_inbox.micros(statement_timestamp())
    ON CONFLICT DO NOTHING
$$;

-- Returns up to which notification of a kind the arrivals were read, up to which they can be read now, and the number of
-- the newest.
CREATE FUNCTION inqud_inbox.reach(kind text, horizon interval) RETURNS TABLE (from_seq bigint, to_seq bigint, newest bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    mine inqud_inbox.watch_read;
    earlier bigint := 0;
    middle bigint;
    found inqud_inbox.notification;
BEGIN
    SELECT * INTO mine FROM inqud_inbox.watch_read AS its WHERE its.kind = reach.kind FOR UPDATE;
    newest := (SELECT coalesce(max(seq), 0) FROM inqud_inbox.notification);
    IF mine.kind IS NULL THEN
        -- The number before that of the first notification that is not too old, by bisection.
        from_seq := newest;
        WHILE earlier < from_seq LOOP
            middle := earlier + (from_seq - earlier) / 2;
            SELECT its.seq, its.received_at INTO found.seq, found.received_at FROM inqud_inbox.notification AS its
            WHERE its.seq > middle ORDER BY its.seq LIMIT 1;
            IF found.received_at < statement_timestamp() - horizon THEN
                earlier := found.seq;
            ELSE
                from_seq := middle;
            END IF;
        END LOOP;
        INSERT INTO inqud_inbox.watch_read (kind, seq) VALUES (reach.kind, earlier)
        ON CONFLICT DO NOTHING;
        SELECT * INTO mine FROM inqud_inbox.watch_read AS its WHERE its.kind = reach.kind FOR UPDATE;
    END IF;
    from_seq := mine.seq;
    to_seq := mine.seq;
    IF mine.next_xid <= pg_snapshot_xmin(pg_current_snapshot())
        -- No put takes that long, but another transaction of the merchant can.
        OR mine.next_at < statement_timestamp() - interval '10 minutes' THEN
        to_seq := greatest(mine.seq, mine.next_seq);
        mine.next_xid := NULL;
    END IF;
    IF mine.next_xid IS NULL AND newest > to_seq THEN
        -- Every transaction that has a number up to `newest` began to write before this.
        UPDATE inqud_inbox.watch_read AS its
        SET next_seq = newest, next_xid = pg_snapshot_xmax(pg_current_snapshot()), next_at = statement_timestamp()
        WHERE its.kind = reach.kind;
    END IF;
    RETURN NEXT;
END $$;

-- Stores a fetched notification, and returns its number. Returns null if the last one of its object is not the one with
-- the number `last`, or if there are not so many.
CREATE FUNCTION inqud_inbox.insert_after(
    kind text, object text, last bigint, count bigint, key bytea, "position" bigint, order_key bytea, body bytea,
    order_id text, status text, source smallint
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    stored bigint;
BEGIN
    -- Locks the object, then looks.
    INSERT INTO inqud_inbox.object AS mine (kind, object) VALUES (insert_after.kind, insert_after.object)
    ON CONFLICT (kind, object) DO UPDATE SET due_at = mine.due_at WHERE false;
    IF (SELECT (max(its.seq), count(*)) FROM inqud_inbox.notification AS its
        WHERE its.kind = insert_after.kind AND its.object = insert_after.object)
        IS DISTINCT FROM (insert_after.last, insert_after.count) THEN
        RETURN NULL;
    END IF;
    INSERT INTO inqud_inbox.notification
        (key, kind, object, position, order_key, body, order_id, status, source, received_at, reviewed)
    VALUES (insert_after.key, insert_after.kind, insert_after.object, insert_after.position, insert_after.order_key,
        insert_after.body, insert_after.order_id, insert_after.status, insert_after.source, statement_timestamp(), true)
    RETURNING seq INTO stored;
    UPDATE inqud_inbox.object AS mine SET due_at = statement_timestamp()
    WHERE mine.kind = insert_after.kind AND mine.object = insert_after.object AND mine.leased_until IS NULL
        AND (mine.due_at IS NULL OR mine.due_at > statement_timestamp());
    INSERT INTO inqud_inbox.tally (kind, backlog) VALUES (insert_after.kind, 1);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    RETURN stored;
END $$;
