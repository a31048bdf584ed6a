-- Times are Unix milliseconds. "sealed" columns: internal/store, Keys.Seal, under
-- (table, column, primary key). "blind": Keys.Blind.

-- +goose Up
CREATE TABLE persons (
    id         TEXT   PRIMARY KEY,
    created    BIGINT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 0, -- sessions of an older one are over
    level      BIGINT NOT NULL DEFAULT 0, -- of name and document together
    document   BYTEA  UNIQUE,             -- blind kind and number of her document
    erased     BIGINT
);
CREATE TABLE signins (
    identity TEXT   PRIMARY KEY, -- hex blind issuer and subject
    person   TEXT   NOT NULL REFERENCES persons (id),
    issuer   TEXT   NOT NULL,
    subject  BYTEA  NOT NULL, -- sealed
    created  BIGINT NOT NULL,
    last     BIGINT NOT NULL
);
CREATE INDEX signins_person ON signins (person);
CREATE TABLE facts (
    id       TEXT   PRIMARY KEY, -- person/name
    person   TEXT   NOT NULL REFERENCES persons (id),
    name     TEXT   NOT NULL,
    value    BYTEA  NOT NULL, -- sealed
    source   TEXT   NOT NULL,
    level    BIGINT NOT NULL,
    verified BIGINT NOT NULL
);
CREATE INDEX facts_person ON facts (person);
CREATE TABLE members (
    id         TEXT    PRIMARY KEY,
    kind       BIGINT  NOT NULL,
    person     TEXT    UNIQUE REFERENCES persons (id), -- of kind person
    document   BYTEA   UNIQUE,                         -- blind credit code, of kind enterprise
    detail     BYTEA   NOT NULL,                       -- sealed JSON: name, number, representative, salt
    commitment BYTEA   NOT NULL,
    level      BIGINT  NOT NULL,
    demo       BOOLEAN NOT NULL,
    created    BIGINT  NOT NULL
);
CREATE TABLE mandates (
    id          TEXT   PRIMARY KEY,
    member      TEXT   NOT NULL REFERENCES members (id),
    person      TEXT   NOT NULL REFERENCES persons (id),
    powers      TEXT   NOT NULL, -- words with a space between
    starts      BIGINT NOT NULL,
    ends        BIGINT NOT NULL, -- not included
    application TEXT   NOT NULL,
    ended       BIGINT           -- her keys were revoked then
);
CREATE INDEX mandates_person ON mandates (person);
CREATE TABLE member_keys (
    kid       TEXT   PRIMARY KEY, -- hex
    member    TEXT   NOT NULL REFERENCES members (id),
    person    TEXT   NOT NULL REFERENCES persons (id), -- who holds it
    label     BYTEA  NOT NULL,    -- sealed
    holder    TEXT   NOT NULL,    -- browser, file, token
    spki      BYTEA  NOT NULL,
    level     BIGINT NOT NULL,
    recipient BYTEA,              -- sealed: the recovery recipient that goes with the key
    state     TEXT   NOT NULL,    -- waiting, enrolled, refused, revoking, revoked
    problem   TEXT   NOT NULL DEFAULT '',
    position  BIGINT,
    created   BIGINT NOT NULL,
    revoked   BIGINT,
    reason    BIGINT
);
CREATE INDEX member_keys_member ON member_keys (member);
CREATE TABLE passkeys (
    kid        TEXT   PRIMARY KEY,       -- hex
    credential TEXT   NOT NULL UNIQUE,   -- base64url credential id
    member     TEXT   NOT NULL REFERENCES members (id),
    person     TEXT   NOT NULL REFERENCES persons (id),
    label      BYTEA  NOT NULL,          -- sealed
    spki       BYTEA  NOT NULL,
    record     BYTEA  NOT NULL,          -- sealed JSON of the WebAuthn library's credential, counter in it
    state      TEXT   NOT NULL,          -- as member_keys.state
    problem    TEXT   NOT NULL DEFAULT '',
    position   BIGINT,
    created    BIGINT NOT NULL,
    used       BIGINT,
    revoked    BIGINT,
    reason     BIGINT
);
CREATE INDEX passkeys_member ON passkeys (member);
CREATE TABLE ceremonies (
    id      TEXT   PRIMARY KEY,
    kind    TEXT   NOT NULL, -- passkey, act, step-up
    session TEXT   NOT NULL,
    person  TEXT   NOT NULL REFERENCES persons (id),
    member  TEXT   NOT NULL,
    digest  BYTEA,
    data    BYTEA  NOT NULL, -- sealed JSON: the WebAuthn library's session, label, permission
    expires BIGINT NOT NULL
);
CREATE INDEX ceremonies_expires ON ceremonies (expires);
CREATE TABLE permissions (
    id      TEXT   PRIMARY KEY,
    kind    TEXT   NOT NULL, -- passkey, key
    session TEXT   NOT NULL,
    person  TEXT   NOT NULL REFERENCES persons (id),
    member  TEXT   NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX permissions_session ON permissions (session);
CREATE TABLE submissions (
    seq       BIGINT PRIMARY KEY,
    purpose   TEXT   NOT NULL, -- key, passkey, revoke-key, revoke-passkey
    subject   TEXT   NOT NULL, -- kid
    type      TEXT   NOT NULL,
    content   BYTEA  NOT NULL,
    statement BYTEA,           -- signed, before it goes anywhere
    state     TEXT   NOT NULL, -- waiting, done, refused
    position  BIGINT,
    problem   TEXT   NOT NULL DEFAULT '',
    created   BIGINT NOT NULL,
    finished  BIGINT
);
CREATE INDEX submissions_state ON submissions (state, seq);
CREATE TABLE applications (
    id        TEXT   PRIMARY KEY,
    person    TEXT   NOT NULL REFERENCES persons (id),
    kind      TEXT   NOT NULL, -- person, enterprise, recovery
    state     TEXT   NOT NULL, -- draft, submitted, correction, approved, refused, withdrawn
    body      BYTEA  NOT NULL, -- sealed JSON
    reply     BYTEA,           -- sealed: what the officer answered
    created   BIGINT NOT NULL,
    changed   BIGINT NOT NULL,
    submitted BIGINT,
    decided   BIGINT,
    officer   TEXT   REFERENCES persons (id),
    member    TEXT   REFERENCES members (id),
    code      BYTEA            -- blind recovery code, until it was used
);
CREATE INDEX applications_person ON applications (person);
CREATE INDEX applications_state ON applications (state, submitted);
CREATE TABLE documents (
    id          TEXT   PRIMARY KEY,
    application TEXT   NOT NULL REFERENCES applications (id),
    name        BYTEA  NOT NULL, -- sealed
    media       TEXT   NOT NULL,
    size        BIGINT NOT NULL,
    content     BYTEA  NOT NULL, -- sealed
    created     BIGINT NOT NULL
);
CREATE INDEX documents_application ON documents (application);
CREATE TABLE accesses (
    seq     BIGINT PRIMARY KEY, -- 1, 2, … without a gap
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    purpose BYTEA  NOT NULL, -- sealed
    mac     BYTEA  NOT NULL  -- over this row and the mac before
);
CREATE INDEX accesses_subject ON accesses (subject);
CREATE TABLE accesses_head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL,
    mac BYTEA  NOT NULL -- over seq and the last row's mac
);
CREATE TABLE lockouts (
    id       TEXT   PRIMARY KEY, -- hex blind action and person or address
    failures BIGINT NOT NULL,
    until    BIGINT NOT NULL,
    last     BIGINT NOT NULL
);

-- +goose Down
DROP TABLE lockouts;
DROP TABLE accesses_head;
DROP TABLE accesses;
DROP TABLE documents;
DROP TABLE applications;
DROP TABLE submissions;
DROP TABLE permissions;
DROP TABLE ceremonies;
DROP TABLE passkeys;
DROP TABLE member_keys;
DROP TABLE mandates;
DROP TABLE members;
DROP TABLE facts;
DROP TABLE signins;
DROP TABLE persons;
