-- A role that may not create schemas can use one that exists.
DO $$ BEGIN
    IF to_regnamespace('inqud_inbox') IS NULL THEN
        CREATE SCHEMA inqud_inbox;
    END IF;
END $$;

-- The migrations that were applied.
CREATE TABLE inqud_inbox.version (
    version integer PRIMARY KEY,
    -- The earliest version whose programs can still use the tables, so that they run on during a deploy.
    least_reader integer NOT NULL
);

-- Notifications. Duplicates are detected by them, so they are kept until a retention deletes them.
--
-- Columns that change come first. If both versions of a row are on the same page, the log leaves out what
-- they have in common at the end, which then includes the body. The fillfactor leaves the room for that.
CREATE TABLE inqud_inbox.notification (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state smallint NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead, 4 kept for review
    verdict smallint NOT NULL DEFAULT 0, -- 0 newer, 1 amended, 2 unordered, 3 stale, 4 review
    failures integer NOT NULL DEFAULT 0, -- attempts that ended with an error
    reviewed boolean NOT NULL DEFAULT false,
    replays integer NOT NULL DEFAULT 0, -- how often it was to be processed again after it was done
    retry_at timestamptz, -- not to be claimed before this time
    settled_at timestamptz,
    error text,
    received_at timestamptz NOT NULL,
    position bigint NOT NULL, -- the processing order within an object, before seq
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    key bytea NOT NULL CHECK (octet_length(key) = 16),
    order_key bytea NOT NULL,
    order_id text COLLATE "C",
    status text COLLATE "C" NOT NULL DEFAULT '',
    source smallint NOT NULL DEFAULT 0, -- 0 pushed by a webhook, 1 fetched or imported
    body bytea,
    -- Also finds all notifications of an object, and those with the same content, whose keys are adjacent.
    UNIQUE (kind, object, key)
) WITH (fillfactor = 80, autovacuum_analyze_scale_factor = 0.01);

-- The only index that may match a query for state = 0. When statistics from a quiet hour show nothing open, the
-- planner considers any matching index equally cheap, and could choose one that reads all open notifications.
CREATE INDEX notification_open
    ON inqud_inbox.notification (kind, object, position, seq, received_at) WHERE state = 0;
-- Finds the oldest open notification of a kind. Only a query for state + 0 = 0 matches it.
CREATE INDEX notification_oldest ON inqud_inbox.notification (kind, seq) WHERE state + 0 = 0;
CREATE INDEX notification_redrivable ON inqud_inbox.notification (key) WHERE state > 2;
CREATE INDEX notification_listed ON inqud_inbox.notification (state, seq, kind) WHERE state > 1;
-- Order ids arrive in random order. In an index by order id alone, each insert would change another page. By blocks of
-- 1,024 rows, inserts stay in the few pages of the last block. A look-up searches each block.
CREATE INDEX notification_order ON inqud_inbox.notification ((seq / 1024), order_id) WHERE order_id IS NOT NULL;
CREATE INDEX notification_flagged ON inqud_inbox.notification (verdict, seq)
    WHERE state = 1 AND verdict > 0;
CREATE INDEX notification_prunable
    ON inqud_inbox.notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- Objects. Leases and retries are per object, so that its notifications are handled one at a time.
--
-- A claim changes no column that is indexed, and finds room on the page, so it adds nothing to the indexes.
CREATE TABLE inqud_inbox.object (
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    due_at timestamptz, -- null if no notification is open; unchanged while leased
    leased_until timestamptz, -- null if not leased
    claim bigint NOT NULL DEFAULT 0, -- the number of claims; settling with an earlier number is refused
    crashes integer NOT NULL DEFAULT 0, -- leases in a row that expired without a settlement
    processed bytea, -- the order key and the seq of the notification that was handled last
    pruned_at timestamptz, -- when the last one of its deleted notifications was settled
    PRIMARY KEY (kind, object)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.01); -- each notification leaves dead versions of a row

