-- One row: the engine's memory, opaque JSON.
CREATE TABLE memory (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    json TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE plan (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    schema INTEGER NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A record may go once many later attempts of its step stand after it (kept = 0).
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    plan TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    entry TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_plan ON journal (plan, step, attempt);

CREATE TABLE history (
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT;

-- state: waiting, accepted, rejected. The last two are final.
CREATE TABLE delivery (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    message TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempt INTEGER NOT NULL DEFAULT 0,
    due_us INTEGER NOT NULL DEFAULT 0,
    said TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX delivery_waiting ON delivery (target, seq) WHERE state = 'waiting';

CREATE TABLE fact (
    key TEXT PRIMARY KEY,
    json TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
