-- +goose Up
-- Certificates of the institution's CA (internal/identity/ca). Nothing here is
-- secret; organization is a name only where the configuration asks for names.
CREATE TABLE ca_certificates (
    serial       TEXT    PRIMARY KEY, -- hex
    issuer       TEXT    NOT NULL,    -- kid of the CA key, hex
    role         TEXT    NOT NULL,    -- member, responder
    request      TEXT    NOT NULL UNIQUE, -- hex SHA-256 of what was signed in the request
    kid          TEXT    NOT NULL,
    public_key   BYTEA   NOT NULL,    -- SubjectPublicKeyInfo
    member       TEXT    NOT NULL,
    kind         INTEGER NOT NULL,
    assurance    INTEGER NOT NULL,
    demo         INTEGER NOT NULL,
    organization TEXT    NOT NULL,
    not_before   BIGINT  NOT NULL,    -- Unix seconds
    not_after    BIGINT  NOT NULL,
    state        TEXT    NOT NULL,    -- intended, signed, issued, refused
    der          BYTEA,
    statement    BYTEA,
    position     BIGINT,
    reason       TEXT    NOT NULL,    -- why refused
    changed      BIGINT  NOT NULL     -- Unix milliseconds
);
CREATE INDEX ca_certificates_kid ON ca_certificates (kid);
CREATE INDEX ca_certificates_state ON ca_certificates (state, not_after);

-- Revocations are of keys: all certificates of a key end together.
CREATE TABLE ca_revocations (
    kid       TEXT   PRIMARY KEY,
    reason    INTEGER NOT NULL,      -- CRLReason, RFC 5280 §5.3.1
    state     TEXT   NOT NULL,       -- intended, revoked
    statement BYTEA,                 -- NULL when the key's holder revoked it
    position  BIGINT,
    at        BIGINT NOT NULL,       -- Unix seconds; block time once revoked
    changed   BIGINT NOT NULL
);

CREATE TABLE ca_lists (
    issuer      TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    der         BYTEA,               -- NULL: the number was taken, nothing signed yet
    PRIMARY KEY (issuer, number)
);

-- +goose Down
DROP TABLE ca_lists;
DROP TABLE ca_revocations;
DROP TABLE ca_certificates;
