
-- The watch list: the objects that a reconciler looks at. Only a reconciler, and those who expect objects, write it.
CREATE TABLE inqud_inbox_watch (
    kind TEXT NOT NULL,
    object TEXT NOT NULL, -- as the id of an object
    look_at INTEGER NOT NULL, -- when to look; the end of the lease while leased
    leased INTEGER NOT NULL DEFAULT 0,
    claim INTEGER NOT NULL DEFAULT 0, -- ending a look with an earlier number changes nothing
    since INTEGER NOT NULL, -- what the schedule counts from
    looks INTEGER, -- that the API has answered since; null if the first one is not scheduled yet
    failures INTEGER NOT NULL DEFAULT 0, -- looks in a row that the API has not answered
    added_at INTEGER NOT NULL,
    looked_at INTEGER,
    position INTEGER NOT NULL DEFAULT (-9223372036854775807 - 1), -- of the notification that moved the look last
    seq INTEGER NOT NULL DEFAULT 0, -- its number
    PRIMARY KEY (kind, object)
) STRICT, WITHOUT ROWID;

CREATE INDEX inqud_inbox_look ON inqud_inbox_watch (kind, look_at);

-- Up to which notification a reconciler has read the arrivals of each kind.
CREATE TABLE inqud_inbox_watch_read (
    kind TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
