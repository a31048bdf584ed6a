-- +goose Up
-- Revocation lists and OCSP ask by issuer, and when its last certificate ends.
CREATE INDEX ca_certificates_issuer ON ca_certificates (issuer, not_after);

-- +goose Down
DROP INDEX ca_certificates_issuer;
