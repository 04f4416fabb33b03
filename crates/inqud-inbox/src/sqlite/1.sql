-- The latest time of a commit, in microseconds since 1970, as all times here. No other is later but those
-- that something waits for.
CREATE TABLE inqud_inbox_clock (at INTEGER NOT NULL) STRICT;
INSERT INTO inqud_inbox_clock VALUES (0);

-- Each object: the unit that is leased, and waits, so that one notification of it runs at a time. Its
-- notifications are found by its number, for ids come in no order: an index by them is written all over,
-- and one by numbers at its end, where what is new is. No two have the same kind and id: the writer sees to
-- it, and no index does.
CREATE TABLE inqud_inbox_object (
    number INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL, -- of the kind and the id
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    processed BLOB, -- the order key of the notification that was handled last, and its number
    due_at INTEGER, -- null without open notifications; the end of the lease while it is leased
    leased INTEGER NOT NULL DEFAULT 0,
    claim INTEGER NOT NULL DEFAULT 0 -- how often it was claimed: an earlier claim is void
) STRICT;

CREATE INDEX inqud_inbox_due ON inqud_inbox_object (kind, due_at) WHERE due_at IS NOT NULL;

-- By what an object is found: all up to the number `indexed`, and some of the later ones. The hashes are
-- swept again and again: this sweep has come to `hash`, and began when `begun` was the last number.
CREATE TABLE inqud_inbox_index (
    hash INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (hash, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE inqud_inbox_sweep (
    indexed INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    hash INTEGER NOT NULL
) STRICT;
INSERT INTO inqud_inbox_sweep VALUES (0, 0, -2147483648);

-- Each notification, once. Rows stay, for they are what a duplicate is known by; bodies may go.
CREATE TABLE inqud_inbox_notification (
    seq INTEGER PRIMARY KEY,
    object INTEGER NOT NULL, -- its number
    key BLOB NOT NULL,
    position INTEGER NOT NULL, -- what open ones are sorted by, before their number
    order_key BLOB NOT NULL,
    body BLOB,
    received_at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead, 4 kept for review
    verdict INTEGER NOT NULL DEFAULT 0, -- 0 newer, 1 amended, 2 unordered, 3 stale, 4 review
    reviewed INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER,
    error TEXT,
    UNIQUE (object, key)
) STRICT;

CREATE INDEX inqud_inbox_open
    ON inqud_inbox_notification (object, position, seq, received_at) WHERE state = 0;
CREATE INDEX inqud_inbox_listed ON inqud_inbox_notification (state, seq, object) WHERE state > 1;
CREATE INDEX inqud_inbox_redrivable ON inqud_inbox_notification (key) WHERE state > 2;
CREATE INDEX inqud_inbox_flagged
    ON inqud_inbox_notification (verdict, seq) WHERE state = 1 AND verdict > 0;
CREATE INDEX inqud_inbox_prunable
    ON inqud_inbox_notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- What was done once, by the merchant's own idempotency key, and the notification that it was done for. Never deleted.
CREATE TABLE inqud_inbox_once (
    idempotency_key TEXT PRIMARY KEY,
    notification BLOB NOT NULL -- its key
) STRICT, WITHOUT ROWID;

-- When a runner last asked for a kind.
CREATE TABLE inqud_inbox_runner (
    kind TEXT PRIMARY KEY,
    claimed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
