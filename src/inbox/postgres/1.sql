CREATE SCHEMA IF NOT EXISTS inqud_inbox;

-- Which of these files were applied.
CREATE TABLE inqud_inbox.version (
    version integer PRIMARY KEY
);

-- Each notification, once. Rows stay, for they are what a duplicate is known by; bodies may go.
CREATE TABLE inqud_inbox.notification (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE CHECK (octet_length(key) = 16),
    kind text NOT NULL,
    object text NOT NULL,
    version bytea NOT NULL,
    body bytea,
    received_at timestamptz NOT NULL,
    state smallint NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead
    attempts integer NOT NULL DEFAULT 0,
    settled_at timestamptz,
    error text
);

CREATE INDEX notification_open
    ON inqud_inbox.notification (kind, object, version, received_at, seq) WHERE state = 0;
CREATE INDEX notification_oldest ON inqud_inbox.notification (received_at) WHERE state = 0;
CREATE INDEX notification_dead ON inqud_inbox.notification (seq) WHERE state = 3;
CREATE INDEX notification_body
    ON inqud_inbox.notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- Each object: the unit that is leased, and waits, so that one notification of it runs at a time.
CREATE TABLE inqud_inbox.object (
    kind text NOT NULL,
    object text NOT NULL,
    processed bytea, -- the latest version that was
    due_at timestamptz, -- null without open notifications; the end of the lease while it is leased
    claim bigint NOT NULL DEFAULT 0, -- how often it was claimed: an earlier claim is void
    PRIMARY KEY (kind, object)
);

CREATE INDEX object_due ON inqud_inbox.object (kind, due_at) WHERE due_at IS NOT NULL;

INSERT INTO inqud_inbox.version VALUES (1);
