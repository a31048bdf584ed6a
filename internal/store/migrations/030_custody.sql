-- Members' ciphertext and statements (internal/custody). Times are Unix
-- milliseconds. Nothing here is plaintext; statements name member ids.

-- +goose Up
CREATE TABLE custody_blobs (
    member  TEXT   NOT NULL,
    name    TEXT   NOT NULL, -- folder/name, as in the member's folder
    size    BIGINT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (member, name)
);
CREATE TABLE custody_statements (
    digest     TEXT    PRIMARY KEY,     -- hex
    id         TEXT    NOT NULL UNIQUE, -- hex digest of what was signed: a second signature is the same statement
    seq        BIGINT  NOT NULL UNIQUE, -- order of arrival
    member     TEXT    NOT NULL,
    kid        TEXT    NOT NULL,
    trail      TEXT    NOT NULL,
    prev       TEXT    NOT NULL,        -- empty: it opens the trail
    manifest   TEXT    NOT NULL,        -- SHA-256 of the manifest
    statement  BYTEA   NOT NULL,
    received   BIGINT  NOT NULL,
    state      TEXT    NOT NULL,        -- received, chained, final, refused
    position   BIGINT,
    tree_size  BIGINT,
    not_before BIGINT,
    not_later  BIGINT,
    witnesses  TEXT    NOT NULL,        -- institutions, with a space between
    stamped    BIGINT,                  -- when a token over it was seen
    code       TEXT    NOT NULL,        -- why refused
    reason     TEXT    NOT NULL
);
CREATE INDEX custody_statements_member ON custody_statements (member, trail, seq);
CREATE INDEX custody_statements_state ON custody_statements (state, trail);
-- One statement after each: two pages at once cannot fork a trail here.
CREATE UNIQUE INDEX custody_statements_prev ON custody_statements (trail, prev) WHERE state <> 'refused';

-- +goose Down
DROP TABLE custody_statements;
DROP TABLE custody_blobs;
