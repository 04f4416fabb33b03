-- The time of the latest commit. All times are in microseconds since 1970. No other time in this file is
-- later, except a `due_at` in the future.
CREATE TABLE inqud_inbox_clock (at INTEGER NOT NULL) STRICT;
INSERT INTO inqud_inbox_clock VALUES (0);

-- Objects. Leases and retries are per object, so that its notifications are handled one at a time.
-- Notifications refer to their object by number, because ids arrive in random order: in an index by id, each
-- insert would dirty another page, while an index by number grows at its end. The writer, and no index,
-- ensures that no two objects have the same kind and id.
CREATE TABLE inqud_inbox_object (
    number INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL, -- of kind and id
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    processed BLOB, -- the order key and the seq of the notification that was handled last
    due_at INTEGER, -- null if no notification is open; the end of the lease while leased
    leased INTEGER NOT NULL DEFAULT 0,
    claim INTEGER NOT NULL DEFAULT 0 -- the number of claims; settling with an earlier number is refused
) STRICT;

CREATE INDEX inqud_inbox_due ON inqud_inbox_object (kind, due_at) WHERE due_at IS NOT NULL;

-- The index that finds an object by its hash. It has all objects up to the number `indexed`, and some later
-- ones. Objects are added in sweeps over the hashes. The current sweep has reached `hash`; `begun` was the
-- last number when it started. See index.rs.
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

-- Notifications. Rows are kept, because duplicates are detected by them. Bodies can be deleted.
CREATE TABLE inqud_inbox_notification (
    seq INTEGER PRIMARY KEY,
    object INTEGER NOT NULL, -- the object's number
    key BLOB NOT NULL,
    position INTEGER NOT NULL, -- the processing order within an object, before seq
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
