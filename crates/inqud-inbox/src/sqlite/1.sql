-- All times are in microseconds since 1970. No time in this file is later than that of the latest commit, except the
-- end of a lease and the time of a retry.

-- One row: the time of the latest commit, and who may commit. Whoever opens the file writes a new owner. A commit of
-- an earlier one is refused.
CREATE TABLE inqud_inbox_clock (at INTEGER NOT NULL, owner BLOB NOT NULL) STRICT;
INSERT INTO inqud_inbox_clock VALUES (0, x'');

-- Objects. Leases and retries are per object, so that its notifications are handled one at a time.
-- Notifications refer to their object by number, because ids arrive in random order: in an index by id, each
-- insert would dirty another page, while an index by number grows at its end.
CREATE TABLE inqud_inbox_object (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    processed BLOB, -- the order key and the seq of the notification that was handled last
    due_at INTEGER, -- null if no notification is open; stays while leased
    leased_until INTEGER, -- null if not leased
    crashes INTEGER NOT NULL DEFAULT 0, -- claims that ended without a settlement, since the last one that was settled
    claim INTEGER NOT NULL DEFAULT 0, -- the number of claims; settling with an earlier number is refused
    pruned_at INTEGER, -- when the last one of its deleted notifications was settled
    UNIQUE (kind, id)
) STRICT;

CREATE INDEX inqud_inbox_pruned ON inqud_inbox_object (pruned_at) WHERE pruned_at IS NOT NULL;

CREATE INDEX inqud_inbox_due ON inqud_inbox_object (kind, due_at)
    WHERE due_at IS NOT NULL AND leased_until IS NULL AND crashes = 0;
-- Leased objects, and those that have crashed.
CREATE INDEX inqud_inbox_suspect ON inqud_inbox_object (kind, coalesce(leased_until, due_at))
    WHERE leased_until IS NOT NULL OR crashes > 0;

-- Notifications. Duplicates are detected by them, so they are kept until a retention deletes them. Bodies come last, because
-- SQLite reads through a long one to get at the columns after it.
CREATE TABLE inqud_inbox_notification (
    seq INTEGER PRIMARY KEY,
    object INTEGER NOT NULL, -- the object's number
    kind TEXT NOT NULL, -- the object's kind
    key BLOB NOT NULL,
    position INTEGER NOT NULL, -- the processing order within an object, before seq
    order_key BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, -- 0 open, 1 done, 2 skipped, 3 dead, 4 kept for review
    verdict INTEGER NOT NULL DEFAULT 0, -- 0 newer, 1 amended, 2 unordered, 3 stale, 4 review
    reviewed INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER, -- it is not claimed before
    settled_at INTEGER,
    order_id TEXT,
    status TEXT NOT NULL DEFAULT '',
    source INTEGER NOT NULL DEFAULT 0, -- 0 pushed by a webhook, 1 fetched or imported
    replays INTEGER NOT NULL DEFAULT 0, -- how often it was to be processed again after it was done
    error TEXT,
    body BLOB,
    UNIQUE (object, key)
) STRICT;

CREATE INDEX inqud_inbox_open ON inqud_inbox_notification (object, position, seq) WHERE state = 0;
CREATE INDEX inqud_inbox_oldest ON inqud_inbox_notification (kind, seq) WHERE state = 0;
CREATE INDEX inqud_inbox_listed ON inqud_inbox_notification (state, seq) WHERE state > 1;
CREATE INDEX inqud_inbox_redrivable ON inqud_inbox_notification (key) WHERE state > 2;
-- Order ids arrive in random order. In an index by order id alone, each insert would dirty another page. By blocks of
-- 1,024 rows, inserts stay in the few pages of the last block. A look-up searches each block.
CREATE INDEX inqud_inbox_order ON inqud_inbox_notification (seq / 1024, order_id) WHERE order_id IS NOT NULL;
CREATE INDEX inqud_inbox_flagged
    ON inqud_inbox_notification (verdict, seq) WHERE state = 1 AND verdict > 0;
CREATE INDEX inqud_inbox_prunable
    ON inqud_inbox_notification (settled_at) WHERE state IN (1, 2) AND body IS NOT NULL;

-- How many notifications of each kind are in each state, except those that are done. Kept by the triggers, so that
-- nothing has to count them.
CREATE TABLE inqud_inbox_count (
    kind TEXT PRIMARY KEY,
    open INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    review INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER inqud_inbox_count_inserted AFTER INSERT ON inqud_inbox_notification BEGIN
    INSERT INTO inqud_inbox_count
    VALUES (new.kind, new.state = 0, new.state = 2, new.state = 3, new.state = 4)
    ON CONFLICT DO UPDATE SET open = open + excluded.open, skipped = skipped + excluded.skipped,
        dead = dead + excluded.dead, review = review + excluded.review;
END;
CREATE TRIGGER inqud_inbox_count_updated AFTER UPDATE OF state ON inqud_inbox_notification
WHEN new.state <> old.state BEGIN
    UPDATE inqud_inbox_count SET open = open + (new.state = 0) - (old.state = 0),
        skipped = skipped + (new.state = 2) - (old.state = 2),
        dead = dead + (new.state = 3) - (old.state = 3),
        review = review + (new.state = 4) - (old.state = 4)
    WHERE kind = new.kind;
END;
CREATE TRIGGER inqud_inbox_count_deleted AFTER DELETE ON inqud_inbox_notification BEGIN
    UPDATE inqud_inbox_count SET open = open - (old.state = 0), skipped = skipped - (old.state = 2),
        dead = dead - (old.state = 3), review = review - (old.state = 4)
    WHERE kind = old.kind;
END;

-- The idempotency keys of `Context::once`, and the notification that each was first used for. Never deleted.
CREATE TABLE inqud_inbox_once (
    idempotency_key TEXT PRIMARY KEY,
    notification BLOB NOT NULL -- the notification's key
) STRICT, WITHOUT ROWID;

-- When a runner last claimed a kind, to within a minute.
CREATE TABLE inqud_inbox_runner (
    kind TEXT PRIMARY KEY,
    claimed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The log of rejected calls. Its times are the system's.
CREATE TABLE inqud_inbox_rejection (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    content_length INTEGER, -- as the head says
    dropped INTEGER NOT NULL, -- how many before it are not in the log
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    diagnosis TEXT,
    source TEXT -- an address
) STRICT;

CREATE INDEX inqud_inbox_rejection_reason ON inqud_inbox_rejection (reason, id);
