-- A role that may not create schemas can use one that exists.
DO $$ BEGIN
    IF to_regnamespace('inqud_inbox') IS NULL THEN
        CREATE SCHEMA inqud_inbox;
    END IF;
END $$;

-- The migrations that were applied.
CREATE TABLE inqud_inbox.version (
    version integer PRIMARY KEY
);

-- Notifications. Rows are kept, because duplicates are detected by them. Bodies can be deleted.
CREATE TABLE inqud_inbox.notification (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL CHECK (octet_length(key) = 16),
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    position bigint NOT NULL, -- the processing order within an object, before seq
    order_key bytea NOT NULL,
    body bytea,
    received_at timestamptz NOT NULL,
    state smallint NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead, 4 kept for review
    verdict smallint NOT NULL DEFAULT 0, -- 0 newer, 1 amended, 2 unordered, 3 stale, 4 review
    reviewed boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    settled_at timestamptz,
    error text,
    -- Also finds all notifications of an object, and those with the same content, whose keys are adjacent.
    UNIQUE (kind, object, key)
) WITH (autovacuum_analyze_scale_factor = 0.01);

-- The only index that may match a query for state = 0. When statistics from a quiet hour show nothing open, the
-- planner considers any matching index equally cheap, and could choose one that reads all open notifications.
CREATE INDEX notification_open
    ON inqud_inbox.notification (kind, object, position, seq, received_at) WHERE state = 0;
CREATE INDEX notification_redrivable ON inqud_inbox.notification (key) WHERE state > 2;
CREATE INDEX notification_listed ON inqud_inbox.notification (state, seq, kind) WHERE state > 1;
CREATE INDEX notification_flagged ON inqud_inbox.notification (verdict, seq)
    WHERE state = 1 AND verdict > 0;
CREATE INDEX notification_prunable
    ON inqud_inbox.notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- Objects. Leases and retries are per object, so that its notifications are handled one at a time.
CREATE TABLE inqud_inbox.object (
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    processed bytea, -- the order key and the seq of the notification that was handled last
    due_at timestamptz, -- null if no notification is open; the end of the lease while leased
    claim bigint NOT NULL DEFAULT 0, -- the number of claims; settling with an earlier number is refused
    PRIMARY KEY (kind, object)
) WITH (autovacuum_vacuum_scale_factor = 0.01); -- each notification leaves three dead versions of a row

CREATE INDEX object_due ON inqud_inbox.object (kind, due_at) WHERE due_at IS NOT NULL;

-- The idempotency keys of `Context::once`, and the notification that each was first used for. Never deleted.
CREATE TABLE inqud_inbox.once (
    idempotency_key text PRIMARY KEY,
    notification bytea NOT NULL -- the notification's key
);

-- When a runner last claimed a kind, to within a minute.
CREATE TABLE inqud_inbox.runner (
    kind text PRIMARY KEY,
    claimed_at timestamptz NOT NULL
);

INSERT INTO inqud_inbox.version VALUES (1);
