-- +goose Up
CREATE TABLE sessions (
    token   TEXT   PRIMARY KEY, -- hex SHA-256 of the token
    data    BYTEA  NOT NULL,    -- sealed
    expires BIGINT NOT NULL     -- Unix milliseconds
);
CREATE INDEX sessions_expires ON sessions (expires);

-- +goose Down
DROP TABLE sessions;
