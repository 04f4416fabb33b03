-- A role that may not create schemas needs one that was made for it.
DO $$ BEGIN
    IF to_regnamespace('inqud_inbox') IS NULL THEN
        CREATE SCHEMA inqud_inbox;
    END IF;
END $$;

-- Which of these files were applied.
CREATE TABLE inqud_inbox.version (
    version integer PRIMARY KEY
);

-- Each notification, once. Rows stay, for they are what a duplicate is known by; bodies may go.
CREATE TABLE inqud_inbox.notification (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL CHECK (octet_length(key) = 16),
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    position bigint NOT NULL, -- what open ones are sorted by, before their number
    order_key bytea NOT NULL,
    body bytea,
    received_at timestamptz NOT NULL,
    state smallint NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead, 4 kept for review
    verdict smallint NOT NULL DEFAULT 0, -- 0 newer, 1 amended, 2 unordered, 3 stale, 4 review
    reviewed boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    settled_at timestamptz,
    error text,
    -- Also finds all of an object, and among them those that say the same: see `Key`.
    UNIQUE (kind, object, key)
) WITH (autovacuum_analyze_scale_factor = 0.01);

-- No index but this one may offer itself where the state is 0: statistics that say that there is nothing
-- open, from a quiet hour, make any other look as good.
CREATE INDEX notification_open
    ON inqud_inbox.notification (kind, object, position, seq, received_at) WHERE state = 0;
CREATE INDEX notification_redrivable ON inqud_inbox.notification (key) WHERE state > 2;
CREATE INDEX notification_listed ON inqud_inbox.notification (state, seq, kind) WHERE state > 1;
CREATE INDEX notification_flagged ON inqud_inbox.notification (verdict, seq)
    WHERE state = 1 AND verdict > 0;
CREATE INDEX notification_prunable
    ON inqud_inbox.notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- Each object: the unit that is leased, and waits, so that one notification of it runs at a time.
CREATE TABLE inqud_inbox.object (
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    processed bytea, -- the order key of the notification that was handled last, and its number
    due_at timestamptz, -- null without open notifications; the end of the lease while it is leased
    claim bigint NOT NULL DEFAULT 0, -- how often it was claimed: an earlier claim is void
    PRIMARY KEY (kind, object)
) WITH (autovacuum_vacuum_scale_factor = 0.01); -- three new versions of a row for each notification

CREATE INDEX object_due ON inqud_inbox.object (kind, due_at) WHERE due_at IS NOT NULL;

-- What was done once, by the merchant's own idempotency key, and the notification that it was done for. Never deleted.
CREATE TABLE inqud_inbox.once (
    idempotency_key text PRIMARY KEY,
    notification bytea NOT NULL -- its key
);

-- When a runner last asked for a kind.
CREATE TABLE inqud_inbox.runner (
    kind text PRIMARY KEY,
    claimed_at timestamptz NOT NULL
);

INSERT INTO inqud_inbox.version VALUES (1);