CREATE INDEX object_due ON inqud_inbox.object (kind, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX object_pruned ON inqud_inbox.object (pruned_at) WHERE pruned_at IS NOT NULL;

-- How many notifications are in each state, as the sum of all rows. Each change adds a row with the
-- difference, because changing a common row would make all commits wait for each other. Counting adds up the
-- rows and replaces them by their sums.
CREATE TABLE inqud_inbox.tally (
    kind text COLLATE "C" NOT NULL,
    backlog bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    review bigint NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.01);

-- The idempotency keys of `Context::once`, and the notification that each was first used for. Never deleted.
CREATE TABLE inqud_inbox.once (
    idempotency_key text COLLATE "C" PRIMARY KEY,
    notification bytea NOT NULL -- the notification's key
);

-- When a runner last claimed a kind, to within a minute.
CREATE TABLE inqud_inbox.runner (
    kind text COLLATE "C" PRIMARY KEY,
    claimed_at timestamptz NOT NULL
);

-- The log of rejected calls. Its times are those of the processes.
CREATE TABLE inqud_inbox.rejection (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    content_length bigint, -- as the head says
    dropped bigint NOT NULL, -- how many before it are not in the log
    kind text NOT NULL,
    reason text NOT NULL,
    diagnosis text,
    source text -- an address
);

CREATE INDEX rejection_reason ON inqud_inbox.rejection (reason, id);

-- Leases up to `most` due objects of a kind, and returns the notification of each that is to be handled: its
-- first open one, or its last if `newest_first`.
--
-- If one of the first `suspects` objects is a suspect, it is all that is leased. Its lease has expired, so that
-- whoever held it may have been ended by it. `due_from` leaves out objects that became due before, because
-- the caller knows that there are none; they would be found, but reading past what was there takes time.
--
-- An object whose notification waits for a retry is not leased, but becomes due at that time, and others are leased
-- instead. So fewer than `most` means that no more are due, unless a suspect was leased. A last row without a
-- notification has the `due_at` of the last object that was looked at, or null if no more are due.
CREATE FUNCTION inqud_inbox.claim(
    kind text,
    most bigint,
    lease interval,
    newest_first boolean,
    suspects bigint,
    due_from timestamptz
) RETURNS TABLE (
    object text, claim bigint, crashes integer, processed bytea, due_at timestamptz, seq bigint, key bytea,
    order_key bytea, body bytea, failures integer, received_at timestamptz, reviewed boolean, source smallint,
    verdict smallint, replays integer
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    taken text[];
    is_suspect boolean;
    is_full boolean := false;
    last_due timestamptz;
    found_now bigint;
    found_all bigint := 0;
BEGIN
    -- The claim is not flushed. If a crash of the server loses it, no settlement of it can be in the log
    -- either, because that comes later. So the notification is only claimed again, perhaps with the same
    -- number. Of two settlements with one number the first ends the lease, and the second is refused.
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR turn IN 1..100 LOOP
        taken := NULL;
        IF suspects > 0 AND found_all = 0 THEN
            -- Leased objects are those that were due first, so they are at the front.
            taken := nullif(ARRAY(
                SELECT mine.object FROM inqud_inbox.object AS mine
                WHERE mine.kind = claim.kind AND mine.object = (
                    SELECT front.object FROM (
                        SELECT its.object, its.due_at, its.leased_until, its.crashes
                        FROM inqud_inbox.object AS its
                        WHERE its.kind = claim.kind AND its.due_at >= due_from
                            AND its.due_at <= statement_timestamp()
                        ORDER BY its.due_at LIMIT suspects
                    ) AS front
                    WHERE front.leased_until <= statement_timestamp()
                        OR front.leased_until IS NULL AND front.crashes > 0
                    ORDER BY coalesce(front.leased_until, front.due_at) LIMIT 1
                ) AND (mine.leased_until <= statement_timestamp()
                    OR mine.leased_until IS NULL AND mine.crashes > 0
                        AND mine.due_at <= statement_timestamp())
                FOR UPDATE SKIP LOCKED
            ), '{}');
        END IF;
        is_suspect := taken IS NOT NULL;
        IF NOT is_suspect THEN
            SELECT array_agg(due.object), max(due.due_at), count(*) >= most - found_all
            INTO taken, last_due, is_full
            FROM (
                SELECT mine.object, mine.due_at FROM inqud_inbox.object AS mine
                WHERE mine.kind = claim.kind AND mine.due_at >= due_from
                    AND mine.due_at <= statement_timestamp() AND mine.leased_until IS NULL
                    AND mine.crashes = 0
                ORDER BY mine.due_at LIMIT most - found_all
                FOR UPDATE SKIP LOCKED
            ) AS due;
        END IF;
        EXIT WHEN taken IS NULL;
        -- A statement of its own, which sees what the last holders of the locks have committed.
        RETURN QUERY WITH leased AS (
            UPDATE inqud_inbox.object AS mine SET
                due_at = CASE WHEN it.can_start THEN mine.due_at ELSE it.retry_at END,
                leased_until = CASE WHEN it.can_start THEN statement_timestamp() + lease END,
                claim = mine.claim + it.can_start::integer,
                crashes = mine.crashes + (mine.leased_until IS NOT NULL)::integer
            FROM (
                SELECT due.object, due.nth, open.*,
                    coalesce(open.seq IS NOT NULL AND (open.retry_at IS NULL
                        OR open.retry_at <= statement_timestamp()), false) AS can_start
                FROM unnest(taken) WITH ORDINALITY AS due (object, nth)
                LEFT JOIN LATERAL (
                    (SELECT its.seq, its.key, its.order_key, its.body, its.failures, its.received_at,
                        its.reviewed, its.retry_at, its.source, its.verdict, its.replays
                    FROM inqud_inbox.notification AS its
                    WHERE NOT newest_first AND its.kind = claim.kind AND its.object = due.object AND its.state = 0
                    ORDER BY its.position, its.seq LIMIT 1)
                    UNION ALL
                    -- Replays come first nevertheless.
                    (SELECT its.seq, its.key, its.order_key, its.body, its.failures, its.received_at,
                        its.reviewed, its.retry_at, its.source, its.verdict, its.replays
                    FROM inqud_inbox.notification AS its
                    WHERE newest_first AND its.kind = claim.kind AND its.object = due.object AND its.state = 0
                        AND its.position < -4611686018427387904
                    ORDER BY its.position, its.seq LIMIT 1)
                    UNION ALL
                    (SELECT its.seq, its.key, its.order_key, its.body, its.failures, its.received_at,
                        its.reviewed, its.retry_at, its.source, its.verdict, its.replays
                    FROM inqud_inbox.notification AS its
                    WHERE newest_first AND its.kind = claim.kind AND its.object = due.object AND its.state = 0
                    ORDER BY its.position DESC, its.seq DESC LIMIT 1)
                    LIMIT 1
                ) AS open ON true
            ) AS it
            WHERE mine.kind = claim.kind AND mine.object = it.object
            RETURNING mine.object, mine.claim, mine.crashes, mine.processed, mine.due_at, it.seq, it.key,
                it.order_key, it.body, it.failures, it.received_at, it.reviewed, it.source, it.verdict,
                it.replays, it.nth, it.can_start
        )
        SELECT leased.object, leased.claim, leased.crashes, leased.processed, leased.due_at, leased.seq,
            leased.key, leased.order_key, leased.body, leased.failures, leased.received_at, leased.reviewed,
            leased.source, leased.verdict, leased.replays
        FROM leased WHERE leased.can_start ORDER BY leased.nth;
        GET DIAGNOSTICS found_now = ROW_COUNT;
        found_all := found_all + found_now;
        EXIT WHEN found_all >= most OR is_suspect AND found_now > 0 OR NOT is_suspect AND NOT is_full;
    END LOOP;
    RETURN QUERY SELECT NULL::text, NULL::bigint, NULL::integer, NULL::bytea,
        CASE WHEN is_full THEN last_due END, NULL::bigint, NULL::bytea, NULL::bytea, NULL::bytea, NULL::integer,
        NULL::timestamptz, NULL::boolean, NULL::smallint, NULL::smallint, NULL::integer;
END $$;

-- Settles a claimed notification as done, as part of the transaction that calls it: what else the transaction
-- wrote and "done" are both committed, or neither is. Commit right after it, because it locks the object.
--
-- - `seq`, `kind`, `object` and `claim` say what was claimed, and by which claim.
-- - `processed` becomes what counts as processed of the object. Null leaves it as it is.
-- - `verdict` is how the notification compared with what was processed before.
-- - `newest_first` says whether the last open notification of the object comes next, and not the first.
-- - `in_transaction` is what txid_current() returned at the start of the transaction that was begun for the
--   notification. Another one was begun since if the handler ended that itself.
--
-- Returns when the next notification of the object is due, or null if none is open. Fails with SQLSTATE IQ001
-- if the lease was lost, with IQ002 if this is another transaction, and with IQ003 if the notification is done
-- already, so that a COMMIT that was sent along rolls back.
CREATE FUNCTION inqud_inbox.complete(
    seq bigint,
    kind text,
    object text,
    claim bigint,
    processed bytea DEFAULT NULL,
    verdict smallint DEFAULT 0,
    newest_first boolean DEFAULT false,
    in_transaction bigint DEFAULT NULL
) RETURNS timestamptz LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
    next_due_at timestamptz;
BEGIN
    IF complete.in_transaction <> coalesce(txid_current_if_assigned(), 0) THEN
        RAISE EXCEPTION 'the transaction of the handler has ended: do not send COMMIT or ROLLBACK'
            USING ERRCODE = 'IQ002';
    END IF;
    PERFORM FROM inqud_inbox.object AS mine
    WHERE mine.kind = complete.kind AND mine.object = complete.object AND mine.claim = complete.claim
        AND mine.leased_until IS NOT NULL
    FOR UPDATE;
    IF FOUND THEN
        -- Statements of their own, which see what the last holder of the lock has committed.
        UPDATE inqud_inbox.notification AS mine
        SET state = 1, verdict = complete.verdict, settled_at = statement_timestamp()
        WHERE mine.seq = complete.seq AND mine.state < 1; -- not = 0, so that the planner uses seq and not the index of open ones
    END IF;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM inqud_inbox.notification AS mine WHERE mine.seq = complete.seq AND mine.state = 1) THEN
            RAISE EXCEPTION 'the notification is done already: roll back, because its effects are committed'
                USING ERRCODE = 'IQ003';
        END IF;
        RAISE EXCEPTION 'the lease has expired, and the notification was claimed again or settled'
            USING ERRCODE = 'IQ001';
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- The snapshot may be older than the lock, and miss what was stored since. The next claim finds out.
        next_due_at := statement_timestamp();
    ELSIF complete.newest_first THEN
        next_due_at := coalesce(
            -- Replays come first nevertheless.
            (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = complete.kind AND next.object = complete.object AND next.state = 0
                AND next.position < -4611686018427387904
            ORDER BY next.position, next.seq LIMIT 1),
            (SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = complete.kind AND next.object = complete.object AND next.state = 0
            ORDER BY next.position DESC, next.seq DESC LIMIT 1));
    ELSE
        next_due_at := (
            SELECT greatest(next.received_at, next.retry_at) FROM inqud_inbox.notification AS next
            WHERE next.kind = complete.kind AND next.object = complete.object AND next.state = 0
            ORDER BY next.position, next.seq LIMIT 1);
    END IF;
    UPDATE inqud_inbox.object AS mine
    SET processed = coalesce(complete.processed, mine.processed), due_at = next_due_at, leased_until = NULL,
        crashes = 0
    WHERE mine.kind = complete.kind AND mine.object = complete.object;
    INSERT INTO inqud_inbox.tally (kind, backlog) VALUES (complete.kind, -1);
    RETURN next_due_at;
END $$;

-- The same for a transaction of the merchant's, of any driver. `token` is what `Completion::token` returned.
--
-- Fails with IQ001 and IQ003 as above, and with IQ004 if the notification is not in this database. The transaction
-- has 5 seconds to commit after that, because it locks the object. Then the server closes its connection.
CREATE FUNCTION inqud_inbox.complete(token text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- seq, key, claim, verdict, newest_first, processed
    its text[] := string_to_array(complete.token, '-');
    mine record;
BEGIN
    SELECT kind, object INTO mine FROM inqud_inbox.notification
    WHERE seq = its[1]::bigint AND key = decode(its[2], 'hex');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the notification is not in this database: complete it in the database of its inbox'
            USING ERRCODE = 'IQ004';
    END IF;
    PERFORM inqud_inbox.complete(its[1]::bigint, mine.kind, mine.object, its[3]::bigint,
        decode(nullif(its[6], ''), 'hex'), its[4]::smallint, its[5]::boolean);
    IF current_setting('idle_in_transaction_session_timeout') = '0' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    END IF;
END $$;

INSERT INTO inqud_inbox.version VALUES (1, 1);
